"""A trained model as a folder with `weights.safetensors` and `model.json`, without pickle.

The header of the weight file contains a checksum of each array and of `model.json`. They are
verified when the weights are read, so that a damaged model causes an error instead of a wrong
answer. Models in the older format 1 have no checksums; reading their weights causes a warning.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from pydantic import Json, ValidationError
from pydantic_core import to_json
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file

from fer_jax import console, records
from fer_jax.errors import UserError
from fer_jax.models import imagenet, pretrained, starter, weight_files
from fer_jax.records import FacePipeline, Inference, ModelRecord, Origin
from fer_jax.schemas.fields import Section
from fer_jax.schemas.training import Backbone
from fer_jax.tasks.task import Task
from fer_jax.training import integrity
from fer_jax.training.state import State, flatten, for_use, shapes
from fer_jax.workdir import atomic_file

_SEALS = "fer_jax"  # a single key, since safetensors writes keys in an undefined order
_MAX_SHOWN = 3  # maximum number of names in a message


class _Seals(Section):
    """Checksums in the header of the weights; None in files without them.

    Attributes:
        arrays: descriptions by path (see `integrity.describe`).
        record: the digest of `model.json`.
    """

    arrays: Json[dict[str, Any]] | None = None
    record: str | None = None


def save(folder: Path, weights: Mapping[str, np.ndarray], record: ModelRecord) -> None:
    """Writes a model directory.

    Args:
        folder: the model directory, which is created if it does not exist.
        weights: float arrays by path, as returned by `arrays_of` and `read_weights`. float16 takes
            half the space, and is read as float32.
        record: the content of `model.json`.

    Raises:
        UserError: the weights contain NaN or Inf.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # safetensors ignores the strides of an array.
    arrays = {name: np.ascontiguousarray(array) for name, array in weights.items()}
    described, not_finite = integrity.describe(arrays)
    if not_finite:
        raise UserError(
            f"{folder}: the model was not saved, since {_named(not_finite)} not finite; "
            "train again with a lower learning rate"
        )
    digest = _digest(record.model_dump(mode="json"))
    seals = {"arrays": json.dumps(described), "record": digest}
    with atomic_file(folder / "weights.safetensors") as temporary:
        save_file(arrays, temporary, metadata={_SEALS: json.dumps(seals)})
    records.write(folder / "model.json", record)


def arrays_of(state: State) -> dict[str, np.ndarray]:
    """The weights of a state by path, on this host; averaged, if there is a running average."""
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
        backbone: the settings of the backbone.
        image_size: side of the training images in pixels.
        tasks: the tasks by name.
        init: the initial weights, as in `config.init`; "" for random ones.
        faces: how the faces were detected and cropped (see `read_faces`); None if unknown.
        inference: how answers are computed at test time, by task.

    Raises:
        UserError: see `origin`.
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
    """The record of how faces in the workdir `root` were found and cropped; None without a record.

    Raises:
        UserError: the record is damaged.
    """
    file = Path(root) / records.FACES
    return records.read(FacePipeline, file) if file.is_file() else None


def read_record(path: str | os.PathLike[str]) -> ModelRecord:
    """The record of the model at `path`.

    Raises:
        UserError: there is no model, or its record is damaged.
    """
    file = find(path) / "model.json"
    fields = _read_json(file)
    if isinstance(fields, dict) and "format" not in fields:
        fields = _from_format_1(fields)
    if isinstance(fields, dict) and isinstance(fields.get("backbone"), dict):
        fields["backbone"].pop("blocks", None)  # an obsolete field of older models
    return records.parse(ModelRecord, json.dumps(fields), file)


def _read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {file} ({error}); copy or train the model again") from error


def _from_format_1(fields: dict[str, Any]) -> dict[str, Any]:
    """Converts a record of format 1 to the current fields, such as `faces`.

    In format 1, the settings of the search for faces were constants, which are filled in.
    """
    cut = {name: fields[name] for name in ("detector", "crop", "aligned") if name in fields}
    rest = {name: value for name, value in fields.items() if name not in cut}
    if {"detector", "crop"} <= cut.keys():
        search = {"max_side": 1280, "enlarge_below": 80, "enlarge_to": 160, "border": 0.25}
        rest["faces"] = {**cut, "search": search}
    return {"format": 1, **rest}


def is_model(path: str | Path) -> bool:
    """Whether `find` finds a model at `path`; False for a weight file and for "imagenet"."""
    return os.fspath(path) == starter.NAME or any(
        (Path(path) / part / "model.json").is_file() for part in ("", "model")
    )


def find(path: str | os.PathLike[str]) -> Path:
    """The model directory at `path`: the folder itself, or `model` in a training workdir.

    "starter" is the model that ships with the package (see `fer_jax.models.starter`).

    Raises:
        UserError: there is no model, or `path` is neither a string nor a path.
    """
    if not isinstance(path, str | os.PathLike):
        raise UserError(
            f"a model cannot be of the type {type(path).__name__}; pass {starter.NAME!r}, or the "
            "path of a model directory or training workdir"
        )
    if os.fspath(path) == starter.NAME:
        return starter.folder()
    for folder in (Path(path), Path(path) / "model"):
        if (folder / "model.json").is_file():
            return folder
    raise UserError(
        f"there is no model in {path} (no model.json in it or in its folder `model`); choose a "
        f"model directory, the workdir of a finished training or, to start training from, a weight "
        f"file ({', '.join(weight_files.SUFFIXES)})"
    )


