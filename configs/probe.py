r"""Trains a linear head on features of a frozen network, and tests it on held-out people.

    python launch.py --config=configs/probe.py --config.photographs=WORK/photographs \
        --config.init=MODEL --workdir=WORK/probe

The head is a logistic regression on features of the backbone and histograms of oriented gradients,
which are computed once. With an emotion model trained on other people as `init`, this was the best
method on 15 real people, but worse than fine-tuning on generated people (docs/experiments.md).
To compare both with configs/evaluate.py, use --config.protocol=grouped_kfold here, so that they are
tested on the same folds.

Writes the files of configs/emotion.py. Cost: a minute or two on 2 CPU cores.
"""

from ml_collections import ConfigDict

from configs import emotion


def get_config(arg: str | None = None) -> ConfigDict:
    """The config of configs/emotion.py with other values of some fields; `arg` names the size."""
    config = emotion.get_config(arg).unlock()
    config.method = "probe"
    config.features = ("backbone", "gradients")
    config.protocol = "leave_one_subject_out"
    config.test_crops = 1  # gradients of a corner crop differ from those of the whole face
    return config.lock()
