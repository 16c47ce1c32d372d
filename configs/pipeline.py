r"""The whole road: your videos and your labelled photographs in, an emotion model and a report out.

    python launch.py --config=configs/pipeline.py --config.videos=VIDEOS --config.photos=PHOTOS \
        --workdir=WORK

`videos` is a folder of videos of anybody; `photos` is a folder <subject>/<emotion>/<photograph>
or a labels.csv with the columns path, subject, emotion. `configs/pipeline.py:full` takes the
published Inception-ResNet-v2 at 299 pixels, for a GPU or TPU.

Tasks for the pretraining follow the size: `configs/pipeline.py:full,rotation,jigsaw` learns both
together, configs/pipeline_in_turn.py one after the other.

Steps, each in a folder of its own under the workdir: photographs, extract, verify, refine,
pretrain, emotion (from the pretrained backbone), scratch (the same without it), evaluate.
Any field of a step is a flag: --config.steps.pretrain.epochs=30. Killed at any moment, the same
command goes on; done, it returns at once.

Cost: small, minutes on 2 CPU cores for some dozens of short clips and photographs.
Expect: `evaluate/report.html` with the accuracy on people held out, its interval, and whether
pretraining helped.
"""

from ml_collections import ConfigDict

from configs import (
    argument,
    emotion,
    evaluate,
    extract,
    photographs,
    pretrain,
    refine,
    verify,
)


def get_config(arg: str | None = None) -> ConfigDict:
    """`arg`: the size, and the pretext tasks, e.g. "full,rotation"."""
    size, tasks = argument.parse(arg, default_tasks=("rotation", "jigsaw"))
    config = ConfigDict()
    config.stage = "pipeline"
    config.videos = ""
    config.photos = ""
    config.needs = ("videos", "photos")

    # What stands in braces is filled in by the stage: its workdir, and the fields above.
    config.steps = {
        "photographs": photographs.get_config(size).unlock(),
        "extract": extract.get_config(size).unlock(),
        "verify": verify.get_config(size).unlock(),
        "refine": refine.get_config().unlock(),
        "pretrain": pretrain.get_config(",".join((size, *tasks))).unlock(),
        "emotion": emotion.from_nothing(size).unlock(),
        "scratch": emotion.from_nothing(size).unlock(),
        "evaluate": evaluate.of_runs(
            {"pretrained": "{workdir}/emotion", "scratch": "{workdir}/scratch"}
        ).unlock(),
    }
    steps = config.steps
    steps.photographs.photos = "{photos}"
    steps.extract.videos = "{videos}"
    steps.verify.data.root = "{workdir}/extract"
    steps.refine.faces = "{workdir}/extract"
    steps.refine.verifier = "{workdir}/verify"
    steps.pretrain.data.root = "{workdir}/refine"
    steps.emotion.photographs = "{workdir}/photographs"
    steps.emotion.init = "{workdir}/pretrain"
    steps.emotion.pretraining = "the faces in {videos}"
    steps.scratch.photographs = "{workdir}/photographs"

    earlier = (
        "photographs",
        "extract",
        "verify",
        "refine",
        "pretrain",
    )  # mistaken labels show first
    steps.evaluate.context = tuple(f"{{workdir}}/{name}" for name in earlier)
    config.order = (*earlier, "emotion", "scratch", "evaluate")
    return config.lock()
