r"""Trains Inception-ResNet-v2 to distinguish faces from non-faces, to check MTCNN's detections.

    python launch.py --config=configs/verify.py --config.data.root=WORK/extract \
        --workdir=WORK/verify

`configs/verify.py:base` starts from the network that ships with the package, the starter, and
trains it briefly at a low rate (docs/results.md). To start from random weights instead:
`--config.init="" --config.min_steps=500 --config.optimizer.learning_rate=2e-3`.
`configs/verify.py:full` is the published network at 299 pixels.

Faces are the crops that MTCNN found with a high score; non-faces are regions without a face in the
same frames, candidates below MTCNN's threshold (hard negatives), and textures.
`--config.faces=FOLDER` and `--config.nonfaces=FOLDER` add pictures of your own, or replace
`data.root`: the pictures of a subfolder are one source. A fifth of the sources is for validation
and, if at least three remain, another fifth for the test on which `refine` measures the verifier;
neither is used for training. Writes checkpoints/, metrics.jsonl, tensorboard/ and model/.

Cost: small, on one CPU core, 2 to 3 minutes for up to 1,300 training crops (500 steps; three
fifths of all crops are for training, plus textures), 5 minutes for 4,000; base, an estimated minute
on 2 idle cores for 400; full needs a GPU.
Expect: validation accuracy of 96 to 99 %, including textures. Add pictures of things other than
faces with `--config.nonfaces`: the verifier does not recognise kinds of non-faces on which it was
not trained (docs/results.md, "Refinement").
"""

from ml_collections import ConfigDict

from configs import argument


def get_config(arg: str | None = None) -> ConfigDict:
    """The config of the stage `train` for the verifier; `arg` names the size."""
    size, _ = argument.parse(arg)
    small = size != "full"
    starter = size == "base"  # the size of the network that ships with the package
    config = ConfigDict()
    config.stage = "train"

    config.faces = ""  # a folder of pictures with one face each; each subfolder is a source
    config.nonfaces = ""  # a folder of pictures without a face; each subfolder is a source

    config.tasks = argument.tasks(("verification",), size)
    config.data = {
        "dataset": "face_verification",  # the name of the data set in datasets/
        "config": "",
        "root": "",  # a workdir of `extract`; may be empty if both folders are given
        "image_size": {"small": 48, "base": 64, "full": 299}[size],
        "cache": small,
        # Set by the fields of the same names above.
        "folders": {"faces": config.get_ref("faces"), "nonfaces": config.get_ref("nonfaces")},
    }
    config.backbone = {  # Inception-ResNet-v2; fewer and narrower blocks below "full"
        "width": {"small": 0.125, "base": 0.375, "full": 1.0}[size],
        "depth": {"small": (1, 1, 1), "base": (2, 4, 2), "full": (10, 20, 10)}[size],
        "stem": "tiny" if small else "full",
        "grey": small,
        "normalise": "per_image" if small else "inception",
        "dropout": 0.2,
        "momentum": 0.9 if small else 0.99,
        "frozen_batchnorm": False,
        "remat": False,
        "dtype": "auto",
    }
    # The initial weights of the backbone: a workdir or model directory, a weight file, "imagenet"
    # or "starter"; "": random weights.
    config.init = "starter" if starter else ""

    config.epochs = 24.0  # passes over the training crops, but at least min_steps training steps
    # Minimum number of training steps. 24 epochs of a few hundred crops are too few for a network
    # from scratch. The starter is already trained: with more steps or a higher learning rate, it
    # rejects faces that it accepted before.
    config.min_steps = 150 if starter else 500
    config.batch_size = 64
    config.seed = 0
    config.optimizer = {
        "learning_rate": {"small": 2e-3, "base": 2e-4, "full": 3e-4}[size],
        "warmup": 0.1,
        "weight_decay": 0.02,
        "clip": 1.0,
        "backbone_rate": 1.0,
        "layer_decay": 1.0,
        "freeze": (),
        "average": 0.0,
    }
    config.log_every = 10
    config.evaluate_every = 0
    config.checkpoint_every_s = 20.0
    config.accumulate = 1
    config.fsdp = 1
    config.workers = 0
    config.wandb = ""
    return config.lock()
