"""Scalar fields from which pictures are painted: steps, bumps, ridges and noise."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Float32

Colour = tuple[float, float, float]
Real = float | int


def smoothstep(low: Real, high: Real, value: np.ndarray) -> np.ndarray:
    """A Hermite step of `value`: 0 at `low`, 1 at `high`, and constant outside.

    `low` may be greater than `high`.
    """
    t = np.clip((value - low) / (high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def bump(
    x: np.ndarray, y: np.ndarray, centre: tuple[Real, Real], width: tuple[Real, Real]
) -> np.ndarray:
    """A Gaussian of height 1 around `centre`: `exp(-(dx/wx)^2 - (dy/wy)^2)`."""
    return np.exp(-(((x - centre[0]) / width[0]) ** 2) - ((y - centre[1]) / width[1]) ** 2)


def ridge(distance: np.ndarray, width: Real | np.ndarray, *, flat: bool = False) -> np.ndarray:
    """1 on the curve where `distance` is 0, falling off over `width` on both sides.

    A `flat` ridge stays near 1 within the width and falls off faster at its edges.
    """
    squared = np.square(distance / width)
    return np.exp(-np.square(squared) if flat else -squared)


def fractal_noise(
    rng: np.random.Generator,
    shape: tuple[int, int],
    scales: Sequence[int] = (4, 8, 16, 32),
    exponent: float = 0.6,
) -> Float32[np.ndarray, "h w"]:
    """Smooth noise with standard deviation 1: a weighted sum of noise with cells of several sizes.

    `scales` are the sizes in pixels, and the weight of each is `scale**exponent`.
    """
    height, width = shape
    total = np.zeros(shape, np.float32)
    for scale in scales:
        cells = (height // scale + 2, width // scale + 2)
        octave = rng.standard_normal(cells, dtype=np.float32)
        total += (
            cv2.resize(octave, (width, height), interpolation=cv2.INTER_CUBIC) * scale**exponent
        )
    return total / (total.std() + np.float32(1e-6))


def linear(colour: Sequence[float]) -> Float32[np.ndarray, " 3"]:
    """Converts a display colour 0..1 to linear light with gamma 2; the camera inverts this."""
    return np.square(np.asarray(colour, np.float32))
