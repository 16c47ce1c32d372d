"""Classification of emotions, from labelled photographs."""

from __future__ import annotations

from typing import Annotated, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, Num, PRNGKeyArray
from pydantic import Field
from pydantic.dataclasses import dataclass

from fer_jax.errors import UserError
from fer_jax.models.heads import ClassifierHead
from fer_jax.schemas.fields import STRICT, Items, NotNegative, ShareBelowOne, UniqueNames
from fer_jax.tasks.augment import MODERATE, Augmentation
from fer_jax.tasks.task import accuracy, cross_entropy


class Mixed(NamedTuple):
    """The labels of blended images: `labels` with weight `share`, `others` with 1 - `share`."""

    labels: Int[Array, " b"]
    others: Int[Array, " b"]
    share: Float[Array, " b"]


@dataclass(frozen=True, config=STRICT)
class Emotion:
    """Classification of faces, with one class per emotion.

    Attributes:
        classes: names of the emotions, in the order of the logits.
        augment: strengths of the augmentation.
        label_smoothing: the share of the probability that is divided equally among all classes.
        mixup: each training image and its label are blended with those of another example of the
            batch, with weights drawn from Beta(mixup, mixup), the larger for the image itself
            (Zhang et al. 2018); 0 for none. Unlabelled images (label -1) are not blended.
        class_weights: factors for the loss of each class, in the order of `classes`; empty for
            none.
    """

    classes: Annotated[UniqueNames, Field(min_length=2)] = ("angry", "happy", "neutral", "sad")
    augment: Augmentation = MODERATE
    label_smoothing: ShareBelowOne = 0.0
    mixup: NotNegative = 0.0
    class_weights: Items[NotNegative] = ()

    labels_needed: ClassVar[bool] = True

    def head(self, features: int, *, rngs: nnx.Rngs) -> nnx.Module:
        # Checked only here, since the classes follow from the photographs, not from the config.
        if self.class_weights and len(self.class_weights) != len(self.classes):
            raise UserError(
                f"task emotion: there are {len(self.class_weights)} class_weights for "
                f"{len(self.classes)} classes; give one for each of {', '.join(self.classes)}"
            )
        return ClassifierHead(features, len(self.classes), rngs=rngs)

    def prepare(
        self,
        key: PRNGKeyArray,
        images: Num[Array, "b h w 3"],
        labels: Int[Array, " b"],
        *,
        train: bool,
    ) -> tuple[Num[Array, "b h w 3"], Int[Array, " b"] | Mixed]:
        if not train:
            return self.augment.evaluation(images), labels
        inputs = self.augment(key, images)
        if not self.mixup:
            return inputs, labels
        draw = jax.random.beta(jax.random.fold_in(key, 1), self.mixup, self.mixup, labels.shape)
        share = jnp.maximum(draw, 1 - draw)  # so that `labels` has the larger weight
        share = jnp.where((labels >= 0) & (labels[::-1] >= 0), share, 1)
        blend = share[:, None, None, None]
        return inputs * blend + inputs[::-1] * (1 - blend), Mixed(labels, labels[::-1], share)

    def loss(
        self,
        outputs: Float[Array, "b classes"],
        targets: Int[Array, " b"] | Mixed,
        mask: Bool[Array, " b"],
    ) -> Float[Array, " b"]:
        if isinstance(targets, Mixed):
            first = self.loss(outputs, targets.labels, mask)
            second = self.loss(outputs, targets.others, mask)
            return targets.share * first + (1 - targets.share) * second
        loss = cross_entropy(outputs, targets, self.label_smoothing)
        if not self.class_weights:
            return loss
        return loss * jnp.asarray(self.class_weights, loss.dtype)[targets]

    def metrics(
        self,
        outputs: Float[Array, "b classes"],
        targets: Int[Array, " b"] | Mixed,
        mask: Bool[Array, " b"],
    ) -> dict[str, Float[Array, " b"]]:
        labels = targets.labels if isinstance(targets, Mixed) else targets
        return {"accuracy": accuracy(outputs, labels)}


TASK = Emotion