def read_weights(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """All arrays of a model by path, e.g. "parameters/backbone/stem/conv_1a/conv/kernel".

    Arrays that were saved as float16 are returned as float32.

    Raises:
        UserError: there is no model at `path`, its record or weights cannot be read, a checksum is
            wrong or, except in format 1, missing, or an array contains NaN, Inf or integers.
    """
    folder = find(path)
    file = folder / "weights.safetensors"
    record = read_record(folder)
    if not file.is_file():
        raise UserError(f"{folder} contains model.json but not {file.name}; copy the whole folder")
    arrays, seals = _read_arrays(file)
    if record.format == 1:
        _warn_without_checksums(folder)
    elif seals.arrays is None or seals.record is None:
        raise UserError(f"{file} has no checksums; copy the model again, or train it again")
    elif seals.record != _digest(_read_json(folder / "model.json")):
        raise UserError(
            f"{folder / 'model.json'} is not the one that was saved with the weights; copy both "
            "files again, or train the model again"
        )
    return arrays


def _read_arrays(file: Path) -> tuple[dict[str, np.ndarray], _Seals]:
    """The arrays of a safetensors file and its checksums, which are verified if it has them."""
    seals = _seals(file)
    try:
        arrays = load_file(file)
    except (OSError, SafetensorError, TypeError, ValueError, KeyError) as error:
        raise _unreadable(file, error) from error
    described, not_finite = integrity.describe(arrays)
    if (saved := seals.arrays) is not None:
        names = saved.keys() | described.keys()
        damaged = sorted(name for name in names if saved.get(name) != described.get(name))
        if damaged:
            raise UserError(
                f"{file} is damaged: {_named(damaged)} not what was saved (wrong checksum); copy "
                "the model again, or train it again"
            )
    if not_finite:
        raise UserError(f"{file}: {_named(not_finite)} not finite; train the model again")
    integers = [name for name, array in arrays.items() if array.dtype.kind != "f"]
    if integers:
        raise UserError(
            f"{file}: {_named(integers)} {arrays[integers[0]].dtype} instead of floating point; "
            "copy the model again, or train it again"
        )
    wide = {
        name: array.astype(np.float32) if array.dtype == np.float16 else array
        for name, array in arrays.items()
    }
    return wide, seals


def _seals(file: Path) -> _Seals:
    try:
        with safe_open(file, framework="np") as opened:
            return _Seals.model_validate_json((opened.metadata() or {}).get(_SEALS, "{}"))
    except ValidationError as error:
        raise _unreadable(file, "its checksums are damaged") from error
    except (OSError, SafetensorError, ValueError) as error:
        raise _unreadable(file, error) from error


def _unreadable(file: Path, error: Exception | str) -> UserError:
    return UserError(
        f"cannot read the weights in {file} ({error}); copy the model again, or train it again"
    )


def _named(names: list[str]) -> str:
    """The names and a verb: "a is", "a and b are" or "a, b, c and 4 more are"."""
    if len(names) <= _MAX_SHOWN:
        listed = " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
    else:
        listed = f"{', '.join(names[:_MAX_SHOWN])} and {len(names) - _MAX_SHOWN} more"
    return f"{listed} {'is' if len(names) == 1 else 'are'}"


@functools.cache
def _warn_without_checksums(folder: Path) -> None:
    console.warn(
        f"{folder} was saved by an older version without checksums, so damage cannot be detected"
    )


def _digest(fields: Any) -> str:
    """The SHA-256 of the content of a `model.json`; new defaults in the code do not change it."""
    return hashlib.sha256(to_json(fields)).hexdigest()


def backbone_leaves(path: str | Path, state: State) -> dict[str, np.ndarray]:
    """The arrays of the backbone at `path` (`config.init`), by path in `state`.

    Args:
        path: a model directory, a training workdir, a weight file of Keras, timm or this project
            (see `fer_jax.models.weight_files`), "imagenet" (see `fer_jax.models.imagenet`), or
            "starter" (see `fer_jax.models.starter`).
        state: the state of the network that will use the weights.

    Raises:
        UserError: the weights cannot be read or downloaded, or tensors are missing, unknown or of
            another shape; the message lists them.
    """
    own = {part: state[part]["backbone"] for part in ("parameters", "statistics")}
    wanted = {
        f"{part}/backbone/{name}": shape
        for part, tree in own.items()
        for name, shape in shapes(tree).items()
    }
    file = _weight_file(path)
    if (file.parent / "model.json").is_file():
        read_weights(file.parent)  # verifies the checksums
    elif file.suffix == ".safetensors" and _seals(file).arrays is not None:
        _read_arrays(file)
    return pretrained.read_backbone(file, wanted)


def origin(path: str | Path) -> Origin:
    """The origin of the weights at `path`: their name and SHA-256.

    For a model, it includes the origin of the model's initial weights.

    Args:
        path: see `backbone_leaves`.

    Raises:
        UserError: there are no weights at `path`, they cannot be downloaded, or the record of the
            model is damaged.
    """
    file = _weight_file(path)
    name, before = file.name, None
    if file.with_name("model.json").is_file():
        name = (file.parent.parent if file.parent.name == "model" else file.parent).name
        before = read_record(file.parent).init
    return Origin(name=name, sha256=imagenet.file_digest(file, "sha256"), init=before)


def began_with_starter(record: ModelRecord) -> bool:
    """Whether training began with the weights of a starter, directly or through other models."""
    starters = (starter.SHA256, *starter.EARLIER_SHA256)
    origin = record.init
    while origin and origin.sha256 not in starters:
        origin = origin.init
    return origin is not None


def _weight_file(path: str | Path) -> Path:
    if path == imagenet.NAME:
        return imagenet.find_or_download(imagenet.NOTOP)
    return Path(path) if Path(path).is_file() else find(path) / "weights.safetensors"
