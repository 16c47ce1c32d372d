"""Measures of a classifier, with "no face found" as one of the answers, and significance tests.

The main measures (`MEASURES`) are functions of a confusion matrix [C, C + 1]: one row per true
class and one column per answer, in the order of the labels. The last column counts the photographs
in which no face was found. Such a photograph counts as an error in the accuracy and lowers the
recall of its class, and thereby the balanced accuracy and the macro-F1. It does not lower the
precision of any class.

scikit-learn computes the same values if "no face" is an additional answer that is never true.
Classes without photographs are left out of the balanced accuracy and the macro-F1.

With several seeds the matrix is averaged over them, so every photograph has the same weight.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.stats import binomtest, permutation_test
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from fer_jax.metrics.predictions import Predictions

MEASURES = ("accuracy", "balanced_accuracy", "macro_f1")
_MAX_EXACT = 15  # people; with more, exchanges are sampled


def confusion(
    truth: Int[np.ndarray, " N"], predicted: Int[np.ndarray, " N"], classes: int
) -> Int[np.ndarray, "C C+1"]:
    """Counts by true class (row) and answer (column; the last one is "no face found")."""
    return confusion_matrix(truth, predicted, labels=np.arange(classes + 1))[:classes].astype(
        np.int64
    )


def confusion_by_person(predictions: Predictions) -> Float[np.ndarray, "P C C+1"]:
    """One confusion matrix for each of `predictions.people`, in this order, averaged over seeds."""
    classes = len(predictions.labels)
    _, person = np.unique(predictions.subjects.astype(str), return_inverse=True)
    counts = np.zeros((person.max() + 1, classes, classes + 1))
    np.add.at(counts, (person, predictions.truth, predictions.predicted), 1.0)
    return counts / len(predictions.seed_values)


def measures(matrix: Float[np.ndarray, "*batch C C+1"]) -> dict[str, Float[np.ndarray, "*batch"]]:
    """Accuracy, balanced accuracy and macro-F1 of each confusion matrix in a batch.

    Counts may be fractions (averages over seeds). No matrix may be all zeros.
    """
    classes = matrix.shape[-2]
    hits = np.diagonal(matrix[..., :classes], axis1=-2, axis2=-1)
    support = matrix.sum(axis=-1)
    answered = matrix[..., :classes].sum(axis=-2)
    present = support > 0  # classes without photographs are not averaged
    recall = hits / np.where(present, support, 1.0)
    # F1 = 2 TP / (2 TP + FP + FN), and the denominator is support + answered.
    f1 = 2.0 * hits / np.where(present, support + answered, 1.0)
    return {
        "accuracy": np.asarray(hits.sum(axis=-1) / support.sum(axis=-1)),
        "balanced_accuracy": np.asarray(recall.sum(axis=-1) / present.sum(axis=-1)),
        "macro_f1": np.asarray(f1.sum(axis=-1) / present.sum(axis=-1)),
    }


def chance(truth: Int[np.ndarray, " N"], classes: int) -> dict[str, float]:
    """The accuracies of guessing uniformly, and of always answering the most common emotion."""
    shares = np.bincount(truth, minlength=classes) / len(truth)
    return {"uniform": 1.0 / classes, "commonest": float(shares.max())}


def per_class(predictions: Predictions) -> pd.DataFrame:
    """One row per emotion: precision, recall and F1 over all seeds, and two counts.

    `photographs` counts the photographs of the emotion; `no_face` counts those of them in which no
    face was found, averaged over seeds.
    """
    classes = np.arange(len(predictions.labels))
    precision, recall, f1, support = precision_recall_fscore_support(
        predictions.truth, predictions.predicted, labels=classes, zero_division=0.0
    )
    seeds = len(predictions.seed_values)
    missed = [int(predictions.no_face[predictions.truth == label].sum()) for label in classes]
    return pd.DataFrame(
        {
            "emotion": predictions.labels,
            "precision": precision,
            "recall": recall,
            "f1": f1,
            "photographs": np.asarray(support) // seeds,
            "no_face": np.asarray(missed) / seeds,
        }
    )


def per_person(predictions: Predictions) -> pd.DataFrame:
    """One row per person, lowest accuracy first: counts, accuracy, and recall of each emotion.

    Counts are averages over seeds. The recall of an emotion of which there are no photographs of
    the person is NaN.
    """
    matrix = confusion_by_person(predictions)
    classes = len(predictions.labels)
    hits = np.diagonal(matrix[..., :classes], axis1=-2, axis2=-1)
    support = matrix.sum(axis=-1)
    table = pd.DataFrame(
        {
            "subject": predictions.people,
            "photographs": support.sum(axis=-1).astype(int),
            "no_face": matrix[..., classes].sum(axis=-1),
            "correct": hits.sum(axis=-1),
            "accuracy": hits.sum(axis=-1) / support.sum(axis=-1),
        }
    )
    recall = np.divide(hits, support, out=np.full_like(hits, np.nan), where=support > 0)
    for position, label in enumerate(predictions.labels):
        table[f"recall_{label}"] = recall[:, position]
    return table.sort_values(["accuracy", "subject"], kind="stable", ignore_index=True)


def per_seed(predictions: Predictions) -> dict[int, float]:
    """The accuracy by seed."""
    right = predictions.predicted == predictions.truth
    seeds = np.unique(predictions.seeds)
    return {int(seed): float(right[predictions.seeds == seed].mean()) for seed in seeds}


def exact_mcnemar(
    first: Float[np.ndarray, " N"], second: Float[np.ndarray, " N"]
) -> dict[str, int | float]:
    """The exact, two-sided McNemar test (1947) of whether two runs have equal error rates.

    With one seed the discordant photographs are those that exactly one run classifies correctly.
    With several seeds, they are those that one run classifies correctly in more seeds than the
    other. This is a sign test over photographs, which equals McNemar's test for one seed.

    Args:
        first: for each photograph, the share of seeds in which the first run is correct.
        second: the same for the second run, for the same photographs.

    Returns:
        `only_first` and `only_second`, the numbers of discordant photographs, and `p`.
    """
    only_first = int((first > second).sum())
    only_second = int((second > first).sum())
    discordant = only_first + only_second
    p = float(binomtest(only_first, discordant, 0.5).pvalue) if discordant else 1.0
    return {"only_first": only_first, "only_second": only_second, "p": p}


def permutation_over_people(
    first: Float[np.ndarray, "P C C1"], second: Float[np.ndarray, "P C C1"]
) -> dict[str, float | int | bool]:
    """Two-sided paired permutation test of the difference in accuracy, with people as units.

    Under the null hypothesis, the answers of the two runs about a person are exchangeable (Fisher
    1935, section 21). Unlike McNemar's test, this does not assume that photographs of the same
    person are independent. All 2**P exchanges are evaluated for up to 15 people, and 20,000 random
    ones for more.

    Args:
        first: one confusion matrix per person.
        second: the same for the second run, with the same people in the same order.

    Returns:
        `p`, the number of `people`, and whether the test is `exact`.
    """
    hits = [np.diagonal(run[..., :-1], axis1=-2, axis2=-1).sum(axis=-1) for run in (first, second)]
    # Rounded, so that equal sums of averages over seeds compare as equal.
    difference = np.round(hits[0] - hits[1], 9)
    exact = len(difference) <= _MAX_EXACT
    if not difference.any():
        return {"p": 1.0, "people": len(difference), "exact": exact}
    test = permutation_test(
        (difference,),
        lambda sample, axis: np.round(sample.sum(axis=axis), 9),
        permutation_type="samples",
        vectorized=True,
        n_resamples=np.inf if exact else 20_000,
        batch=4096,
        rng=np.random.default_rng(0),
    )
    return {"p": float(test.pvalue), "people": len(difference), "exact": exact}


def right_by_photo(predictions: Predictions) -> pd.Series:
    """The share of seeds in which each photograph is classified correctly, sorted by photograph."""
    right = (predictions.predicted == predictions.truth).astype(float)
    return pd.Series(right).groupby(predictions.photos).mean().sort_index()
