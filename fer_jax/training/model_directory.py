"""A trained model as a folder: `weights.safetensors` and `model.json`. No pickle.

The weights carry a checksum of each array and of `model.json`, and are checked whenever they are
read: a damaged model gives an error, never an answer.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx
from jaxtyping import Float32, Int, UInt8
from pydantic_core import to_json
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file
from scipy.special import softmax

from fer_jax import console, records
from fer_jax.backend import compiler_options
from fer_jax.data import sources
from fer_jax.errors import UserError
from fer_jax.models import imagenet, pretrained, weight_files
from fer_jax.models.network import Network
from fer_jax.padding import in_batches, power_of_two
from fer_jax.records import FacePipeline, Inference, ModelRecord, Origin
from fer_jax.schemas.training import Backbone
from fer_jax.tasks.task import Task
from fer_jax.training import gradients, inference, integrity
from fer_jax.training.grad_cam import GradCam
from fer_jax.training.learner import make_tasks
from fer_jax.training.state import (
    State,
    abstract,
    flatten,
    for_use,
    replace_leaves,
    shapes,
    split_network,
)
from fer_jax.training.step import make_features_step, make_head_step
from fer_jax.workdir import atomic_file

FACES = "faces.json"  # in the workdir of a stage that cuts faces: how it does so
# In the header of the weights. Under one key, since safetensors writes keys in no certain order.
_SEALS = "fer_jax"
_ARRAYS, _RECORD = "arrays", "record"
_SHOWN = 3  # names in a message


def save(folder: Path, state: State, record: ModelRecord) -> None:
    """Writes the weights of a state and the record that says how to use them; see `write`."""
    write(folder, arrays_of(state), record)


def write(folder: Path, weights: Mapping[str, np.ndarray], record: ModelRecord) -> None:
    """Writes a model directory.

    Args:
        folder: is made if it does not exist.
        weights: float arrays by path, as `read_weights` returns them.
        record: becomes `model.json`.

    Raises:
        UserError: weights that are not finite.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # safetensors writes the memory of an array as it is, whatever its strides.
    arrays = {name: np.ascontiguousarray(array) for name, array in weights.items()}
    described, not_finite = integrity.describe(arrays)
    if not_finite:
        raise UserError(
            f"{folder}: the model is not saved, since {_named(not_finite)} not finite; "
            "lower the learning rate and train again"
        )
    seals = {_ARRAYS: json.dumps(described), _RECORD: _digest(record.model_dump(mode="json"))}
    with atomic_file(folder / "weights.safetensors") as temporary:
        save_file(arrays, temporary, metadata={_SEALS: json.dumps(seals)})
    records.write(folder / "model.json", record)


def arrays_of(state: State) -> dict[str, np.ndarray]:
    """The weights of a state by path, on this host; its running average if it has one."""
    return dict(flatten(jax.device_get(for_use(state))))


def describe(
    backbone: Backbone,
    image_size: int,
    tasks: Mapping[str, Task],
    *,
    init: str = "",
    faces: FacePipeline | None = None,
    inference: Mapping[str, Inference] | None = None,
) -> ModelRecord:
    """The record of a trained model.

    Args:
        backbone: of the network.
        image_size: side in pixels of the images that it was trained on.
        tasks: by name.
        init: the weights that training started from, as in `config.init`; "" for random ones.
        faces: how the faces were found and cropped (see `read_faces`); None if it is not known.
        inference: how test-time answers are made, by task.
    """
    return ModelRecord(
        image_size=image_size,
        backbone=backbone,
        tasks={name: dataclasses.asdict(task) for name, task in tasks.items()},  # type: ignore
        labels={name: tuple(getattr(task, "classes", ())) for name, task in tasks.items()},
        init=origin(init) if init else None,
        faces=faces,
        inference=dict(inference or {}),
    )


def read_faces(root: str | Path) -> FacePipeline | None:
    """How the stage whose workdir is `root` cut its faces; None if it left no record.

    Raises:
        UserError: a damaged record.
    """
    file = Path(root) / FACES
    return records.read(FacePipeline, file) if file.is_file() else None


