"""Contrastive learning of views (SimCLR: Chen et al. 2020, arXiv:2002.05709).

Each image is shown in two differently augmented views. Among all views in the batch (of all devices
and hosts), the network learns to find the other view of the same image.
"""

from __future__ import annotations

from typing import ClassVar

import jax
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, Num, PRNGKeyArray
from pydantic.dataclasses import dataclass

from fer_jax.schemas.fields import STRICT, Positive
from fer_jax.tasks.augment import Augmentation
from fer_jax.tasks.views import (
    STRONG,
    ProjectionHead,
    Width,
    partners,
    retrieved,
    similarities,
    two_views,
)


@dataclass(frozen=True, config=STRICT)
class SimCLR:
    """Contrastive learning of two views of each image.

    Inputs are `[2B, S, S, 3]`, with the two views of an image in consecutive rows; there are no
    targets.

    Attributes:
        temperature: divides the cosines; a lower value emphasises the hardest negatives.
        hidden: width of the hidden layer of the projection head, which is discarded after training.
        dimensions: width of the output of the projection head.
        augment: strengths of the augmentation.

    A larger batch has more negatives, so use the largest one that fits. `accumulate` splits the
    batch, and each part has only its own negatives.
    """

    temperature: Positive = 0.2
    hidden: Width = 256
    dimensions: Width = 64
    augment: Augmentation = STRONG

    labels_needed: ClassVar[bool] = False
    compares_examples: ClassVar[bool] = True

    def head(self, features: int, *, rngs: nnx.Rngs) -> nnx.Module:
        return ProjectionHead(features, self.hidden, self.dimensions, rngs=rngs)

    def prepare(
        self,
        key: PRNGKeyArray,
        images: Num[Array, "b h w 3"],
        labels: Int[Array, " b"],
        *,
        train: bool,
    ) -> tuple[Float[Array, "n h w 3"], tuple[()]]:
        return two_views(self.augment, key, images, train=train), ()

    def loss(
        self, outputs: Float[Array, "n d"], targets: tuple[()], mask: Bool[Array, " b"]
    ) -> Float[Array, " n"]:
        """NT-Xent (equation 1): cross entropy of finding the other view among all views."""
        log_shares = jax.nn.log_softmax(similarities(outputs, mask) / self.temperature)
        wanted = jax.nn.one_hot(partners(len(outputs)), len(outputs), dtype=log_shares.dtype)
        return -(wanted * log_shares).sum(-1)

    def metrics(
        self, outputs: Float[Array, "n d"], targets: tuple[()], mask: Bool[Array, " b"]
    ) -> dict[str, Float[Array, " n"]]:
        return {"accuracy": retrieved(outputs, mask)}


TASK = SimCLR
