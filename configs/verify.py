r"""Teaches Inception-ResNet-v2 to tell faces from non-faces: the second opinion on MTCNN.

    python launch.py --config=configs/verify.py --config.data.root=WORK/extract \
        --workdir=WORK/verify

`configs/verify.py:full` takes the published network at 299 pixels.

Faces are the crops that MTCNN found; non-faces are places without a face in the same frames,
candidates that MTCNN doubted (hard negatives), and textures. Validation holds whole videos out.
Writes checkpoints/, metrics.jsonl, tensorboard/ and model/.

Cost: small, half a minute on 2 CPU cores. Expect: validation accuracy over 98 %.
"""

from ml_collections import ConfigDict

from configs import networks


def get_config(arg: str | None = None) -> ConfigDict:
    """`arg`: the size."""
    size, _ = networks.parse(arg)
    network = networks.network(size)
    config = ConfigDict()
    config.stage = "train"

    config.tasks = {"verification": {"weight": 1.0}}
    config.data = {
        "dataset": "face_verification",
        "config": "",
        "root": "",
        "image_size": 48 if size == "small" else network["image_size"],
        "cache": size == "small",
    }
    config.backbone = network["backbone"]
    config.init = ""  # a workdir or model directory to start from, a weight file, or "imagenet"

    config.epochs = 4.0
    config.batch_size = network["batch_size"]
    config.seed = 0
    config.optimizer = networks.optimizer(2e-3 if size == "small" else 3e-4)
    config.update(networks.loop())
    return config.lock()
