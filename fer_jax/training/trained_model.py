"""A trained model for inference: class probabilities of faces, features and logits."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx
from jaxtyping import Bool, Float, Float32, Int, UInt8

from fer_jax.backend import compiler_options
from fer_jax.errors import UserError
from fer_jax.faces.images import resize
from fer_jax.models import pretrained
from fer_jax.models.keys import keys, structure
from fer_jax.models.network import Network
from fer_jax.padding import BatchSize, in_batches, power_of_two
from fer_jax.records import Inference, ModelRecord
from fer_jax.tasks.task import Task
from fer_jax.training import gradients, inference, model_directory, person_relative
from fer_jax.training.grad_cam import GradCam
from fer_jax.training.learner import make_tasks
from fer_jax.training.state import (
    flatten,
    merge_network,
    random_state,
    replace_leaves,
    split_network,
)
from fer_jax.training.step import make_features_step, make_head_step


class Model:
    """A trained model that computes class probabilities, features and logits.

    Args:
        record: the record of a model directory.
        weights: float arrays by path, as returned by `model_directory.read_weights`.
        where: names the model in error messages.
        batch: number of images per batch; a face has an image for each view and zoom. None: batches
            of 1, 2, 4, ... faces with at most `BATCH` images, so that a single face does not cost
            a whole batch. A batch has at least one face.

    Raises:
        UserError: the record does not describe a valid network, its labels do not match its tasks,
            or the weights do not match the record.
    """

    BATCH = 64

    folder: Path | None = None
    """The model directory that `load` read; None for other models."""

    def __init__(
        self,
        record: ModelRecord,
        weights: Mapping[str, np.ndarray],
        where: str = "the model",
        *,
        batch: int | None = None,
    ) -> None:
        try:
            self._tasks, _ = make_tasks(record.tasks)
            network = structure(lambda rngs: Network(record.backbone, self._tasks, rngs=rngs))
        except (UserError, TypeError, ValueError, AttributeError, KeyError) as error:
            raise UserError(
                f"{where}: its record does not describe a valid network ({error}); copy the model "
                "again, or train it again"
            ) from error
        self._width = int(network.backbone.features)
        self._depth_width = _depth_width(network, record)
        self._graphdef, parameters, statistics = split_network(network)
        self._empty = {"parameters": parameters, "statistics": statistics}
        self._batch = batch
        self._compiled: dict[tuple[str, str], Any] = {}
        self._fill(record, weights, where)

    def replaced(self, record: ModelRecord, weights: Mapping[str, np.ndarray]) -> Model:
        """A model with other weights, which shares this model's compiled functions.

        Args:
            record: must have the same network and tasks as the record of this model.
            weights: all arrays by path, like the property `weights`.

        Raises:
            UserError: the weights or labels do not match the record.
        """
        model = copy.copy(self)
        model.folder = None
        model._fill(record, weights, "the model")
        return model

    def _fill(self, record: ModelRecord, weights: Mapping[str, np.ndarray], where: str) -> None:
        self.record = record
        wanted = flatten(self._empty)
        for name, task in self._tasks.items():
            classes = tuple(getattr(task, "classes", ()))
            labels = record.labels.get(name, ())
            if labels != classes:
                raise UserError(
                    f"{where}: the labels of {name} are {', '.join(labels) or 'none'}, "
                    f"but the outputs are {', '.join(classes) or 'not classes'}; copy the model "
                    "again, or train it again"
                )
            further = _further_arrays(name, len(classes), self._how(name), self._depth_width)
            for path, shape in further.items():
                wanted[path] = jax.ShapeDtypeStruct(shape, np.float32)
        sizes = {name: tuple(leaf.shape) for name, leaf in wanted.items()}
        pretrained.check_leaves(where, "its description", weights, sizes)
        for name, leaf in wanted.items():
            if weights[name].dtype != leaf.dtype:
                raise UserError(
                    f"{where}: {name} is {weights[name].dtype}, expected {leaf.dtype}; copy the "
                    "model again, or train it again"
                )
        self._state = replace_leaves(self._empty, dict(weights))
        network = flatten(self._empty)
        self._further = {name: weights[name] for name in wanted if name not in network}

    @property
    def weights(self) -> dict[str, np.ndarray]:
        """All arrays by path, as returned by `model_directory.read_weights`."""
        return flatten(self._state) | self._further

    @property
    def width(self) -> int:
        """The number of features of the backbone."""
        return self._width

    def reads_depths(self, task: str) -> bool:
        """Whether the head of a task also reads the pooled outputs of earlier stages."""
        return self._how(task).depths

    def reads_gradients(self, task: str) -> bool:
        """Whether the head of a task also uses histograms of oriented gradients."""
        return self._how(task).gradients

    def reads_fine(self, task: str) -> bool:
        """Whether `features` also needs faces with a side of `gradients.SIDE` pixels for a task."""
        zoomed = max(self._how(task).zooms) > 1 and self.record.image_size < gradients.SIDE
        return self.reads_gradients(task) or zoomed

    def reference(self, task: str) -> str:
        """The reference of a person-relative task (see `person_relative`); "" for other tasks."""
        return self._how(task).reference

    def _how(self, task: str) -> Inference:
        return self.record.inference.get(task, Inference())

    def save(self, folder: Path) -> None:
        """Writes the model to `folder`, a model directory."""
        model_directory.save(folder, self.weights, self.record)

    def probabilities(self, task: str, crops: np.ndarray) -> Float32[np.ndarray, "n c"]:
        """Class probabilities of aligned faces, for one of the model's tasks.

        They are averaged over crops and their mirror images, and calibrated with a temperature. The
        task's entry in `record.inference` sets the number of crops and the temperature.

        Args:
            task: a task in `record.labels` with labels.
            crops: uint8 [n, s, s, 3], RGB in 0..255, with any side s; n may be 0.

        Raises:
            UserError: the model has no classes for the task, or the task is person-relative.
            ValueError: `crops` has another type or shape.
        """
        if self.reference(task):
            raise UserError(
                "the model is person-relative, so it has to know which faces are of the same "
                "person; use predict with --config.people (docs/person_relative.md)"
            )
        labels = self.record.labels.get(task, ())
        if not labels:
            known = ", ".join(name for name, own in self.record.labels.items() if own)
            raise UserError(f"the model has no classes for the task {task}, only for {known}")
        check_crops(crops)
        if not len(crops):
            return np.zeros((0, len(labels)), np.float32)
        return self.calibrated(task, self.answers(task, self.features_of_crops(task, crops)))

    def calibrated(
        self, task: str, answers: Float[np.ndarray, "n c"]
    ) -> Float32[np.ndarray, "n c"]:
        """The probabilities `answers`, scaled by the task's temperature in the record."""
        temperature = self._how(task).temperature
        scaled = answers if temperature == 1.0 else inference.scale(answers, temperature)
        return np.asarray(scaled, np.float32)

    def features_of_crops(self, task: str, crops: np.ndarray) -> Float32[np.ndarray, "n v f"]:
        """`features` of aligned faces with any side; n is at least 1."""
        fine = resized(crops, gradients.SIDE) if self.reads_fine(task) else None
        return self.features(task, resized(crops, self.record.image_size), fine)

    def features(
        self,
        task: str,
        images: UInt8[np.ndarray, "n s s 3"],
        fine: UInt8[np.ndarray, "n t t 3"] | None = None,
    ) -> Float32[np.ndarray, "n v f"]:
        """The inputs of a task's head for v views: crops, then their mirror images.

        Args:
            task: one of the model's tasks.
            images: RGB, of the side `record.image_size`; n is at least 1.
            fine: RGB, the same faces, of the side `gradients.SIDE`; needed if `reads_fine`.

        Returns:
            The `width` features of the backbone and the pooled outputs of its depths, both averaged
            over the zooms, and the histograms of oriented gradients; the last two only if the task
            reads them.
        """
        how = self._how(task)
        faces = [images]
        if self.reads_fine(task):
            assert fine is not None, f"{task} reads faces of {gradients.SIDE} pixels"
            faces.append(fine)
        step = self._step("depths" if how.depths else "features", task)

        def read(images: np.ndarray, fine: np.ndarray | None = None) -> tuple[Any, ...]:
            views = inference.views(images, how.crops)
            fine_views = views if fine is None else inference.views(fine, how.crops)
            features = step(self._state, _magnified(views, fine_views, how.zooms))
            if not how.gradients:
                return (features,)
            return features, np.stack([gradients.descriptors(v) for v in fine_views], axis=1)

        # One call has all views of a face, because calls with few rows are slow.
        passes = 2 * how.crops * len(how.zooms)
        return np.concatenate(in_batches(read, *faces, size=self._batch_size(passes)), axis=-1)

    def answers(
        self, task: str, features: Float32[np.ndarray, "n v f"]
    ) -> Float32[np.ndarray, "n c"]:
        """Class probabilities before temperature scaling, averaged over views; n is at least 1."""
        mean: np.ndarray = inference.softmax(self.logits(task, features)).mean(axis=1)
        return mean

    def logits(
        self, task: str, features: Float32[np.ndarray, "n v f"]
    ) -> Float32[np.ndarray, "n v c"]:
        """The outputs of a task's head for each view; n is at least 1."""
        rows = features.reshape(-1, features.shape[-1])
        seen, rest = np.split(rows, [self.width], axis=1)
        step = self._step("head", task)
        logits: np.ndarray = in_batches(
            lambda part: step(self._state, part), seen, size=self._batch_size(1)
        )
        if rest.shape[1]:
            kernels = [self._further[path] for path in further_kernels(task, self._how(task))]
            logits = logits + rest @ np.concatenate(kernels)
        return logits.reshape(*features.shape[:2], -1)

    def relative_answers(
        self,
        task: str,
        logits: Float32[np.ndarray, "n v c"],
        people: Sequence[str],
        known: Bool[np.ndarray, " n"],
    ) -> Float[np.ndarray, "n c"]:
        """Class probabilities before temperature scaling for a person-relative task.

        Args:
            task: a task with a reference in the record.
            logits: the result of `logits` for all faces of each person.
            people: the person of each face.
            known: the faces that are known to be neutral; used only for the reference "neutral".
        """
        reference = self.reference(task)
        bias = np.asarray(self._state["parameters"]["heads"][task]["linear"]["bias"])
        return person_relative.relative_answers(
            np.float64(logits) - bias,
            people,
            known if reference == person_relative.NEUTRAL else np.ones(len(people), bool),
            reference=reference,
            bias=bias,
            population=self._further[population_response(task)],
        )

    def heat(
        self,
        task: str,
        images: UInt8[np.ndarray, "n s s 3"],
        classes: Int[np.ndarray, " n"],
    ) -> Float32[np.ndarray, "n h w"]:
        """Grad-CAM maps in 0..1 for one class of each image (see `grad_cam`)."""
        if ("heat", task) not in self._compiled:
            self._compiled["heat", task] = GradCam(self.record.backbone)
        kernel = self._state["parameters"]["heads"][task]["linear"]["kernel"]
        heat: np.ndarray = self._compiled["heat", task](self._state, kernel, images, classes)
        return heat

    def pooled(self, task: str, images: np.ndarray) -> Float32[np.ndarray, "n f"]:
        """Features of the backbone for RGB images of the side `record.image_size`.

        The images are preprocessed as in the evaluation of the task.
        """
        step = self._step("features", task)
        found: np.ndarray = in_batches(
            lambda part: step(self._state, part[:, None, None]), images, size=self._batch_size(1)
        )
        return found[:, 0]

    def network(self) -> Network:
        """A copy of the network, with its weights."""
        network: Network = merge_network(self._graphdef, **self._state)
        return network

    def task(self, name: str) -> Task:
        """One of the tasks, as the record describes it."""
        return self._tasks[name]

    def _step(self, kind: str, task: str) -> Any:
        """The compiled step of a task: `kind` is "head", "features" or "depths"."""
        if (kind, task) not in self._compiled:
            if kind == "head":
                made: Any = make_head_step(self._graphdef, task)
            else:
                made = _of_views(
                    make_features_step(self._graphdef, self._tasks[task], depths=kind == "depths")
                )
            self._compiled[kind, task] = jax.jit(made, compiler_options=compiler_options())
        return self._compiled[kind, task]

    def _batch_size(self, passes: int) -> BatchSize:
        """Makes a function from the number of remaining faces to that in the next batch.

        A face takes `passes` images of a batch, one per view and zoom. A batch has at most
        `batch` (or `BATCH`) images, but at least one face.
        """
        most = max(1, (self._batch or self.BATCH) // passes)
        if self._batch:
            return lambda left: most
        largest = 1 << (most.bit_length() - 1)  # the largest power of two up to `most`
        return lambda left: power_of_two(left, largest)


def _magnified(
    views: Sequence[UInt8[np.ndarray, "n s s 3"]],
    fine_views: Sequence[UInt8[np.ndarray, "n t t 3"]],
    zooms: Sequence[float],
) -> UInt8[np.ndarray, "n v z s s 3"]:
    """Each view at each zoom; zooms other than 1 use `fine_views` if these are larger."""
    side = views[0].shape[1]
    sharpest = fine_views if fine_views[0].shape[1] > side else views
    shown = [
        [view if zoom == 1 else inference.zoomed(sharp, zoom, side) for zoom in zooms]
        for view, sharp in zip(views, sharpest, strict=True)
    ]
    return np.moveaxis(np.array(shown), 2, 0)


def _of_views(features_step: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """Extends a function of images [B, S, S, 3] to their views and zooms [B, V, Z, S, S, 3].

    The new function returns features [B, V, F], averaged over the zooms.
    """

    def of_views(state: Any, shown: jax.Array) -> jax.Array:
        rows = shown.reshape(-1, *shown.shape[3:])
        return features_step(state, rows).reshape(*shown.shape[:3], -1).mean(axis=2)

    return of_views


def depth_kernel(task: str) -> str:
    """The path of a task's kernel for the outputs of earlier stages, float32 [c, classes]."""
    return f"depths/{task}/kernel"


def gradient_kernel(task: str) -> str:
    """The path of a task's kernel for gradients, float32 [gradients.WIDTH, classes]."""
    return f"gradients/{task}/kernel"


def population_response(task: str) -> str:
    """The path of the population's response for a person-relative task, float32 [views, classes].

    It is the response of the head, without its bias, to the mean reference of the training people.
    """
    return f"reference/{task}/population"


def further_kernels(task: str, how: Inference) -> list[str]:
    """The paths of the kernels for the inputs after the features of the backbone."""
    return [depth_kernel(task)] * how.depths + [gradient_kernel(task)] * how.gradients


def _further_arrays(
    task: str, classes: int, how: Inference, depth_width: int
) -> dict[str, tuple[int, ...]]:
    """The shapes by path of a task's arrays that are not part of the network."""
    shapes: dict[str, tuple[int, ...]] = {}
    if how.depths:
        shapes[depth_kernel(task)] = (depth_width, classes)
    if how.gradients:
        shapes[gradient_kernel(task)] = (gradients.WIDTH, classes)
    if how.reference:
        shapes[population_response(task)] = (2 * how.crops, classes)
    return shapes


def _depth_width(network: Network, record: ModelRecord) -> int:
    """The total number of channels of the backbone's `depths`; 0 if no task reads them."""
    if not any(how.depths for how in record.inference.values()):
        return 0
    side = record.image_size
    outputs = nnx.eval_shape(
        lambda network, images: network.stage_outputs(images, network.backbone.depths),
        network,
        jax.ShapeDtypeStruct((1, side, side, 3), np.uint8),
    )
    return sum(output.shape[-1] for output in outputs.values())


def begin(path: str, record: ModelRecord, *, batch: int | None = None) -> Model:
    """A model with the backbone at `path`, and with heads whose weights are all 0.

    `path` is as in `config.init`; if it is "", the backbone has random weights.

    Raises:
        UserError: see `model_directory.backbone_leaves`.
    """
    tasks, _ = make_tasks(record.tasks)

    def make(rngs: nnx.Rngs) -> Network:
        return Network(record.backbone, tasks, rngs=rngs)

    network = structure(make)
    depth_width = _depth_width(network, record)
    _, parameters, statistics = split_network(network)
    empty = {"parameters": parameters, "statistics": statistics}
    arrays = {name: np.zeros(leaf.shape, leaf.dtype) for name, leaf in flatten(empty).items()}
    if path:
        arrays |= model_directory.backbone_leaves(path, empty)
    else:
        drawn = model_directory.arrays_of(random_state(lambda key: make(keys(key)), 0))
        arrays |= {name: leaf for name, leaf in drawn.items() if "/backbone/" in name}
    for task, how in record.inference.items():
        shapes = _further_arrays(task, len(record.labels[task]), how, depth_width)
        for name, shape in shapes.items():
            arrays[name] = np.zeros(shape, np.float32)
    return Model(record, arrays, batch=batch)


def load(path: str | os.PathLike[str]) -> Model:
    """Loads the model at `path`: a model directory, a training workdir or "starter".

    Raises:
        UserError: there is no model, it is damaged, or its weights do not match its record.
    """
    record, weights = model_directory.read_record(path), model_directory.read_weights(path)
    folder = model_directory.find(path)
    model = Model(record, weights, f"the model in {folder}")
    model.folder = folder
    return model


def check_crops(crops: np.ndarray) -> None:
    """Raises a `ValueError` unless `crops` are uint8 [n, s, s, 3]."""
    wanted = "pass uint8 RGB crops [n, s, s, 3] in 0..255"
    if not isinstance(crops, np.ndarray) or crops.dtype != np.uint8:
        kind = getattr(crops, "dtype", type(crops).__name__)
        raise ValueError(f"the crops are {kind}: {wanted}")
    if crops.ndim != 4 or crops.shape[3] != 3 or crops.shape[1] != crops.shape[2]:
        raise ValueError(f"the crops have the shape {list(crops.shape)}: {wanted}")
    if crops.shape[1] == 0:
        raise ValueError(f"the crops have no pixels: {wanted}")


def resized(crops: UInt8[np.ndarray, "n s s 3"], side: int) -> UInt8[np.ndarray, "n side side 3"]:
    """Aligned faces, resized to `side` pixels; n is at least 1."""
    return np.stack([resize(crop, side) for crop in crops])
