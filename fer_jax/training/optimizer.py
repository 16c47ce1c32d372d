"""The optimizer that a config describes, and which parameters it may change."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from fer_jax.errors import UserError
from fer_jax.models.repeated import STACKED
from fer_jax.schemas.training import Optimizer
from fer_jax.training.state import Tree, replace_leaves, shapes


def make_optimizer(config: Optimizer, steps: int, frozen: Tree) -> optax.GradientTransformation:
    """AdamW (Loshchilov & Hutter 2019) with warm-up and a cosine to zero over `steps`.

    Fields of `config`: `learning_rate`, the peak; `warmup`, a fraction of the steps;
    `weight_decay`, on kernels only, never on biases or BatchNorm; `clip`, the largest global
    norm of a gradient; `backbone_rate`, a factor on the backbone's learning rate; `layer_decay`,
    one more factor for every block that lies between a parameter and the heads (Clark et al.
    2020). Leaves marked in `frozen` (see `frozen_mask`) stay as they are and have no moments,
    unless other blocks of their stage move.
    """
    schedule = optax.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=config.learning_rate,
        warmup_steps=max(1, round(config.warmup * steps)),
        decay_steps=max(2, steps),
    )
    packed = optax.chain(
        optax.clip_by_global_norm(config.clip),
        optax.adamw(
            schedule,
            weight_decay=config.weight_decay,
            mask=lambda tree: {part: part == "kernels" for part in tree},
        ),
    )

    def init(parameters: Tree) -> Any:
        return packed.init(pack(parameters, frozen))

    def update(gradients: Tree, state: Any, parameters: Tree) -> tuple[Tree, Any]:
        updates, state = packed.update(pack(gradients, frozen), state, pack(parameters, frozen))
        rates = rate_factors(parameters, frozen, config.backbone_rate, config.layer_decay)
        return jax.tree.map(jnp.multiply, unpack(updates, parameters, frozen), rates), state

    return optax.GradientTransformation(init, update)


def pack(tree: Tree, frozen: Tree) -> Tree:
    """The leaves that move: kernels by their paths, and all biases and scales as one vector.

    There are hundreds of these small leaves: one by one, they would take most of the time in which
    the optimizer is compiled.
    """
    moving = {path: leaf for path, leaf, fixed in _leaves(tree, frozen) if not np.all(fixed)}
    kernels = {path: leaf for path, leaf in moving.items() if _is_kernel(path, leaf)}
    vectors = [leaf.reshape(-1) for path, leaf in moving.items() if path not in kernels]
    # Checkpoints hold no array without a number in it.
    return {"kernels": kernels, **({"vectors": jnp.concatenate(vectors)} if vectors else {})}


def unpack(packed: Tree, like: Tree, frozen: Tree) -> Tree:
    """Undoes `pack` for a tree of the structure and the shapes of `like`; zero where frozen."""
    leaves = []
    start = 0
    for path, leaf, fixed in _leaves(like, frozen):
        if np.all(fixed):
            leaves.append(jnp.zeros_like(leaf))
        elif _is_kernel(path, leaf):
            leaves.append(packed["kernels"][path])
        else:
            part = jax.lax.slice(packed["vectors"], (start,), (start + leaf.size,))
            leaves.append(part.reshape(leaf.shape).astype(leaf.dtype))
            start += leaf.size
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def frozen_mask(parameters: Tree, patterns: Sequence[str]) -> Tree:
    """What stays as it is: for every leaf, whether a pattern matches its path.

    Paths are those of `state.flatten`, e.g. "backbone/block35/0/projection/kernel"; of the leaves
    that repeated blocks have together, the mask is an array [count]. A pattern is of the shell's
    kind, as in "backbone/block35/*": `*` stands for any characters, slashes too.

    Raises:
        UserError: a pattern matches no parameter.
    """
    paths = shapes(parameters)
    for pattern in patterns:
        if not fnmatch.filter(paths, pattern):
            raise UserError(
                f'config.optimizer.freeze: no parameter matches "{pattern}"; paths look like '
                f"{min(paths)}"
            )
    marks = {
        path: np.array(any(fnmatch.fnmatch(path, pattern) for pattern in patterns))
        for path in paths
    }
    return replace_leaves(parameters, marks)


def hold(leaf: Float[Array, ...], fixed: np.ndarray | bool) -> Float[Array, ...]:
    """`leaf` without a gradient where it is frozen; `fixed` is its part of a `frozen_mask`."""
    if np.all(fixed):
        return jax.lax.stop_gradient(leaf)
    if not np.any(fixed):
        return leaf
    return jnp.where(_beside(np.asarray(fixed), leaf), jax.lax.stop_gradient(leaf), leaf)


def rate_factors(parameters: Tree, frozen: Tree, backbone_rate: float, layer_decay: float) -> Tree:
    """What each leaf's learning rate is multiplied with: 1 for the heads, 0 where it is frozen."""
    paths = shapes(parameters)
    blocks = _blocks(paths) if layer_decay != 1 else []

    def factor(path: str) -> np.ndarray:
        part, _, rest = path.partition("/")
        if part != "backbone":
            return np.array(1.0)
        below_heads = len(blocks) - blocks.index(_block(rest)) if blocks else 0
        return np.array(backbone_rate * layer_decay**below_heads)

    factors = replace_leaves(parameters, {path: factor(path) for path in paths})

    def of_leaf(leaf: Array, rate: np.ndarray, fixed: np.ndarray | bool) -> np.ndarray:
        rates = np.where(fixed, 0.0, rate).astype(leaf.dtype)
        alike = rates == rates.flat[0]
        return rates.flat[:1].reshape(()) if alike.all() else _beside(rates, leaf)

    return jax.tree.map(of_leaf, parameters, factors, frozen)


_ORDER = ("stem", "mixed_5b", "block35", "mixed_6a", "block17", "mixed_7a", "block8", "conv_7b")


def _blocks(paths: Iterable[str]) -> list[str]:
    """The backbone's blocks from input to output: "stem", "mixed_5b", "block35/0", ..."""
    parts = (path.partition("/") for path in paths)
    named = {_block(rest) for part, _, rest in parts if part == "backbone"}

    def place(block: str) -> tuple[int, int]:
        name, _, number = block.partition("/")
        return _ORDER.index(name), int(number or 0)

    return sorted(named, key=place)


def _block(path: str) -> str:
    matched = re.match(r"block\d+/\d+|[^/]+", path)
    assert matched
    return matched[0]


def _leaves(tree: Tree, frozen: Tree) -> list[tuple[str, Any, Any]]:
    """Path, leaf and mask of every leaf, in the order of `jax.tree.leaves`."""
    leaves = jax.tree.leaves_with_path(tree)
    return [
        ("/".join(str(entry.key) for entry in path), leaf, fixed)
        for (path, leaf), fixed in zip(leaves, jax.tree.leaves(frozen), strict=True)
    ]


def _is_kernel(path: str, leaf: Any) -> bool:
    """Whether it has two axes or more of its own, beside that of repeated blocks."""
    return leaf.ndim - (f"/{STACKED}/" in path) > 1


def _beside(values: np.ndarray, leaf: Any) -> np.ndarray:
    """Values [count] in a shape that goes with a leaf [count, ...]."""
    return values.reshape(*values.shape, *(1,) * (np.ndim(leaf) - values.ndim))
