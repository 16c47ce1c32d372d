"""The image pyramid of P-Net: its levels, and how they are computed from an image.

Two implementations compute the same levels. On the host, OpenCV draws all levels of an image onto
one plane, which P-Net sees in tiles of one size. For accelerators, each image is placed on a
slightly larger canvas, and its levels are computed on the device, with the size of the image as
data, not as a shape. So images of many sizes need a single compiled program on the host, and on
accelerators one for each combination of canvas size and batch size.
"""

from __future__ import annotations

import functools
import itertools
import math
from typing import NamedTuple

import cv2
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt8

CELL = 12  # side of the receptive field of a cell of P-Net, pixels
STRIDE = 2  # pixels from cell to cell
# Side of the part of a mosaic that P-Net sees at once, pixels. All levels of an image of 320 × 240
# for faces of 40 pixels fit into one such tile. The costs of P-Net are nearly proportional to the
# pixels that it sees, and hardly any common size of images costs more than with larger tiles.
TILE = 144
_TILE_STEP = TILE - 10  # pixels from tile to tile, so that each cell is computed once
_HALVED_FROM = 40  # pixels: smallest face for which the image may be halved first


class Taps(NamedTuple):
    """An area resize along one axis: out[i] = Σₖ weight[k, i] · in[source[k, i]]."""

    source: Int[Array | np.ndarray, "k n"]
    weight: Float[Array | np.ndarray, "k n"]


class Level(NamedTuple):
    """A level of an image: the taps along y and x, and its size in pixels.

    The size does not include the padding of the canvas.
    """

    rows: Taps
    columns: Taps
    height: Int[Array, ""]
    width: Int[Array, ""]


class Cells(NamedTuple):
    """Cells of P-Net: the position of each, and the scale and the number of its level."""

    x: Int[np.ndarray, " n"]  # left edge in the level, pixels
    y: Int[np.ndarray, " n"]
    scale: Float[np.ndarray, " n"]  # level pixels per image pixel
    level: Int[np.ndarray, " n"]


class Mosaic(NamedTuple):
    """The positions of the levels of an image on one plane, and the cells of P-Net on it.

    Attributes:
        shape: height and width of the plane in pixels.
        places: top, left, height and width of each level in pixels.
        tiles: top and left of the tiles that contain cells.
        inside: for each tile, which outputs of P-Net's first convolution are within a level.
        cells: the cells within a level, level by level.
        positions: the positions of the cells in P-Net's flattened outputs for the tiles.
    """

    shape: tuple[int, int]
    places: list[tuple[int, int, int, int]]
    tiles: list[tuple[int, int]]
    inside: list[Bool[np.ndarray, "ih iw"]]
    cells: Cells
    positions: Int[np.ndarray, " n"]


def halvings(min_face: int) -> int:
    """How many times an image is halved before its pyramid is computed.

    The levels of a pyramid for faces of 40 pixels are at most 0.3 times as large as the image, so
    they can be computed from the image at half its size, in a quarter of the time.
    """
    return max(0, int(math.log2(min_face / _HALVED_FROM) + 1))


