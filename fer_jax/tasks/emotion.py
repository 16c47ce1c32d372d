"""Telling emotions apart, from labelled photographs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Num, PRNGKeyArray

from fer_jax.data.augment import MODERATE, Augment
from fer_jax.errors import UserError
from fer_jax.models.heads import ClassifierHead
from fer_jax.tasks.task import accuracy, cross_entropy


@dataclass(frozen=True)
class Emotion:
    """One class for each emotion, numbered as in `classes`.

    Fields:
        classes: names of the emotions.
        augment: strengths of the augmentation.
        label_smoothing: see `cross_entropy`.
        class_weights: factor on the loss of each class's examples, in the order of `classes`; empty
            for none.
    """

    classes: tuple[str, ...] = ("angry", "happy", "neutral", "sad")
    augment: Augment = MODERATE
    label_smoothing: float = 0.0
    class_weights: tuple[float, ...] = ()

    labels_needed: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if len(self.classes) < 2 or len(set(self.classes)) < len(self.classes):
            raise UserError(
                f"task emotion: classes {self.classes} must be two or more, all different"
            )
        if self.class_weights and len(self.class_weights) != len(self.classes):
            raise UserError(
                f"task emotion: {len(self.class_weights)} class_weights "
                f"for {len(self.classes)} classes"
            )
        if not 0 <= self.label_smoothing < 1:
            raise UserError(
                f"task emotion: label_smoothing {self.label_smoothing} must be in 0..1, below 1"
            )

    def head(self, features: int, *, rngs: nnx.Rngs) -> nnx.Module:
        return ClassifierHead(features, len(self.classes), rngs=rngs)

    def prepare(
        self,
        key: PRNGKeyArray,
        images: Num[Array, "b h w 3"],
        labels: Int[Array, " b"],
        *,
        train: bool,
    ) -> tuple[Num[Array, "b h w 3"], Int[Array, " b"]]:
        inputs = self.augment(key, images) if train else self.augment.evaluation(images)
        return inputs, labels

    def loss(
        self, outputs: Float[Array, "b classes"], targets: Int[Array, " b"]
    ) -> Float[Array, " b"]:
        loss = cross_entropy(outputs, targets, self.label_smoothing)
        if not self.class_weights:
            return loss
        return loss * jnp.asarray(self.class_weights, loss.dtype)[targets]

    def metrics(
        self, outputs: Float[Array, "b classes"], targets: Int[Array, " b"]
    ) -> dict[str, Float[Array, " b"]]:
        return {"accuracy": accuracy(outputs, targets)}


TASK = Emotion
