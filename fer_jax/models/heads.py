"""Heads, which map pooled features to the logits of one task."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray


class ClassifierHead(nnx.Module):
    """Dropout and a linear layer, which map features `[N, F]` to logits `[N, classes]`."""

    def __init__(
        self, features: int, classes: int, *, dropout: float = 0.0, rngs: nnx.Rngs
    ) -> None:
        self.linear = nnx.Linear(features, classes, rngs=rngs)
        self.dropout = dropout

    def __call__(
        self, x: Float[Array, "n features"], *, train: bool, key: PRNGKeyArray | None = None
    ) -> Float[Array, "n classes"]:
        return self.linear(drop(x, self.dropout, train=train, key=key))


class JigsawHead(nnx.Module):
    """Classifies puzzles from the features of their tiles (Noroozi & Favaro 2016, fc6 to fc8).

    The input is features `[N * tiles, F]`, with the tiles of a puzzle in consecutive rows; the
    output is logits `[N, classes]`. A linear layer with `per_tile` outputs is applied to each tile,
    and two further layers, with `hidden` units between them, to the concatenated tiles.
    """

    def __init__(
        self,
        features: int,
        tiles: int,
        classes: int,
        *,
        per_tile: int = 128,
        hidden: int = 512,
        rngs: nnx.Rngs,
    ) -> None:
        self.tile = nnx.Linear(features, per_tile, rngs=rngs)
        self.joint = nnx.Linear(tiles * per_tile, hidden, rngs=rngs)
        self.linear = nnx.Linear(hidden, classes, rngs=rngs)
        self.tiles = tiles

    def __call__(
        self, x: Float[Array, "m features"], *, train: bool, key: PRNGKeyArray | None = None
    ) -> Float[Array, "n classes"]:
        each = jax.nn.relu(self.tile(x))
        together = each.reshape(len(x) // self.tiles, -1)
        return self.linear(jax.nn.relu(self.joint(together)))


def drop(
    x: Float[Array, "n features"], rate: float, *, train: bool, key: PRNGKeyArray | None
) -> Float[Array, "n features"]:
    """Dropout (Srivastava et al. 2014) without state: the key is passed in each call.

    Raises:
        ValueError: `train` is True and the rate is positive, but there is no key.
    """
    if not train or rate == 0:
        return x
    if key is None:
        raise ValueError(f"dropout with rate {rate} requires a key in training")
    kept = jax.random.bernoulli(key, 1 - rate, x.shape)
    return jnp.where(kept, x / (1 - rate), 0)
