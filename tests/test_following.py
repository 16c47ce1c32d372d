"""While a video is read, its people are numbered and their probabilities are smoothed."""

from __future__ import annotations

import numpy as np
import pytest

from fer_jax.faces.alignment import TEMPLATE
from fer_jax.faces.mtcnn import Faces
from fer_jax.faces.video import Frame
from fer_jax.following import follower
from fer_jax.people import clip_frames
from fer_jax.reading import AnalysedFrame, Picture, schema
from fer_jax.recogniser import Analysis

LABELS = ("angry", "happy")
LANDMARKS = TEMPLATE * 70 + [125, 75]


def _frames(count: int):
    """Yields frames of a person who does not move, with alternating probabilities."""
    image = next(clip_frames(101, "happy", 0, 1))
    for index in range(count):
        box = np.array([[120.0, 60.0, 200.0, 160.0]])
        faces = Faces(box, np.array([0.99]), LANDMARKS[None])
        probabilities = np.array([[0.9, 0.1] if index % 2 else [0.3, 0.7]], np.float32)
        yield AnalysedFrame(
            Picture("clip", image),
            Frame(index, 0.2 * index, image),
            Analysis(faces, probabilities),
            np.zeros(1, np.int64),
        )


def test_each_frame_is_yielded_once_in_order_with_numbers_and_smoothed_probabilities() -> None:
    given = list(_frames(12))
    found = list(follower(0.5)(iter(given)))
    assert [one.frame.index for one in found] == list(range(12))
    assert [one.people.tolist() for one in found] == [[1]] * 12
    raw = np.array([one.analysis.probabilities[0, 1] for one in found])
    smoothed = np.array([one.smoothed[0, 1] for one in found])
    np.testing.assert_array_equal(raw, [one.analysis.probabilities[0, 1] for one in given])
    assert np.abs(np.diff(smoothed[3:])).max() < np.abs(np.diff(raw)).min() / 1.5
    row = found[-1].rows(LABELS)[0]
    assert set(row) - {"reference_faces", "answered"} == set(schema(LABELS, smoothed=True).names)
    assert row["emotion"] == "angry" and row["smoothed_emotion"] in LABELS
    assert row["smoothed_prob_happy"] == smoothed[-1]


def test_an_empty_video_yields_no_frames() -> None:
    assert list(follower()(iter(()))) == []


def test_a_withheld_answer_has_no_smoothed_emotion_either() -> None:
    one = next(follower()(iter(_frames(3))))
    (row,) = one.rows(LABELS, least=0.99)
    assert row["emotion"] == row["smoothed_emotion"] == ""
    assert row["smoothed_prob_angry"] > 0


def test_an_impossible_time_constant_is_refused_before_frames_are_read() -> None:
    with pytest.raises(ValueError, match="tau_s is -1"):
        follower(-1.0)
