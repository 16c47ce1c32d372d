"""Heads: from pooled features to the logits of one task."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray


class ClassifierHead(nnx.Module):
    """Dropout and one linear layer: features `[N, F]` to logits `[N, classes]`."""

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
    """Joins the features of a puzzle's tiles (Noroozi & Favaro 2016, fc6 to fc8).

    Features `[N * tiles, F]`, the tiles of one puzzle following each other, to logits
    `[N, classes]`: a shared linear layer for each tile, then two layers over all tiles together.
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
    """Dropout (Srivastava et al. 2014) with its key given at call time, so that no state is kept.

    Raises ValueError when training with a positive rate and no key.
    """
    if not train or rate == 0:
        return x
    if key is None:
        raise ValueError(f"dropout of {rate} wants a key when training")
    kept = jax.random.bernoulli(key, 1 - rate, x.shape)
    return jnp.where(kept, x / (1 - rate), 0)
