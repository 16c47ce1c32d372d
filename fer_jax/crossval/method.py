"""The contract between cross-validation and the methods that train a model in each fold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Float32, Int

from fer_jax import plugins, schemas
from fer_jax.crossval.labelled_faces import FaceSet
from fer_jax.errors import UserError

VALIDATION = "on the validation people given by the labels"


@dataclass(frozen=True)
class Facts:
    """Properties of a method that the report mentions.

    Attributes:
        chosen_by: which hyperparameters the method selects, and on which data; "" for none.
        chosen_on_validation: the same for labels that define validation people; "" if it does not
            differ.
        wants_inner: whether the method needs inner validation people to select hyperparameters.
        frozen: whether the backbone is not trained.
        features: the inputs of the head, if they can be configured.
        steps: training steps of each fold.
        test_crops: number of averaged test crops, if the method ignores `config.test_crops`.
        test_crops_by_choice: the number of test crops by `TrainedModel.chosen`, if it may depend on
            what was selected.
    """

    chosen_by: str = ""
    chosen_on_validation: str = ""
    wants_inner: bool = False
    frozen: bool = False
    features: tuple[str, ...] = ()
    steps: int | None = None
    test_crops: int | None = None
    test_crops_by_choice: Mapping[str, int] = field(default_factory=dict)


@runtime_checkable
class TrainedModel(Protocol):
    """The model of a fold; `fer_jax.crossval.models.NetworkModel` is one.

    Attributes:
        temperature: see `fer_jax.metrics.calibration`; None if it was not fitted.
        chosen: hyperparameters that were selected on inner validation people, as text for
            predictions.parquet.
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
        """Heat maps from 0 to 1 of the evidence for one class of each face; None if unknown."""

    def save(self, folder: Path) -> None:
        """Writes a model directory, with which `predict` gives the same probabilities."""


@runtime_checkable
class Method(Protocol):
    """The interface of a method that trains the model of a fold.

    A module's attribute METHOD is its class, which is constructed with the config of the stage, the
    class names, and the mean number of training faces of a fold.
    """

    facts: Facts

    def fit(
        self, train: FaceSet, inner: tuple[FaceSet, FaceSet] | None, *, seed: int, folder: Path
    ) -> TrainedModel:
        """Trains the model of a fold.

        Args:
            train: the faces to train on.
            inner: for selecting hyperparameters: the inner training faces, and the faces of other
                training people to validate on; None without inner validation.
            seed: of all random numbers.
            folder: a folder of this fold, for files of the method.
        """

    def fit_everyone(self, faces: FaceSet, *, seed: int, workdir: Path) -> TrainedModel:
        """Trains the final model on all faces; `workdir/folds` contains the files of the folds."""

    def speed(self) -> dict[str, Any]:
        """Entries for the summary of the stage, such as training steps and compilation time."""


def make(config: schemas.Crossval, labels: Sequence[str], mean_size: float) -> Method:
    """The method that `config.method` names.

    A name without a dot is a file in `fer_jax/crossval/methods`; a dotted name is any module.

    Args:
        config: the config of the stage.
        labels: class names.
        mean_size: mean number of training faces of a fold.

    Raises:
        UserError: there is no such method, or its class lacks a part of the contract.
    """
    kind = plugins.load("method", config.method, "fer_jax.crossval.methods", "METHOD")
    method = kind(config, list(labels), mean_size)
    if not isinstance(method, Method):
        raise UserError(
            f"crossval: METHOD of --config.method={config.method} must have facts, fit, "
            "fit_everyone and speed; see docs/add_a_method.md"
        )
    return method
