import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss

from fer_jax.metrics import calibration
from tests.metrics.simulation import LABELS, from_table, simulate


def overconfident(rows=4000, temperature=0.4, classes=4, seed=0):
    """Probabilities sharpened by `temperature`, and labels drawn from the unsharpened ones."""
    rng = np.random.default_rng(seed)
    calibrated_rows = rng.dirichlet(np.ones(classes), rows)
    truth = np.array([rng.choice(classes, p=row) for row in calibrated_rows])
    return calibration.scale(calibrated_rows, temperature), truth


def test_scores_agree_with_a_worked_example():
    # Three classes; two correct answers with confidence 0.8 and 0.6, one wrong with 0.6.
    probabilities = np.array([[0.8, 0.1, 0.1], [0.2, 0.6, 0.2], [0.6, 0.3, 0.1]])
    truth = np.array([0, 1, 1])
    right = np.array([True, True, False])
    found = calibration.scores(probabilities, truth, right)
    assert found["log_loss"] == pytest.approx(-(np.log(0.8) + np.log(0.6) + np.log(0.3)) / 3)
    brier = (0.04 + 0.01 + 0.01) + (0.04 + 0.16 + 0.04) + (0.36 + 0.49 + 0.01)
    assert found["brier"] == pytest.approx(brier / 3)
    # Bin 0.5..0.6: two answers, confidence 0.6, accuracy 0.5; bin 0.7..0.8: one, 0.8 and 1.
    assert found["ece"] == pytest.approx((2 * 0.1 + 1 * 0.2) / 3)


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_scores_agree_with_scikit_learn(classes):
    rng = np.random.default_rng(classes)
    probabilities = rng.dirichlet(np.ones(classes), 200)
    truth = rng.integers(0, classes, 200)
    found = calibration.scores(probabilities, truth, probabilities.argmax(1) == truth)
    labels = np.arange(classes)
    assert found["log_loss"] == pytest.approx(log_loss(truth, probabilities, labels=labels))
    onehot = np.eye(classes)[truth]
    assert found["brier"] == pytest.approx(((probabilities - onehot) ** 2).sum(1).mean())
    if classes == 2:
        half = brier_score_loss(truth, probabilities[:, 1])
        assert found["brier"] == pytest.approx(2 * half)


def test_reliability_agrees_with_scikit_learn():
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0, 1, 500)
    right = rng.uniform(0, 1, 500) < confidence**2
    table = calibration.reliability(confidence, right)
    accuracy, mean = calibration_curve(right, confidence, n_bins=calibration.BINS)
    np.testing.assert_allclose(table["accuracy"], accuracy)
    np.testing.assert_allclose(table["confidence"], mean)
    assert table["count"].sum() == 500


def test_temperature_scaling_corrects_overconfidence():
    probabilities, truth = overconfident(temperature=0.4)
    temperature = calibration.fit_temperature(probabilities, truth)
    assert temperature == pytest.approx(1 / 0.4, rel=0.1)
    right = probabilities.argmax(1) == truth
    before = calibration.scores(probabilities, truth, right)
    scaled = calibration.scale(probabilities, temperature)
    after = calibration.scores(scaled, truth, right)
    assert (scaled.argmax(1) == probabilities.argmax(1)).all()
    assert before["ece"] > 0.1 and after["ece"] < 0.03
    assert after["log_loss"] < before["log_loss"] and after["brier"] < before["brier"]
    assert calibration.fit_temperature(probabilities[:0], truth[:0]) == 1.0


def test_coverage_agrees_with_a_worked_example():
    # By confidence: one correct, then one wrong and one correct with equal confidence, one wrong.
    confidence = np.array([0.5, 0.9, 0.7, 0.7])
    right = np.array([False, True, False, True])
    table = calibration.coverage(confidence, right)
    assert table["coverage"].tolist() == [1.0, 0.75, 0.25]
    assert table["accuracy"].tolist() == pytest.approx([2 / 4, 2 / 3, 1.0])
    assert table["threshold"].tolist() == [0.5, 0.7, 0.9]
    area = 0.25 * 0.0 + 0.5 * (1 / 3) + 0.25 * 0.5
    assert calibration.area_under_risk(confidence, right) == pytest.approx(area)


def test_the_model_first_abstains_on_photographs_without_a_face():
    table, protocol = simulate(no_face=0.2, skill=1.0, spread=0.0)
    run = from_table("a", table, protocol, "table")
    found = calibration.describe(run)
    lost = int(run.no_face.sum())
    assert lost > 0
    first, second = found["coverage"][:2]
    assert first["accuracy"] == pytest.approx(1 - lost / len(table))
    assert (second["coverage"], second["accuracy"]) == pytest.approx((1 - lost / len(table), 1.0))
    known = table[[f"prob_{label}" for label in LABELS]].fillna(0.25).to_numpy()
    assert found["raw"]["log_loss"] == pytest.approx(log_loss(run.truth, known, labels=range(4)))
    assert found["scaled"] is None and found["temperature"] is None


def test_scaled_figures_use_the_temperature_of_each_fold():
    table, protocol = simulate(no_face=0.1)
    table["temperature"] = np.where(table["fold"] % 2, 0.5, 2.0)
    run = from_table("a", table, protocol, "table")
    found = calibration.describe(run)
    assert found["temperature"] == {"median": 2.0, "low": 0.5, "high": 2.0}
    scaled = calibration.scale(run.probabilities, table["temperature"].to_numpy())
    known = calibration.answered(scaled, run.no_face)
    expected = log_loss(run.truth, known, labels=range(4))
    assert found["scaled"]["log_loss"] == pytest.approx(expected)
    assert found["scaled"]["log_loss"] != pytest.approx(found["raw"]["log_loss"])
