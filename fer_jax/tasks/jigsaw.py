"""Solving jigsaw puzzles (Noroozi & Favaro 2016, arXiv:1603.09246).

An image is cut into grid x grid tiles, the tiles are shuffled by one permutation from a fixed set,
and the network predicts which one.
"""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Num, PRNGKeyArray
from pydantic import Field
from pydantic.dataclasses import dataclass

from fer_jax.errors import UserError
from fer_jax.models.heads import ClassifierHead, JigsawHead
from fer_jax.schemas.fields import STRICT, AnyCase, Probability, contradiction
from fer_jax.tasks.augment import FLIPPED, Augmentation, random_grey
from fer_jax.tasks.permutations import distant_permutations
from fer_jax.tasks.task import by_content, classification_loss, classification_metrics

# Normalised tiles have this mean and standard deviation, within the 0..255 that networks expect.
TILE_MEAN, TILE_DEVIATION = 127.5, 50.0


@dataclass(frozen=True, config=STRICT)
class Jigsaw:
    """Classification of puzzles, with one class per permutation of the tiles.

    Attributes:
        grid: number of tiles along each side.
        permutations: number of permutations to use, out of the factorial of grid * grid.
        mode: "tiles" passes each tile through the backbone separately (inputs
            `[B * tiles, t, t, 3]`, with the tiles of a puzzle in consecutive rows), and JigsawHead
            combines them; "image" assembles the shuffled tiles into an image
            (`[B, grid * t, grid * t, 3]`), which is faster and suits small images.
        gap: difference between the sides of a cell and of its tile in pixels, so that edges do not
            continue from tile to tile. The tile's position in its cell is random in training
            (jitter) and central in evaluation. The gap hides details of up to about a fifth of its
            width (docs/measurements.md).
        normalise_tiles: normalise each channel of every tile to the same mean and standard
            deviation, so that neither brightness nor tint reveals a tile's position.
        grey: share of puzzles shown in grey, since in colour the chromatic aberration of a lens can
            reveal a tile's position. With 1, evaluation is in grey too; below 1, it is in colour.
        augment: strengths of the augmentation of the image before it is cut.

    The tile side is t = S // grid - gap for images of S pixels.
    """

    grid: Annotated[int, Field(ge=2, le=16)] = 3
    permutations: Annotated[int, Field(ge=2, le=100_000)] = 100
    mode: Annotated[Literal["tiles", "image"], AnyCase] = "image"
    gap: Annotated[int, Field(ge=0, le=4096)] = 5
    normalise_tiles: bool = True
    grey: Probability = 1.0
    augment: Augmentation = FLIPPED

    labels_needed: ClassVar[bool] = False

    loss = classification_loss
    metrics = classification_metrics

    def __post_init__(self) -> None:
        if self.permutations > math.factorial(self.tiles):
            most = math.factorial(self.tiles)
            fault = f"must be at most {most}: {self.tiles} tiles have no more permutations"
            raise contradiction(("permutations", fault))

    @property
    def tiles(self) -> int:
        """The number of tiles in a puzzle."""
        return self.grid * self.grid

    def head(self, features: int, *, rngs: nnx.Rngs) -> nnx.Module:
        if self.mode == "tiles":
            return JigsawHead(features, self.tiles, self.permutations, rngs=rngs)
        return ClassifierHead(features, self.permutations, rngs=rngs)

    def prepare(
        self,
        key: PRNGKeyArray,
        images: Num[Array, "b s s 3"],
        labels: Int[Array, " b"],
        *,
        train: bool,
    ) -> tuple[Float[Array, "n t t 3"], Int[Array, " b"]]:
        augment_key, grey_key, cut_key, permutation_key = jax.random.split(key, 4)
        if train:
            targets = jax.random.randint(permutation_key, (len(images),), 0, self.permutations)
            images = self.augment(augment_key, images)
        else:
            targets = by_content(images, self.permutations)
            images = self.augment.evaluation(images)
        if train or self.grey == 1:
            images = random_grey(grey_key, images, self.grey)
        tiles = cut(images, self.grid, self.gap, cut_key if train else None)
        if self.normalise_tiles:
            tiles = normalised(tiles)
        chosen = jnp.asarray(distant_permutations(self.tiles, self.permutations), jnp.int32)
        tiles = shuffle(tiles, chosen[targets])
        if self.mode == "image":
            return assemble(tiles), targets
        return tiles.reshape(-1, *tiles.shape[2:]), targets

    def undo(
        self, inputs: Num[Array, "n t t 3"], answers: Int[Array, " b"]
    ) -> Num[Array, "b s s 3"]:
        """The images that result if each puzzle is solved as if `answers` were its permutation.

        `answers` are numbers of permutations; `inputs` are those that `prepare` returns in the
        task's mode.
        """
        if self.mode == "tiles":
            tiles = inputs.reshape(-1, self.tiles, *inputs.shape[1:])
        else:
            tiles = cut(inputs, self.grid, 0, None)
        chosen = jnp.asarray(distant_permutations(self.tiles, self.permutations), jnp.int32)
        return assemble(unshuffle(tiles, chosen[answers]))


