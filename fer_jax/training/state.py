"""The train state: a plain tree of arrays, so that jit, Orbax and safetensors all take it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from fer_jax.models.repeated import STACKED

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


def initial_state(
    parameters: Tree,
    statistics: Tree,
    optimizer: optax.GradientTransformation,
    seed: int,
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
        "optimizer": jax.jit(optimizer.init)(parameters),  # one program for all of its zeros
    }
    return state | {"average": parameters} if averaged else state


def for_use(state: State) -> State:
    """The parameters to evaluate, predict and save with, averaged if they are, and statistics."""
    parameters = state.get("average", state["parameters"])
    return {"parameters": parameters, "statistics": state["statistics"]}


def flatten(tree: Tree, prefix: str = "") -> dict[str, Any]:
    """{"backbone": {"stem": {0: x}}} as {"backbone/stem/0": x}.

    The arrays that repeated blocks have together come apart: "block17/stacked_blocks/bias"
    [20, 1088] is "block17/0/bias" [1088] to "block17/19/bias". So these are names for people and
    for files. Arrays on the host are views; those on a device are copied.
    """
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if key == STACKED:
            for name, leaf in flatten(value).items():
                rows = {f"{prefix}{i}/{name}": _row(leaf, i) for i in range(leaf.shape[0])}
                flat |= rows
        elif isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}/")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def shapes(tree: Tree) -> dict[str, tuple[int, ...]]:
    """The shape of every leaf by the name that `flatten` gives it; nothing is computed."""
    return {name: tuple(leaf.shape) for name, leaf in abstract(tree).items()}


def abstract(tree: Tree) -> dict[str, jax.ShapeDtypeStruct]:
    """Shape and dtype of every leaf by the name that `flatten` gives it; nothing is computed."""
    return flatten(jax.eval_shape(lambda tree: tree, tree))


def replace_leaves(tree: Tree, leaves: dict[str, Any], prefix: str = "") -> Tree:
    """`tree` with the leaves that `leaves` names as `flatten` does, others as they were."""
    return {
        key: _replace_rows(value, leaves, prefix)
        if key == STACKED
        else replace_leaves(value, leaves, f"{prefix}{key}/")
        if isinstance(value, dict)
        else leaves.get(f"{prefix}{key}", value)
        for key, value in tree.items()
    }


def _replace_rows(tree: Tree, leaves: dict[str, Any], prefix: str, name: str = "") -> Tree:
    replaced: Tree = {}
    for key, value in tree.items():
        path = f"{name}{key}"
        if isinstance(value, dict):
            replaced[key] = _replace_rows(value, leaves, prefix, f"{path}/")
            continue
        names = [f"{prefix}{i}/{path}" for i in range(value.shape[0])]
        if any(name in leaves for name in names):
            rows = [leaves[name] if name in leaves else value[i] for i, name in enumerate(names)]
            value = (jnp if isinstance(rows[0], jax.Array) else np).stack(rows)
        replaced[key] = value
    return replaced


def _row(leaf: Any, number: int) -> Any:
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype)
    return leaf[number]
