"""The train state: a plain tree of arrays, so that jit, Orbax and safetensors all take it."""

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
    """The structure, the parameters and the BatchNorm statistics of a network, as plain trees."""
    parts: tuple[Any, ...] = nnx.split(network, nnx.Param, nnx.BatchStat)
    graphdef, parameters, statistics = parts
    return graphdef, nnx.to_pure_dict(parameters), nnx.to_pure_dict(statistics)


def merge_network(graphdef: nnx.GraphDef[Any], parameters: Tree, statistics: Tree) -> Any:
    """The network again. A copy: training it writes new statistics into the copy only."""
    return nnx.merge(
        graphdef,
        nnx.State(jax.tree.map(nnx.Param, parameters)),
        nnx.State(jax.tree.map(nnx.BatchStat, statistics)),
        copy=True,
    )


def random_state(make: Callable[[jax.Array], nnx.Module], seed: int) -> State:
    """The parameters and statistics of the network that `make` draws with a key of this seed."""

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
    """Step 0. `seed` keys everything random in the steps to come: `fold_in(key(seed), step)`.

    With `averaged`, a running average of the parameters is kept beside them.
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
    """The parameters to evaluate, predict and save with, averaged if they are, and statistics."""
    parameters = state.get("average", state["parameters"])
    return {"parameters": parameters, "statistics": state["statistics"]}


def flatten(tree: Tree, prefix: str = "") -> dict[str, Any]:
    """{"backbone": {"stem": {0: x}}} as {"backbone/stem/0": x}: names for people and for files."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        inner = flatten(value, f"{prefix}{key}/") if isinstance(value, dict) else None
        flat |= {f"{prefix}{key}": value} if inner is None else inner
    return flat


def shapes(tree: Tree) -> dict[str, tuple[int, ...]]:
    """The shape of every leaf by the name that `flatten` gives it."""
    return {name: tuple(leaf.shape) for name, leaf in flatten(tree).items()}


def replace_leaves(tree: Tree, leaves: Mapping[str, Any], prefix: str = "") -> Tree:
    """`tree` with the leaves that `leaves` names as `flatten` does, others as they were."""
    return {
        key: replace_leaves(value, leaves, f"{prefix}{key}/")
        if isinstance(value, dict)
        else leaves.get(f"{prefix}{key}", value)
        for key, value in tree.items()
    }
