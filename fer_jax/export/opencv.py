"""OpenCV's resizing and grey of 8-bit images, in JAX and to the last bit.

An exported model starts from the crops that OpenCV cut, and has to shrink and enlarge them as
OpenCV does when the model was trained and measured: one grey level alters a probability by about
1e-3. tests/export/test_opencv.py compares both.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32, Int, Int32, UInt8

_BITS = 11  # of the weights of a bilinear resize
_NEGLIGIBLE = 1e-3  # of a pixel: OpenCV leaves out what covers less


def resize(images: UInt8[Array, "n h h 3"], side: int) -> UInt8[Array, "n s s 3"]:
    """Resizes as `fer_jax.data.sources.resize`: by area when shrinking, else bilinearly."""
    if images.shape[1] == side:
        return images
    return by_area(images, side) if images.shape[1] > side else bilinear(images, side)


def by_area(images: UInt8[Array, "n h h 3"], side: int) -> UInt8[Array, "n s s 3"]:
    """Shrinks as `cv2.resize(..., interpolation=cv2.INTER_AREA)`.

    OpenCV sums in float32 in another order. Where the weights have sums that end in exactly one
    half (a crop of 160 pixels to 48, but not one of 80), a pixel in 500 may be one level off.
    """
    length = images.shape[1]
    weights = jnp.asarray(_area_weights(length, side))
    rows = jnp.einsum(
        "yh,nhwc->nywc", weights, images.astype(jnp.float32), precision=jax.lax.Precision.HIGHEST
    )
    pixels = jnp.einsum("xw,nywc->nyxc", weights, rows, precision=jax.lax.Precision.HIGHEST)
    # At exactly half the size OpenCV rounds halves up, else to even.
    rounded = jnp.floor(pixels + 0.5) if length == 2 * side else jnp.round(pixels)
    return jnp.clip(rounded, 0, 255).astype(jnp.uint8)


def bilinear(images: UInt8[Array, "n h h 3"], side: int) -> UInt8[Array, "n s s 3"]:
    """Resizes as `cv2.resize(..., interpolation=cv2.INTER_LINEAR)`, in its fixed-point numbers."""
    length = images.shape[1]
    place = ((np.arange(side) + 0.5) * (length / side) - 0.5).astype(np.float32)
    first = np.floor(place).astype(int)
    share = place - first.astype(np.float32)
    # Beyond the border, one pixel has all of the weight along x, and along y two halves of it:
    # their products are truncated separately.
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
    """Luma as `cv2.cvtColor(..., cv2.COLOR_RGB2GRAY)`, 0..255."""
    red, green, blue = (images[..., channel].astype(jnp.int32) for channel in range(3))
    return _shifted(red * 9798 + green * 19235 + blue * 3735 + (1 << 14), 15)


def _shifted(numbers: Int32[Array, "*_"], bits: int) -> Int32[Array, "*_"]:
    """`numbers >> bits` of numbers from 0; ONNX shifts no signed integers."""
    return jax.lax.div(numbers, jnp.int32(1 << bits))


def _fixed_point(
    share: Float32[np.ndarray, " s"],
) -> tuple[Int[np.ndarray, " s"], Int[np.ndarray, " s"]]:
    """The weights of both pixels, in 1 / 2048."""
    one = np.float32(1 << _BITS)
    return np.rint((1 - share) * one).astype(np.int32), np.rint(share * one).astype(np.int32)


def _area_weights(length: int, side: int) -> Float32[np.ndarray, "s h"]:
    """The part that each of `length` pixels has in each of `side` larger ones."""
    scale = length / side
    weights = np.zeros((side, length), np.float32)
    for row in range(side):
        start = row * scale
        end = min(start + scale, length)
        whole, last = int(np.ceil(start)), int(np.floor(end))
        weights[row, whole:last] = 1
        if whole - start > _NEGLIGIBLE:
            weights[row, whole - 1] = whole - start
        if end - last > _NEGLIGIBLE:
            weights[row, last] = end - last
        weights[row] /= np.float32(end - start)
    return weights
