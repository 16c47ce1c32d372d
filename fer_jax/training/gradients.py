"""Histograms of oriented gradients, which describe fine lines such as wrinkles."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

SIDE = 64  # pixels; side of the faces
CELLS, BINS = 8, 9  # cells along each side, and orientations
WIDTH = (CELLS - 1) ** 2 * 4 * BINS  # values per face


def descriptors(crops: UInt8[np.ndarray, "n s s 3"]) -> Float32[np.ndarray, "n f"]:
    """Histograms of oriented gradients (Dalal and Triggs 2005, doi:10.1109/CVPR.2005.177).

    The RGB crops are converted to grey and resized to 64 × 64 pixels. There are 9 unsigned
    orientations in each of 8 × 8 cells of 8 × 8 pixels. Overlapping blocks of 2 × 2 cells are
    normalised and clipped to 0.2, twice, and normalised again (L2-Hys clips once); f is 1764.
    """
    out = np.empty((len(crops), WIDTH), np.float32)
    for number, crop in enumerate(crops):
        grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
        grey = cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        out[number] = _oriented_gradients(grey.astype(np.float32))
    return out


def _oriented_gradients(grey: Float32[np.ndarray, "h w"]) -> Float32[np.ndarray, " f"]:
    across, down = np.zeros_like(grey), np.zeros_like(grey)
    across[:, 1:-1] = grey[:, 2:] - grey[:, :-2]
    down[1:-1] = grey[2:] - grey[:-2]
    strength = np.hypot(across, down)
    angle = np.degrees(np.arctan2(down, across)) % 180.0
    place = np.minimum((angle / (180.0 / BINS)).astype(int), BINS - 1)
    cell = np.arange(SIDE) // (SIDE // CELLS)
    index = (cell[:, None] * CELLS + cell[None]) * BINS + place
    counts = np.bincount(index.ravel(), strength.ravel(), CELLS * CELLS * BINS)
    cells = counts.reshape(CELLS, CELLS, BINS)
    corners = [cells[:-1, :-1], cells[:-1, 1:], cells[1:, :-1], cells[1:, 1:]]
    blocks = np.concatenate(corners, axis=-1)
    for _ in range(2):
        norm = np.sqrt((blocks**2).sum(axis=-1, keepdims=True) + 1e-10)
        blocks = np.minimum(blocks / norm, 0.2)
    return (blocks / np.sqrt((blocks**2).sum(-1, keepdims=True) + 1e-10)).ravel().astype(np.float32)
