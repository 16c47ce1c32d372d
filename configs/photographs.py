r"""Finds, aligns and crops the face in each labelled photograph.

    python launch.py --config=configs/photographs.py --config.photos=PHOTOS \
        --workdir=WORK/photographs

`photos` is a folder <subject>/<emotion>/<photograph>, or a table labels.csv with the columns path
(relative to the table), subject, emotion and optionally split; or the folder of such a table.
A consent.csv next to them (subject,share,train,demo,revoked) is honoured: see docs/data_layouts.md.
All problems with the labels are reported at once, and nothing is written before they are fixed.

Writes faces/<subject>/<emotion>/*.png (pixels only: no EXIF), photographs.parquet (photo, subject,
emotion, status "ok" or "no_face", detector_score, faces_found, crop) and sheet.png. A photograph
without a face keeps its row, and is counted and reported.

Cost: detection; some tens of photographs per second of 320x240 on 2 CPU cores.
Expect: a face found in nearly every photograph that shows one from the front.
"""

from ml_collections import ConfigDict

from configs import argument


def get_config(arg: str | None = None) -> ConfigDict:
    """The config of `photographs`; `arg` names the network's size, which sets the crops' size."""
    size, _ = argument.parse(arg)
    small = size != "full"
    config = ConfigDict()
    config.stage = "photographs"

    config.photos = ""  # a folder <subject>/<emotion>/<photograph>, or a table labels.csv
    # The allowed emotions, in any letter case. Other names are errors, unless they are aliases of
    # these emotions or are ignored.
    config.emotions = ("angry", "happy", "neutral", "sad")
    config.ignore = ()  # emotions whose photographs are left out and counted

    # True: subjects and file names are replaced by random ids; only pseudonyms.csv, next to the
    # photographs, maps them to each other.
    config.pseudonymise = False

    config.aligned = False  # True: the photographs are aligned face crops and are only resized
    config.max_side = 1280  # longest side in pixels to which photographs are reduced for detection
    # min_face: side in pixels of the smallest faces to search for
    config.detector = {"min_face": 40, "factor": 0.709, "thresholds": (0.6, 0.7, 0.8)}
    # Side of a crop in pixels, and margin around the face as a fraction of the template's side. A
    # model works only on the kind of crops on which it was trained.
    config.crop = {"size": 80 if small else 320, "margin": 0.0 if small else 0.1}
    config.batch = 16  # photographs that are searched together
    return config.lock()
