"""OpenCV's resizing and conversion to grey of 8-bit images, in JAX, bit for bit.

An exported model must resize crops exactly as OpenCV did when the model was trained and measured:
one grey level can change a probability by about 1e-3. tests/export/test_opencv.py compares both.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32, Int, Int32, UInt8

_BITS = 11  # fractional bits of the fixed-point weights of a bilinear resize
_NEGLIGIBLE = 1e-3  # of a pixel: OpenCV ignores smaller overlaps


def resize(images: UInt8[Array, "n h h 3"], side: int) -> UInt8[Array, "n s s 3"]:
    """Resizes like `fer_jax.faces.images.resize`: by area when shrinking, else bilinearly."""
    if images.shape[1] == side:
        return images
    return by_area(images, side) if images.shape[1] > side else bilinear(images, side)


def by_area(images: UInt8[Array, "n h h 3"], side: int) -> UInt8[Array, "n s s 3"]:
    """Shrinks like `cv2.resize(..., interpolation=cv2.INTER_AREA)`.

    Pixels are added one after the other in float32, as in OpenCV, since the last bit decides how a
    sum that ends in one half is rounded.
    """
    length = images.shape[1]
    pixels, weights = _area_weights(length, side)
    wide = images.astype(jnp.float32)
    columns, rows = jnp.float32(0), jnp.float32(0)
    for pixel, weight in zip(pixels, weights, strict=True):
        columns = columns + _product(wide[:, :, pixel], weight[:, None])
    for pixel, weight in zip(pixels, weights, strict=True):
        rows = rows + _product(columns[:, pixel], weight[:, None, None])
    # At exactly half the size OpenCV rounds halves up, else to even.
    rounded = jnp.floor(rows + 0.5) if length == 2 * side else jnp.round(rows)
    return jnp.clip(rounded, 0, 255).astype(jnp.uint8)


def bilinear(images: UInt8[Array, "n h h 3"], side: int) -> UInt8[Array, "n s s 3"]:
    """Resizes like `cv2.resize(..., interpolation=cv2.INTER_LINEAR)`, in fixed-point numbers."""
    length = images.shape[1]
    place = ((np.arange(side) + 0.5) * (length / side) - 0.5).astype(np.float32)
    first = np.floor(place).astype(int)
    share = place - first.astype(np.float32)
    # Beyond the border, the whole weight is on one pixel. Along x it is a single weight. Along y it
    # stays split into two, whose products are truncated separately.
    beyond = (first < 0) | (first >= length - 1)
    left, right = _fixed_point(np.where(beyond, np.float32(0), share))
    above, below = _fixed_point(share)
    near, far = (np.clip(first + step, 0, length - 1) for step in (0, 1))
    own = np.where(first >= length - 1, length - 1, near)

    wide = images.astype(jnp.int32)
    columns = wide[:, :, own] * left[:, None] + wide[:, :, far] * right[:, None]
    columns = _shifted(columns, 4)
    rows = _shifted(columns[:, near] * above[:, None, None], 16)
    rows = rows + _shifted(columns[:, far] * below[:, None, None], 16)
    return _shifted(rows + 2, 2).astype(jnp.uint8)


def grey(images: UInt8[Array, "n h w 3"]) -> Int32[Array, "n h w"]:
    """Luma like `cv2.cvtColor(..., cv2.COLOR_RGB2GRAY)`, 0..255."""
    red, green, blue = (images[..., channel].astype(jnp.int32) for channel in range(3))
    return _shifted(red * 9798 + green * 19235 + blue * 3735 + (1 << 14), 15)


def _shifted(numbers: Int32[Array, "*_"], bits: int) -> Int32[Array, "*_"]:
    """`numbers >> bits` for non-negative numbers; ONNX cannot shift signed integers."""
    return jax.lax.div(numbers, jnp.int32(1 << bits))


def _fixed_point(
    share: Float32[np.ndarray, " s"],
) -> tuple[Int[np.ndarray, " s"], Int[np.ndarray, " s"]]:
    """The weights 1 - `share` and `share` of two neighbouring pixels, in units of 1 / 2048."""
    one = np.float32(1 << _BITS)
    return np.rint((1 - share) * one).astype(np.int32), np.rint(share * one).astype(np.int32)


def _product(
    pixels: Float32[Array, "n h w 3"], weights: Float32[np.ndarray, "*_"]
) -> Float32[Array, "n h w 3"]:
    """The product of non-negative numbers, rounded to float32.

    `abs` changes no value, but prevents XLA from fusing the product with the following sum, which
    would round once instead of twice.
    """
    return jnp.abs(pixels * weights)


def _area_weights(
    length: int, side: int
) -> tuple[Int[np.ndarray, "k s"], Float32[np.ndarray, "k s"]]:
    """The pixels (of `length`) that each of the `side` output pixels covers, and their weights.

    For output pixels that cover fewer than k pixels, the columns are padded with weights of 0.
    """
    scale = length / side
    found: list[list[tuple[int, float]]] = []
    for row in range(side):
        start = row * scale
        end = min(start + scale, length)
        whole, last = int(np.ceil(start)), int(np.floor(end))
        parts = [(pixel, 1.0) for pixel in range(whole, last)]
        if whole - start > _NEGLIGIBLE:
            parts.insert(0, (whole - 1, whole - start))
        if end - last > _NEGLIGIBLE:
            parts.append((last, end - last))
        found.append([(pixel, part / (end - start)) for pixel, part in parts])
    pixels = np.zeros((max(map(len, found)), side), int)
    weights = np.zeros(pixels.shape, np.float32)
    for row, parts in enumerate(found):
        for place, (pixel, weight) in enumerate(parts):
            pixels[place, row], weights[place, row] = pixel, weight
    return pixels, weights
