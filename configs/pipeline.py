r"""The whole road: your videos and your labelled photographs in, an emotion model and a report out.

    python launch.py --config=configs/pipeline.py --config.videos=VIDEOS --config.photos=PHOTOS \
        --workdir=WORK

`videos` is a folder of videos of anybody; `photos` is a folder <subject>/<emotion>/<photograph>
or a labels.csv with the columns path, subject, emotion. `configs/pipeline.py:full` takes the
published Inception-ResNet-v2 at 299 pixels, for a GPU or TPU.

Tasks for the pretraining stand behind the size: `configs/pipeline.py:full,rotation,jigsaw` teaches
both together, `configs/pipeline.py:rotation,then,jigsaw` one after the other.

Steps, each in a folder of its own under the workdir: photographs, extract, verify, refine,
pretrain, emotion (from the pretrained backbone), scratch (the same without it), evaluate.
Any field of a step is a flag: --config.steps.pretrain.epochs=30. Killed at any moment, the same
command goes on; done, it returns at once.

Cost: small, minutes on 2 CPU cores for some dozens of short clips and photographs.
Expect: `evaluate/report.html` with the accuracy on people held out, its interval, and whether
pretraining helped.
"""

from itertools import pairwise

from ml_collections import ConfigDict

from configs import (
    emotion,
    evaluate,
    extract,
    networks,
    photographs,
    pretrain,
    refine,
    verify,
)


def get_config(arg: str | None = None) -> ConfigDict:
    """`arg`: the size, and the pretext tasks, e.g. "full,rotation" or "rotation,then,jigsaw"."""
    size, tasks = networks.parse(arg, default_tasks=("rotation", "jigsaw"))
    *earlier, last = networks.in_turn(tasks)
    config = ConfigDict()
    config.stage = "pipeline"
    config.videos = ""
    config.photos = ""
    config.needs = ("videos", "photos")

    steps = {
        "photographs": photographs.get_config(size),  # first, since mistaken labels show there
        "extract": extract.get_config(size),
        "verify": verify.get_config(size),
        "refine": refine.get_config(),
        **{
            f"pretrain_{number}": pretrain.get_config(",".join([size, *group]))
            for number, group in enumerate(earlier, start=1)
        },
        "pretrain": pretrain.get_config(",".join([size, *last])),
        "emotion": emotion.get_config(size),
        "scratch": emotion.get_config(size),
        "evaluate": evaluate.get_config("pretrained,scratch"),
    }
    with_paths(steps)
    config.steps = ConfigDict(steps)
    config.order = tuple(steps)
    return config.lock()


def with_paths(steps: dict[str, ConfigDict]) -> None:
    """Tells each step where the earlier ones wrote. The stage fills in what stands in braces."""
    steps["extract"].videos = "{videos}"
    steps["verify"].data.root = "{workdir}/extract"
    steps["refine"].faces = "{workdir}/extract"
    steps["refine"].verifier = "{workdir}/verify"
    pretraining = [name for name in steps if name.startswith("pretrain")]
    for name in pretraining:
        steps[name].data.root = "{workdir}/refine"
    for before, after in pairwise(pretraining):
        steps[after].init = f"{{workdir}}/{before}"
    steps["photographs"].photos = "{photos}"
    for name in ("emotion", "scratch"):
        steps[name].photographs = "{workdir}/photographs"
    steps["emotion"].init = "{workdir}/pretrain"
    steps["emotion"].pretraining = "the faces in {videos}"
    steps["evaluate"].runs.pretrained = "{workdir}/emotion"
    steps["evaluate"].runs.scratch = "{workdir}/scratch"
    steps["evaluate"].context = tuple(
        f"{{workdir}}/{name}" for name in steps if name not in ("emotion", "scratch", "evaluate")
    )
