"""The image pyramid of P-Net: its levels, and how they are computed from an image.

Each image is placed on a slightly larger canvas, so that images of many sizes need few compiled
programs. The size of the image in its canvas is passed as data, not as a shape.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

CELL = 12  # side of the receptive field of a cell of P-Net, pixels
STRIDE = 2  # pixels from cell to cell


class Taps(NamedTuple):
    """An area resize along one axis: out[i] = Σₖ weight[k, i] · in[source[k, i]]."""

    source: Int[Array | np.ndarray, "k n"]
    weight: Float[Array | np.ndarray, "k n"]


class Level(NamedTuple):
    """A level of an image: the taps along y and x, and its size in pixels without the canvas."""

    rows: Taps
    columns: Taps
    height: Int[Array, ""]
    width: Int[Array, ""]


class Cells(NamedTuple):
    """All cells of all levels of a canvas, in the order of P-Net's concatenated outputs."""

    x: Int[np.ndarray, " n"]  # left edge in the level, pixels
    y: Int[np.ndarray, " n"]
    scale: Float[np.ndarray, " n"]  # level pixels per image pixel
    level: Int[np.ndarray, " n"]


def canvas_size(length: int) -> int:
    """The smallest canvas size for `length` pixels: one of 32 per octave, at most 3 % larger."""
    length = max(length, CELL)
    step = max(1, 2 ** (length.bit_length() - 6))
    return -(-length // step) * step


def scales(height: int, width: int, min_face: int, factor: float) -> list[float]:
    """The scales of the levels; the first scales faces of `min_face` pixels to 12 pixels.

    The last level is at least as large as a cell. (In mtcnn 1.0.0 the number of levels does not
    depend on `min_face`, so that larger values lead to levels that are too small; the error is
    suppressed, and all faces of the image are lost.)
    """
    found = []
    scale = CELL / min_face
    while _scaled(min(height, width), scale) >= CELL:
        found.append(scale)
        scale *= factor
    return found


@functools.lru_cache(maxsize=256)
def levels(height: int, width: int, min_face: int, factor: float) -> list[Level]:
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
def cells(canvas_height: int, canvas_width: int, min_face: int, factor: float) -> Cells:
    """The positions of P-Net's outputs for a canvas."""
    parts = []
    for level, scale in enumerate(scales(canvas_height, canvas_width, min_face, factor)):
        rows = -(-(_scaled(canvas_height, scale) - 2) // STRIDE) - 4
        columns = -(-(_scaled(canvas_width, scale) - 2) // STRIDE) - 4
        y, x = np.mgrid[:rows, :columns].reshape(2, -1) * STRIDE
        parts.append(Cells(x, y, np.full(x.size, scale), np.full(x.size, level)))
    return Cells(*(np.concatenate(column) for column in zip(*parts, strict=True)))


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
    """Taps from `length` to `shrunk` pixels, padded with zero weights to the level of the canvas.

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
