r"""Trains the network that ships with the package: seven emotions, and face against non-face.

    python launch.py --config=configs/starter.py --config.data.root=FER2013 \
        --config.aligned=WORK/fer2013 --config.faces=FACES --config.nonfaces=NONFACES \
        --workdir=WORK/starter

FER2013 is a folder with labels.csv (path, emotion, split). Altered copies, duplicates and pictures
with contradictory labels are dropped first, and counted. `aligned` is the workdir of
configs/photographs.py on the same pictures: the network is then trained on both the original crops
and the crops of this package. `faces` and `nonfaces` contain further pictures in
<split>/<source>/; benchmarks/nonfaces.py makes them. All folders but FER2013 are optional. Without
`nonfaces` the network learns only emotions; then set --config.tasks.verification.weight=0.001.

Auxiliary pretext tasks follow the config's name: `--config=configs/starter.py:rotation,jigsaw`.
For each of them, the batch passes through the network once more.

`docs/starter.md`, the model card, says how the shipped weights were trained and measured.

Cost: 30 epochs of 67,200 crops, 9 minutes on one H100 beside two other trainings; about 5 hours on
2 CPU cores, at 109 to 119 images/s (estimated from the first 158 steps). Resumable.
Expect: 68.4 % of FER2013's test faces in seven classes (docs/starter.md).
"""

from ml_collections import ConfigDict

from configs import argument
from fer_jax.errors import UserError

EMOTIONS = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")
AUGMENT = {
    "flip": 0.5, "zoom": 0.12, "shift": 0.06, "turn": 10.0, "brightness": 0.2, "contrast": 0.2,
    "erase": 0.3,
}  # fmt: skip


def get_config(arg: str | None = None) -> ConfigDict:
    """The config of `train`; `arg` names auxiliary pretext tasks, as in "rotation,jigsaw".

    Raises:
        UserError: `arg` names another size than "base".
    """
    size, pretext = argument.parse(arg, default_size="base")
    if size != "base":
        raise UserError(f"configs/starter.py:{arg}: the starter has the size base; remove {size}")
    config = ConfigDict()
    config.stage = "train"

    config.aligned = ""  # workdir of the stage `photographs` on the same pictures
    config.faces = ""  # a folder <split>/<source>/* of faces without emotion labels; "": none
    config.nonfaces = ""  # a folder <split>/<source>/* of pictures without a face; "": none

    config.tasks = argument.tasks(("emotion",), "base")
    config.tasks.update(argument.tasks(("verification", *pretext), "base", weight=0.5))
    config.tasks.emotion.update({"classes": EMOTIONS, "mixup": 0.2, "label_smoothing": 0.1})
    config.tasks.emotion.augment = AUGMENT
    # Uses the inputs of `emotion`, so that a batch passes through the network once for both.
    config.tasks.verification.inputs_of = "emotion"
    config.data = {
        "dataset": "starter_faces",  # the name of the data set in datasets/
        "config": "",
        "root": "",  # the folder of FER2013, with labels.csv
        "image_size": 64,
        "cache": True,
        # Set by the fields of the same names above.
        "folders": {name: config.get_ref(name) for name in ("aligned", "faces", "nonfaces")},
    }
    config.backbone = {  # Inception-ResNet-v2, size "base"
        "width": 0.375,
        "depth": (2, 4, 2),
        "stem": "tiny",
        "grey": True,
        "normalise": "per_image",
        "dropout": 0.2,
        "momentum": 0.9,
        "frozen_batchnorm": False,
        "remat": False,
        "dtype": "auto",
    }
    config.init = ""  # a workdir or model directory with initial weights; "": random weights

    config.epochs = 30.0
    config.batch_size = 128
    config.seed = 0
    config.optimizer = {
        "learning_rate": 5.6e-3,
        "warmup": 0.1,
        "weight_decay": 0.05,
        "clip": 1.0,
        "backbone_rate": 1.0,
        "layer_decay": 1.0,
        "freeze": (),
        "average": 0.998,
    }
    config.log_every = 100
    config.evaluate_every = 2500
    config.checkpoint_every_s = 120.0
    config.accumulate = 1
    config.fsdp = 1
    config.workers = 0
    config.wandb = ""
    return config.lock()
