"""A linear head on features of a frozen backbone: what few photographs are best learned by.

Features of every photograph are computed once; each fold then fits a multinomial logistic
regression with an L2 penalty, which takes milliseconds. The strength of the penalty and the
temperature are chosen by cross-validation over the people of the training side; whoever is tested
takes no part in it.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from fer_jax.errors import UserError
from fer_jax.metrics.calibration import fit_temperature
from fer_jax.training.inference import scale

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1)  # scikit-learn's C: smaller is stronger
_INNER_FOLDS = 5


@dataclass(frozen=True)
class Probe:
    """A fitted head. `c` and `temperature` were chosen on inner validation people."""

    model: Pipeline
    classes: int
    c: float
    temperature: float

    def probabilities(self, features: Float[np.ndarray, "n views f"]) -> Float[np.ndarray, "n c"]:
        """Class probabilities, averaged over each photograph's views."""
        return _probabilities(self.model, features, self.classes)

    def linear(self) -> tuple[Float[np.ndarray, "f c"], Float[np.ndarray, " c"]]:
        """Kernel and bias of the same head as one linear layer on features, without temperature."""
        scaler, regression = self.model[0], self.model[1]
        rows, intercept = regression.coef_, regression.intercept_
        if len(regression.classes_) == 2:  # scikit-learn keeps the second class alone
            rows = np.concatenate([-rows, rows]) / 2
            intercept = np.concatenate([-intercept, intercept]) / 2
        rows = rows / scaler.scale_
        kernel = np.zeros((rows.shape[1], self.classes))
        bias = np.full(self.classes, -1e4)  # classes that nobody showed
        kernel[:, regression.classes_] = rows.T
        bias[regression.classes_] = intercept - rows @ scaler.mean_
        return kernel, bias


def fit_probe(
    features: Float[np.ndarray, "n views f"],
    labels: Int[np.ndarray, " n"],
    people: Sequence[str],
    *,
    classes: int,
    seed: int,
    validation: tuple[Float[np.ndarray, "m views f"], Int[np.ndarray, " m"]] | None = None,
) -> Probe:
    """Fits the head on all of these photographs, with what their people say is best.

    Views are in the order of `inference.mirrored_too`; the head is fitted on the whole face and
    its mirror image. With fewer than two people nothing can be chosen: the strongest penalty and
    temperature 1 are taken.

    Args:
      features: of each photograph and view.
      labels: 0 .. classes - 1.
      people: of each photograph.
      classes: number of classes; those that nobody here shows get probability 0.
      seed: of the inner folds.
      validation: features and labels of other people to choose on; without them, five-fold
        cross-validation over `people`.
    """
    if validation is not None:
        held_out = {
            c: _probabilities(_fit(features, labels, c), validation[0], classes) for c in PENALTIES
        }
        c, temperature = _best(held_out, validation[1])
        return Probe(_fit(features, labels, c), classes, c, temperature)
    names = np.asarray([str(person) for person in people])
    found = len(np.unique(names))
    if found < 2:
        return Probe(_fit(features, labels, PENALTIES[0]), classes, PENALTIES[0], 1.0)
    splitter = GroupKFold(min(_INNER_FOLDS, found), shuffle=True, random_state=seed)
    inner = list(splitter.split(labels, groups=names))
    held_out = {c: _held_out(features, labels, inner, c, classes) for c in PENALTIES}
    c, temperature = _best(held_out, labels)
    return Probe(_fit(features, labels, c), classes, c, temperature)


def _best(
    held_out: dict[float, Float[np.ndarray, "n c"]], labels: Int[np.ndarray, " n"]
) -> tuple[float, float]:
    """The penalty of the least log loss at its own temperature, and that temperature."""
    found = []
    for c, probabilities in held_out.items():
        temperature = fit_temperature(probabilities, labels)
        tempered = scale(probabilities, temperature)
        loss = log_loss(labels, tempered, labels=np.arange(probabilities.shape[1]))
        found.append((round(float(loss), 9), c, temperature))
    _, c, temperature = min(found)
    return c, temperature


def _held_out(
    features: Float[np.ndarray, "n views f"],
    labels: Int[np.ndarray, " n"],
    inner: Sequence[tuple[np.ndarray, np.ndarray]],
    c: float,
    classes: int,
) -> Float[np.ndarray, "n c"]:
    """Probabilities of each photograph by a head that has not seen its person."""
    probabilities = np.full((len(labels), classes), 1.0 / classes)
    for train, test in inner:
        if len(np.unique(labels[train])) > 1:
            model = _fit(features[train], labels[train], c)
            probabilities[test] = _probabilities(model, features[test], classes)
    return probabilities


def _fit(
    features: Float[np.ndarray, "n views f"], labels: Int[np.ndarray, " n"], c: float
) -> Pipeline:
    if len(np.unique(labels)) < 2:
        raise UserError("the people trained on show one emotion only; nothing can be told apart")
    # Learned from: the face and its mirror image. They are one photograph: C is halved.
    features = features[:, :: max(1, features.shape[1] // 2)][:, :2]
    views = features.shape[1]
    model = make_pipeline(StandardScaler(), LogisticRegression(C=c / views, max_iter=200))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # weak penalties need not converge
        model.fit(features.reshape(-1, features.shape[-1]), labels.repeat(views))
    return model


def _probabilities(
    model: Pipeline, features: Float[np.ndarray, "n views f"], classes: int
) -> Float[np.ndarray, "n c"]:
    count, views, width = features.shape
    found = model.predict_proba(features.reshape(-1, width)).reshape(count, views, -1).mean(axis=1)
    probabilities = np.zeros((count, classes))
    probabilities[:, model.classes_] = found
    return probabilities
