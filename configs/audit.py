r"""Looks for leaks: people or pictures in both train and test, before anything is trained.

    python launch.py --config=configs/audit.py --config.photographs=WORK/photographs \
        --config.init=WORK/pretrain --workdir=WORK/audit

Compares the sides of every fold, and the people tested with what `init` was pretrained on: ids,
pixels, pictures in two versions (compressed, resized, cropped, mirrored, brightened, …), faces
that look like one person under two ids. `crossval` does the same by itself before it trains.

Writes leaks/leaks.csv and leaks/suspects.png, a sheet of the suspect pairs to look at. A leak
stops the run, with exit code 2, unless its kind is allowed by name:
    --config.allow_leaks="('same_person',)"

Cost: seconds for some hundred photographs; some minutes against 20,000 pretraining faces.
Expect: nothing, on photographs of different people.
"""

from ml_collections import ConfigDict


def get_config(arg: str | None = None) -> ConfigDict:
    """The config of the stage `audit`; `arg` is unused."""
    del arg
    config = ConfigDict()
    config.stage = "audit"
    config.photographs = ""  # workdir of the stage `photographs`
    config.test_photographs = ""  # another one, for cross_set
    # The folds that will be used; see configs/emotion.py.
    config.protocol = "leave_one_subject_out"
    config.folds = 5
    config.fold_seed = 0
    config.init = ""  # what the network was pretrained on is read from this workdir's config
    config.pool = ""  # a workdir of `extract` or `refine` that something is to be pretrained on
    config.allow_leaks = ()
    config.image_size = 80  # pixels
    return config.lock()
