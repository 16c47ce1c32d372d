"""Crops candidate boxes from images of any sizes, with few compiled programs."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

_SMALLEST_ROOM = 2**21  # pixels: eight frames of 640 × 360 fit


class Pixels(NamedTuple):
    """The concatenated pixels of several images, and the start and size of each image."""

    values: UInt8[Array | np.ndarray, "p 3"]
    start: Int[np.ndarray, " images"]
    height: Int[np.ndarray, " images"]
    width: Int[np.ndarray, " images"]


def join_images(images: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> Pixels:
    """Concatenates images; the pixels are padded to a power of two to reuse compiled programs."""
    heights, widths = np.array([image.shape[:2] for image in images], np.int32).T
    ends = np.cumsum(heights.astype(np.int64) * widths)
    room = max(_SMALLEST_ROOM, 1 << int(ends[-1] - 1).bit_length())
    pixels = np.empty((room, 3), np.uint8)
    starts = np.concatenate([[0], ends[:-1]])
    for image, start, end in zip(images, starts, ends, strict=True):
        pixels[start:end] = image.reshape(-1, 3)
    # Not `jnp.asarray`, which compiles a program for each shape.
    return Pixels(jax.device_put(pixels), starts.astype(np.int32), heights, widths)


@functools.partial(jax.jit, static_argnames=("size", "stride"))
def cut(
    pixels: UInt8[Array, "p 3"],
    start: Int[Array | np.ndarray, " n"],
    height: Int[Array | np.ndarray, " n"],
    width: Int[Array | np.ndarray, " n"],
    boxes: Float[Array | np.ndarray, "n 4"],
    size: int,
    stride: int | None = None,
) -> Float[Array, "n size size 3"]:
    """Cuts `boxes` (x0, y0, x1, y1 in pixels) out of images, with bilinear interpolation.

    Pixel values v become (v - 127.5) / 128; positions outside the image become 0. Sample positions
    are those of `tf.image.crop_and_resize` for boxes divided by the image's size, as in mtcnn
    1.0.0.

    Args:
        pixels: the pixels of all images, one after the other, as in `Pixels.values`.
        start: the position in `pixels` of the image of each box.
        height: the height of that image in pixels.
        width: its width.
        boxes: the boxes to cut out.
        size: side of a patch in pixels.
        stride: the distance in `pixels` between the starts of two rows of an image, if images are
            padded; None: the image's width.
    """
    y = _samples(boxes[:, 1], boxes[:, 3], height, size)
    x = _samples(boxes[:, 0], boxes[:, 2], width, size)
    last_y, last_x = (height - 1)[:, None], (width - 1)[:, None]
    inside = ((y >= 0) & (y <= last_y))[:, :, None] & ((x >= 0) & (x <= last_x))[:, None]
    y, x = jnp.clip(y, 0, last_y), jnp.clip(x, 0, last_x)
    y0, x0 = jnp.floor(y).astype(jnp.int32), jnp.floor(x).astype(jnp.int32)
    y1, x1 = jnp.minimum(y0 + 1, last_y), jnp.minimum(x0 + 1, last_x)
    part_y, part_x = (y - y0)[:, :, None, None], (x - x0)[:, None, :, None]

    def at(rows: Array, columns: Array) -> Array:
        row_starts = start[:, None] + rows * (width[:, None] if stride is None else stride)
        return pixels[row_starts[:, :, None] + columns[:, None, :]].astype(jnp.float32)

    top = at(y0, x0) * (1 - part_x) + at(y0, x1) * part_x
    bottom = at(y1, x0) * (1 - part_x) + at(y1, x1) * part_x
    normal = (top * (1 - part_y) + bottom * part_y - 127.5) / 128
    return jnp.where(inside[..., None], normal, 0.0)


def _samples(
    first: Float[Array | np.ndarray, " n"],
    last: Float[Array | np.ndarray, " n"],
    length: Int[Array | np.ndarray, " n"],
    size: int,
) -> Float[Array, "n size"]:
    """`size` evenly spaced sample positions along each box, from edge to edge, in pixels."""
    steps = jnp.arange(size) / (size - 1)
    start, extent = jnp.asarray(first / length), jnp.asarray((last - first) / length)
    return (start[:, None] + steps * extent[:, None]) * (length - 1)[:, None]
