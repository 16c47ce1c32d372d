r"""Takes a person out of everything: consent withdrawn.

    python launch.py --config=configs/remove.py --config.remove=p07 --config.photos=PHOTOS \
        --config.work=WORK --workdir=REMOVALS/1

Deletes the person's photographs and rows in labels.csv, consent.csv and pseudonyms.csv; in every
workdir under `work` the crops and the rows; and whole what mixes people and can be made again:
contact sheets, records, reports. Then names the models that saw the person, and those that began
from them: they cannot forget, delete them and train anew. `remove` is the id or its pseudonym.
A person's own videos are no photographs: delete them from the folder of videos, and extract anew.

Cost: seconds. Nothing of it can be undone.
"""

from ml_collections import ConfigDict


def get_config(arg: str | None = None) -> ConfigDict:
    """The config of the stage `remove`; `arg` is unused."""
    del arg
    config = ConfigDict()
    config.stage = "remove"
    config.remove = ""  # the subject's id, or pseudonym
    config.photos = ""  # the folder of photographs, or labels.csv; empty leaves them alone
    config.work = ""  # the folder under which all workdirs lie
    return config.lock()
