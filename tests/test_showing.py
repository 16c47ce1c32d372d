"""The pictures that are drawn from a table of `read` equal those of `predict`."""

import cv2
import numpy as np
import pandas as pd
import pytest

import fer_jax
from fer_jax.faces import drawing
from fer_jax.faces.alignment import LANDMARKS

LABELS = ("angry", "happy")
PICTURE = np.full((400, 500, 3), 120, np.uint8)


def row(source="a.jpg", frame=0, person=0, happy=0.75, smoothed=None, **fields):
    return {
        "source": source, "frame": frame, "time_s": 0.2 * frame, "person": person,
        "x0": 100.0, "y0": 100.0, "x1": 180.0, "y1": 190.0, "detector_score": 0.9,
        **{f"{name}_{axis}": 120.0 for name in LANDMARKS for axis in "xy"},
        "emotion": "happy", "prob_angry": 1 - happy, "prob_happy": happy,
        **({} if smoothed is None else {
            "smoothed_prob_angry": 1 - smoothed, "smoothed_prob_happy": smoothed
        }),
        **fields,
    }  # fmt: skip


def annotated(happy, **fields):
    box = np.array([[100.0, 100.0, 180.0, 190.0]])
    return drawing.annotate(PICTURE, box, np.array([[1 - happy, happy]]), LABELS, **fields)


def test_a_picture_is_drawn_as_predict_annotates_it(tmp_path):
    table = pd.DataFrame([row()])
    expected = annotated(0.75)
    np.testing.assert_array_equal(fer_jax.draw(PICTURE, table), expected)
    cv2.imwrite(str(tmp_path / "a.png"), PICTURE)
    np.testing.assert_array_equal(fer_jax.draw(tmp_path / "a.png", table), expected)


def test_frames_show_people_and_smoothed_probabilities_and_withheld_answers_are_marked():
    table = pd.DataFrame([row(person=2, smoothed=0.25, answered=False)])
    expected = annotated(0.25, people=np.array([2]), answered=np.array([False]))
    np.testing.assert_array_equal(fer_jax.draw(PICTURE, table), expected)
    photograph = pd.DataFrame([row(smoothed=np.nan)])  # in a table with videos
    np.testing.assert_array_equal(fer_jax.draw(PICTURE, photograph), annotated(0.75))


def test_a_picture_without_a_face_is_unchanged():
    nothing = pd.DataFrame([row() | {"x0": np.nan, "prob_happy": np.nan}])
    np.testing.assert_array_equal(fer_jax.draw(PICTURE, nothing), PICTURE)


def test_a_timeline_has_a_panel_per_person():
    rows = [row("a.mp4", frame, person, smoothed=0.5) for frame in range(9) for person in (1, 2)]
    rows.append(row("a.mp4", 9) | {"x0": np.nan})
    figure = fer_jax.timeline(pd.DataFrame(rows))
    assert figure.get_suptitle() == "a.mp4"
    assert [axes.get_ylabel() for axes in figure.axes] == ["person 1", "person 2"]


def test_a_wrong_table_or_picture_is_an_error():
    table = pd.DataFrame([row(), row("b.jpg")])
    with pytest.raises(fer_jax.UserError, match="rows of 2 pictures or frames; pass those of one"):
        fer_jax.draw(PICTURE, table)
    with pytest.raises(fer_jax.UserError, match="rows of 2 sources; pass those of one video"):
        fer_jax.timeline(table)
    with pytest.raises(fer_jax.UserError, match=r"nobody in a\.jpg has a number"):
        fer_jax.timeline(table[:1])
    with pytest.raises(fer_jax.UserError, match=r"the picture is float64 \[400, 500, 3\]"):
        fer_jax.draw(PICTURE / 1, table[:1])
    with pytest.raises(fer_jax.UserError, match=r"draw: .*absent\.png"):
        fer_jax.draw("absent.png", table[:1])
    for function in (lambda faces: fer_jax.draw(PICTURE, faces), fer_jax.timeline):
        with pytest.raises(fer_jax.UserError, match=r"pass a table returned by fer_jax\.read"):
            function(pd.DataFrame({"source": ["a.jpg"]}))
