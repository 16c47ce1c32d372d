"""The contract between cross-validation and the methods that train a model in each fold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Float32, Int

from fer_jax import plugins, schemas
from fer_jax.crossval.labelled_faces import FaceSet
from fer_jax.errors import UserError

VALIDATION = "on the validation people that the labels name"


@dataclass(frozen=True)
class Facts:
    """What the report says about a method.

    Attributes:
        chosen_by: what the method chooses, and on whom; "" for nothing.
        chosen_on_validation: the same where the labels name validation people; "" if it makes no
            difference.
        wants_inner: whether inner validation people are set apart for its choices.
        frozen: whether the backbone is not trained.
        features: what the head reads, where that is a choice.
        steps: training steps of each fold.
        test_crops: views that are averaged, if the method does not follow `config.test_crops`.
    """

    chosen_by: str = ""
    chosen_on_validation: str = ""
    wants_inner: bool = False
    frozen: bool = False
    features: tuple[str, ...] = ()
    steps: int | None = None
    test_crops: int | None = None


@runtime_checkable
class TrainedModel(Protocol):
    """The model of a fold; `fer_jax.crossval.models.NetworkModel` is one.

    Attributes:
        temperature: see `fer_jax.metrics.calibration`; None if none was fitted.
        chosen: what was chosen on inner validation people, as a text for predictions.parquet.
    """

    @property
    def temperature(self) -> float | None: ...

    @property
    def chosen(self) -> str: ...

    def probabilities(self, faces: FaceSet) -> Float[np.ndarray, "n c"]:
        """Class probabilities before the temperature; n may be 0."""

    def heat(
        self, faces: FaceSet, classes: Int[np.ndarray, " n"]
    ) -> Float32[np.ndarray, "n h w"] | None:
        """Where the model looked for one class of each face, from 0 to 1; None if unknown."""

    def save(self, folder: Path) -> None:
        """Writes a model directory, with which `predict` answers as `probabilities` does."""


@runtime_checkable
class Method(Protocol):
    """How the model of a fold is trained. A module names its class in the attribute METHOD.

    The class is constructed with the config of the stage, the class names, and the mean number of
    faces that a fold trains on.
    """

    facts: Facts

    def fit(
        self, train: FaceSet, inner: tuple[FaceSet, FaceSet] | None, *, seed: int, folder: Path
    ) -> TrainedModel:
        """Trains the model of a fold.

        Args:
            train: the faces to train on.
            inner: faces of other people to choose on, after the faces to train on for that; None
                if there are none.
            seed: keys everything random.
            folder: of this fold, for files of the method.
        """

    def fit_everyone(self, faces: FaceSet, *, seed: int, workdir: Path) -> TrainedModel:
        """Trains a model on all faces; those of the folds lie in `workdir/folds`."""

    def speed(self) -> dict[str, Any]:
        """Entries for the summary of the stage."""


def make(config: schemas.Crossval, labels: Sequence[str], mean_size: float) -> Method:
    """The method that `config.method` names: one of this package, or a dotted module name.

    Raises:
        UserError: there is no such method, or its class lacks a part of the contract.
    """
    kind = plugins.load("method", config.method, "fer_jax.crossval.methods", "METHOD")
    method = kind(config, list(labels), mean_size)
    if not isinstance(method, Method):
        raise UserError(
            f"config.method={config.method}: METHOD must have facts, fit, fit_everyone and speed "
            "(docs/add_a_method.md)"
        )
    return method
