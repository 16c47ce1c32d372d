r"""Trains Inception-ResNet-v2 to distinguish faces from non-faces: the second opinion on MTCNN.

    python launch.py --config=configs/verify.py --config.data.root=WORK/extract \
        --workdir=WORK/verify

`configs/verify.py:base` starts from the network that ships with the package, the starter, and
trains it briefly at a low rate (docs/results.md). To start from random weights instead:
`--config.init="" --config.min_steps=500 --config.optimizer.learning_rate=2e-3`.
`configs/verify.py:full` is the published network at 299 pixels.

Faces are the crops that MTCNN found; non-faces are places without a face in the same frames,
candidates below MTCNN's threshold (hard negatives), and textures. `--config.faces=FOLDER` and
`--config.nonfaces=FOLDER` add pictures of your own, or replace `data.root`: the pictures of a
subfolder are one source. A fifth of the sources is for validation, another fifth is the test on
which `refine` measures; neither is used for training. Writes checkpoints/, metrics.jsonl,
tensorboard/ and model/.

Cost: small, 2 to 3 minutes on one CPU core for up to 1,300 training crops (three fifths of all,
and textures: 500 steps), 5 for 4,000; base, one minute on 2 idle cores for 400, by estimate; full
needs a GPU.
Expect: validation accuracy of 96 to 99 %, including textures. Add parts of pictures of anything
without a face by `--config.nonfaces`: the verifier does not recognise kinds of non-faces on which
it was not trained (docs/results.md, "Refinement").
"""

from ml_collections import ConfigDict

from configs import argument


def get_config(arg: str | None = None) -> ConfigDict:
    """`arg`: the size."""
    size, _ = argument.parse(arg)
    small = size != "full"
    starter = size == "base"  # the size of the network that ships with the package
    config = ConfigDict()
    config.stage = "train"

    config.faces = ""  # a folder of pictures of one face each; a subfolder is a source
    config.nonfaces = ""  # likewise, of pictures without a face

    config.tasks = argument.tasks(("verification",), size)
    config.data = {
        "dataset": "face_verification",
        "config": "",
        "root": "",
        "image_size": 48 if small else 299,
        "cache": small,
        # Further crops: folders of pictures with one face each, and of pictures without a face.
        "folders": {"faces": config.get_ref("faces"), "nonfaces": config.get_ref("nonfaces")},
    }
    config.backbone = {  # Inception-ResNet-v2; fewer and narrower blocks below "full"
        "width": {"small": 0.125, "base": 0.25, "full": 1.0}[size],
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
    # A workdir or model directory, a weight file, "imagenet", or "starter"; "": random weights.
    config.init = "starter" if starter else ""

    config.epochs = 24.0  # at least min_steps, below
    # 24 epochs of a few hundred crops are too few steps for a network from scratch. The starter is
    # already trained: after longer or faster training it rejects faces that it accepted before.
    config.min_steps = 150 if starter else 500
    config.batch_size = 64
    config.seed = 0
    config.optimizer = {
        "learning_rate": {"small": 2e-3, "base": 2e-4, "full": 3e-4}[size],
        "warmup": 0.1,  # of the steps
        "weight_decay": 0.02,
        "clip": 1.0,
        "backbone_rate": 1.0,
        "layer_decay": 1.0,
        "freeze": (),  # e.g. ("backbone/*",) with backbone.frozen_batchnorm for a linear probe
        "average": 0.0,  # decay of a running average of the parameters, e.g. 0.999
    }
    config.log_every = 10  # steps
    config.evaluate_every = 0  # steps; 0: at the end
    config.checkpoint_every_s = 20.0
    config.accumulate = 1  # parts of a batch, one after the other
    config.fsdp = 1  # devices that share one copy of the parameters
    config.workers = 0  # processes that read images; 0: threads
    config.wandb = ""  # a project of Weights & Biases; needs pip install 'fer_jax[wandb]'
    return config.lock()
