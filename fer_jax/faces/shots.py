"""Detection of scene cuts: where one shot ends and another begins."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float, UInt8

_BINS = 8  # per colour channel
_THUMBNAIL = 64  # pixels; side length


class CutFinder:
    """Finds the frames that begin a new shot; expects frames in order.

    Colours usually change little within a shot, and much at a cut. A cut is detected between two
    successive frames if half the sum of the absolute differences of their 8×8×8 RGB histograms, a
    number from 0 to 1, is above `threshold`.
    """

    def __init__(self, threshold: float = 0.6) -> None:
        self._threshold = threshold
        self._last: Float[np.ndarray, "8 8 8"] | None = None

    def update(self, image: UInt8[np.ndarray, "h w 3"]) -> bool:
        """Whether this frame, uint8 [H, W, 3] RGB, begins a new shot; False for the first frame."""
        # Only every `step`-th row and column is used: averaging all pixels would take milliseconds.
        step = max(1, min(image.shape[:2]) // (4 * _THUMBNAIL))
        small = cv2.resize(
            image[::step, ::step], (_THUMBNAIL, _THUMBNAIL), interpolation=cv2.INTER_AREA
        )
        ranges = [0, 256] * 3
        counts = cv2.calcHist([small], [0, 1, 2], None, [_BINS] * 3, ranges) / _THUMBNAIL**2
        last, self._last = self._last, counts
        return last is not None and float(np.abs(counts - last).sum() / 2) > self._threshold
