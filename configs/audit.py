r"""Searches for leakage: people or pictures in test that are also in train or in pretraining.

    python launch.py --config=configs/audit.py --config.photographs=WORK/photographs \
        --config.init=WORK/pretrain --workdir=WORK/audit
    python launch.py --config=configs/audit.py --config.run=WORK/emotion --workdir=WORK/audit

The second command repeats the search for a finished run: photographs, folds and `init` are those
of that cross-validation, or of the cross-validations of a pipeline; the fields `protocol`, `folds`
and `fold_seed` have no effect. The run is refused if it is not finished, or if its photographs or
its `init` have changed since.

In every fold, the test people are compared with the training people, the pretraining data of `init`
and the faces in `pool`. A leak is an equal or similar id, an equal picture, another version of a
picture (compressed, resized, cropped, mirrored, brightened, …), or a face that looks like the same
person under another id. `crossval` makes the same search, without `pool`, before it trains. With
protocol="random", which tests people of the training data on purpose, only leaks from pretraining
data count.

Writes leaks/leaks.csv and leaks/suspects.png, a sheet of suspected pairs. A leak stops the run with
exit code 2, unless its kind is allowed by name:
    --config.allow_leaks="('same_person',)"

Cost: seconds for some hundred photographs; some minutes against 20,000 pretraining faces.
Expect: no leaks on photographs of different people.
"""

from ml_collections import ConfigDict


def get_config(arg: str | None = None) -> ConfigDict:
    """The config of the stage `audit`; `arg` is unused."""
    del arg
    config = ConfigDict()
    config.stage = "audit"
    # Workdir of a finished crossval or pipeline, whose photographs, folds and init are searched;
    # leave photographs, test_photographs and init empty then.
    config.run = ""
    config.photographs = ""  # workdir of the stage `photographs`
    config.test_photographs = ""  # workdir of the test photographs, for protocol "cross_set"
    # The protocol of the cross-validation; see configs/emotion.py.
    config.protocol = "leave_one_subject_out"
    config.folds = 5  # number of folds, for the protocols "grouped_kfold" and "random"
    config.fold_seed = 0  # seed for shuffling people before they are split into folds
    config.init = ""  # a pretrained workdir; its config names the pretraining data
    config.pool = ""  # a workdir of `extract` or `refine`: faces for a later pretraining
    config.allow_leaks = ()  # kinds of leaks that do not stop the run, such as ("same_person",)
    return config.lock()
