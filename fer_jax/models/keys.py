"""Random keys for a network's initial weights, with fewer operations to trace than `nnx.Rngs`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Key, PRNGKeyArray


class _Counted(nnx.RngStream):
    """Returns the keys of `nnx.RngStream`, but counts them with an int instead of an array.

    Setting an array while a network is traced takes time that grows with the size of the trace;
    for the published network, it took two of the three seconds of tracing.
    """

    def __init__(self, key: Key[Array, "*n"], *, tag: str = "default") -> None:
        super().__init__(key, tag=tag)
        self.number = 0

    def __call__(self) -> PRNGKeyArray:
        self.number += 1
        return jax.random.fold_in(self.key[...], self.number - 1)


class _Undrawn(nnx.RngStream):
    """Returns the same key each time; marks a network whose weights are not drawn."""

    def __call__(self) -> PRNGKeyArray:
        return self.key[...]


def keys(seed: int | PRNGKeyArray) -> nnx.Rngs:
    """An `nnx.Rngs` that returns the keys of `nnx.Rngs(seed)`, and is traced faster.

    Within and after `nnx.split_rngs`, the keys differ from those of `nnx.Rngs(seed)`.
    """
    rngs: Any = nnx.Rngs(seed)
    rngs.default = _Counted(rngs.default.key[...])
    return rngs


def structure(make: Callable[[nnx.Rngs], Any]) -> Any:
    """The network that `make` creates, with shapes and types instead of arrays.

    Weights that are made by `initial` are not drawn, since drawing would take most of the time.
    """

    def undrawn() -> Any:
        rngs: Any = nnx.Rngs(0)
        rngs.default = _Undrawn(rngs.default.key[...], tag="default")
        return make(rngs)

    return nnx.eval_shape(undrawn)


def initial(
    initializer: Callable[[PRNGKeyArray, tuple[int, ...]], Array],
    rngs: nnx.Rngs,
    shape: tuple[int, ...],
) -> Array:
    """An array drawn by an initializer of JAX, float32; zeros within `structure`."""
    if isinstance(rngs.params, _Undrawn):
        return jnp.zeros(shape)
    return initializer(rngs.params(), shape)
