"""The models of folds, whose probabilities are computed by the code that `predict` uses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int

from fer_jax import schemas
from fer_jax.crossval.labelled_faces import FaceSet
from fer_jax.data.sources import read_images
from fer_jax.errors import UserError
from fer_jax.recogniser import TASK
from fer_jax.records import Inference, ModelRecord, Selection
from fer_jax.schemas.fields import Reference
from fer_jax.schemas.training import Backbone
from fer_jax.tasks.task import Task
from fer_jax.training import gradients, model_directory, trained_model
from fer_jax.training.learner import make_tasks
from fer_jax.training.trained_model import Model

_HEAD = f"parameters/heads/{TASK}/linear"


def record_of(
    config: schemas.Crossval, backbone: Backbone, tasks: Mapping[str, Task], init: str
) -> ModelRecord:
    """The record, with temperature 1, of a network that is trained with `config` from `init`."""
    return model_directory.describe(
        backbone,
        config.image_size,
        tasks,
        init=init,
        faces=model_directory.read_faces(config.photographs),
        inference={TASK: Inference(crops=config.test_crops, zooms=config.test_zooms)},
    )


@dataclass(frozen=True, eq=False)
class NetworkModel:
    """A network with an emotion head, as the model of a fold or the final model.

    Attributes:
        model: the weights, and the record of the model directory, which contains the temperature.
        temperature: the fitted temperature; None if none was fitted. The record of `model` then
            contains the temperature 1.
        chosen: the selected hyperparameters or method; "" if nothing was selected.
        seen: computes and caches the features of a frozen backbone; None for a trained backbone.
    """

    model: Model
    temperature: float | None = None
    chosen: str = ""
    seen: FrozenFeatures | None = None

    def with_head(
        self,
        kernel: Float[np.ndarray, "f c"],
        bias: Float[np.ndarray, " c"],
        population: Float[np.ndarray, "v f"] | None = None,
    ) -> NetworkModel:
        """The same network with another linear head, whose logits are `features @ kernel + bias`.

        The rows of `kernel` are in the order of the features that `Model.features` returns. A
        person-relative head needs `population`, the mean reference of the training people.
        """
        width, how = self.model.width, self.model.record.inference[TASK]
        arrays = self.model.weights | {
            f"{_HEAD}/kernel": np.asarray(kernel[:width], np.float32),
            f"{_HEAD}/bias": np.asarray(bias, np.float32),
        }
        for path in trained_model.further_kernels(TASK, how):
            rows = slice(width, width + len(self.model.weights[path]))
            arrays[path] = np.asarray(kernel[rows], np.float32)
            width = rows.stop
        if population is not None:
            arrays[trained_model.population_response(TASK)] = np.asarray(
                population @ kernel, np.float32
            )
        return replace(self, model=self.model.replaced(self.model.record, arrays))

    def with_backbone(self, arrays: Mapping[str, np.ndarray]) -> NetworkModel:
        """The same network with new weights: `arrays` maps the paths of weights to the new ones."""
        weights = {**self.model.weights, **arrays}
        return replace(self, model=self.model.replaced(self.model.record, weights))

    def with_temperature(self, temperature: float | None) -> NetworkModel:
        """The same network at another temperature; None (not fitted) has the effect of 1."""
        record = with_inference(self.model.record, temperature=temperature or 1.0)
        model = self.model.replaced(record, self.model.weights)
        return replace(self, model=model, temperature=temperature)

    def with_selection(self, selection: Selection) -> NetworkModel:
        """The same network with `selection` in its record, and the selected method as `chosen`."""
        record = self.model.record.model_copy(update={"selection": selection})
        model = self.model.replaced(record, self.model.weights)
        return replace(self, model=model, chosen=selection.method)

    def reading_gradients(self) -> NetworkModel:
        """The same network with a head that also reads gradient histograms, with weights of 0."""
        record = with_inference(self.model.record, gradients=True)
        nothing = np.zeros((gradients.WIDTH, len(record.labels[TASK])), np.float32)
        arrays = self.model.weights | {trained_model.gradient_kernel(TASK): nothing}
        return replace(self, model=self.model.replaced(record, arrays))

    def features(self, faces: FaceSet) -> Float32[np.ndarray, "n v f"]:
        """The inputs of the head for each face and view (see `Model.features`); n is at least 1."""
        return self.seen(faces) if self.seen else _features(self.model, faces)

    def probabilities(self, faces: FaceSet) -> Float[np.ndarray, "n c"]:
        """Class probabilities before temperature scaling; n may be 0."""
        if not len(faces):
            return np.zeros((0, len(self.model.record.labels[TASK])), np.float32)
        features = self.features(faces)
        if not self.model.reference(TASK):
            return self.model.answers(TASK, features)
        logits = self.model.logits(TASK, features)
        return self.model.relative_answers(TASK, logits, faces.people, faces.known_neutral)

    def heat(
        self, faces: FaceSet, classes: Int[np.ndarray, " n"]
    ) -> Float32[np.ndarray, "n h w"] | None:
        """Grad-CAM maps (`training.grad_cam`), 0..1, for each face's class in `classes`.

        None if the head does not use the backbone.
        """
        if not self.model.weights[f"{_HEAD}/kernel"].any():
            return None
        return self.model.heat(TASK, faces.images, classes)

    def save(self, folder: Path) -> None:
        """Writes the model directory, with the temperature in its record."""
        self.model.save(folder)


class FrozenFeatures:
    """The inputs of a linear head on a frozen backbone, computed once per face."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._known: dict[str, np.ndarray] = {}

    def __call__(self, faces: FaceSet) -> Float32[np.ndarray, "n v f"]:
        """Features of each face and view (see `Model.features`); n is at least 1."""
        new = {photo: row for row, photo in enumerate(faces.photos) if photo not in self._known}
        if new:
            found = _features(self._model, faces.take(list(new.values())))
            self._known |= dict(zip(new, found, strict=True))
        return np.stack([self._known[photo] for photo in faces.photos])

    def __len__(self) -> int:
        return len(self._known)


