"""The train state: a plain tree of arrays, for jit, Orbax and safetensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from fer_jax.backend import run_once_options

Tree = dict[Any, Any]
State = dict[str, Any]


def split_network(network: nnx.Module) -> tuple[nnx.GraphDef[Any], Tree, Tree]:
    """The structure of a network, and its parameters and BatchNorm statistics as plain trees."""
    parts: tuple[Any, ...] = nnx.split(network, nnx.Param, nnx.BatchStat)
    graphdef, parameters, statistics = parts
    return graphdef, nnx.to_pure_dict(parameters), nnx.to_pure_dict(statistics)


def merge_network(graphdef: nnx.GraphDef[Any], parameters: Tree, statistics: Tree) -> Any:
    """The inverse of `split_network`; training the result does not modify `statistics`."""
    return nnx.merge(
        graphdef,
        nnx.State(jax.tree.map(nnx.Param, parameters)),
        nnx.State(jax.tree.map(nnx.BatchStat, statistics)),
        copy=True,
    )


def random_state(make: Callable[[jax.Array], nnx.Module], seed: int) -> State:
    """The parameters and statistics of the network that `make` creates with this seed."""

    def drawn(seed: jax.Array) -> State:
        _, parameters, statistics = split_network(make(jax.random.key(seed)))
        return {"parameters": parameters, "statistics": statistics}

    state: State = jax.jit(drawn, compiler_options=run_once_options())(np.uint32(seed))
    return state


def initial_state(
    parameters: Tree,
    statistics: Tree,
    optimizer: optax.GradientTransformation,
    seed: int | jax.Array,
    *,
    averaged: bool = False,
) -> State:
    """The state at step 0; the random key of each step is `fold_in(key(seed), step)`.

    With `averaged`, the state contains a running average of the parameters.
    """
    state = {
        "step": jnp.zeros((), jnp.int32),
        "seed": jnp.asarray(seed, jnp.uint32),
        "parameters": parameters,
        "statistics": statistics,
        "optimizer": optimizer.init(parameters),
    }
    return state | {"average": parameters} if averaged else state


def for_use(state: State) -> State:
    """The parameters (averaged, if there is an average) and statistics for use after training."""
    parameters = state.get("average", state["parameters"])
    return {"parameters": parameters, "statistics": state["statistics"]}


def flatten(tree: Tree, prefix: str = "") -> dict[str, Any]:
    """Converts {"backbone": {"block35": {0: x}}} to {"backbone/block35/0": x}."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        inner = flatten(value, f"{prefix}{key}/") if isinstance(value, dict) else None
        flat |= {f"{prefix}{key}": value} if inner is None else inner
    return flat


def shapes(tree: Tree) -> dict[str, tuple[int, ...]]:
    """The shape of every leaf by its path, as in `flatten`."""
    return {name: tuple(leaf.shape) for name, leaf in flatten(tree).items()}


def replace_leaves(tree: Tree, leaves: Mapping[str, Any], prefix: str = "") -> Tree:
    """A copy of `tree` with the leaves in `leaves` (by path, as in `flatten`) replaced."""
    return {
        key: replace_leaves(value, leaves, f"{prefix}{key}/")
        if isinstance(value, dict)
        else leaves.get(f"{prefix}{key}", value)
        for key, value in tree.items()
    }
