"""Measures of a classifier; "no face found" counts as an answer.

All measures are functions of a confusion matrix [C, C + 1]: a row per true class, a column per
answer, in the order of the labels; the last column counts the photographs in which no face was
found. Such a photograph

    is wrong in the accuracy,
    is missed in its class's recall, hence in the balanced accuracy,
    is missed in its class's recall, and lowers no class's precision, in the macro-F1.

This is what scikit-learn computes if "no face" is one more answer that is never true. Classes
without photographs are left out of the balanced accuracy and the macro-F1.

With several seeds the matrix is averaged over them: each photograph weighs the same.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.stats import binomtest, permutation_test
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from fer_jax.metrics.predictions import Predictions

MEASURES = ("accuracy", "balanced_accuracy", "macro_f1")
_MOST_EXACT = 15  # people up to which all exchanges are tried


def confusion(
    truth: Int[np.ndarray, " N"], predicted: Int[np.ndarray, " N"], classes: int
) -> Int[np.ndarray, "C C+1"]:
    """Counts by true class (row) and answer (column; the last one is "no face")."""
    return confusion_matrix(truth, predicted, labels=np.arange(classes + 1))[:classes].astype(
        np.int64
    )


def confusion_by_person(predictions: Predictions) -> Float[np.ndarray, "P C C+1"]:
    """One confusion matrix per person, in the order of `predictions.people`; a mean over seeds."""
    classes = len(predictions.labels)
    _, person = np.unique(predictions.subjects.astype(str), return_inverse=True)
    counts = np.zeros((person.max() + 1, classes, classes + 1))
    np.add.at(counts, (person, predictions.truth, predictions.predicted), 1.0)
    return counts / len(predictions.seed_values)


def measures(matrix: Float[np.ndarray, "*batch C C+1"]) -> dict[str, Float[np.ndarray, "*batch"]]:
    """Accuracy, balanced accuracy and macro-F1 of each confusion matrix of a batch.

    Counts may be fractions (averages over seeds). Each matrix must count something.
    """
    classes = matrix.shape[-2]
    hits = np.diagonal(matrix[..., :classes], axis1=-2, axis2=-1)
    support = matrix.sum(axis=-1)
    answered = matrix[..., :classes].sum(axis=-2)
    present = support > 0  # an absent class has a recall and an F1 of 0, and is not counted
    recall = hits / np.where(present, support, 1.0)
    # F1 = 2 TP / (2 TP + FP + FN), and the denominator is support + answered.
    f1 = 2.0 * hits / np.where(present, support + answered, 1.0)
    return {
        "accuracy": np.asarray(hits.sum(axis=-1) / support.sum(axis=-1)),
        "balanced_accuracy": np.asarray(recall.sum(axis=-1) / present.sum(axis=-1)),
        "macro_f1": np.asarray(f1.sum(axis=-1) / present.sum(axis=-1)),
    }


def chance(truth: Int[np.ndarray, " N"], classes: int) -> dict[str, float]:
    """Accuracy of a uniform guess, and of always answering with the commonest emotion."""
    shares = np.bincount(truth, minlength=classes) / len(truth)
    return {"uniform": 1.0 / classes, "commonest": float(shares.max())}


def per_class(predictions: Predictions) -> pd.DataFrame:
    """Precision, recall, F1, photographs and faces not found, one row per emotion."""
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
    """One row per person, lowest accuracy first: counts, accuracy and recall of each emotion.

    Counts are averages over seeds; the recall of an emotion that a person does not show is NaN.
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
    """Accuracy of each seed."""
    right = predictions.predicted == predictions.truth
    seeds = np.unique(predictions.seeds)
    return {int(seed): float(right[predictions.seeds == seed].mean()) for seed in seeds}


def exact_mcnemar(
    first: Float[np.ndarray, " N"], second: Float[np.ndarray, " N"]
) -> dict[str, int | float]:
    """McNemar's test (1947), exact: do two runs fail on photographs equally often?

    Args:
        first, second: share of seeds in which each run is right, of the same photographs.

    With one seed the discordant photographs are those that one run gets right and the other
    wrong. With several, those on which one run is right in more seeds (a sign test over
    photographs, of which McNemar's is the case of one seed). Two-sided.
    """
    only_first = int((first > second).sum())
    only_second = int((second > first).sum())
    discordant = only_first + only_second
    p = float(binomtest(only_first, discordant, 0.5).pvalue) if discordant else 1.0
    return {"only_first": only_first, "only_second": only_second, "p": p}


def permutation_over_people(
    first: Float[np.ndarray, "P C C1"], second: Float[np.ndarray, "P C C1"]
) -> dict[str, float | int | bool]:
    """Paired permutation test of the difference in accuracy, with people as the units.

    If two runs are equally good, every exchange of their answers about whole people is equally
    likely (Fisher 1935, section 21). Unlike McNemar's test it does not assume that the photographs
    of one person are independent.

    Args:
        first, second: one confusion matrix per person, the same people in the same order.

    All 2**P exchanges are tried up to 15 people, else 20,000 drawn ones. Two-sided.
    """
    hits = [np.diagonal(run[..., :-1], axis1=-2, axis2=-1).sum(axis=-1) for run in (first, second)]
    # Rounded, since sums of averages over seeds that are equal must compare as equal.
    difference = np.round(hits[0] - hits[1], 9)
    exact = len(difference) <= _MOST_EXACT
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
    """Share of seeds in which each photograph is classified right, by photograph, ascending."""
    right = (predictions.predicted == predictions.truth).astype(float)
    return pd.Series(right).groupby(predictions.photos).mean().sort_index()