class FrozenBackbone:
    """A backbone that is not trained, for methods that fit a linear head on its features.

    Args:
        config: the config of the stage; `init` names the weights, which are random if it is "".
        labels: class names.
        depths: whether the head also reads the pooled outputs of earlier stages of the backbone.
        gradients: whether the head also reads histograms of oriented gradients.
        reference: the kind of reference (`fer_jax.training.person_relative`); "" for none.

    Attributes:
        width: number of features of the backbone, which precede the other features.
        features: computes the features of a `FaceSet`, float32 [n, views, f]; the first view is the
            unchanged face, and view `views // 2` its mirror image.

    Raises:
        UserError: the weights cannot be read or do not fit the backbone, or `init` is a model for
            images of another size.
    """

    def __init__(
        self,
        config: schemas.Crossval,
        labels: Sequence[str],
        *,
        depths: bool = False,
        gradients: bool = False,
        reference: Reference = "",
    ) -> None:
        backbone = config.backbone
        if model_directory.is_model(config.init):
            given = model_directory.read_record(config.init)
            if config.image_size != given.image_size:
                raise UserError(
                    f"crossval: --config.image_size={config.image_size} is not that of the model "
                    f"{config.init}; set --config.image_size={given.image_size}"
                )
            backbone = given.backbone
        tasks, _ = make_tasks({TASK: {}}, emotion={"classes": tuple(labels)})
        record = record_of(config, backbone, tasks, config.init)
        record = with_inference(record, depths=depths, gradients=gradients, reference=reference)
        self._model = trained_model.begin(config.init, record, batch=Model.BATCH)
        self.width = self._model.width
        self.features = FrozenFeatures(self._model)

    def with_head(
        self,
        kernel: Float[np.ndarray, "f c"],
        bias: Float[np.ndarray, " c"],
        *,
        temperature: float | None = None,
        chosen: str = "",
        population: Float[np.ndarray, "v f"] | None = None,
    ) -> NetworkModel:
        """The model whose logits are `features @ kernel + bias`; see `NetworkModel.with_head`."""
        model = NetworkModel(self._model, chosen=chosen, seen=self.features)
        return model.with_head(kernel, bias, population).with_temperature(temperature)


def with_inference(record: ModelRecord, **changes: Any) -> ModelRecord:
    """A copy of the record with `changes` to the fields of its `inference` for the task emotion."""
    how = record.inference[TASK].model_copy(update=changes)
    return record.model_copy(update={"inference": {**record.inference, TASK: how}})


def _features(model: Model, faces: FaceSet) -> Float32[np.ndarray, "n v f"]:
    # Gradients and zooms of a network with smaller images read larger ones: at 48 pixels, fine
    # lines are lost.
    fine = None
    if model.reads_fine(TASK):
        same = faces.images.shape[1] == gradients.SIDE
        fine = faces.images if same else read_images(faces.files, gradients.SIDE)
    return model.features(TASK, faces.images, fine)
