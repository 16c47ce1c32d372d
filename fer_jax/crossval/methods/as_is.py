"""No training: the emotion model at `config.init`, restricted to the labels of the photographs.

The training faces of a fold are used only to fit the temperature. The test crops and zooms are
those in the model's record, as in `predict`; `config.test_crops` and `config.test_zooms` have no
effect.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fer_jax import schemas
from fer_jax.crossval.labelled_faces import FaceSet
from fer_jax.crossval.method import Facts
from fer_jax.crossval.models import FrozenBackbone, NetworkModel
from fer_jax.errors import NotApplicableError, UserError
from fer_jax.metrics import calibration
from fer_jax.recogniser import TASK
from fer_jax.records import Inference
from fer_jax.training import model_directory, trained_model


class AsItIs:
    """The method `as_is`, which the docstring of this module describes."""

    def __init__(self, config: schemas.Crossval, labels: list[str], mean_size: float) -> None:
        given = model_directory.read_record(config.init)
        how = given.inference.get(TASK, Inference())
        if how.reference:
            raise UserError(
                f"crossval: the model {config.init} is person-relative, which "
                "--config.method=as_is cannot evaluate; set --config.method=probe and "
                "--config.reference"
            )
        known = given.labels.get(TASK, ())
        unknown = [label for label in labels if label not in known]
        if unknown:
            raise NotApplicableError(
                f"crossval: the model {config.init} does not know {', '.join(unknown)}; it "
                f"knows {', '.join(known) or 'no emotion'}; use another --config.method"
            )
        columns = [known.index(label) for label in labels]
        weights = model_directory.read_weights(config.init)
        kernel = weights[f"parameters/heads/{TASK}/linear/kernel"]
        others = [weights[path] for path in trained_model.further_kernels(TASK, how)]
        kernel = np.concatenate([kernel, *others])
        self._kernel = kernel[:, columns]
        self._bias = weights[f"parameters/heads/{TASK}/linear/bias"][columns]
        config = config.model_copy(update={"test_crops": how.crops, "test_zooms": how.zooms})
        self._backbone = FrozenBackbone(config, labels, depths=how.depths, gradients=how.gradients)
        self.facts = Facts(
            chosen_by="temperature, on the training people", frozen=True, test_crops=how.crops
        )

    def fit(
        self, train: FaceSet, inner: tuple[FaceSet, FaceSet] | None, *, seed: int, folder: Path
    ) -> NetworkModel:
        """Fits the temperature on `train`."""
        untempered = self._backbone.with_head(self._kernel, self._bias).probabilities(train)
        temperature = calibration.fit_temperature(untempered, train.labels)
        return self._backbone.with_head(self._kernel, self._bias, temperature=temperature)

    def fit_everyone(self, faces: FaceSet, *, seed: int, workdir: Path) -> NetworkModel:
        """Fits the temperature on all faces."""
        return self.fit(faces, None, seed=seed, folder=workdir)

    def speed(self) -> dict[str, Any]:
        """An empty dictionary, since nothing is trained."""
        return {}


METHOD = AsItIs