TASK = Jigsaw


def cut(
    images: Num[Array, "b s s 3"], grid: int, gap: int, key: PRNGKeyArray | None
) -> Num[Array, "b tiles t t 3"]:
    """Square tiles, row by row, each `gap` pixels smaller than its cell.

    With a key the position of each tile in its cell is random, otherwise central. Pixels that do
    not fill a cell are cropped evenly from the borders of the image.

    Raises:
        UserError: the gap is at least as large as a cell.
    """
    batch, side = images.shape[:2]
    cell = side // grid
    if cell - gap < 1:
        raise UserError(
            f"a {grid}x{grid} puzzle of {side} pixels has cells of {cell} pixels, "
            f"too small for gap={gap}; use larger images, or a smaller grid or gap"
        )
    border = (side - grid * cell) // 2
    images = images[:, border : border + grid * cell, border : border + grid * cell]
    cells = images.reshape(batch, grid, cell, grid, cell, 3).transpose(0, 1, 3, 2, 4, 5)
    cells = cells.reshape(batch * grid * grid, cell, cell, 3)
    if key is None:
        tiles = cells[:, gap // 2 : gap // 2 + cell - gap, gap // 2 : gap // 2 + cell - gap]
    else:
        top, left = jax.random.randint(key, (2, len(cells)), 0, gap + 1)
        tiles = _windows(_windows(cells, top, cell - gap, axis=1), left, cell - gap, axis=2)
    return tiles.reshape(batch, grid * grid, cell - gap, cell - gap, 3)


def _windows(
    cells: Num[Array, "m h w 3"], start: Int[Array, " m"], length: int, axis: int
) -> Num[Array, "m h2 w2 3"]:
    """For each cell, the `length` pixels along `axis` that begin at its `start`.

    They are selected from all possible windows, without a gather.
    """
    windows = jax.lax.slice_in_dim(cells, 0, length, axis=axis)
    for offset in range(1, cells.shape[axis] - length + 1):
        shifted = jax.lax.slice_in_dim(cells, offset, offset + length, axis=axis)
        windows = jnp.where((start == offset)[:, None, None, None], shifted, windows)
    return windows


def normalised(tiles: Num[Array, "b tiles t t 3"]) -> Float[Array, "b tiles t t 3"]:
    """Normalises each channel of every tile to TILE_MEAN and TILE_DEVIATION.

    Normalising all channels together would preserve a tint, which may reveal the tile's position
    (docs/measurements.md). A uniform channel stays uniform.
    """
    tiles = tiles.astype(jnp.promote_types(tiles.dtype, jnp.float32))
    centred = tiles - tiles.mean((2, 3), keepdims=True)
    deviation = jnp.sqrt((centred * centred).mean((2, 3), keepdims=True))
    return TILE_MEAN + centred * (TILE_DEVIATION / jnp.maximum(deviation, 1.0))


def shuffle(
    tiles: Num[Array, "b tiles t t 3"], permutations: Int[Array, "b tiles"]
) -> Num[Array, "b tiles t t 3"]:
    """Puts tile `permutations[b, i]` at position i of puzzle b."""
    return jnp.take_along_axis(tiles, permutations[:, :, None, None, None], axis=1)


def unshuffle(
    tiles: Num[Array, "b tiles t t 3"], permutations: Int[Array, "b tiles"]
) -> Num[Array, "b tiles t t 3"]:
    """The inverse of `shuffle`."""
    return shuffle(tiles, jnp.argsort(permutations, axis=1))


def assemble(tiles: Num[Array, "b tiles t t 3"]) -> Num[Array, "b s s 3"]:
    """Assembles tiles, row by row, into square images."""
    batch, count, side = tiles.shape[:3]
    grid = round(count**0.5)
    rows = tiles.reshape(batch, grid, grid, side, side, 3).transpose(0, 1, 3, 2, 4, 5)
    return rows.reshape(batch, grid * side, grid * side, 3)
