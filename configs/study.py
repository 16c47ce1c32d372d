r"""Does solving puzzles of faces help to read emotions? Pretext tasks against none, with intervals.

    python launch.py --config=configs/study.py --config.pool=WORK/refine \
        --config.people=WORK/photographs --workdir=WORK/study

`pool` holds faces without labels (a workdir of `extract` or `refine`), `people` labelled ones (of
`photographs`). Each method has three seeds, each seed a pretraining of its own; all are tested on
the same folds of people held out. configs/study_low_shot.py measures how the gain depends on the
number of labels; in the same workdir it uses the same pretrainings.

Methods: scratch, rotation, jigsaw, jointly (both at once), in_turn (rotation's backbone, then
jigsaw for as long again), auxiliary (rotation beside the emotions, on the labelled faces), simclr;
also vicreg, relative_patch, imagenet (with `full`: --config.imagenet=FILE or imagenet) and dotted
names, which run if they are named: `configs/study.py:full,scratch,simclr,imagenet`. The first one
named is what the others are compared with. Pretraining shows every method the pool equally often,
but for in_turn, which sees it twice as often; simclr sees two views of each face, in batches twice
as large. Fine-tuning is the same for all.

Other seeds are a config of your own:
    from configs import study

    def get_config(arg=None):
        return study.of_people("small", study.METHODS, seeds=(0, 1, 2, 3, 4))

Writes table/study.csv, study.md and study.png: accuracies, and paired differences from scratch
with 95 % intervals over people and seeds. Killed at any moment, the same command goes on.

Cost: small, 8 epochs of 18,500 faces and the measurements, by estimate an hour on 2 CPU cores
(not run in one go).
Expect: a gain that grows as labels shrink; docs/results.md has it on real faces.
"""

from ml_collections import ConfigDict

from configs import argument, audit, emotion, pretrain
from fer_jax.errors import UserError

METHODS = ("scratch", "rotation", "jigsaw", "jointly", "in_turn", "auxiliary", "simclr")
SEEDS = (0, 1, 2)
# What is pretrained, and the method whose backbone that begins with. Other names are tasks.
PRETRAINED = {"jointly": ("rotation,jigsaw", ""), "in_turn": ("jigsaw", "rotation")}
NOT_PRETRAINED = ("scratch", "auxiliary", "imagenet")


def get_config(arg: str | None = None) -> ConfigDict:
    """`arg`: the size, and tasks or other methods, e.g. "full,scratch,rotation"."""
    size, methods = argument.parse(arg, default_tasks=METHODS)
    return of_people(size, methods)


def of_people(size: str, methods: tuple[str, ...], seeds: tuple[int, ...] = SEEDS) -> ConfigDict:
    """People held out in folds, with all of their labels."""
    config = pretrainings(size, methods, seeds, "people", "grouped_kfold")
    add_measurements(config, size, methods, seeds, "people", "people")
    add_table(config, "table", methods, ("people",))
    return config.lock()


def pretrainings(
    size: str, methods: tuple[str, ...], seeds: tuple[int, ...], labelled: str, protocol: str
) -> ConfigDict:
    """A pipeline that looks for leaks in the field `labelled`, then pretrains each seed."""
    _check(methods, size)
    config = ConfigDict()
    config.stage = "pipeline"
    config.pool = ""
    config[labelled] = ""
    config.imagenet = ""
    config.needs = (labelled,)
    if set(methods) - set(NOT_PRETRAINED):
        config.needs = ("pool", *config.needs)
    if "imagenet" in methods:
        config.needs += ("imagenet",)
    config.pool_variant = "refined"  # "all" takes the faces as `extract` left them
    config.pretrain_epochs = 8.0
    config.finetune_steps = 300
    # Kinds of leak that are reported and do not stop the run (configs/audit.py), as where nobody
    # knows who is who. They are looked for first, before hours of pretraining.
    config.allow_leaks = ()
    config.steps = ConfigDict(allow_dotted_keys=True)  # names of tasks
    config.order = ()

    step = audit.get_config().unlock()
    step.photographs = f"{{{labelled}}}"
    step.pool = "{pool}"
    step.protocol = protocol
    step.allow_leaks = config.get_ref("allow_leaks")
    _add(config, f"audit_{labelled}", step)
    for method in methods:
        for seed in seeds if method not in NOT_PRETRAINED else ():
            _add_pretraining(config, size, method, seed)
    return config


def add_measurements(
    config: ConfigDict,
    size: str,
    methods: tuple[str, ...],
    seeds: tuple[int, ...],
    labelled: str,
    setting: str,
    *,
    shots: int = 0,
) -> None:
    """The steps `SETTING_METHOD`: fine-tuning, the same for all but for what it begins with."""
    for method in methods:
        arg = f"{size},rotation" if method == "auxiliary" else size
        step = emotion.from_nothing(arg).unlock()
        step.photographs = f"{{{labelled}}}"
        step.protocol = config.steps[f"audit_{labelled}"].protocol
        step.seeds = seeds
        step.shots = shots
        if method == "imagenet":
            step.init = "{imagenet}"
        elif method not in NOT_PRETRAINED:
            step.init = f"{{workdir}}/{method}_seed{{seed}}"
            step.pretraining = "the faces in {pool}, without labels"
        step.epochs = 0.0  # all train for as many steps, however many labels there are
        step.min_steps = config.get_ref("finetune_steps")
        step.allow_leaks = config.get_ref("allow_leaks")
        step.everyone = False
        step.explain = False
        _add(config, f"{setting}_{method}", step)


def add_table(
    config: ConfigDict, name: str, methods: tuple[str, ...], settings: tuple[str, ...]
) -> None:
    """The last step, which compares the methods in each setting."""
    table = ConfigDict()
    table.stage = "study"
    runs = {s: {method: f"{{workdir}}/{s}_{method}" for method in methods} for s in settings}
    table.runs = ConfigDict(runs, allow_dotted_keys=True)
    table.reference = methods[0]
    table.settings = settings
    table.methods = methods
    table.bootstrap = {"samples": 10_000, "seed": 0}
    _add(config, name, table)


def _check(methods: tuple[str, ...], size: str) -> None:
    """Raises UserError for what would fail only when its turn comes."""
    for name in methods:
        known = name in (*PRETRAINED, *NOT_PRETRAINED) or argument.plain_fields(name)
        if not known or name in ("emotion", "verification"):
            raise UserError(
                f"there is no method {name} for a study: there are {', '.join(METHODS)}, vicreg, "
                "relative_patch, imagenet, and dotted names of tasks"
            )
    if "imagenet" in methods and size != "full":
        raise UserError("imagenet's weights are those of the size full: study.py:full,...")


def _add_pretraining(config: ConfigDict, size: str, method: str, seed: int) -> None:
    """The step `METHOD_seedN`, after that of the method whose backbone it begins with."""
    name = f"{method}_seed{seed}"
    tasks, first = PRETRAINED.get(method, (method, ""))
    if first:
        _add_pretraining(config, size, first, seed)
    if name in config.order:
        return
    step = pretrain.get_config(f"{size},{tasks}").unlock()
    step.data.root = "{pool}"
    step.data.config = config.get_ref("pool_variant")
    step.epochs = config.get_ref("pretrain_epochs")
    step.init = f"{{workdir}}/{first}_seed{seed}" if first else ""
    step.seed = seed
    step.log_every = 50
    _add(config, name, step)


def _add(config: ConfigDict, name: str, step: ConfigDict) -> None:
    config.steps[name] = step
    config.order += (name,)
