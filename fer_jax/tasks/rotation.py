"""Predicting rotations (Gidaris, Singh & Komodakis 2018, arXiv:1803.07728).

An image is rotated by 0, 1, 2 or 3 quarter turns, and the network predicts by how many.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Int, Num, PRNGKeyArray
from pydantic.dataclasses import dataclass

from fer_jax.models.heads import ClassifierHead
from fer_jax.schemas.fields import STRICT
from fer_jax.tasks.augment import MODERATE, Augmentation
from fer_jax.tasks.task import classification_loss, classification_metrics

TURNS: Literal[4] = 4


@dataclass(frozen=True, config=STRICT)
class Rotation:
    """Four classes; class j is j quarter turns counter-clockwise (`jnp.rot90`).

    Attributes:
        views: 4 shows every image in all four rotations (inputs `[4 * B, S, S, 3]`), 1 in a random
            one (`[B, S, S, 3]`). Evaluation always shows all four.
        augment: strengths of the augmentation.

    Images must be square, and the order of operations matters. Mirroring comes first, since
    mirroring a rotated face would swap classes 1 and 3. Then the images are rotated, which only
    permutes pixels. Interpolation comes last, so that its artefacts are the same for all four
    classes; artefacts from before the rotation would be rotated too, and could reveal the
    class.
    """

    views: Literal[1, 4] = TURNS
    augment: Augmentation = MODERATE

    labels_needed: ClassVar[bool] = False

    loss = classification_loss
    metrics = classification_metrics

    def head(self, features: int, *, rngs: nnx.Rngs) -> nnx.Module:
        return ClassifierHead(features, TURNS, rngs=rngs)

    def prepare(
        self,
        key: PRNGKeyArray,
        images: Num[Array, "b s s 3"],
        labels: Int[Array, " b"],
        *,
        train: bool,
    ) -> tuple[Num[Array, "n s s 3"], Int[Array, " n"]]:
        if not train:
            inputs, targets = all_turns(images)
            return self.augment.evaluation(inputs), targets
        flip_key, turn_key, augment_key = jax.random.split(key, 3)
        images = self.augment.flipped(flip_key, images)
        if self.views == TURNS:
            inputs, targets = all_turns(images)
        else:
            targets = jax.random.randint(turn_key, (len(images),), 0, TURNS)
            inputs = turned(images, targets)
        return self.augment.unflipped(augment_key, inputs), targets

    def undo(
        self, inputs: Num[Array, "n s s 3"], answers: Int[Array, " n"]
    ) -> Num[Array, "n s s 3"]:
        """The images rotated back by `answers` quarter turns."""
        return turned(inputs, -answers % TURNS)


TASK = Rotation


def all_turns(
    images: Num[Array, "b s s 3"],
) -> tuple[Num[Array, "n s s 3"], Int[Array, " n"]]:
    """Every image in its four rotations, in consecutive rows, and the numbers of quarter turns."""
    views = jnp.stack([jnp.rot90(images, k, axes=(1, 2)) for k in range(TURNS)], axis=1)
    targets = jnp.tile(jnp.arange(TURNS), len(images))
    return views.reshape(-1, *images.shape[1:]), targets


def turned(images: Num[Array, "b s s 3"], turns: Int[Array, " b"]) -> Num[Array, "b s s 3"]:
    """Rotates image b by `turns[b]` quarter turns counter-clockwise."""
    for power in (1, 2):  # a quarter turn and a half turn, for the two bits of `turns`
        wanted = (turns & power) > 0
        rotated = jnp.rot90(images, power, axes=(1, 2))
        images = jnp.where(wanted[:, None, None, None], rotated, images)
    return images