def read_record(path: str | Path) -> ModelRecord:
    """The record of the model at `path`.

    Raises:
        UserError: no model there, or a damaged record.
    """
    file = find(path) / "model.json"
    fields = _read_json(file)
    if isinstance(fields, dict) and "format" not in fields:
        fields = _from_format_1(fields)
    return records.parse(ModelRecord, json.dumps(fields), file)


def _read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {file} ({error}); copy or train the model again") from error


def _from_format_1(fields: dict[str, Any]) -> dict[str, Any]:
    """Before format 2 the crop stood alone, and the search had these sizes and no others."""
    cut = {name: fields[name] for name in ("detector", "crop", "aligned") if name in fields}
    rest = {name: value for name, value in fields.items() if name not in cut}
    if {"detector", "crop"} <= cut.keys():
        search = {"max_side": 1280, "enlarge_below": 80, "enlarge_to": 160, "border": 0.25}
        rest["faces"] = {**cut, "search": search}
    return {"format": 1, **rest}


def is_model(path: str | Path) -> bool:
    """Whether `find` would find a model at `path`; a weight file or "imagenet" is none."""
    return any((Path(path) / part / "model.json").is_file() for part in ("", "model"))


def find(path: str | Path) -> Path:
    """The model directory at `path`: itself, or `model` inside a training workdir.

    Raises:
        UserError: neither is there.
    """
    for folder in (Path(path), Path(path) / "model"):
        if (folder / "model.json").is_file():
            return folder
    raise UserError(
        f"no model in {path}: expected model.json there or in its folder `model` (or, to begin "
        f"training with, a weight file: {', '.join(weight_files.SUFFIXES)})"
    )


def read_weights(path: str | Path) -> dict[str, np.ndarray]:
    """All arrays of a model by path, e.g. "parameters/backbone/stem/0/conv/kernel".

    Raises:
        UserError: no model at `path`, or its weights are damaged: other bytes than were saved,
            numbers that are not finite, or integers.
    """
    folder = find(path)
    file = folder / "weights.safetensors"
    record = read_record(folder)
    if not file.is_file():
        raise UserError(f"{folder} has a model.json but no {file.name}; copy the whole folder")
    arrays, header = _read_arrays(file)
    if record.format == 1:
        _tell_no_checksums(folder)
    elif {_ARRAYS, _RECORD} - header.keys():
        raise UserError(f"{file} has lost its checksums; copy the model again or train it again")
    elif header[_RECORD] != _digest(_read_json(folder / "model.json")):
        raise UserError(
            f"{folder / 'model.json'} is not the one that was saved with the weights; copy both "
            "files again or train the model again"
        )
    return arrays


