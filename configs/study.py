r"""Measures the gain of pretraining on pretext tasks over training from scratch, with intervals.

    python launch.py --config=configs/study.py --config.pool=WORK/refine \
        --config.people=WORK/photographs --workdir=WORK/study

`pool` is a workdir of `extract` or `refine`, with unlabelled faces; `people` is a workdir of
`photographs`, with labelled faces. Each method has three seeds, and each seed has its own
pretraining; all are tested on the same folds of held-out people. configs/study_low_shot.py measures
how the gain depends on the number of labels; in the same workdir it uses the same pretrainings.
configs/study_starter.py measures the gain for a network that has already seen faces: all methods
start from the starter.

Methods: scratch, rotation, jigsaw, jointly (both at once), in_turn (jigsaw from the backbone of
rotation, for the same number of steps), auxiliary (rotation as an auxiliary task on the labelled
faces) and simclr. The methods vicreg, relative_patch, imagenet (only with `full`; its weights are
--config.imagenet=FILE or --config.imagenet=imagenet) and dotted names of tasks are used only if
they are named: `configs/study.py:full,scratch,simclr,imagenet`. Each method is compared with the
first one. All methods with a pretraining see the pool equally often, except in_turn, which sees it
twice as often; simclr sees two views of each face, in batches twice as large. Fine-tuning is
the same for all methods, except that auxiliary adds its task.

For other seeds, write a config of your own:
    from configs import study

    def get_config(arg=None):
        return study.of_people("small", study.METHODS, seeds=(0, 1, 2, 3, 4))

Writes study.csv, study.md and study.png to table/: accuracies, and paired differences from the
first method, with 95 % intervals over people and seeds. If the study is killed, the same command
continues it.

Cost: small, 8 epochs of 18,500 faces and the measurements, an estimated hour on 2 CPU cores
(not measured in a single run).
Expect: a gain that grows as the number of labels decreases; results on real faces are in
docs/pretext_study.md.
"""

from ml_collections import ConfigDict

from configs import argument, audit, emotion, pretrain
from fer_jax.errors import UserError
from fer_jax.models import starter

METHODS = ("scratch", "rotation", "jigsaw", "jointly", "in_turn", "auxiliary", "simclr")
STARTER_METHODS = ("starter", "new_head", "rotation", "jigsaw", "jointly")
SEEDS = (0, 1, 2)
# For each method: its tasks, and the method whose backbone it starts from ("": none). Every other
# pretrained method is named after its only task.
PRETRAINED = {"jointly": ("rotation,jigsaw", ""), "in_turn": ("jigsaw", "rotation")}
FROM_NOTHING, FROM_STARTER = ("scratch", "imagenet"), ("starter", "new_head")
NOT_PRETRAINED = (*FROM_NOTHING, *FROM_STARTER, "auxiliary")
# Learning rate of a pretraining that continues from the starter; chosen on the validation split
# (docs/pretext_study.md).
CONTINUED_RATE = 4e-4


def get_config(arg: str | None = None) -> ConfigDict:
    """The config of the study; `arg` names the size and methods, as in "full,scratch,rotation"."""
    size, methods = argument.parse(arg, default_tasks=METHODS)
    return of_people(size, methods)


def of_people(size: str, methods: tuple[str, ...], seeds: tuple[int, ...] = SEEDS) -> ConfigDict:
    """The config of the study on held-out people, with all labels of the training people."""
    config = pretrainings(size, methods, seeds, {"people": "grouped_kfold"})
    add_measurements(config, size, methods, seeds, "people", "people")
    add_table(config, "table", methods, ("people",))
    return config.lock()


