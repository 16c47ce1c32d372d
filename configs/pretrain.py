r"""Pretrains the backbone on unlabelled faces: jigsaw puzzles, rotation, both together, and others.

    python launch.py --config=configs/pretrain.py --config.data.root=WORK/refine \
        --workdir=WORK/pretrain

After the config's name, with commas between them: the size, `small` (the default) or `full`, and
the tasks: `--config=configs/pretrain.py:full,jigsaw`. There are rotation, jigsaw, relative_patch,
simclr and vicreg; one of your own is a dotted module name (docs/add_a_pretext_task.md). Several
are taught together. One after the other, as rotation and then jigsaw, are two runs, the second
with --config.init=WORKDIR_OF_THE_FIRST; configs/pipeline.py:rotation,then,jigsaw does both.
configs/study.py compares them.

To watch what the features know about emotions while the pretext is learned, give labelled
photographs, `--config.probe.photographs=WORK/photographs --config.evaluate_every=200`: nearest
neighbours and a linear head at several depths, people held out, in metrics.jsonl, TensorBoard and
curves.png; neighbours.png and embedding.png at the end. Nothing is learned from the photographs.

Reads the refined faces; videos held out for validation are chosen by their names.
Writes checkpoints/, metrics.jsonl, tensorboard/, curves.png, tasks.png (puzzles, the model's
answers and the solutions) and model/.

Cost: small, a minute or two on 2 CPU cores; full at 299 pixels, hours on one GPU.
Expect: rotation solved almost always (over 95 %), jigsaw far above its chance of 1 in
`permutations`. How well a pretext is solved does not say how well it transfers.
"""

from ml_collections import ConfigDict

from configs import networks


def get_config(arg: str | None = None) -> ConfigDict:
    """`arg`: the size and tasks, e.g. "full,rotation"."""
    size, tasks = networks.parse(arg, default_tasks=("rotation", "jigsaw"))
    network = networks.network(size)
    config = ConfigDict()
    config.stage = "train"

    described = {name: networks.task(name, size) for name in tasks}
    config.tasks = ConfigDict(described, allow_dotted_keys=True)
    config.data = {
        "dataset": "face_frames",
        "config": "",  # "all": every face, with root=WORK/extract; "": those that `refine` kept
        "root": "",
        "image_size": network["image_size"],
        "cache": size == "small",  # decoded in memory
    }
    config.backbone = network["backbone"]
    config.init = ""  # a workdir or model directory to start from, a weight file, or "imagenet"

    # Watched before the first step and at each evaluation; "" for not at all.
    config.probe = {
        "photographs": "",  # a workdir of the stage `photographs`
        "neighbours": 20,  # that vote
        "folds": 5,  # or as many as people
        "most": 2000,  # photographs, of whole people drawn by the seed
    }

    config.epochs = 60.0 if size == "full" else 25.0
    config.batch_size = network["batch_size"]
    if {"simclr", "vicreg"} & set(tasks):
        config.batch_size *= 2  # what an image is compared with is the rest of its batch
    config.seed = 0
    config.optimizer = networks.optimizer(4e-3 if size == "small" else 1e-3)
    config.update(networks.loop())
    return config.lock()
