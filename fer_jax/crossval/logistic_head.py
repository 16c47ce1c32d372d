"""A linear head on precomputed features: multinomial logistic regression with an L2 penalty.

`fit_head` selects the strength of the penalty and the temperature on validation faces or, without
these, by inner cross-validation over the training people of a fold. `fit_penalised` takes the
strength of the penalty as an argument and fits no temperature.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int
from scipy.special import softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GroupKFold
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from fer_jax.errors import UserError
from fer_jax.metrics.calibration import fit_temperature
from fer_jax.training.inference import scale

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1)  # scikit-learn's C: smaller is stronger
_INNER_FOLDS = 5
_NEVER = -1e4  # logit of a class without training examples


@dataclass(frozen=True, eq=False)
class Head:
    """A linear layer on features, and the temperature of its probabilities.

    Attributes:
        kernel: weights, float [features, classes]; not divided by the temperature.
        bias: float [classes]; not divided by the temperature.
        c: inverse strength of the penalty, as in scikit-learn.
        temperature: see `fer_jax.metrics.calibration`; 1 if it was not fitted.
    """

    kernel: Float[np.ndarray, "f c"]
    bias: Float[np.ndarray, " c"]
    c: float
    temperature: float = 1.0

    def probabilities(self, features: Float[np.ndarray, "n views f"]) -> Float[np.ndarray, "n c"]:
        """Class probabilities before temperature scaling, averaged over the views."""
        mean: np.ndarray = softmax(features @ self.kernel + self.bias, axis=-1).mean(axis=1)
        return mean


def fit_head(
    features: Float[np.ndarray, "n views f"],
    labels: Int[np.ndarray, " n"],
    people: Sequence[str],
    *,
    classes: int,
    seed: int,
    validation: tuple[Float[np.ndarray, "m views f"], Int[np.ndarray, " m"]] | None = None,
) -> Head:
    """Fits the head on all photographs, with the penalty for which the validation loss is lowest.

    The validation loss is the log loss at the best temperature, which becomes the temperature of
    the head. Views are in the order of `inference.views`; the head is fitted on the whole face and
    its mirror image. With fewer than two people and without `validation`, nothing can be selected;
    the penalty is then the strongest one, and the temperature 1.

    Args:
        features: float [n, views, f], the features of each photograph and view.
        labels: int [n], the class of each photograph, 0 .. classes - 1.
        people: the person in each photograph.
        classes: number of classes; those without examples get probability 0.
        seed: determines the inner folds.
        validation: features and labels of the validation faces; if None, the penalty is selected
            by cross-validation over `people`, in at most five folds.

    Raises:
        UserError: the photographs show only one emotion.
    """
    everything = np.arange(len(labels))
    if validation is not None:
        tested, truth = validation
        splits: list[tuple[np.ndarray, np.ndarray]] = [(everything, np.arange(len(truth)))]
    else:
        tested, truth = features, labels
        groups = np.asarray(people, dtype=str)
        parts = min(_INNER_FOLDS, len(np.unique(groups)))
        if parts < 2:
            return fit_penalised(features, labels, PENALTIES[0], classes=classes)
        splitter = GroupKFold(parts, shuffle=True, random_state=seed)
        splits = list(splitter.split(labels, groups=groups))
    tried = []
    for c in PENALTIES:
        probabilities = np.full((len(truth), classes), 1.0 / classes)
        for train, test in splits:
            if validation is not None or len(np.unique(labels[train])) > 1:
                head = fit_penalised(features[train], labels[train], c, classes=classes)
                probabilities[test] = head.probabilities(tested[test])
        temperature = fit_temperature(probabilities, truth)
        tempered = scale(probabilities, temperature)
        loss = log_loss(truth, tempered, labels=np.arange(classes))
        tried.append((round(float(loss), 9), c, temperature))
    _, c, temperature = min(tried)
    head = fit_penalised(features, labels, c, classes=classes)
    return replace(head, temperature=temperature)


def fit_penalised(
    features: Float[np.ndarray, "n views f"],
    labels: Int[np.ndarray, " n"],
    c: float,
    *,
    classes: int,
) -> Head:
    """Fits the head on all photographs with a given penalty, at temperature 1.

    `c` is the inverse strength of the penalty, as in scikit-learn; the other arguments are those of
    `fit_head`.

    Raises:
        UserError: the photographs show only one emotion.
    """
    if len(np.unique(labels)) < 2:
        raise UserError(
            "the training photographs of a fold show only one emotion; add photographs of other "
            "emotions, or of more people"
        )
    with threadpool_limits(1):  # for such small fits, several threads are slower
        return _fitted(features, labels, c, classes)


def _fitted(
    features: Float[np.ndarray, "n views f"], labels: Int[np.ndarray, " n"], c: float, classes: int
) -> Head:
    # Each photograph occurs twice, as the face and its mirror image, so C is halved.
    shown = features[:, :: max(1, features.shape[1] // 2)][:, :2]
    views = shown.shape[1]
    scaler = StandardScaler()
    inputs = scaler.fit_transform(shown.reshape(-1, shown.shape[-1]).astype(np.float64))
    # The optimal weights are linear combinations of the examples. With fewer examples than
    # features, a fit in a basis of the examples has the same solution and is much smaller.
    basis = None
    if inputs.shape[0] < inputs.shape[1]:
        basis, coordinates = np.linalg.qr(inputs.T)
        inputs = coordinates.T
    regression = LogisticRegression(C=c / views, max_iter=200)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # weak penalties may not converge
        regression.fit(inputs, labels.repeat(views))
    rows, intercept = regression.coef_, regression.intercept_
    if len(regression.classes_) == 2:  # scikit-learn has weights of the second class only
        rows = np.concatenate([-rows, rows]) / 2
        intercept = np.concatenate([-intercept, intercept]) / 2
    if basis is not None:
        rows = rows @ basis.T
    rows = rows / scaler.scale_
    kernel = np.zeros((rows.shape[1], classes))
    bias = np.full(classes, _NEVER)
    kernel[:, regression.classes_] = rows.T
    bias[regression.classes_] = intercept - rows @ scaler.mean_
    return Head(kernel, bias, c)