def pretrainings(
    size: str,
    methods: tuple[str, ...],
    seeds: tuple[int, ...],
    labelled: dict[str, str],
    *,
    init: str = "",
) -> ConfigDict:
    """A pipeline that searches for leakage, then pretrains each method with each seed.

    Args:
        size: the size of the network.
        methods: all methods of the study; those without a pretraining add no step.
        seeds: the seeds of the pretrainings.
        labelled: the fields that name labelled faces, each with the protocol of its folds.
        init: initial weights of every method: "" for random weights, or "starter".

    Raises:
        UserError: a method is unknown or needs another size.
    """
    _check(methods, size, init)
    config = ConfigDict()
    config.stage = "pipeline"
    config.pool = ""
    for name in labelled:
        config[name] = ""
    config.imagenet = ""
    config.needs = tuple(labelled)
    if set(methods) - set(NOT_PRETRAINED):
        config.needs = ("pool", *config.needs)
    if "imagenet" in methods:
        config.needs += ("imagenet",)
    # Which faces of the pool are used: "refined" (those that `refine` kept) or "all".
    config.pool_variant = "refined"
    config.pretrain_epochs = 2.0 if init else 8.0
    config.finetune_steps = 100 if init else 300
    # Kinds of leaks that are reported but do not stop the run (configs/audit.py), for data without
    # ids of people. The search precedes the pretraining, which takes hours.
    config.allow_leaks = ()
    config.steps = ConfigDict(allow_dotted_keys=True)  # the names of tasks can have dots
    config.order = ()

    for name, protocol in labelled.items():
        step = audit.get_config().unlock()
        step.photographs = f"{{{name}}}"
        step.pool = "{pool}"
        step.protocol = protocol
        step.allow_leaks = config.get_ref("allow_leaks")
        _add(config, f"audit_{name}", step)
    for method in methods:
        for seed in seeds if method not in NOT_PRETRAINED else ():
            _add_pretraining(config, size, method, seed, init)
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
    init: str = "",
) -> None:
    """Adds the steps `SETTING_METHOD`: fine-tuning from the initial weights of each method.

    Args:
        config: the config of `pretrainings`, made with the same size, methods, seeds and `init`.
        size, methods, seeds, init: see `pretrainings`.
        labelled: the field that names the workdir with the labelled faces.
        setting: the beginning of the steps' names.
        shots: maximum number of training photographs of each emotion; 0: all.
    """
    for method in methods:
        arg = f"{size},rotation" if method == "auxiliary" else size
        step = (emotion.get_config if init else emotion.from_nothing)(arg).unlock()
        step.method = "fine_tune"
        step.test_zooms = (1.0,)
        step.init = init
        step.pretraining = starter.DATA if init else ""
        step.photographs = f"{{{labelled}}}"
        step.protocol = config.steps[f"audit_{labelled}"].protocol
        step.seeds = seeds
        step.shots = shots
        if method == "imagenet":
            step.init = "{imagenet}"
        elif method == "new_head":
            # Of a weight file, only the backbone is read.
            step.init = str(starter.folder() / "weights.safetensors")
        elif method not in NOT_PRETRAINED:
            step.init = f"{{workdir}}/{method}_seed{{seed}}"
            before = f"{starter.DATA}; then " if init else ""
            step.pretraining = f"{before}the faces in {{pool}}, without labels"
        step.epochs = 0.0  # the number of steps does not depend on the number of labels
        step.min_steps = config.get_ref("finetune_steps")
        step.allow_leaks = config.get_ref("allow_leaks")
        step.everyone = False
        step.explain = False
        _add(config, f"{setting}_{method}", step)


def add_table(
    config: ConfigDict, name: str, methods: tuple[str, ...], settings: tuple[str, ...]
) -> None:
    """Adds the step `name`, which compares the methods with the first one in each setting."""
    table = ConfigDict()
    table.stage = "study"
    runs = {s: {method: f"{{workdir}}/{s}_{method}" for method in methods} for s in settings}
    table.runs = ConfigDict(runs, allow_dotted_keys=True)
    table.reference = methods[0]
    table.settings = settings
    table.methods = methods
    table.bootstrap = {"samples": 10_000, "seed": 0}
    _add(config, name, table)


def _check(methods: tuple[str, ...], size: str, init: str) -> None:
    """Raises UserError for methods that are unknown or need another size, before any step runs."""
    others = FROM_NOTHING if init else FROM_STARTER
    for name in methods:
        known = name in (*PRETRAINED, *NOT_PRETRAINED) or argument.plain_fields(name)
        if not known or name in (*others, "emotion", "verification"):
            raise UserError(
                f"a study{' from the starter' if init else ''} has no method {name}; choose from "
                f"{', '.join(STARTER_METHODS if init else METHODS)}, vicreg, "
                f"relative_patch, {'auxiliary' if init else 'imagenet'}, and dotted names of tasks"
            )
    if "imagenet" in methods and size != "full":
        raise UserError("the method imagenet needs the size full: configs/study.py:full,...")


def _add_pretraining(config: ConfigDict, size: str, method: str, seed: int, init: str) -> None:
    """Adds the step `METHOD_seedN`, after that of the method whose backbone it starts from."""
    name = f"{method}_seed{seed}"
    tasks, first = PRETRAINED.get(method, (method, ""))
    if first:
        _add_pretraining(config, size, first, seed, init)
    if name in config.order:
        return
    step = pretrain.get_config(f"{size},{tasks}").unlock()
    step.data.root = "{pool}"
    step.data.config = config.get_ref("pool_variant")
    step.epochs = config.get_ref("pretrain_epochs")
    step.init = f"{{workdir}}/{first}_seed{seed}" if first else init
    if init:
        step.optimizer.learning_rate = CONTINUED_RATE
    step.seed = seed
    step.log_every = 50
    _add(config, name, step)


def _add(config: ConfigDict, name: str, step: ConfigDict) -> None:
    config.steps[name] = step
    config.order += (name,)
