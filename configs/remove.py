r"""Deletes the data of a person, for example after consent was withdrawn.

    python launch.py --config=configs/remove.py --config.remove=p07 --config.photos=PHOTOS \
        --config.work=WORK --workdir=REMOVALS/1

Deletes the person's photographs and rows in labels.csv, consent.csv and pseudonyms.csv. Under
`work`, it also deletes everything that a stage made from them: crops, rows, contact sheets,
records, folds, reports, studies, and the models that were trained on the person; it lists these
models.
To make these again without the person, run the same commands again. `remove` is the person's id or
pseudonym.

Nothing is deleted outside `photos` and `work`, and nothing at all if a photograph is behind a
link that leads out of `photos`: the run then lists what to do by hand (exit code 2). Videos are
listed, not deleted. See docs/data_layouts.md, "remove".

Cost: seconds. It cannot be undone.
"""

from ml_collections import ConfigDict


def get_config(arg: str | None = None) -> ConfigDict:
    """The config of the stage `remove`; `arg` is unused."""
    del arg
    config = ConfigDict()
    config.stage = "remove"
    config.remove = ""  # the id or the pseudonym of the person
    config.photos = ""  # the folder of photographs or labels.csv; "": keep the photographs
    config.work = ""  # the folder that contains all workdirs
    return config.lock()
