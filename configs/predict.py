r"""Emotions of the faces in an image, a folder or a video.

    python launch.py --config=configs/predict.py --config.input=holiday.mp4 --workdir=WORK/predict

`--config.model` is a model directory, or the workdir of `train` or `crossval` that holds one. Its
record says how faces are searched for, aligned and classified: as when the model was measured.
Without it, the network that ships with the package answers ("starter": seven emotions; see
docs/starter.md).

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
A person-relative model adds the column reference_faces: the number of faces that made the person's
reference; 0 where there were too few, and the face was compared with the average person.

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
    # (docs/person_relative.md): "one" person in the whole input, or "folder": a folder inside the
    # input for each person. Only the largest face of a picture is answered.
    config.people = ""
    # For the reference "neutral": the names of photographs that show a neutral face, as a pattern.
    config.neutral = ""  # e.g. "*neutral*"

    # Abstaining: answers that are not confident enough are withheld, by one of these.
    config.min_confidence = 0.0  # the least probability of an answer
    # The share of faces to answer, such as 0.5; the threshold is that which answered this share of
    # the held-out faces on which the model was measured. 0: all.
    config.coverage = 0.0

    config.every_s = 0.2  # seconds of video between the frames that are looked at
    # Seconds: time constant of the probabilities that are smoothed over time, for each person of
    # a video (docs/people_in_video.md). 0 does not smooth.
    config.smoothing_s = 0.5
    # Pixels: larger pictures are searched at this size. 0: at the size at which the model's own
    # photographs were searched; more finds smaller faces, and is not what was measured.
    config.max_side = 0
    config.batch = 8  # frames
    config.annotate = True  # False writes the tables alone
    return config.lock()
