"""A trained model as a folder: `weights.safetensors` and `model.json`. No pickle.

The weights carry a checksum of each array and of `model.json`, and are checked whenever they are
read: a damaged model gives an error, never an answer.
"""

from __future__ import annotations

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
from jaxtyping import Float, Float32
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
from fer_jax.training.learner import make_tasks
from fer_jax.training.state import (
    State,
    flatten,
    for_use,
    replace_leaves,
    shapes,
    split_network,
)
from fer_jax.training.step import make_logits_step
from fer_jax.workdir import atomic_file

FACES = "faces.json"  # in the workdir of a stage that cuts faces: how it does so
# In the header of the weights. Under one key, since safetensors writes keys in no certain order.
_SEALS = "fer_jax"
_ARRAYS, _RECORD = "arrays", "record"
_SHOWN = 3  # names in a message


def save(
    folder: Path,
    state: State,
    record: ModelRecord,
    gradient_kernels: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Writes the weights of a state and the record that says how to use them.

    Args:
        folder: is made if it does not exist.
        state: its running average is saved if it has one.
        record: becomes `model.json`.
        gradient_kernels: float32 [gradients.WIDTH, classes] by task, for each task whose head
            also reads gradients.

    Raises:
        UserError: weights that are not finite.
    """
    folder.mkdir(parents=True, exist_ok=True)
    arrays = arrays_of(state, gradient_kernels)
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


def arrays_of(
    state: State, gradient_kernels: Mapping[str, np.ndarray] | None = None
) -> dict[str, np.ndarray]:
    """The arrays of a model by path, as `read_weights` gives them; see `save`."""
    arrays = dict(flatten(jax.device_get(for_use(state))))
    for task, kernel in (gradient_kernels or {}).items():
        arrays[gradient_kernel(task)] = np.float32(kernel)
    # safetensors writes the memory of an array as it is, whatever its strides.
    return {name: np.ascontiguousarray(array) for name, array in arrays.items()}


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

    Raises:
        UserError: the record describes no network, or the weights, labels and tasks do not fit.
    """

    BATCH = 64

    def __init__(
        self, record: ModelRecord, weights: Mapping[str, np.ndarray], where: str = "the model"
    ) -> None:
        self.record = record
        try:
            self._tasks, _ = make_tasks(record.tasks)
            network = Network(record.backbone, self._tasks, rngs=nnx.Rngs(0))
        except (UserError, TypeError, ValueError, AttributeError, KeyError) as error:
            raise UserError(
                f"{where}: no network can be built from its record ({error}); copy the model "
                "again or train it again"
            ) from error
        self._graphdef, parameters, statistics = split_network(network)
        state = {"parameters": parameters, "statistics": statistics}
        self._kernels = {}
        wanted = flatten(state)
        for name, task in self._tasks.items():
            classes = tuple(getattr(task, "classes", ()))
            if record.labels.get(name, ()) != classes:
                raise UserError(
                    f"{where}: the labels of {name} are {', '.join(record.labels.get(name, ()))}, "
                    f"the outputs are {', '.join(classes) or 'not classes'}; copy the model again "
                    "or train it again"
                )
            if record.inference.get(name, Inference()).gradients:
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
        self._state = replace_leaves(state, dict(weights))
        self._kernels = {
            name: weights[gradient_kernel(name)]
            for name in self._tasks
            if gradient_kernel(name) in wanted
        }
        self._logits: dict[str, Any] = {}

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
        fine = _resized(crops, gradients.SIDE) if task in self._kernels else None
        mean = self.of_images(task, _resized(crops, self.record.image_size), fine)
        how = self.record.inference.get(task, Inference())
        if how.temperature != 1.0:
            mean = inference.scale(mean, how.temperature)
        return np.asarray(mean, np.float32)

    def of_images(
        self, task: str, images: np.ndarray, fine: np.ndarray | None = None
    ) -> Float[np.ndarray, "n c"]:
        """Probabilities before the temperature, of faces that are resized already.

        Args:
            task: one of the model's tasks.
            images: uint8 [n, image_size, image_size, 3].
            fine: uint8 [n, gradients.SIDE, gradients.SIDE, 3], of the same faces; needed if the
                task reads gradients.
        """
        if not len(images):
            return np.zeros((0, len(self.record.labels[task])), np.float32)
        count = self.record.inference.get(task, Inference()).crops
        seen = inference.views(images, count)
        details = [None] * len(seen) if fine is None else inference.views(fine, count)
        parts = [
            self._one_view(task, view, detail) for view, detail in zip(seen, details, strict=True)
        ]
        return np.mean(parts, axis=0)

    def _one_view(
        self, task: str, images: np.ndarray, fine: np.ndarray | None
    ) -> Float32[np.ndarray, "n c"]:
        """The mean over the images and their mirror images; `fine` is for the gradients."""
        both = self._network_logits(task, images)
        if fine is not None:
            kernel = self._kernels[task]
            both = [
                logits + gradients.descriptors(pictures) @ kernel
                for logits, pictures in zip(both, (fine, inference.mirrored(fine)), strict=True)
            ]
        plain, mirrored = (softmax(logits, axis=-1) for logits in both)
        return (plain + mirrored) / 2

    def _network_logits(self, task: str, images: np.ndarray) -> list[np.ndarray]:
        """Logits [n, c] of the images and of their mirror images."""
        if task not in self._logits:
            function = make_logits_step(self._graphdef, task, self._tasks[task])
            self._logits[task] = jax.jit(function, compiler_options=compiler_options())
        compiled = self._logits[task]

        def logits(part: np.ndarray) -> Any:
            return compiled(self._state, {"image": part, "label": np.zeros(len(part), np.int32)})

        # Sizes are powers of two, so that a single face does not cost a whole batch.
        both = in_batches(logits, images, size=lambda left: power_of_two(left, most=self.BATCH))
        return list(both)


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
