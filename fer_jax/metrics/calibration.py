"""Quality of probabilities: log loss, Brier score, calibration error and selective prediction.

A photograph in which no face was found has no probabilities. It counts as wrong, with probability
1 / C for each of C classes, and is the first on which the model abstains.

Temperature scaling (Guo et al. 2017, arXiv:1706.04599, section 4.2) divides the logarithms of the
probabilities by a temperature T and applies the softmax. This changes the confidence, but not which
class is predicted. The built-in methods of the stage `crossval` fit T on training or validation
people, not on the test people of the fold.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from sklearn.metrics import log_loss

from fer_jax.metrics.predictions import Predictions
from fer_jax.training.inference import scale

BINS = 10
_MIN_PROBABILITY = 1e-12  # a probability of 0 would make the log loss infinite
_TEMPERATURES = (0.05, 20.0)


def describe(predictions: Predictions) -> dict[str, Any]:
    """All calibration measures of one run, as a JSON-serialisable dictionary.

    `raw` contains the scores of the model's probabilities, `scaled` those after temperature
    scaling. `temperature` contains the median, lowest and highest temperature of the photographs.
    `scaled` and `temperature` are None if no temperatures were fitted. `reliability`, `coverage`
    and `area_under_risk` are based on the scaled probabilities if there are any.
    """
    # A fixed order makes the rounding of sums independent of the order of the table.
    rows = np.lexsort((predictions.photos.astype(str), predictions.seeds))
    truth, no_face = predictions.truth[rows], predictions.no_face[rows]
    known = answered(predictions.probabilities[rows], no_face)
    right = predictions.predicted[rows] == truth
    best = known
    scaled, temperature = None, None
    if predictions.temperatures is not None:
        temperatures = predictions.temperatures[rows]
        best = answered(scale(predictions.probabilities[rows], temperatures), no_face)
        scaled = scores(best, truth, right)
        low, middle, high = np.quantile(temperatures, [0.0, 0.5, 1.0]).tolist()
        temperature = {"median": middle, "low": low, "high": high}
    confidence = np.where(no_face, 0.0, best.max(axis=1))
    return {
        "raw": scores(known, truth, right),
        "scaled": scaled,
        "temperature": temperature,
        "bins": BINS,
        "reliability": reliability(best.max(axis=1), right).to_dict("records"),
        "coverage": coverage(confidence, right).to_dict("records"),
        "area_under_risk": area_under_risk(confidence, right),
    }


def scores(
    probabilities: Float[np.ndarray, "N C"],
    truth: Int[np.ndarray, " N"],
    right: Bool[np.ndarray, " N"],
) -> dict[str, float]:
    """Log loss in nats, Brier score (0 to 2, Brier 1950), and expected calibration error.

    `right` contains whether each answer is correct.
    """
    labels = np.arange(probabilities.shape[1])
    clipped = np.clip(probabilities, _MIN_PROBABILITY, 1.0)
    clipped /= clipped.sum(axis=1, keepdims=True)
    return {
        "log_loss": float(log_loss(truth, clipped, labels=labels)),
        "brier": float(((clipped - np.eye(len(labels))[truth]) ** 2).sum(axis=1).mean()),
        "ece": calibration_error(probabilities.max(axis=1), right),
    }


def answered(
    probabilities: Float[np.ndarray, "N C"], no_face: Bool[np.ndarray, " N"]
) -> Float[np.ndarray, "N C"]:
    """The probabilities, with 1 / C for each class in rows where no face was found."""
    return np.where(no_face[:, None], 1.0 / probabilities.shape[1], probabilities)


def reliability(
    confidence: Float[np.ndarray, " N"], right: Bool[np.ndarray, " N"], bins: int = BINS
) -> pd.DataFrame:
    """Mean confidence and accuracy in `bins` bins of equal width; empty bins are left out.

    Columns: `low`, `high` (the bin is low < confidence <= high, and the first one includes 0),
    `count`, `confidence` and `accuracy` (means). `right` contains whether each answer is correct.
    """
    edges = np.linspace(0.0, 1.0, bins + 1)
    place = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    table = pd.DataFrame({"place": place, "confidence": confidence, "right": right.astype(float)})
    grouped = table.groupby("place").agg(
        count=("right", "size"), confidence=("confidence", "mean"), accuracy=("right", "mean")
    )
    where = grouped.index.to_numpy()
    grouped.insert(0, "high", edges[where + 1])
    grouped.insert(0, "low", edges[where])
    return grouped.reset_index(drop=True)


def calibration_error(
    confidence: Float[np.ndarray, " N"], right: Bool[np.ndarray, " N"], bins: int = BINS
) -> float:
    """Expected calibration error (Naeini et al. 2015; Guo et al. 2017, equation 3).

    The mean absolute gap between confidence and accuracy over bins of equal width, weighted by the
    number of photographs in each bin. It is biased upwards for small numbers of photographs.
    """
    table = reliability(confidence, right, bins)
    gaps = (table["confidence"] - table["accuracy"]).abs()
    return float((gaps * table["count"]).sum() / table["count"].sum())


def coverage(confidence: Float[np.ndarray, " N"], right: Bool[np.ndarray, " N"]) -> pd.DataFrame:
    """Accuracy as a function of the share of photographs on which the model does not abstain.

    This is the risk-coverage curve (El-Yaniv and Wiener 2010). The table has one row per threshold
    on the confidence, in ascending order, with the columns `coverage` (the share of photographs
    that are answered), `accuracy` (on these photographs) and `threshold` (the lowest confidence
    that is answered). Photographs with equal confidence are answered together.
    """
    order = np.argsort(-confidence, kind="stable")
    sorted_confidence = confidence[order]
    hits = np.cumsum(right[order])
    answers = np.arange(1, len(order) + 1)
    last = np.append(sorted_confidence[1:] < sorted_confidence[:-1], True)
    table = pd.DataFrame(
        {
            "coverage": answers[last] / len(order),
            "accuracy": hits[last] / answers[last],
            "threshold": sorted_confidence[last],
        }
    )
    return table.iloc[::-1].reset_index(drop=True)


def area_under_risk(confidence: Float[np.ndarray, " N"], right: Bool[np.ndarray, " N"]) -> float:
    """Mean error over all coverages (AURC, Geifman et al. 2019, arXiv:1805.08206); 0 is best."""
    table = coverage(confidence, right).iloc[::-1]
    shares = np.diff(table["coverage"].to_numpy(), prepend=0.0)
    return float((shares * (1.0 - table["accuracy"].to_numpy())).sum())


def fit_temperature(probabilities: Float[np.ndarray, "N C"], truth: Int[np.ndarray, " N"]) -> float:
    """The temperature between 0.05 and 20 with the lowest log loss; 1 if there are no examples."""
    if not len(truth):
        return 1.0
    logits = np.log(np.clip(probabilities, _MIN_PROBABILITY, 1.0))
    rows = np.arange(len(truth))

    def loss(log_temperature: float) -> float:
        scaled = log_softmax(logits / np.exp(log_temperature), axis=1)
        return float(-scaled[rows, truth].mean())

    bounds = tuple(np.log(_TEMPERATURES))
    return float(np.exp(minimize_scalar(loss, bounds=bounds, method="bounded").x))