def _read_arrays(file: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays of a safetensors file and its header, checked as far as it has checksums."""
    header = _header(file)
    try:
        arrays = load_file(file)
    except (OSError, SafetensorError, TypeError, ValueError, KeyError) as error:
        raise _unreadable(file, error) from error
    described, not_finite = integrity.describe(arrays)
    if _ARRAYS in header:
        saved = _saved_arrays(file, header[_ARRAYS])
        names = saved.keys() | described.keys()
        damaged = sorted(name for name in names if saved.get(name) != described.get(name))
        if damaged:
            raise UserError(
                f"{file} is damaged: {_named(damaged)} not as saved (wrong checksum); copy the "
                "model again or train it again"
            )
    if not_finite:
        raise UserError(f"{file}: {_named(not_finite)} not finite; train the model again")
    integers = [name for name, array in arrays.items() if array.dtype.kind != "f"]
    if integers:
        raise UserError(
            f"{file}: {_named(integers)} {arrays[integers[0]].dtype}, not floating point; copy "
            "the model again or train it again"
        )
    return arrays, header


def _saved_arrays(file: Path, text: str) -> dict[str, Any]:
    try:
        saved = json.loads(text)
    except ValueError as error:
        raise _unreadable(file, error) from error
    return saved if isinstance(saved, dict) else {}


def _header(file: Path) -> dict[str, str]:
    """The checksums in a safetensors file; empty if it has none."""
    try:
        with safe_open(file, framework="np") as opened:
            seals = json.loads((opened.metadata() or {}).get(_SEALS, "{}"))
        if not isinstance(seals, dict) or not all(isinstance(text, str) for text in seals.values()):
            raise ValueError("its checksums are damaged")
        return seals
    except (OSError, SafetensorError, ValueError) as error:
        raise _unreadable(file, error) from error


def _unreadable(file: Path, error: Exception) -> UserError:
    return UserError(f"cannot read the weights in {file} ({error}); copy or train the model again")


def _named(names: list[str]) -> str:
    """ "a is", "a and b are" or "a, b, c and 4 more are"."""
    if len(names) <= _SHOWN:
        listed = " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
    else:
        listed = f"{', '.join(names[:_SHOWN])} and {len(names) - _SHOWN} more"
    return f"{listed} {'is' if len(names) == 1 else 'are'}"


@functools.cache
def _tell_no_checksums(folder: Path) -> None:
    console.warn(f"{folder} was saved before checksums existed: its integrity cannot be checked")


def _digest(fields: Any) -> str:
    """Of the JSON value of a `model.json`, so that defaults added since do not change it."""
    return hashlib.sha256(to_json(fields)).hexdigest()


def gradient_kernel(task: str) -> str:
    """The path of the array that reads a task's gradients, float32 [gradients.WIDTH, classes]."""
    return f"gradients/{task}/kernel"


def backbone_leaves(path: str | Path, state: State) -> dict[str, np.ndarray]:
    """The backbone at `path`, which is `config.init`, by path of each array in `state`.

    Args:
        path: a model directory, a training workdir, a weight file of Keras, timm or ours (see
            `fer_jax.models.weight_files`), or "imagenet" (see `fer_jax.models.imagenet`).
        state: of the network that takes the weights.

    Raises:
        UserError: it cannot be had, or tensors are missing, extra or misshapen; it lists them.
    """
    own = {part: state[part]["backbone"] for part in ("parameters", "statistics")}
    wanted = {
        f"{part}/backbone/{name}": shape
        for part, tree in own.items()
        for name, shape in shapes(tree).items()
    }
    file = _weight_file(path)
    if (file.parent / "model.json").is_file():
        read_weights(file.parent)  # for its checks
    elif file.suffix == ".safetensors" and _ARRAYS in _header(file):
        _read_arrays(file)
    return pretrained.read_backbone(file, wanted)


def origin(path: str | Path) -> Origin:
    """The weights at `path`: their name, their digest, and what they started from."""
    file = _weight_file(path)
    name, before = file.name, None
    if file.with_name("model.json").is_file():
        name = (file.parent.parent if file.parent.name == "model" else file.parent).name
        before = read_record(file.parent).init
    return Origin(name=name, sha256=imagenet.file_digest(file, "sha256"), init=before)


def _weight_file(path: str | Path) -> Path:
    if path == imagenet.NAME:
        return imagenet.find_or_download(imagenet.NOTOP)
    return Path(path) if Path(path).is_file() else find(path) / "weights.safetensors"


class Model:
    """A trained model, ready to use. `record` says how.

    Args:
        record: of a model directory.
        weights: float arrays by path, as `read_weights` returns them.
        where: names the model in errors.
        batch: rows of each batch; None: powers of two up to `BATCH`, so that a single face does
            not cost a whole batch.

    Raises:
        UserError: the record describes no network, or the weights, labels and tasks do not fit.
    """

    BATCH = 64

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
            network = nnx.eval_shape(
                lambda: Network(record.backbone.model_dump(), self._tasks, rngs=nnx.Rngs(0))
            )
        except (UserError, TypeError, ValueError, AttributeError, KeyError) as error:
            raise UserError(
                f"{where}: no network can be built from its record ({error}); copy the model "
                "again or train it again"
            ) from error
        self._width = int(network.backbone.features)
        self._graphdef, parameters, statistics = split_network(network)
        self._empty = {"parameters": parameters, "statistics": statistics}
        self._batch = batch
        self._compiled: dict[tuple[str, str], Any] = {}
        self._fill(record, weights, where)

    def replaced(self, record: ModelRecord, weights: Mapping[str, np.ndarray]) -> Model:
        """A model of the same network and tasks; it shares the compiled functions of this one.

        Args:
            record: differs from that of this model in anything but the network and the tasks.
            weights: as in `weights`.
        """
        model = copy.copy(self)
        model._fill(record, weights, "the model")
        return model

    def _fill(self, record: ModelRecord, weights: Mapping[str, np.ndarray], where: str) -> None:
        self.record = record
        wanted = abstract(self._empty)
        for name, task in self._tasks.items():
            classes = tuple(getattr(task, "classes", ()))
            if record.labels.get(name, ()) != classes:
                raise UserError(
                    f"{where}: the labels of {name} are {', '.join(record.labels.get(name, ()))}, "
                    f"the outputs are {', '.join(classes) or 'not classes'}; copy the model again "
                    "or train it again"
                )
            if self.reads_gradients(name):
                wanted[gradient_kernel(name)] = jax.ShapeDtypeStruct(
                    (gradients.WIDTH, len(classes)), np.float32
                )
        sizes = {name: tuple(leaf.shape) for name, leaf in wanted.items()}
        pretrained.check_leaves(where, "its description", weights, sizes)
        for name, leaf in wanted.items():
            if weights[name].dtype != leaf.dtype:
                raise UserError(
                    f"{where}: {name} is {weights[name].dtype} and must be {leaf.dtype}; copy the "
                    "model again or train it again"
                )
        self._state = replace_leaves(self._empty, dict(weights))
        self._kernels = {
            name: weights[gradient_kernel(name)]
            for name in self._tasks
            if self.reads_gradients(name)
        }

    @property
    def weights(self) -> dict[str, np.ndarray]:
        """All arrays by path, as `read_weights` returns them."""
        kernels = {gradient_kernel(task): kernel for task, kernel in self._kernels.items()}
        return flatten(self._state) | kernels

    @property
    def width(self) -> int:
        """Number of features of the backbone."""
        return self._width

    def reads_gradients(self, task: str) -> bool:
        """Whether the head of a task also reads histograms of oriented gradients."""
        return self.record.inference.get(task, Inference()).gradients

    def save(self, folder: Path) -> None:
        """Writes the model directory."""
        write(folder, self.weights, self.record)

    def probabilities(self, task: str, crops: np.ndarray) -> Float32[np.ndarray, "n c"]:
        """Class probabilities of aligned faces, for one of the model's tasks.

        They are averaged over the views of `record.inference` and their mirror images, and
        calibrated by its temperature.

        Args:
            task: one of `record.labels` that has labels.
            crops: uint8 [n, s, s, 3], RGB in 0..255, of any side s; n may be 0.

        Raises:
            UserError: the model has no such task.
            ValueError: `crops` is something else.
        """
        labels = self.record.labels.get(task, ())
        if not labels:
            known = ", ".join(name for name, own in self.record.labels.items() if own)
            raise UserError(f"the model has no classes for the task {task}; it has {known}")
        _check_crops(crops)
        if not len(crops):
            return np.zeros((0, len(labels)), np.float32)
        fine = _resized(crops, gradients.SIDE) if self.reads_gradients(task) else None
        images = _resized(crops, self.record.image_size)
        mean = self.answers(task, self.features(task, images, fine))
        how = self.record.inference.get(task, Inference())
        if how.temperature != 1.0:
            mean = inference.scale(mean, how.temperature)
        return np.asarray(mean, np.float32)

    def features(
        self,
        task: str,
        images: UInt8[np.ndarray, "n s s 3"],
        fine: UInt8[np.ndarray, "n t t 3"] | None = None,
    ) -> Float32[np.ndarray, "n v f"]:
        """What the head of a task reads of faces, for v views: crops, then their mirror images.

        Args:
            task: one of the model's tasks.
            images: RGB, of the side `record.image_size`; n is at least 1.
            fine: RGB, the same faces, of the side `gradients.SIDE`; needed if the task reads
                gradients, which follow after the `width` features of the backbone.
        """
        count = self.record.inference.get(task, Inference()).crops
        seen = np.stack([self.pooled(task, view) for view in inference.views(images, count)], 1)
        if not self.reads_gradients(task):
            return seen
        assert fine is not None, f"{task} reads gradients"
        lines = [gradients.descriptors(view) for view in inference.views(fine, count)]
        return np.concatenate([seen, np.stack(lines, axis=1)], axis=-1)

    def answers(
        self, task: str, features: Float32[np.ndarray, "n v f"]
    ) -> Float32[np.ndarray, "n c"]:
        """Class probabilities before the temperature: the mean over the views of `features`."""
        if not len(features):
            return np.zeros((0, len(self.record.labels[task])), np.float32)
        rows = features.reshape(-1, features.shape[-1])
        head = self._function("head", task)
        logits = self._in_batches(lambda part: head(self._state, part), rows[:, : self.width])
        if self.reads_gradients(task):
            logits = logits + rows[:, self.width :] @ self._kernels[task]
        shape = (*features.shape[:2], -1)
        mean: np.ndarray = softmax(logits, axis=-1).reshape(shape).mean(axis=1)
        return mean

    def heat(
        self,
        task: str,
        images: UInt8[np.ndarray, "n s s 3"],
        classes: Int[np.ndarray, " n"],
    ) -> Float32[np.ndarray, "n h w"]:
        """Where the network looked for one class of each image, from 0 to 1 (`grad_cam`)."""
        cam = self._compiled.setdefault(("cam", ""), GradCam(self.record.backbone.model_dump()))
        kernel = self._state["parameters"]["heads"][task]["linear"]["kernel"]
        return cam(self._state, kernel, images, classes)

    def pooled(self, task: str, images: np.ndarray) -> Float32[np.ndarray, "n f"]:
        """Pooled features of the images as the task shows them to the network."""
        function = self._function("features", task)
        found: np.ndarray = self._in_batches(lambda part: function(self._state, part), images)
        return found

    def _function(self, kind: str, task: str) -> Any:
        if (kind, task) not in self._compiled:
            make = {"features": make_features_step, "head": make_head_step}[kind]
            function = make(self._graphdef, task, self._tasks[task])
            self._compiled[kind, task] = jax.jit(function, compiler_options=compiler_options())
        return self._compiled[kind, task]

    def _in_batches(self, function: Any, rows: np.ndarray) -> Any:
        def size(left: int) -> int:
            return self._batch or power_of_two(left, most=self.BATCH)

        return in_batches(function, rows, size=size)


def begin(path: str, record: ModelRecord, *, batch: int | None = None) -> Model:
    """An untrained model: the backbone at `path`, which is `config.init`, and random heads.

    The backbone is random for "". Kernels that read gradients are 0.

    Raises:
        UserError: as `backbone_leaves`.
    """
    tasks, _ = make_tasks(record.tasks)
    network = Network(record.backbone.model_dump(), tasks, rngs=nnx.Rngs(0))
    _, parameters, statistics = split_network(network)
    state = {"parameters": parameters, "statistics": statistics}
    arrays = arrays_of(state) | (backbone_leaves(path, state) if path else {})
    for task, how in record.inference.items():
        if how.gradients:
            shape = (gradients.WIDTH, len(record.labels[task]))
            arrays[gradient_kernel(task)] = np.zeros(shape, np.float32)
    return Model(record, arrays, batch=batch)


def load(path: str | Path) -> Model:
    """Loads the model at `path`, a model directory or a training workdir.

    Raises:
        UserError: there is none, it is damaged, or its weights do not fit its record.
    """
    return Model(read_record(path), read_weights(path), f"the model in {find(path)}")


def _check_crops(crops: np.ndarray) -> None:
    wanted = "give uint8 RGB crops [n, s, s, 3] in 0..255"
    if not isinstance(crops, np.ndarray) or crops.dtype != np.uint8:
        kind = getattr(crops, "dtype", type(crops).__name__)
        raise ValueError(f"the crops are {kind}: {wanted}")
    if crops.ndim != 4 or crops.shape[3] != 3 or crops.shape[1] != crops.shape[2]:
        raise ValueError(f"the crops have the shape {list(crops.shape)}: {wanted}")
    if crops.shape[1] == 0:
        raise ValueError(f"the crops have no pixels: {wanted}")


def _resized(crops: np.ndarray, side: int) -> np.ndarray:
    return np.stack([sources.resize(crop, side) for crop in crops])
