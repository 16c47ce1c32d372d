r"""Predicts the emotions of the faces in an image, a video, or a folder of both.

    python launch.py --config=configs/predict.py --config.input=holiday.mp4 --workdir=WORK/predict

`--config.model` is a model directory, or a workdir that contains one. Its record says how faces are
detected, aligned and classified, so that answers are computed as when the model was measured. The
default is the network that ships with the package ("starter": seven emotions; see docs/starter.md).

Writes one row per face to predictions.csv and predictions.parquet: source, frame, time_s, person,
box, detector score, five landmarks, emotion, and the probability of each emotion (prob_*). A
picture or frame without a face has one row with an empty box. skipped.csv lists the files that
could not be read or annotated, with the reason. annotated/ has an annotated copy of each picture
and each video; that of a video has only the sampled frames, at the original speed. overview.jpg
shows the first four pictures.

In videos, `person` numbers the people, smoothed_prob_* are their probabilities, smoothed over time,
and smoothed_emotion is the most probable emotion; annotated videos show these, and timeline/ has a
picture of them for each video (docs/people_in_video.md). --config.camera=0 reads a live camera and
shows it in a window until q is pressed.

With --config.min_confidence or --config.coverage, answers that are not confident enough are
withheld: the emotion is empty, the column `answered` is False, and the probabilities stay.

A person-relative model answers only for the largest face of each picture or frame; other faces have
no row. It adds the column reference_faces: the number of faces in the person's reference, or 0 if
there were too few and the face was compared with the average person.

Cost: detection dominates; memory does not grow with a video's length, except for a person-relative
model, which needs all faces of a person before it can answer.
"""

from ml_collections import ConfigDict


def get_config(arg: str | None = None) -> ConfigDict:
    """The config of the stage `predict`; `arg` is unused."""
    del arg
    config = ConfigDict()
    config.stage = "predict"

    config.model = "starter"  # a model directory, a workdir that contains one, or "starter"
    config.input = ""  # an image, a video, or a folder of both
    config.camera = ""  # the number of a camera to read instead of `input`, 0 for the first one

    # For a person-relative model, which compares the faces of a person with each other, so they
    # must show several emotions (docs/person_relative.md). "one": the whole input shows one person;
    # "folder": the input has one folder per person. Only the largest face of a picture is
    # classified.
    config.people = ""
    # For a person-relative model with the reference "neutral": a pattern of the file names of
    # neutral photographs, or of their paths inside the folder of a person, such as "neutral/*".
    config.neutral = ""

    # Abstaining: one of the next two fields decides which answers are withheld.

    config.min_confidence = 0.0  # answers with a lower probability are withheld
    # The share of faces to answer, such as 0.5; 0: all. The threshold is the one at which at least
    # this share of the held-out faces was answered when the model was measured.
    config.coverage = 0.0

    config.every_s = 0.2  # seconds of video between the analysed frames; 0.0: every frame
    # Time constant in seconds with which each person's probabilities in a video are smoothed
    # (docs/people_in_video.md). 0: no smoothing.
    config.smoothing_s = 0.5
    # Longest side in pixels to which pictures are reduced for detection. 0: the value with which
    # the model was measured. In large pictures, larger values find smaller faces, with unmeasured
    # accuracy.
    config.max_side = 0
    config.batch = 8  # maximum number of frames that are analysed together
    config.annotate = True  # False: write only the tables, no pictures and videos
    config.language = "en"  # language of pictures and timelines: "en" or "fa" (Persian)
    return config.lock()
