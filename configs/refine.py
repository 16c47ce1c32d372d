r"""Keeps the faces that both MTCNN and the verifier accept; no files are deleted.

    python launch.py --config=configs/refine.py --config.faces=WORK/extract \
        --config.verifier=WORK/verify --workdir=WORK/refine

Reads the workdir of `extract` and that of the face/non-face verifier (`train` with the task
`verification`). The verifier's threshold is the largest that loses at most `max_faces_lost` of
the validation faces, and never above 0.5. A crop is removed if its MTCNN score is below
`min_detector_score`, or its verifier score is below that threshold. The default of
`min_detector_score` is MTCNN's own threshold. A value of 0.9 removed 21 crops of the demo and of 17
real clips although the verifier took them for faces, and all 21 were faces.

Your verifier is trusted if at least `min_test_sources` videos with faces were used neither to train
it nor to choose its threshold, and if it removes at most a share of `max_removed_of_confident` of
MTCNN's confident detections in them. Otherwise one line says why, and the verifier of the starter
is used, at threshold 0.5. If the starter's verifier also removes too many of the confident
detections of all videos, only MTCNN's score decides. `--config.use_verifier=own` and
`--config.use_verifier=starter` choose one of the two verifiers; with `starter`, none has to be
trained.

Writes manifest.parquet (with all rows of the input, and verifier_score, status and reason),
removed.png (a sheet of the removed crops, with reason, video, time and scores), disagreements.png
(crops that only MTCNN or only the verifier takes for a face), scores.png (histogram) and
threshold.json (precision and recall on sources that were used neither for training nor for the
threshold, with 95 % intervals; which verifier was used, and why another one was not trusted).

Cost: one forward pass of the verifier over every crop; 100 to 200 crops per second on
2 CPU cores in the size `base`.
Expect: a few percent removed, some real faces among them; look at removed.png.
"""

from ml_collections import ConfigDict


def get_config(arg: str | None = None) -> ConfigDict:
    """The config of the stage `refine`; `arg` is unused."""
    del arg
    config = ConfigDict()
    config.stage = "refine"

    config.faces = ""  # workdir of `extract`
    config.verifier = ""  # workdir of the verifier's training, or its model directory

    # "own": your verifier; "starter": the one that ships with the package; "auto": your own if it
    # can be trusted, otherwise the starter's.
    config.use_verifier = "auto"
    # Your verifier is trusted only if it was tested on at least this many unseen videos with faces.
    config.min_test_sources = 3
    config.confident_score = 0.99  # MTCNN's score from which a detection counts as confident
    # A verifier is trusted only if it removes at most this share of the confident detections.
    config.max_removed_of_confident = 0.05

    config.max_faces_lost = 0.01  # the threshold loses at most this share of the validation faces
    config.min_detector_score = 0.8  # crops with a lower MTCNN score are removed

    config.batch = 64  # crops that are scored together
    config.sheet = 96  # maximum number of crops in removed.png
    return config.lock()
