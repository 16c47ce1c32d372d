"""Two views of each image, and functions for tasks that compare views."""

from __future__ import annotations

from typing import Annotated

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Num, PRNGKeyArray
from pydantic import Field

from fer_jax.tasks.augment import Augment

VIEWS = 2
Width = Annotated[int, Field(ge=1, le=65_536)]  # number of units of a layer
# Views with the same colour, contrast and position could be matched by these alone (Chen et al.
# 2020, section 3.1). Rotation and zoom are small, since crops are aligned faces.
STRONG = Augment(
    flip=0.5,
    zoom=0.25,
    shift=0.12,
    turn=12.0,
    brightness=0.4,
    contrast=0.4,
    saturation=0.4,
    grey=0.2,
    erase=0.5,
)
# The same key for all evaluations, so that they are reproducible.
_EVALUATION_KEY = 0


class ProjectionHead(nnx.Module):
    """Two layers from features to the space in which views are compared: `[N, F]` to `[N, D]`.

    The invariance that the loss enforces is learned in these layers, so that the features retain
    more information (Chen et al. 2020, arXiv:2002.05709, section 4.2).
    """

    def __init__(self, features: int, hidden: int, outputs: int, *, rngs: nnx.Rngs) -> None:
        self.hidden = nnx.Linear(features, hidden, rngs=rngs)
        self.linear = nnx.Linear(hidden, outputs, rngs=rngs)

    def __call__(
        self, x: Float[Array, "n features"], *, train: bool, key: PRNGKeyArray | None = None
    ) -> Float[Array, "n outputs"]:
        return self.linear(jax.nn.relu(self.hidden(x)))


def two_views(
    augment: Augment, key: PRNGKeyArray, images: Num[Array, "b h w 3"], *, train: bool
) -> Float[Array, "n h w 3"]:
    """Two differently augmented views of each image; those of image b are rows 2b and 2b + 1.

    In evaluation, the images are augmented too, always with the same key.
    """
    if not train:
        key = jax.random.key(_EVALUATION_KEY)
    return augment(key, jnp.repeat(images, VIEWS, axis=0))


def retrieved(outputs: Float[Array, "n d"], mask: Bool[Array, " b"]) -> Float[Array, " n"]:
    """1 if the view with the largest cosine is the other view of the image, else 0.

    Views of padding, for which `mask` is False, are not candidates.
    """
    return (similarities(outputs, mask).argmax(-1) == partners(len(outputs))).astype(jnp.float32)


def similarities(outputs: Float[Array, "n d"], mask: Bool[Array, " b"]) -> Float[Array, "n n"]:
    """Cosines between views; a large negative value for a view with itself and with padding."""
    outputs = outputs.astype(jnp.promote_types(outputs.dtype, jnp.float32))
    squares = jnp.sum(outputs * outputs, axis=-1, keepdims=True)
    directions = outputs * jax.lax.rsqrt(squares + 1e-12)
    allowed = jnp.repeat(mask, VIEWS)[None, :] & ~jnp.eye(len(outputs), dtype=bool)
    return jnp.where(allowed, directions @ directions.T, _EXCLUDED)


def partners(views: int) -> Array:
    """For each of `views` rows, the row of the other view of its image."""
    return jnp.arange(views) ^ 1


_EXCLUDED = -1e9
