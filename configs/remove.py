r"""Takes a person out of everything: consent withdrawn.

    python launch.py --config=configs/remove.py --config.remove=p07 --config.photos=PHOTOS \
        --config.work=WORK --workdir=REMOVALS/1

Deletes the person's photographs and rows in labels.csv, consent.csv and pseudonyms.csv. Under
`work`, everything that a stage made from them goes too: crops, rows, contact sheets, records,
folds, reports, studies, and the models that were trained on the person, which are named. The same
commands make it again without the person. `remove` is the id or its pseudonym.

Nothing is deleted outside `photos` and `work`, and nothing at all if a photograph lies behind a
link that leads out of `photos`: the run names what to do by hand (exit code 2). Videos are named,
not deleted. See docs/data_layouts.md, "remove".

Cost: seconds. Nothing of it can be undone.
"""

from ml_collections import ConfigDict


def get_config(arg: str | None = None) -> ConfigDict:
    """The config of the stage `remove`; `arg` is unused."""
    del arg
    config = ConfigDict()
    config.stage = "remove"
    config.remove = ""  # the subject's id, or pseudonym
    config.photos = ""  # the folder of photographs, or labels.csv; empty keeps them
    config.work = ""  # the folder under which all workdirs lie
    return config.lock()
