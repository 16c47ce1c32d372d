"""What a frozen network makes of faces: pooled features, computed once and kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx
from jaxtyping import Float32, UInt8

from fer_jax.backend import compiler_options
from fer_jax.models.network import Network
from fer_jax.padding import in_batches
from fer_jax.schemas.training import Backbone
from fer_jax.training import model_directory
from fer_jax.training.state import merge_network, replace_leaves, split_network

_BATCH = 64


class FrozenBackbone:
    """A backbone that only looks.

    Args:
        path: a model directory, a training workdir, or any weights that `config.init` takes; empty
            for random ones.
        backbone: used where `path` is not a model directory of this project.
        seed: of the random weights.

    Raises:
        UserError: no model at `path`.
    """

    def __init__(self, path: str | Path, backbone: Backbone, seed: int = 0) -> None:
        ours = bool(path) and model_directory.is_model(path)
        self.backbone = model_directory.read_record(path).backbone if ours else backbone
        network = Network(self.backbone, {}, rngs=nnx.Rngs(seed))
        graphdef, parameters, statistics = split_network(network)
        self.state = {"parameters": parameters, "statistics": statistics}
        self.width = int(network.backbone.features)
        if path:
            leaves = model_directory.backbone_leaves(path, self.state)
            self.state = replace_leaves(self.state, leaves)

        def features(state: Any, images: jax.Array) -> jax.Array:
            merged = merge_network(graphdef, state["parameters"], state["statistics"])
            return merged.features(images, train=False)

        self._features = jax.jit(features, compiler_options=compiler_options())

    def __call__(self, images: UInt8[np.ndarray, "n s s 3"]) -> Float32[np.ndarray, "n f"]:
        """Pooled features of RGB images; n is at least 1."""
        features: np.ndarray = in_batches(
            lambda part: self._features(self.state, part), images, size=lambda left: _BATCH
        )
        return features


def head_leaves(
    path: str | Path, task: str, labels: list[str], state: dict[str, Any]
) -> dict[str, np.ndarray]:
    """The linear head of the model at `path` for those of `labels` that it knows, by path.

    So an emotion model of another list of labels starts the new one: classes that both have keep
    their weights, the others those of `state`. Empty where the model has no such head, or one of
    another shape, and where `path` is no model of ours.
    """
    if not model_directory.is_model(path):
        return {}
    known = model_directory.read_record(path).labels.get(task, ())
    weights = model_directory.read_weights(path)
    leaves: dict[str, np.ndarray] = {}
    for name in ("kernel", "bias"):
        place = f"parameters/heads/{task}/linear/{name}"
        own = state["parameters"]["heads"].get(task, {}).get("linear", {}).get(name)
        if place not in weights or own is None or weights[place].shape[:-1] != own.shape[:-1]:
            return {}
        merged = np.array(own)
        for position, label in enumerate(labels):
            if label in known:
                merged[..., position] = weights[place][..., known.index(label)]
        leaves[place] = merged
    return leaves
