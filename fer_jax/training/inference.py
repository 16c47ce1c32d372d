"""What is done at test time: several views of a face, averaged, and the temperature."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from scipy.special import softmax

CROPS = 5  # the whole face, and a crop towards each corner
_CROP = 0.9  # of the side
_LEAST = 1e-12  # a probability of 0 has no logarithm

Images = UInt8[np.ndarray, "n s s 3"]


def views(images: Images, count: int) -> list[Images]:
    """The images, and with `count` 5 also four crops of 90 % of the side, enlarged again.

    Raises:
        ValueError: `count` is neither 1 nor 5.
    """
    if count not in (1, CROPS):
        raise ValueError(f"{count} test crops are not offered; use 1 or {CROPS}")
    found = [images]
    if count == CROPS:
        side = images.shape[1]
        small = max(1, round(_CROP * side))
        for top in (0, side - small):
            for left in (0, side - small):
                part = images[:, top : top + small, left : left + small]
                found.append(
                    np.stack(
                        [cv2.resize(p, (side, side), interpolation=cv2.INTER_LINEAR) for p in part]
                    )
                    if len(part)
                    else images
                )
    return found


def mirrored(images: Images) -> Images:
    """The mirror images."""
    return np.ascontiguousarray(images[:, :, ::-1])


def mirrored_too(shown: Sequence[Images]) -> list[Images]:
    """The views, and then the mirror image of each."""
    return [*shown, *(mirrored(view) for view in shown)]


def averaged(
    probabilities: Callable[[Images], Float[np.ndarray, "n c"]], images: Images, count: int
) -> Float[np.ndarray, "n c"]:
    """Mean over the views of the class probabilities that a function gives for each view."""
    return np.mean([probabilities(view) for view in views(images, count)], axis=0)


def scale(
    probabilities: Float[np.ndarray, "N C"], temperature: float | Float[np.ndarray, " N"]
) -> Float[np.ndarray, "N C"]:
    """The probabilities at a temperature, one for all or one per row; NaN stays NaN."""
    logits = np.log(np.clip(probabilities, _LEAST, 1.0))
    return softmax(logits / np.reshape(temperature, (-1, 1)), axis=1)
