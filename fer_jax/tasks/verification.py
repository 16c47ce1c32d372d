"""Telling crops of faces from crops of anything else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from flax import nnx
from jaxtyping import Array, Float, Int, Num, PRNGKeyArray

from fer_jax.models.heads import ClassifierHead
from fer_jax.tasks.augment import MODERATE, Augment
from fer_jax.tasks.task import accuracy, cross_entropy


@dataclass(frozen=True)
class Verification:
    """Two classes: 0 is "nonface", 1 is "face".

    Fields:
        augment: strengths of the augmentation.
        label_smoothing: see `cross_entropy`.
    """

    augment: Augment = MODERATE
    label_smoothing: float = 0.0

    classes: ClassVar[tuple[str, ...]] = ("nonface", "face")
    labels_needed: ClassVar[bool] = True

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

    def loss(self, outputs: Float[Array, "b 2"], targets: Int[Array, " b"]) -> Float[Array, " b"]:
        return cross_entropy(outputs, targets, self.label_smoothing)

    def metrics(
        self, outputs: Float[Array, "b 2"], targets: Int[Array, " b"]
    ) -> dict[str, Float[Array, " b"]]:
        return {"accuracy": accuracy(outputs, targets)}


TASK = Verification
