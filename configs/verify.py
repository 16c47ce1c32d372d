r"""Teaches Inception-ResNet-v2 to tell faces from non-faces: the second opinion on MTCNN.

    python launch.py --config=configs/verify.py --config.data.root=WORK/extract \
        --workdir=WORK/verify

`configs/verify.py:full` takes the published network at 299 pixels.

Faces are the crops that MTCNN found; non-faces are places without a face in the same frames,
candidates that MTCNN doubted (hard negatives), and textures. `--config.faces=FOLDER` and
`--config.nonfaces=FOLDER` add pictures of your own, which then do without `data.root` too: the
pictures of a subfolder are one source. A fifth of the sources validate, another fifth is the test
on which `refine` measures; neither is trained on. Writes checkpoints/, metrics.jsonl, tensorboard/
and model/.

Cost: small, 2 to 3 minutes on one CPU core for up to 1,300 crops to train on (three fifths of all,
and textures: 500 steps), 5 for 4,000; full, for a GPU.
Expect: validation accuracy of 96 to 99 %, textures counted. Give parts of pictures of anything
without a face by `--config.nonfaces`: kinds of non-faces that it never saw it lets pass
(docs/results.md, "Refinement").
"""

from ml_collections import ConfigDict

from configs import networks


def get_config(arg: str | None = None) -> ConfigDict:
    """`arg`: the size."""
    size, _ = networks.parse(arg)
    network = networks.network(size)
    config = ConfigDict()
    config.stage = "train"

    config.faces = ""  # a folder of pictures, each a face; a subfolder is a source
    config.nonfaces = ""  # likewise, without a face

    config.tasks = {"verification": networks.task("verification", size)}
    config.data = {
        "dataset": "face_verification",
        "config": "",
        "root": "",
        "image_size": 48 if size == "small" else network["image_size"],
        "cache": size == "small",
        # Further crops: folders of pictures that show one face each, and of such that show none.
        "folders": {"faces": config.get_ref("faces"), "nonfaces": config.get_ref("nonfaces")},
    }
    config.backbone = network["backbone"]
    config.init = ""  # a workdir or model directory to start from, a weight file, or "imagenet"

    config.epochs = 24.0  # at least min_steps, below
    config.min_steps = 500  # 24 epochs of a few hundred crops would be over before it learned
    config.batch_size = network["batch_size"]
    config.seed = 0
    config.optimizer = networks.optimizer(2e-3 if size == "small" else 3e-4)
    config.update(networks.loop())
    return config.lock()
