"""Self-supervised learning without negatives (VICReg: Bardes et al. 2022, arXiv:2105.04906).

The projections of two views of an image are trained to be equal. Two terms over the batch prevent
collapse: they penalise dimensions that vary too little, and correlations between dimensions.
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
    """Learning of equal projections of two views of each image.

    Inputs are `[2B, S, S, 3]`, with the two views of an image in consecutive rows; there are no
    targets.

    Attributes:
        invariance: weight of the squared distance between views (equation 6). The weights of the
            three terms are 25, 25 and 1 in the paper, here divided by 25. As in the authors' code,
            the distance is averaged over dimensions, and the variance term over the two views.
        variance: weight of the variance term.
        covariance: weight of the covariance term.
        hidden: width of the hidden layer of the projection head, which is discarded after training.
            (In the paper, the head has three layers of 8192 units with batch normalisation, after a
            ResNet-50.)
        dimensions: width of the output of the projection head.
        augment: strengths of the augmentation.

    The two terms over the batch are more accurate in a larger batch; `accumulate` splits it. The
    loss of each example is the weighted sum of the distance between its views and the two terms, so
    that its mean over the batch is the whole loss.
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
    """The variance and covariance terms of the paper (equations 1 to 4), without padding: the mean
    amount by which standard deviations are below 1, and the sum of squares of the off-diagonal
    elements of the covariance matrix, divided by d."""
    real = mask.astype(outputs.dtype)[:, None]
    count = real.sum()
    centred = (outputs - (outputs * real).sum(0) / jnp.maximum(count, 1)) * real
    covariances = centred.T @ centred / jnp.maximum(count - 1, 1)
    deviations = jnp.sqrt(jnp.diag(covariances) + 1e-4)
    beside = covariances * (1 - jnp.eye(len(covariances), dtype=covariances.dtype))
    return jax.nn.relu(1 - deviations).mean(), jnp.square(beside).sum() / len(covariances)


TASK = VICReg