def canvas_size(length: int) -> int:
    """The smallest canvas size for `length` pixels, but at least `CELL`.

    There are up to 32 sizes per octave. A `length` of `CELL` or more grows by at most 1/32.
    """
    length = max(length, CELL)
    step = max(1, 2 ** (length.bit_length() - 6))
    return -(-length // step) * step


def scales(height: int, width: int, min_face: int | float, factor: float) -> list[float]:
    """The scales of the levels; the first scales faces of `min_face` pixels to 12 pixels.

    Each scale is `factor` times the previous one, and each level is at least as large as a cell.
    (In mtcnn 1.0.0 the number of levels does not depend on `min_face`, so that larger values lead
    to levels that are too small. mtcnn suppresses the resulting error, and finds no faces.)
    """
    found = []
    scale = CELL / min_face
    while _scaled(min(height, width), scale) >= CELL:
        found.append(scale)
        scale *= factor
    return found


@functools.lru_cache(maxsize=256)
def levels(height: int, width: int, min_face: int | float, factor: float) -> list[Level]:
    """The levels of an image of `height` × `width` pixels, one per level of its canvas.

    Levels that exist only for the canvas have size 0.
    """
    canvas = canvas_size(height), canvas_size(width)
    found = []
    for scale in scales(*canvas, min_face, factor):
        size = _scaled(height, scale), _scaled(width, scale)
        size = size if min(size) >= CELL else (0, 0)
        rows = _area_taps(height, size[0], canvas[0], scale)
        columns = _area_taps(width, size[1], canvas[1], scale)
        found.append(Level(rows, columns, *jnp.asarray(size)))
    return found


@functools.lru_cache(maxsize=64)
def cells(canvas_height: int, canvas_width: int, min_face: int | float, factor: float) -> Cells:
    """The cells of all levels of a canvas, in the order of P-Net's concatenated outputs."""
    parts = []
    for level, scale in enumerate(scales(canvas_height, canvas_width, min_face, factor)):
        rows = -(-(_scaled(canvas_height, scale) - 2) // STRIDE) - 4
        columns = -(-(_scaled(canvas_width, scale) - 2) // STRIDE) - 4
        y, x = np.mgrid[:rows, :columns].reshape(2, -1) * STRIDE
        parts.append(Cells(x, y, np.full(x.size, scale), np.full(x.size, level)))
    return Cells(*(np.concatenate(column) for column in zip(*parts, strict=True)))


@functools.lru_cache(maxsize=64)
def mosaic(height: int, width: int, min_face: int | float, factor: float) -> Mosaic | None:
    """The mosaic of an image; None if the image is too small to have any level.

    Several widths of the plane are tried, and the one that needs the fewest tiles is used.
    """
    factors = scales(height, width, min_face, factor)
    if not factors:
        return None
    sizes = [(_scaled(height, scale), _scaled(width, scale)) for scale in factors]
    counts = range(_tiles(sizes[0][1]), _tiles(2 * sizes[0][1]) + 1)  # tiles side by side
    packed = [(count, *_pack(sizes, count * _TILE_STEP + 10)) for count in counts]
    count, places, below = min(packed, key=lambda one: one[0] * _tiles(one[2]))
    shape = _tiles(below) * _TILE_STEP + 10, count * _TILE_STEP + 10
    inside = np.zeros(shape, bool)
    parts, rows, columns = [], [], []
    for number, (top, left, level_height, level_width) in enumerate(places):
        inside[top : top + level_height - 2, left : left + level_width - 2] = True
        y, x = np.mgrid[: (level_height - 1) // 2 - 4, : (level_width - 1) // 2 - 4].reshape(2, -1)
        scale = np.full(x.size, factors[number])
        parts.append(Cells(STRIDE * x, STRIDE * y, scale, np.full(x.size, number)))
        rows.append(top // STRIDE + y)
        columns.append(left // STRIDE + x)
    cells = Cells(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    side = _TILE_STEP // STRIDE  # cells along each side of a tile
    row, y = np.divmod(np.concatenate(rows), side)
    column, x = np.divmod(np.concatenate(columns), side)
    used, tile = np.unique(row * count + column, return_inverse=True)
    tiles = [(int(n) // count * _TILE_STEP, int(n) % count * _TILE_STEP) for n in used]
    masks = [inside[top : top + TILE - 2, left : left + TILE - 2] for top, left in tiles]
    return Mosaic(shape, places, tiles, masks, cells, (tile * side + y) * side + x)


def _tiles(length: int) -> int:
    """The number of tiles that cover `length` pixels of a mosaic."""
    return max(1, -(-(length - 10) // _TILE_STEP))


def _pack(sizes: list[tuple[int, int]], width: int) -> tuple[list[tuple[int, int, int, int]], int]:
    """Places rectangles of decreasing size on a plane of `width` pixels, each as high as possible.

    Of places at the same height, the leftmost is used (bottom-left packing, Baker et al. 1980).
    Only tops at 0 or at the bottom of an earlier rectangle, and lefts at 0 or at the right of one,
    are tried.

    Returns:
        Top, left, height and width of each rectangle, and the height that they cover.
    """
    taken: list[tuple[int, int, int, int]] = []  # top, left, bottom and right
    for size in sizes:
        # Even positions, since P-Net pools pairs of rows and columns.
        high, wide = (length + length % 2 for length in size)
        tops = sorted({0, *(bottom for _, _, bottom, _ in taken)})
        lefts = sorted({0, *(right for *_, right in taken)})
        taken.append(
            next(
                (top, left, top + high, left + wide)
                for top, left in itertools.product(tops, lefts)
                if left + wide <= width
                and not any(
                    top < other[2] and other[0] < top + high
                    and left < other[3] and other[1] < left + wide
                    for other in taken
                )
            )
        )  # fmt: skip
    places = [(top, left, *size) for (top, left, *_), size in zip(taken, sizes, strict=True)]
    return places, max(bottom for _, _, bottom, _ in taken)


def draw(image: UInt8[np.ndarray, "h w 3"], layout: Mosaic) -> Float[np.ndarray, "ph pw 3"]:
    """Draws all levels of an image onto one plane; values are 0 to 255, and 127.5 between levels.

    Each pixel of a level is the mean of the area that it covers.
    """
    plane = np.full((*layout.shape, 3), 127.5, np.float32)
    source = image.astype(np.float32)  # OpenCV would round the means of bytes
    for top, left, height, width in layout.places:
        level = cv2.resize(source, (width, height), interpolation=cv2.INTER_AREA)
        plane[top : top + height, left : left + width] = level
    return plane


def shrink(image: Float[Array, "h w 3"], level: Level) -> Float[Array, "lh lw 3"]:
    """One level of an image; each pixel is the mean of the area that it covers."""
    by_row = [image[i] * w[:, None, None] for i, w in zip(*level.rows, strict=True)]
    shrunk = functools.reduce(jnp.add, by_row)
    by_column = [shrunk[:, i] * w[None, :, None] for i, w in zip(*level.columns, strict=True)]
    return functools.reduce(jnp.add, by_column)


def on_canvas(image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "ch cw 3"]:
    """The image in the top left corner of its canvas; the image itself if it fits exactly."""
    height, width = image.shape[:2]
    shape = canvas_size(height), canvas_size(width), 3
    if shape == image.shape:
        return np.ascontiguousarray(image)
    canvas = np.zeros(shape, np.uint8)
    canvas[:height, :width] = image
    return canvas


def _scaled(length: int, scale: float) -> int:
    """The length of a level in pixels; the small term makes 20 · (12 / 20) equal to 12."""
    return int(length * scale + 1e-9)


def _area_taps(length: int, shrunk: int, canvas: int, scale: float) -> Taps:
    """Taps from `length` to `shrunk` pixels, padded with zeros to the size of the canvas's level.

    The number of taps depends only on the canvas and the scale, since a level loses less than one
    pixel to rounding and the image is hardly smaller than its canvas.
    """
    count = math.floor(1 / (scale - 1 / (0.96 * canvas))) + 2
    source = np.zeros((count, _scaled(canvas, scale)), np.int32)
    weight = np.zeros((count, _scaled(canvas, scale)), np.float32)
    if shrunk:
        # In float32, like TensorFlow's ResizeArea. Exact arithmetic would change scores by 2e-4,
        # which is enough to change the order of near ties between candidates.
        ratio = np.float32(length) / np.float32(shrunk)
        first = np.arange(shrunk, dtype=np.float32) * ratio
        last = np.arange(1, shrunk + 1, dtype=np.float32) * ratio
        taps = np.floor(first) + np.arange(count, dtype=np.float32)[:, None]
        covered = np.minimum(last, taps + 1) - np.maximum(first, taps)
        source[:, :shrunk] = np.minimum(taps, length - 1)
        weight[:, :shrunk] = np.clip(covered, 0, None) / ratio
    return Taps(source, weight)
