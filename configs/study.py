r"""Does solving puzzles of faces help to read emotions? Pretext tasks against none, with intervals.

    python launch.py --config=configs/study.py --config.pool=WORK/refine \
        --config.people=WORK/photographs --workdir=WORK/study

`pool` holds faces without labels (a workdir of `extract` or `refine`), `people` labelled ones (of
`photographs`). Each method has three seeds, each seed a pretraining of its own; all are tested on
the same folds of people held out. `configs/study.py:low_shot` measures how the gain depends on the
number of labels instead, on `--config.low_shot`, a workdir of `photographs` with the splits train
and test; `configs/study.py:people,low_shot` does both from the same pretraining.

Methods: scratch, rotation, jigsaw, jointly (both at once), in_turn (rotation's backbone, then
jigsaw for as long again), auxiliary (rotation beside the emotions, on the labelled faces), simclr;
also vicreg, relative_patch, imagenet (with `full`: --config.imagenet=FILE or imagenet) and dotted
names, which run if they are named: `configs/study.py:full,scratch,simclr,imagenet`. The first one
named is what the others are compared with. `seeds=5` takes five. Pretraining shows every method
the pool equally often, but for in_turn, which sees it twice as often; simclr sees two views of
each face, in batches twice as large. Fine-tuning is the same for all.

Writes table/study.csv, study.md and study.png: accuracies, and paired differences from scratch
with 95 % intervals over people and seeds. Killed at any moment, the same command goes on.

Cost: small, 8 epochs of 18,500 faces and both measurements, by estimate some two hours on 2
CPU cores (not run in one go).
Expect: a gain that grows as labels shrink; docs/results.md has it on real faces.
"""

from typing import Any

from ml_collections import ConfigDict

from configs import audit, emotion, networks, pretrain
from fer_jax.errors import UserError

SETTINGS = ("people", "low_shot")
PROTOCOLS = {"people": "grouped_kfold", "low_shot": "fixed_split"}
SHOTS = (10, 40, 160)  # labelled faces of each emotion
METHODS = ("scratch", "rotation", "jigsaw", "jointly", "in_turn", "auxiliary", "simclr")
# What is pretrained, and the method whose backbone that begins with. Other names are tasks.
PRETRAINED = {"jointly": ("rotation,jigsaw", ""), "in_turn": ("jigsaw", "rotation")}
NOT_PRETRAINED = ("scratch", "auxiliary", "imagenet")


def get_config(arg: str | None = None) -> ConfigDict:
    """`arg`: size, settings, methods, and seeds, e.g. "full,people,scratch,rotation,seeds=5"."""
    size, words = networks.parse(arg)
    counts = [word.removeprefix("seeds=") for word in words if word.startswith("seeds=")]
    if counts and not (counts[0].isdigit() and int(counts[0])):
        raise UserError(f"seeds={counts[0]} must be a number of 1 or more")
    seeds = tuple(range(int(counts[0]) if counts else 3))
    settings = tuple(word for word in SETTINGS if word in words) or ("people",)
    methods = tuple(w for w in words if w not in SETTINGS and not w.startswith("seeds=")) or METHODS
    _check(methods, size)
    config = ConfigDict()
    config.stage = "pipeline"
    config.pool = ""
    config.people = ""
    config.low_shot = ""
    config.imagenet = ""
    pretrained = [name for name in methods if name not in NOT_PRETRAINED]
    config.needs = (*(["pool"] if pretrained else []), *settings)
    if "imagenet" in methods:
        config.needs += ("imagenet",)
    config.pool_variant = "refined"  # "all" takes the faces as `extract` left them
    config.pretrain_epochs = 8.0
    config.finetune_steps = 300
    # Kinds of leak that are told and do not stop the run (configs/audit.py), as where nobody knows
    # who is who. They are looked for first, before hours of pretraining.
    config.allow_leaks = ()

    steps: dict[str, Any] = {f"audit_{setting}": _audit(config, setting) for setting in settings}
    for method in methods:
        for seed in seeds if method not in NOT_PRETRAINED else ():
            _add_pretraining(steps, config, size, method, seed)
    runs: dict[str, dict[str, str]] = {}
    for setting in settings:
        for shots in SHOTS if setting == "low_shot" else (0,):
            name = f"{setting}_{shots}" if shots else setting
            runs[name] = {method: f"{{workdir}}/{name}_{method}" for method in methods}
            for method in methods:
                step = _measurement(config, size, method, seeds)
                step.photographs = f"{{{setting}}}"
                step.shots = shots
                step.protocol = PROTOCOLS[setting]
                steps[f"{name}_{method}"] = step
    steps["table"] = {"stage": "study", "runs": runs, "reference": methods[0]}
    steps["table"] |= {"settings": tuple(runs), "methods": methods}
    steps["table"]["bootstrap"] = {"samples": 10_000, "seed": 0}
    config.steps = ConfigDict(steps, allow_dotted_keys=True)  # names of tasks
    config.order = tuple(steps)
    return config.lock()


def _check(methods: tuple[str, ...], size: str) -> None:
    """Raises UserError for what would fail only when its turn comes."""
    for name in methods:
        known = name in (*PRETRAINED, *NOT_PRETRAINED) or networks.own_fields(name)
        if not known or name in ("emotion", "verification"):
            raise UserError(
                f"there is no method {name} for a study: there are {', '.join(METHODS)}, vicreg, "
                "relative_patch, imagenet, and dotted names of tasks"
            )
    if "imagenet" in methods and size != "full":
        raise UserError("imagenet's weights are those of the size full: study.py:full,...")


def _audit(config: ConfigDict, setting: str) -> ConfigDict:
    step = audit.get_config().unlock()
    step.photographs = f"{{{setting}}}"
    step.pool = "{pool}"
    step.protocol = PROTOCOLS[setting]
    step.allow_leaks = config.get_ref("allow_leaks")
    return step


def _add_pretraining(
    steps: dict[str, Any], config: ConfigDict, size: str, method: str, seed: int
) -> None:
    """The step `METHOD_seedN`, after that of the method whose backbone it begins with."""
    name = f"{method}_seed{seed}"
    tasks, first = PRETRAINED.get(method, (method, ""))
    if first:
        _add_pretraining(steps, config, size, first, seed)
    if name in steps:
        return
    step = pretrain.get_config(f"{size},{tasks}").unlock()
    step.data.root = "{pool}"
    step.data.config = config.get_ref("pool_variant")
    step.epochs = config.get_ref("pretrain_epochs")
    step.init = f"{{workdir}}/{first}_seed{seed}" if first else ""
    step.seed = seed
    step.log_every = 50
    steps[name] = step


def _measurement(config: ConfigDict, size: str, method: str, seeds: tuple[int, ...]) -> ConfigDict:
    """Fine-tuning, the same for every method but for what it begins with."""
    step = emotion.get_config(f"{size},rotation" if method == "auxiliary" else size).unlock()
    step.seeds = seeds
    if method == "imagenet":
        step.init = "{imagenet}"
    elif method not in NOT_PRETRAINED:
        step.init = f"{{workdir}}/{method}_seed{{seed}}"
        step.pretraining = "the faces in {pool}, without labels"
    step.epochs = 0.0  # all are taught as many steps, however many labels there are
    step.min_steps = config.get_ref("finetune_steps")
    step.allow_leaks = config.get_ref("allow_leaks")
    step.everyone = False
    step.explain = False
    return step
