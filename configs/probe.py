r"""Trains a linear head on features of a frozen network, and tests it on held-out people.

    python launch.py --config=configs/probe.py --config.photographs=WORK/photographs \
        --config.init=MODEL --workdir=WORK/probe

The head is a logistic regression on features of the backbone and histograms of oriented gradients,
which are computed once. On real people it is not significantly less accurate than fine-tuning
(`tuned_probe`), on generated people it is (docs/experiments.md, docs/results.md). To compare it
with another run by configs/evaluate.py, use --config.protocol=grouped_kfold here, so that they are
tested on the same folds.

Writes the files of configs/emotion.py. Cost: 11 to 16 s for 48 to 120 photographs on 2 CPU cores
with --config.protocol=grouped_kfold; longer by default, with one person out at a time.
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
