r"""Pretrains the backbone on unlabelled faces, by pretext tasks such as jigsaw and rotation.

    python launch.py --config=configs/pretrain.py --config.data.root=WORK/refine \
        --workdir=WORK/pretrain

After the config's name come the size (`small`, the default, `base` or `full`) and the tasks,
separated by commas, as in `--config=configs/pretrain.py:full,jigsaw`. Tasks are rotation, jigsaw,
relative_patch, simclr and vicreg; for a task of your own, give its dotted module name
(docs/add_a_pretext_task.md). If several tasks are named, they are trained together. To train on
one after the other, such as rotation and then jigsaw, use two runs, the second with
--config.init=WORKDIR_OF_THE_FIRST; configs/pipeline_in_turn.py runs both. configs/study.py compares
the tasks.

To pretrain the starter, which was trained on labelled faces, on unlabelled faces of your own:
`--config=configs/pretrain.py:base --config.init=starter
--config.optimizer.learning_rate=4e-4`. Its heads are not used. On 17 clips this did not improve
accuracy on emotions (docs/experiments.md).

To measure during pretraining what the features reveal about emotions, set labelled photographs:
`--config.probe.photographs=WORK/photographs --config.evaluate_every=200`. The accuracies of nearest
neighbours and of a linear head at several depths, on held-out people, are then written to
metrics.jsonl, TensorBoard and curves.png; neighbours.png and embedding.png are drawn at the end.
The photographs do not influence the training.

Reads the refined faces; the validation videos are chosen by a hash of their names.
Writes checkpoints/, metrics.jsonl, tensorboard/, curves.png, tasks.png (inputs of the tasks, the
model's answers and the labels) and model/.

Cost: small, a minute or two on 2 CPU cores; full at 299 pixels, hours on one GPU.
Expect: rotation accuracy over 95 %, jigsaw accuracy far above its chance of 1 in `permutations`.
Accuracy on a pretext task does not say how well the features transfer.
"""

from ml_collections import ConfigDict

from configs import argument


def get_config(arg: str | None = None) -> ConfigDict:
    """The config of the stage `train`; `arg` names the size and tasks, as in "full,rotation"."""
    size, tasks = argument.parse(arg, default_tasks=("rotation", "jigsaw"))
    small = size != "full"
    config = ConfigDict()
    config.stage = "train"

    config.tasks = argument.tasks(tasks, size)
    config.data = {
        "dataset": "face_frames",  # the name of a data set in datasets/, or a dotted module name
        "config": "",  # "": the faces that were kept; "all": all detected faces
        "root": "",  # a workdir of `refine` or `extract`
        # Side in pixels of the network's input.
        "image_size": {"small": 48, "base": 64, "full": 299}[size],
        "cache": small,  # whether all images are decoded once and kept in memory
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
    config.init = ""

    # Probes of the features, before the first step and at each evaluation.
    config.probe = {
        "photographs": "",  # a workdir of the stage `photographs`; "": no probes
        "neighbours": 20,  # number of nearest neighbours that vote
        "folds": 5,  # number of folds; at most the number of people
        # Maximum number of photographs; two people are always kept. If there are more, the seed
        # determines which people are left out, with all their photographs.
        "most": 2000,
    }

    config.epochs = 25.0 if small else 60.0  # passes over the training faces
    # Images per training step, over all devices; more for tasks that compare the images of a batch.
    config.batch_size = 128 if {"simclr", "vicreg"} & set(tasks) else 64
    config.seed = 0  # seed of all random numbers of the training
    config.optimizer = {
        "learning_rate": 4e-3 if small else 1e-3,
        "warmup": 0.1,
        "weight_decay": 0.02,
        "clip": 1.0,
        "backbone_rate": 1.0,
        "layer_decay": 1.0,
        "freeze": (),
        "average": 0.0,
    }
    config.log_every = 10
    config.evaluate_every = 0  # steps between evaluations on validation data; 0: only at the end
    config.checkpoint_every_s = 20.0
    config.accumulate = 1
    config.fsdp = 1
    config.workers = 0
    config.wandb = ""
    return config.lock()
