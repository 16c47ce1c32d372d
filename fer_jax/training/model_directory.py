"""A trained model as a folder: `weights.safetensors` and `model.json`. No pickle."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx
from jaxtyping import Float32, UInt8
from ml_collections import ConfigDict
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from fer_jax.backend import compiler_options
from fer_jax.data import sources
from fer_jax.errors import UserError
from fer_jax.models import imagenet, pretrained, weight_files
from fer_jax.models.network import Network
from fer_jax.tasks.task import Task
from fer_jax.training.learner import make_tasks
from fer_jax.training.state import (
    State,
    flatten,
    for_use,
    replace_leaves,
    shapes,
    split_network,
)
from fer_jax.training.step import make_predict_step
from fer_jax.workdir import atomic_file, read_json, write_json


def save(folder: Path, state: State, spec: dict[str, Any]) -> None:
    """Writes the weights of a state and `spec`, which says how to use them.

    `spec` holds `backbone`, `tasks`, `labels` (class names by task), `image_size`, and, where
    they are known, `detector` and `crop`: how faces are found and cut before the model sees them,
    and `init`: the weights that training began with.
    """
    folder.mkdir(parents=True, exist_ok=True)
    kept = jax.device_get(for_use(state))
    arrays = {name: np.asarray(leaf) for name, leaf in flatten(kept).items()}
    with atomic_file(folder / "weights.safetensors") as temporary:
        save_file(arrays, temporary)
    write_json(folder / "model.json", spec)


def describe(config: ConfigDict, tasks: Mapping[str, Task], root: str) -> dict[str, Any]:
    """The `spec` of a model trained with `config` on the faces of the workdir `root`.

    `init` says which weights it began with, where `config.init` named any.
    """
    described = {
        "image_size": config.data.image_size if "data" in config else config.image_size,
        "backbone": _plain(config.backbone),
        "tasks": {name: dataclasses.asdict(task) for name, task in tasks.items()},  # type: ignore
        "labels": {name: list(getattr(task, "classes", ())) for name, task in tasks.items()},
    }
    if config.get("init"):
        described["init"] = origin(config.init)
    faces = Path(root) / "config.json"  # of the stage that cut the faces
    settings = read_json(faces) if faces.is_file() else {}
    known = ("detector", "crop", "aligned")  # aligned: cut by others, nobody knows how
    return described | {key: settings[key] for key in known if settings.get(key)}


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
        UserError: no model at `path`, or its weights are damaged.
    """
    file = find(path) / "weights.safetensors"
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise UserError(f"cannot read the weights in {file} ({error})") from error


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
    return pretrained.read_backbone(_weight_file(path), wanted)


def origin(path: str | Path) -> dict[str, Any]:
    """What the weights at `path` are: `name`, `sha256`, and the `init` that they began with."""
    file = _weight_file(path)
    described = {"name": file.name, "sha256": imagenet.file_digest(file, "sha256")}
    if file.with_name("model.json").is_file():
        folder = file.parent.parent if file.parent.name == "model" else file.parent
        before = read_json(file.with_name("model.json")).get("init")
        described = {**described, "name": folder.name, **({"init": before} if before else {})}
    return described


def _weight_file(path: str | Path) -> Path:
    if path == imagenet.NAME:
        return imagenet.find_or_download(imagenet.NOTOP)
    return Path(path) if Path(path).is_file() else find(path) / "weights.safetensors"


class Model:
    """A trained model, ready to use. `spec` is what `save` was given."""

    BATCH = 64

    def __init__(self, spec: dict[str, Any], weights: dict[str, np.ndarray]) -> None:
        self.spec = spec
        self._tasks, _ = make_tasks(spec["tasks"])
        network = Network(spec["backbone"], self._tasks, rngs=nnx.Rngs(0))
        self._graphdef, parameters, statistics = split_network(network)
        state = {"parameters": parameters, "statistics": statistics}
        pretrained.check_leaves("the model", "its description", weights, shapes(state))
        self._state = replace_leaves(state, weights)
        self._predict: dict[str, Any] = {}

    def probabilities(
        self, task: str, crops: UInt8[np.ndarray, "n s s 3"]
    ) -> Float32[np.ndarray, "n c"]:
        """Class probabilities of square RGB crops of any size, for one of the model's tasks."""
        if task not in self._predict:
            function = make_predict_step(self._graphdef, task, self._tasks[task])
            self._predict[task] = jax.jit(function, compiler_options=compiler_options())
        resized = np.stack([sources.resize(crop, self.spec["image_size"]) for crop in crops])
        parts = []
        for start in range(0, len(resized), self.BATCH):
            part = resized[start : start + self.BATCH]
            rows = 1 << (len(part) - 1).bit_length()  # few shapes, so few compilations
            padding = np.zeros((rows - len(part), *part.shape[1:]), np.uint8)
            batch = {"image": np.concatenate([part, padding]), "label": np.zeros(rows, np.int32)}
            parts.append(np.asarray(self._predict[task](self._state, batch))[: len(part)])
        return np.concatenate(parts)


def load(path: str | Path) -> Model:
    """Loads the model at `path`, a model directory or a training workdir.

    Raises:
        UserError: there is none, or its weights do not fit its description.
    """
    return Model(read_json(find(path) / "model.json"), read_weights(path))


def _plain(config: ConfigDict) -> Any:
    return json.loads(config.to_json_best_effort())
