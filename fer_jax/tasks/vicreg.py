"""Learning without negatives (VICReg: Bardes, Ponce & LeCun 2022, arXiv:2105.04906).

Two views of an image are to be projected to the same place. That not all images fall together is
seen to by two terms over the batch: each dimension is to vary, and no two are to vary together.
"""

from __future__ import annotations

from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, Num, PRNGKeyArray
from pydantic.dataclasses import dataclass

from fer_jax.schemas.fields import STRICT, NotNegative
from fer_jax.tasks.augment import Augmentation
from fer_jax.tasks.views import STRONG, VIEWS, ProjectionHead, Width, retrieved, two_views


@dataclass(frozen=True, config=STRICT)
class VICReg:
    """Inputs are `[2B, S, S, 3]`, the two views of an image following each other; no targets.

    Fields:
        invariance, variance, covariance: weights of the three terms (equation 6), 25, 25 and 1 in
            the paper, here divided by 25. As in the authors' code the distance is a mean over
            dimensions, and the variance term that of the two views' mean.
        hidden, dimensions: widths of the projection head, which is not kept. (The paper's has
            three layers of 8192 with batch normalisation, after a ResNet-50.)
        augment: strengths of the augmentation.

    The larger the batch, the better the two terms over it; `accumulate` parts it. Each example's
    loss is its own distance between views and the batch's two other terms, so that
    the mean is the loss of the paper.
    """

    invariance: NotNegative = 1.0
    variance: NotNegative = 1.0
    covariance: NotNegative = 0.04
    hidden: Width = 256
    dimensions: Width = 128
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
        views = outputs.astype(jnp.promote_types(outputs.dtype, jnp.float32))
        views = views.reshape(-1, VIEWS, views.shape[-1])
        apart = jnp.square(views[:, 0] - views[:, 1]).mean(-1)
        terms = jax.vmap(_variance_and_covariance, (1, None))(views, mask)
        variance, covariance = terms[0].mean(), terms[1].sum()
        loss = self.invariance * apart + self.variance * variance + self.covariance * covariance
        return jnp.repeat(loss, VIEWS)

    def metrics(
        self, outputs: Float[Array, "n d"], targets: tuple[()], mask: Bool[Array, " b"]
    ) -> dict[str, Float[Array, " n"]]:
        return {"accuracy": retrieved(outputs, mask)}


def _variance_and_covariance(
    outputs: Float[Array, "b d"], mask: Bool[Array, " b"]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Equations 1 and 3, over the real examples: how far deviations fall short of 1, and the
    squares of what lies beside the covariance matrix's diagonal, summed and divided by d."""
    real = mask.astype(outputs.dtype)[:, None]
    count = real.sum()
    centred = (outputs - (outputs * real).sum(0) / jnp.maximum(count, 1)) * real
    covariances = centred.T @ centred / jnp.maximum(count - 1, 1)
    deviations = jnp.sqrt(jnp.diag(covariances) + 1e-4)
    beside = covariances * (1 - jnp.eye(len(covariances), dtype=covariances.dtype))
    return jax.nn.relu(1 - deviations).mean(), jnp.square(beside).sum() / len(covariances)


TASK = VICReg
