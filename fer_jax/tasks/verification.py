"""Classification of crops as face or non-face."""

from __future__ import annotations

from typing import ClassVar

from flax import nnx
from jaxtyping import Array, Int, Num, PRNGKeyArray
from pydantic.dataclasses import dataclass

from fer_jax.models.heads import ClassifierHead
from fer_jax.schemas.fields import STRICT, ShareBelowOne, Text
from fer_jax.tasks.augment import MODERATE, Augmentation
from fer_jax.tasks.task import classification_loss, classification_metrics


@dataclass(frozen=True, config=STRICT)
class Verification:
    """Classification of crops into two classes: 0 is "nonface", 1 is "face".

    Attributes:
        augment: strengths of the augmentation.
        label_smoothing: the share of the probability that is divided equally among all classes.
        inputs_of: name of another task whose (augmented) inputs are used, so that there is one pass
            through the backbone for both; "": the task makes its own inputs.
    """

    augment: Augmentation = MODERATE
    label_smoothing: ShareBelowOne = 0.0
    inputs_of: Text = ""

    classes: ClassVar[tuple[str, ...]] = ("nonface", "face")
    labels_needed: ClassVar[bool] = True

    loss = classification_loss
    metrics = classification_metrics

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


TASK = Verification
