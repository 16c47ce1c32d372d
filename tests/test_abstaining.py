"""Abstaining: the table of coverages, the rule that follows from it, and withheld answers."""

import numpy as np
import pandas as pd
import pytest

from fer_jax import abstaining, reading
from fer_jax.abstaining import Rule, measure, rule
from fer_jax.errors import UserError
from fer_jax.faces.mtcnn import Faces
from fer_jax.faces.video import Frame
from fer_jax.reading import AnalysedFrame, Picture
from fer_jax.recogniser import Analysis
from fer_jax.records import Abstaining, AnsweredShare

STEPS = (
    AnsweredShare(coverage=0.5, threshold=0.8, accuracy=0.9),
    AnsweredShare(coverage=0.75, threshold=0.5, accuracy=0.8),
    AnsweredShare(coverage=1.0, threshold=0.0, accuracy=0.7),
)


@pytest.fixture
def model(tmp_path):
    """A model directory with a table of coverages, and only the files that the rule reads."""
    (tmp_path / "model.json").write_text("{}")
    abstaining.write(tmp_path, Abstaining(measured_on="8 faces", steps=STEPS))
    return tmp_path


def test_the_table_contains_the_accuracy_of_the_most_confident_answers():
    confidence = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2])
    right = np.array([1, 1, 1, 0, 1, 0, 0, 0], bool)
    table = measure(confidence, right, "8 faces")
    assert [step.coverage for step in table.steps] == [n / 8 for n in range(1, 9)]
    half = table.steps[3]
    assert (half.coverage, half.threshold, half.accuracy) == (0.5, 0.6, 0.75)
    assert (table.steps[-1].threshold, table.steps[-1].accuracy) == (0.0, 0.5)


def test_faces_of_equal_confidence_are_answered_together():
    table = measure(np.full(10, 0.6), np.arange(10) < 7, "10 faces")
    assert table.steps == (AnsweredShare(coverage=1.0, threshold=0.0, accuracy=0.7),)


def test_the_table_of_many_faces_has_twenty_coverages():
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.2, 1, 5000).astype(np.float32)
    right = rng.uniform(size=5000) < confidence
    steps = measure(confidence, right, "").steps
    assert [step.coverage for step in steps] == pytest.approx([n / 20 for n in range(1, 21)])
    for step in steps:
        answered = confidence >= step.threshold
        assert answered.mean() == pytest.approx(step.coverage)
        assert right[answered].mean() == pytest.approx(step.accuracy)


@pytest.mark.parametrize(
    ("asked", "threshold", "step"),
    [
        ({"coverage": 0.5}, 0.8, STEPS[0]),
        ({"coverage": 0.6}, 0.5, STEPS[1]),  # the next larger one of the table
        ({"coverage": 1.0}, 0.0, STEPS[2]),
        ({"min_confidence": 0.9}, 0.9, STEPS[0]),
        ({"min_confidence": 0.6}, 0.6, STEPS[1]),
        ({"min_confidence": 0.0}, 0.0, STEPS[2]),
    ],
)
def test_the_rule_follows_from_the_table(model, asked, threshold, step):
    given = {"min_confidence": None, "coverage": None} | asked
    assert rule(model, **given) == Rule(threshold, step, "8 faces")


def test_without_threshold_and_coverage_there_is_no_rule(model):
    assert rule(model, min_confidence=None, coverage=None) is None


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ((0.5, 0.5), "set --config.min_confidence or --config.coverage, not both"),
        ((1.5, None), "--config.min_confidence=1.5 must be between 0 and 1"),
        ((None, 0.0), "--config.coverage=0.0 must be above 0"),
        ((None, 0.5), "has no abstaining.json .*or set --config.min_confidence instead"),
    ],
)
def test_an_invalid_threshold_or_coverage_is_an_error(model, asked, message):
    (model / abstaining.FILE).unlink()
    with pytest.raises(UserError, match=message):
        rule(model, min_confidence=asked[0], coverage=asked[1], flag="--config.")


def test_a_damaged_table_is_an_error(model):
    (model / abstaining.FILE).write_text('{"measured_on": "x", "steps": []}')
    with pytest.raises(UserError, match=r"abstaining\.json is damaged or invalid: steps"):
        rule(model, min_confidence=None, coverage=0.5)


def test_the_summary_line_counts_withheld_answers_and_gives_the_measured_accuracy(model):
    reported = rule(model, min_confidence=None, coverage=0.5).describe(3, 12)
    assert reported == (
        "withheld 3 of 12 answers (25 %): confidence below 0.800; on 8 faces, 90.0 % of the "
        "answers with a confidence of 0.800 or more (50 % of the faces) were correct"
    )
    assert "was not measured" in Rule(0.5).describe(0, 0)
    reported = rule(model, min_confidence=0.3, coverage=None).describe(0, 12)
    assert reported == (
        "withheld 0 of 12 answers (0 %): confidence below 0.300; on 8 faces, 70.0 % of all answers "
        "were correct"
    )


def test_a_model_that_was_not_loaded_from_a_folder_has_no_table():
    assert rule(None, min_confidence=0.5, coverage=None) == Rule(0.5)
    with pytest.raises(UserError, match=r"the model has no abstaining\.json"):
        rule(None, min_confidence=None, coverage=0.5)


def test_a_withheld_answer_keeps_its_probabilities():
    boxes = np.zeros((2, 4), np.float32)
    faces = Faces(boxes, np.ones(2, np.float32), np.zeros((2, 5, 2), np.float32))
    probabilities = np.array([[0.75, 0.25], [0.4375, 0.5625]], np.float32)
    picture = np.zeros((4, 4, 3), np.uint8)
    frame = AnalysedFrame(
        Picture("0", picture),
        Frame(0, 0.0, picture),
        Analysis(faces, probabilities),
        np.zeros(2, int),
    )
    labels = ("angry", "happy")
    rows = frame.rows(labels, least=0.5625)
    assert [row["emotion"] for row in rows] == ["angry", "happy"]
    rows = frame.rows(labels, least=0.6)
    columns = reading.schema(labels, abstains=True)
    expected = {"emotion": ["angry", ""], "answered": [True, False], "prob_happy": [0.25, 0.5625]}
    pd.testing.assert_frame_equal(
        reading.table(rows, columns)[list(expected)], pd.DataFrame(expected), check_dtype=False
    )
