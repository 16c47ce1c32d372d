"""Looking at a face more than once: its mirror image, and crops of it."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import UInt8

_CROP = 0.9  # of the side
CROPS = 5  # the whole, and four crops towards the corners


def crops(images: UInt8[np.ndarray, "n s s 3"], count: int) -> list[UInt8[np.ndarray, "n s s 3"]]:
    """The images, and with `count` 5 also four crops of 90 % of the side, enlarged again.

    Raises:
        ValueError: `count` is neither 1 nor 5.
    """
    if count not in (1, CROPS):
        raise ValueError(f"{count} crops are not offered; 1 or {CROPS} are")
    views = [images]
    if count == CROPS:
        side = images.shape[1]
        small = max(1, round(_CROP * side))
        for top in (0, side - small):
            for left in (0, side - small):
                part = images[:, top : top + small, left : left + small]
                views.append(
                    np.stack(
                        [cv2.resize(p, (side, side), interpolation=cv2.INTER_LINEAR) for p in part]
                    )
                    if len(part)
                    else images
                )
    return views


def mirrored_too(
    views: list[UInt8[np.ndarray, "n s s 3"]],
) -> list[UInt8[np.ndarray, "n s s 3"]]:
    """The views, and the mirror image of each."""
    return [*views, *(np.ascontiguousarray(view[:, :, ::-1]) for view in views)]
