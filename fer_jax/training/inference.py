"""Several views of a face at test time, and temperature scaling of probabilities."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from fer_jax.faces.images import resize

CROPS = 5  # the whole face, and a crop at each corner
_CROP = 0.9  # side of a corner crop, as a fraction of the image's side
MIN_PROBABILITY = 1e-12  # 0 has no logarithm

Images = UInt8[np.ndarray, "n s s 3"]


def views(images: Images, count: int) -> list[Images]:
    """The images, four crops of 90 % of the side if `count` is 5, and the mirror images of all.

    Crops are enlarged to the side of the images. The mirror images come after all crops.

    Raises:
        ValueError: `count` is neither 1 nor 5.
    """
    side = images.shape[1]
    found = [images]
    for top, left, small in corners(side, count):
        part = images[:, top : top + small, left : left + small]
        enlarged = [cv2.resize(p, (side, side), interpolation=cv2.INTER_LINEAR) for p in part]
        found.append(np.reshape(enlarged, images.shape).astype(np.uint8))
    return [*found, *(np.ascontiguousarray(view[:, :, ::-1]) for view in found)]


def corners(side: int, count: int) -> list[tuple[int, int, int]]:
    """The four corner crops of an image of `side` pixels, as (top, left, side); [] if `count` is 1.

    Raises:
        ValueError: `count` is neither 1 nor 5.
    """
    if count not in (1, CROPS):
        raise ValueError(f"{count} test crops are not supported; use 1 or {CROPS}")
    if count == 1:
        return []
    small = max(1, round(_CROP * side))
    return [(top, left, small) for top in (0, side - small) for left in (0, side - small)]


def zoomed(
    images: UInt8[np.ndarray, "n t t 3"], zoom: float, side: int
) -> UInt8[np.ndarray, "n s s 3"]:
    """The central part of the images, 1 / `zoom` of their side, resized to `side` pixels."""
    first, part = central(images.shape[1], zoom)
    shown = images[:, first : first + part, first : first + part]
    return np.stack([resize(one, side) for one in shown])


def central(side: int, zoom: float) -> tuple[int, int]:
    """The first pixel and the length of the central 1 / `zoom` of `side` pixels."""
    part = max(1, round(side / zoom))
    return (side - part) // 2, part


def scale(
    probabilities: Float[np.ndarray, "N C"], temperature: float | Float[np.ndarray, " N"]
) -> Float[np.ndarray, "N C"]:
    """The softmax of log(`probabilities`) / `temperature`, with one temperature or one per row.

    Values below `MIN_PROBABILITY` count as `MIN_PROBABILITY`. A row that contains NaN becomes NaN.
    """
    logits = np.log(np.clip(probabilities, MIN_PROBABILITY, 1.0))
    return softmax(logits / np.reshape(temperature, (-1, 1)))


def softmax(logits: Float[np.ndarray, "*n C"]) -> Float[np.ndarray, "*n C"]:
    """The softmax over the last axis, bit for bit that of `scipy.special`.

    Importing `scipy.special` takes 0.2 s, which would delay the first answer noticeably.
    """
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    shares: np.ndarray = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return shares
