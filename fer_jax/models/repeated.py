"""Blocks of one shape in a row, as one block with stacked arrays: compiled once, not `count` times.

In a state their arrays lie as "block17/stacked_blocks/projection/kernel" [20, 1, 1, 384, 1088].
Where names are for people or for files, they are "block17/0/projection/kernel" [1, 1, 384, 1088]
and so on (see `fer_jax.training.state.flatten`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

STACKED = "stacked_blocks"  # under this name, and under no other, arrays of all blocks lie


class Repeated(nnx.Module):
    """`count` blocks, one after the other; each array of theirs has an axis [count] before its own.

    As rounds of a loop they compile in half the time; laid out one by one they may run faster
    (docs/results.md). A single block is no loop.

    Args:
        stacked_blocks: a block with the arrays of all, called as `block(x, train=train, **own)`.
        own: what a block is given of its own: `count` values by name.
        count: how many; none passes its input on.
        looped: whether they are rounds of a loop.
        remat: keep only the input of each block for the backward pass and compute the rest again.
    """

    def __init__(
        self,
        stacked_blocks: nnx.Module | None,
        own: Mapping[str, tuple[Any, ...]],
        count: int,
        *,
        looped: bool,
        remat: bool,
    ) -> None:
        self.own = tuple(own.items())
        self.count = count
        self.looped = looped and count > 1
        self.remat = remat
        self.stacked_blocks = stacked_blocks

    def __call__(self, x: Float[Array, "n h w c"], *, train: bool) -> Float[Array, "n h w c"]:
        if not self.count:
            return x
        parts: tuple[Any, ...] = nnx.split(self.stacked_blocks, nnx.Param, nnx.BatchStat)
        graphdef, parameters, statistics = parts

        def one(x: Array, row: Any) -> tuple[Array, Any]:
            own, parameters, statistics = row
            block: Any = nnx.merge(graphdef, parameters, statistics)
            x = block(x, train=train, **own)
            return x, nnx.state(block, nnx.BatchStat) if train else None

        body = jax.checkpoint(one) if self.remat else one
        rows = (self._own(x), parameters, statistics)
        if self.looped:
            x, new = jax.lax.scan(body, x, rows)
        else:
            x, new = _laid_out(body, x, rows, self.count)
        if train:
            nnx.update(self.stacked_blocks, new)
        return x

    def block(self, number: int) -> Callable[..., Float[Array, "n h w c"]]:
        """The block `number`, from 0, alone, in inference."""
        graphdef, state = nnx.split(self.stacked_blocks)

        def alone(x: Float[Array, "n h w c"], *, train: bool = False) -> Float[Array, "n h w c"]:
            own, one = jax.tree.map(lambda leaf: leaf[number], (self._own(x), state))
            block: Any = nnx.merge(graphdef, one)
            return block(x, train=train, **own)

        return alone

    def _own(self, x: Array) -> dict[str, Array]:
        """Numbers in the type of `x`, so that they do not change it."""
        values = {name: jnp.asarray(value) for name, value in self.own}
        return {
            name: value if value.dtype == bool else value.astype(x.dtype)
            for name, value in values.items()
        }


def _laid_out(body: Callable[..., Any], x: Array, rows: Any, count: int) -> tuple[Array, Any]:
    """What `jax.lax.scan` gives, without a loop; gradients of the rows are put together once."""
    parts = jax.tree.map(lambda leaf: [p[0] for p in jax.lax.split(leaf, (1,) * count)], rows)
    # From a tree of lists to a list of trees.
    each = jax.tree.transpose(jax.tree.structure(rows), jax.tree.structure([0] * count), parts)
    outputs = []
    for row in each:
        x, new = body(x, row)
        outputs.append(new)
    return x, jax.tree.map(lambda *leaves: jnp.stack(leaves), *outputs)
