r"""Keeps the faces on which both detectors agree; nothing is deleted.

    python launch.py --config=configs/refine.py --config.faces=WORK/extract \
        --config.verifier=WORK/verify --workdir=WORK/refine

Reads the workdir of `extract` and that of the face/non-face verifier (`train` with the task
`verification`). The verifier's threshold is the largest that loses at most `max_faces_lost` of
the validation faces, and never above 0.5; a crop is removed if its MTCNN score is below
`min_detector_score`, or its verifier score below that threshold. The default is MTCNN's own
threshold: at 0.9 it removed 21 crops of the demo and of 17 real clips on which the verifier said
"face", and all 21 were faces.

Your verifier is trusted if at least `min_test_sources` videos with faces neither trained it nor
chose its threshold, and if it keeps MTCNN's confident detections there: it may remove a share of
`max_removed_of_confident`. Otherwise one line says why, and the verifier that ships with the
package takes its place, at threshold 0.5. Where that one removes too many confident detections of
all videos as well, MTCNN's score decides alone. `--config.use_verifier=own` and `starter` choose;
`starter` needs no trained verifier.

Writes manifest.parquet (as many rows as came in, with verifier_score, status and reason),
removed.png (a sheet of what was removed, with scores and reason), disagreements.png (what only one
of the two takes for a face), scores.png (histogram) and threshold.json (precision and recall on
sources that chose neither weights nor threshold, with 95 % intervals; which verifier was used, and
why another one was not trusted).

Cost: one forward pass of the verifier over every crop; with the demo's small network some
hundred crops a second on 2 CPU cores.
Expect: a few percent removed, look at removed.png; real faces are among them.
"""

from ml_collections import ConfigDict


def get_config(arg: str | None = None) -> ConfigDict:
    """The config of the stage `refine`; `arg` is unused."""
    del arg
    config = ConfigDict()
    config.stage = "refine"

    config.faces = ""  # workdir of `extract`
    config.verifier = ""  # workdir of the verifier's training, or its model directory

    config.use_verifier = "auto"  # your own if it can be trusted, else "starter"; or "own"
    config.min_test_sources = 3  # videos with faces that your own one has not seen
    config.confident_score = 0.99  # of MTCNN; a detection with this score or more is confident
    config.max_removed_of_confident = 0.05  # share of the confident detections in unseen videos

    config.max_faces_lost = 0.01  # share of the validation faces
    config.min_detector_score = 0.8  # MTCNN's O-Net probability

    config.batch = 64  # crops
    config.sheet = 96  # removed crops shown in removed.png at most
    return config.lock()
