"""Predicting the relative position of patches (Doersch, Gupta & Efros 2015, arXiv:1505.05192).

An image is cut into three by three tiles. The network sees the central tile and one of its eight
neighbours, and predicts which one.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Num, PRNGKeyArray
from pydantic import Field
from pydantic.dataclasses import dataclass

from fer_jax.models.heads import JigsawHead
from fer_jax.schemas.fields import STRICT, Probability, contradiction
from fer_jax.tasks.augment import Augment, Augmentation, random_grey
from fer_jax.tasks.jigsaw import cut, normalised
from fer_jax.tasks.task import by_content, classification_loss, classification_metrics

GRID, MIDDLE, NEIGHBOURS = 3, 4, 8
# Without mirroring, since the classes distinguish left and right.
SLIGHT = Augment(zoom=0.1, shift=0.05, brightness=0.2, contrast=0.2)


@dataclass(frozen=True, config=STRICT)
class RelativePatch:
    """Classification of pairs of tiles; the eight classes are positions relative to the centre.

    Attributes:
        gap: difference between the sides of a cell and of its tile in pixels, so that edges do not
            continue from tile to tile; the tile's position in its cell is random in training and
            central in evaluation.
        tile: side in pixels to which tiles are resized, for stems that need larger inputs; 0: no
            change.
        normalise_tiles: see `Jigsaw`.
        grey: see `Jigsaw`.
        augment: strengths of the augmentation of the image before it is cut.

    Inputs are `[2B, t, t, 3]`: the centre and the neighbour of an image are consecutive rows.
    """

    gap: Annotated[int, Field(ge=0, le=4096)] = 5
    tile: Annotated[int, Field(ge=0, le=4096)] = 0
    normalise_tiles: bool = True
    grey: Probability = 1.0
    augment: Augmentation = SLIGHT

    labels_needed: ClassVar[bool] = False
    classes: ClassVar[tuple[str, ...]] = (
        "above left", "above", "above right", "left", "right", "below left", "below", "below right",
    )  # fmt: skip

    loss = classification_loss
    metrics = classification_metrics

    def __post_init__(self) -> None:
        if self.augment.flip:
            raise contradiction(
                ("augment.flip", "must be 0, since classes distinguish left and right")
            )

    def head(self, features: int, *, rngs: nnx.Rngs) -> nnx.Module:
        return JigsawHead(features, 2, NEIGHBOURS, rngs=rngs)

    def prepare(
        self,
        key: PRNGKeyArray,
        images: Num[Array, "b s s 3"],
        labels: Int[Array, " b"],
        *,
        train: bool,
    ) -> tuple[Float[Array, "n t t 3"], Int[Array, " b"]]:
        augment_key, grey_key, cut_key, choice_key = jax.random.split(key, 4)
        if train:
            targets = jax.random.randint(choice_key, (len(images),), 0, NEIGHBOURS)
            images = self.augment(augment_key, images)
        else:
            targets = by_content(images, NEIGHBOURS)
            images = self.augment.evaluation(images)
        if train or self.grey == 1:
            images = random_grey(grey_key, images, self.grey)
        tiles = cut(images, GRID, self.gap, cut_key if train else None)
        place = targets + (targets >= MIDDLE)  # skips the centre
        neighbour = jnp.take_along_axis(tiles, place[:, None, None, None, None], axis=1)
        pairs = jnp.concatenate([tiles[:, MIDDLE : MIDDLE + 1], neighbour], axis=1)
        if self.normalise_tiles:
            pairs = normalised(pairs)
        pairs = pairs.reshape(-1, *pairs.shape[2:])
        if self.tile:
            pairs = jax.image.resize(pairs, (len(pairs), self.tile, self.tile, 3), "linear")
        return pairs, targets


TASK = RelativePatch
