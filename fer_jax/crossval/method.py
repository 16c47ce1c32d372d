"""The interface between cross-validation and the methods that make a model in each fold."""

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

VALIDATION = "on the validation people that the labels define"


@dataclass(frozen=True)
class Facts:
    """Properties of a method, for the stage and the report.

    Attributes:
        chosen_by: which hyperparameters the method selects, and on which data; "" if it selects
            none.
        chosen_on_validation: the text in place of `chosen_by` if the labels define validation
            people; "" if `chosen_by` applies in this case too.
        wants_inner: whether some training people (`config.inner.share`) are held out as inner
            validation people, on whom the method selects hyperparameters.
        frozen: whether the backbone keeps its initial weights.
        features: names of the inputs of the head, for the report; empty if the method names none.
        steps: the maximum number of training steps of a fold; None if no network is trained.
        test_crops: number of averaged test crops, if the method ignores `config.test_crops`;
            otherwise None.
        test_crops_by_choice: the number of test crops for each value of `TrainedModel.chosen`;
            empty if the number does not depend on what was selected.
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
    """The interface of the models of folds and of the final model; `NetworkModel` is an example.

    Attributes:
        temperature: see `fer_jax.metrics.calibration`; None if it was not fitted.
        chosen: the selected hyperparameters or method, as text for predictions.parquet; "" if
            nothing was selected.
    """

    @property
    def temperature(self) -> float | None: ...

    @property
    def chosen(self) -> str: ...

    def probabilities(self, faces: FaceSet) -> Float[np.ndarray, "n c"]:
        """Class probabilities before temperature scaling; n may be 0."""

    def heat(
        self, faces: FaceSet, classes: Int[np.ndarray, " n"]
    ) -> Float32[np.ndarray, "n h w"] | None:
        """Heat maps, 0..1, of the evidence for each face's class in `classes`.

        None if the model has no heat maps.
        """

    def save(self, folder: Path) -> None:
        """Writes a model directory; its record contains the temperature for `predict`."""


@runtime_checkable
class Method(Protocol):
    """The interface of a method that makes the model of each fold and the final model.

    The attribute METHOD of its module is the class, which is constructed with the config of the
    stage, the class names, and the mean number of training faces of a fold.
    """

    facts: Facts

    def fit(
        self, train: FaceSet, inner: tuple[FaceSet, FaceSet] | None, *, seed: int, folder: Path
    ) -> TrainedModel:
        """Trains the model of a fold.

        Args:
            train: the faces to train on.
            inner: the faces to train on and those to validate on when hyperparameters are selected.
                They are two parts of `train` with different people or, if the labels define
                validation people, `train` and the faces of these people. None if there are no
                validation faces.
            seed: seed of all random numbers.
            folder: the folder of this fold, to which the method may write files.
        """

    def fit_everyone(self, faces: FaceSet, *, seed: int, workdir: Path) -> TrainedModel:
        """Trains the final model on `faces`; `workdir/folds` contains the folders of the folds."""

    def speed(self) -> dict[str, Any]:
        """Entries for the summary of the stage, such as training steps and compilation time."""


def make(config: schemas.Crossval, labels: Sequence[str], mean_size: float) -> Method:
    """Constructs the method that `config.method` names.

    A name without a dot is a file in `fer_jax/crossval/methods`; a dotted name is that of a module.

    Args:
        config: the config of the stage.
        labels: class names.
        mean_size: mean number of training faces of a fold.

    Raises:
        UserError: there is no such method, or it lacks an attribute of `Method`.
    """
    kind = plugins.load("method", config.method, "fer_jax.crossval.methods", "METHOD")
    method = kind(config, list(labels), mean_size)
    if not isinstance(method, Method):
        raise UserError(
            f"crossval: METHOD of --config.method={config.method} must have facts, fit, "
            "fit_everyone and speed; see docs/add_a_method.md"
        )
    return method
