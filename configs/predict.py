r"""Predicts the emotions of the faces in an image, a video, or a folder of both.

    python launch.py --config=configs/predict.py --config.input=holiday.mp4 --workdir=WORK/predict

`--config.model` is a model directory, or a workdir of `train` or `crossval` that contains one. Its
record says how faces are detected, aligned and classified, so that answers are computed as when the
model was measured. The default is the network that ships with the package ("starter": seven
emotions; see docs/starter.md).

Writes one row per face to predictions.csv and predictions.parquet: source, frame, time_s, person,
box, detector score, five landmarks, emotion, and the probability of each emotion (prob_*). A
picture or frame without a face has one row with an empty box. skipped.csv lists the files that
could not be read, with the reason. annotated/ has the pictures under their own names, and for each
video one that plays at the sampled rate; overview.jpg shows the first four pictures.
In videos, `person` numbers the people, and smoothed_emotion and smoothed_prob_* are their
probabilities smoothed over time; annotated videos show these, and timeline/ has a picture of them
for each video (docs/people_in_video.md). --config.camera=0 reads a live camera and shows it in a
window until q is pressed.
With --config.min_confidence or --config.coverage, answers that are not confident enough are
withheld: the emotion is empty, the column `answered` is False, and the probabilities stay.
A person-relative model adds the column reference_faces: the number of faces in the person's
reference, or 0 if there were too few and the face was compared with the average person.

Cost: detection dominates; memory does not grow with a video's length.
"""

from ml_collections import ConfigDict


def get_config(arg: str | None = None) -> ConfigDict:
    """The config of the stage `predict`; `arg` is unused."""
    del arg
    config = ConfigDict()
    config.stage = "predict"

    config.model = "starter"
    config.input = ""  # an image, a video, or a folder of both
    config.camera = ""  # instead: the number of a camera of this machine, 0 for the first one

    # For a person-relative model, which compares the faces of a person with each other
    # (docs/person_relative.md): "one" person in the whole input, or "folder": one folder per person
    # inside the input. Only the largest face of a picture is classified.
    config.people = ""
    # For the reference "neutral": a pattern of the names of photographs with a neutral face.
    config.neutral = ""  # e.g. "*neutral*"

    # Abstaining: answers that are not confident enough are withheld, by one of these.
    config.min_confidence = 0.0  # the lowest probability of an answer
    # The share of faces to answer, such as 0.5. The threshold is the one that answered this share
    # of the held-out faces on which the model was measured. 0: all.
    config.coverage = 0.0

    config.every_s = 0.2  # seconds of video between the frames that are analysed
    # Seconds: time constant of the smoothing of probabilities over time, for each person of a video
    # (docs/people_in_video.md). 0: no smoothing.
    config.smoothing_s = 0.5
    # Pixels: larger pictures are shrunk to this side for detection. 0: as for the model's own
    # photographs. Larger values find smaller faces, but the model was not measured with them.
    config.max_side = 0
    config.batch = 8  # frames
    config.annotate = True  # False: only the tables are written
    config.language = "en"  # of pictures and timelines: "en" or "fa", Persian
    return config.lock()
