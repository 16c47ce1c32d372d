r"""The whole pipeline, from your videos and labelled photographs to an emotion model and a report.

    python launch.py --config=configs/pipeline.py --config.videos=VIDEOS --config.photos=PHOTOS \
        --workdir=WORK

`videos` is a folder of videos of any people; `photos` is a folder <subject>/<emotion>/<photograph>
or a labels.csv with the columns path, subject, emotion.

Steps, each in its own folder under the workdir:

    photographs   finds and aligns the labelled faces
    extract       finds and aligns the faces in the videos
    verify        trains the face/non-face verifier on them, starting from the starter
    refine        removes crops that MTCNN or the verifier rejects
    pretrain      pretrains on the refined faces (rotation and jigsaw), continuing from the starter
    emotion       the starter, adapted to the photographs: the model to use
    pretrained    the network of `pretrain`, adapted likewise: shows whether your videos help
    scratch       the small network from random weights
    as_is         the starter without any training
    evaluate      measures all four on the same held-out people, and writes the report

The starter is the network that ships with the package (docs/starter.md). `as_is` is left out, with
a warning, if the photographs show an emotion that it does not know. In the report, `pretrained` is
called `starter_and_videos`; if it is better, use WORK/pretrained/model.

`configs/pipeline.py:small` trains a small network from random weights: `emotion` starts from
`pretrain`, and `scratch` shows what the pretraining adds. `configs/pipeline.py:full` does the same
with the published Inception-ResNet-v2 at 299 pixels, for a GPU or TPU.

Names of pretext tasks follow that of the size: `configs/pipeline.py:full,rotation,jigsaw` trains on
both together, configs/pipeline_in_turn.py on one after the other.

Any field of a step is a flag: --config.steps.pretrain.epochs=30. If the pipeline is killed, the
same command continues it; once it is done, the command returns at once.

Cost: an estimated ten to fifteen minutes on 2 CPU cores for some dozens of short clips and
photographs; small, three to five.
Expect: `evaluate/report.html` with the accuracy on held-out people, its interval, and whether the
videos helped.
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
    """The config of the pipeline; `arg` names the size and pretext tasks, as in "full,rotation"."""
    size, tasks = argument.parse(arg, default_tasks=("rotation", "jigsaw"), default_size="base")
    config = ConfigDict()
    config.stage = "pipeline"
    config.videos = ""  # the folder of your videos
    config.photos = ""  # the folder or table of your labelled photographs
    config.needs = ("videos", "photos")  # fields that must be set before the pipeline starts
    config.language = "en"  # language of messages, pictures and the report: "en" or "fa" (Persian)

    # The stage replaces {workdir} by its workdir, and names of fields in braces by their values.
    config.steps = {
        "photographs": photographs.get_config(size).unlock(),
        "extract": extract.get_config(size).unlock(),
        "verify": verify.get_config(size).unlock(),
        "refine": refine.get_config().unlock(),
        "pretrain": pretrain.get_config(",".join((size, *tasks))).unlock(),
    }
    steps = config.steps
    steps.photographs.photos = "{photos}"
    steps.extract.videos = "{videos}"
    steps.verify.data.root = "{workdir}/extract"
    steps.refine.faces = "{workdir}/extract"
    steps.refine.verifier = "{workdir}/verify"
    steps.pretrain.data.root = "{workdir}/refine"

    earlier = ("photographs", "extract", "verify", "refine", "pretrain")
    runs = _from_starter(steps) if size == "base" else _from_nothing(steps, size)
    for name in runs.values():
        steps[name].photographs = "{workdir}/photographs"
    folders = {run: f"{{workdir}}/{name}" for run, name in runs.items()}
    steps.evaluate = evaluate.of_runs(folders).unlock()
    steps.evaluate.language = config.get_ref("language")
    steps.evaluate.context = tuple(f"{{workdir}}/{name}" for name in earlier)
    config.order = (*earlier, *runs.values(), "evaluate")  # the steps that run, in this order
    # Steps that are left out, with a warning, if they cannot run on these photographs.
    config.optional = tuple(name for name in runs.values() if name == "as_is")
    return config.lock()


def _from_starter(steps: ConfigDict) -> dict[str, str]:
    """Adds the cross-validations of the size "base".

    Returns:
        The names of their steps, by the names that they have in the report.
    """
    steps.pretrain.init = "starter"
    steps.pretrain.optimizer.learning_rate = 4e-4  # a tenth of that from scratch
    steps.emotion = emotion.get_config("base").unlock()
    steps.pretrained = emotion.get_config("base").unlock()
    steps.pretrained.init = "{workdir}/pretrain"
    steps.pretrained.pretraining = "the starter's data (docs/starter.md), then faces in {videos}"
    steps.scratch = emotion.from_nothing("small").unlock()
    steps.as_is = emotion.get_config("base").unlock()
    steps.as_is.method = "as_is"
    for name in ("scratch", "as_is"):
        steps[name].update({"everyone": False, "explain": False})
    return {
        "starter_adapted": "emotion",
        "starter_and_videos": "pretrained",
        "small_from_scratch": "scratch",
        "starter_as_is": "as_is",
    }


def _from_nothing(steps: ConfigDict, size: str) -> dict[str, str]:
    """Adds the cross-validations of the other sizes.

    Returns:
        The names of their steps, by the names that they have in the report.
    """
    steps.emotion = emotion.from_nothing(size).unlock()
    steps.emotion.init = "{workdir}/pretrain"
    steps.emotion.pretraining = "the faces in {videos}"
    steps.scratch = emotion.from_nothing(size).unlock()
    return {"pretrained": "emotion", "scratch": "scratch"}
