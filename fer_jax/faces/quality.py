"""Quality measures of a face crop, and a hash for finding near-duplicates."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float, UInt8

# Protrusion of the tip of the nose, in units of the distance between the eyes. The value is typical
# of adults; yaw is accurate to about ten degrees.
_NOSE_PROTRUSION = 0.55

_HASH_INPUT, _HASH_SIDE = 32, 8


def sharpness(crop: UInt8[np.ndarray, "h w 3"]) -> float:
    """Variance of the Laplacian of the luma, in grey levels squared; low means blurred.

    The measure is from Pech-Pacheco et al. 2000, "Diatom autofocusing in brightfield microscopy".
    """
    return float(cv2.Laplacian(_luma(crop), cv2.CV_64F).var())


def brightness(crop: UInt8[np.ndarray, "h w 3"]) -> float:
    """Mean luma, 0 (black) to 255 (white)."""
    return float(_luma(crop).mean())


def yaw(landmarks: Float[np.ndarray, "5 2"]) -> float:
    """The yaw of the head in degrees, estimated from the five landmarks (x, y).

    0 is frontal; the value is positive for a face that is turned to the viewer's right, and 90 if
    both eyes are at the same point. The estimate is based on the distance of the nose from the
    midline of eyes and mouth, measured along the line of the eyes, so that roll does not matter.
    """
    left, right, nose, mouth_left, mouth_right = np.asarray(landmarks, np.float64)
    eyes, mouth = (left + right) / 2, (mouth_left + mouth_right) / 2
    across = right - left
    distance = np.hypot(*across)
    if distance == 0:
        return 90.0  # both eyes at one point: a full profile
    across /= distance
    down = np.array([-across[1], across[0]])
    length = (mouth - eyes) @ down
    part = (nose - eyes) @ down / length if length else 0.5
    offset = (nose - eyes) @ across - part * ((mouth - eyes) @ across)
    return float(np.degrees(np.arctan(offset / distance / _NOSE_PROTRUSION)))


def perceptual_hash(crop: UInt8[np.ndarray, "h w 3"]) -> int:
    """A 64-bit hash that hardly changes with lighting, noise and compression.

    The luma is reduced to 32 × 32 pixels and cosine-transformed. Each bit says whether one of the
    8 × 8 coefficients of lowest frequency is above the median of all but the first, which is
    proportional to the mean luma (Zauner 2010, "Implementation and benchmarking of perceptual image
    hash functions"). Compare hashes with `hash_distance`.
    """
    small = cv2.resize(_luma(crop), (_HASH_INPUT, _HASH_INPUT), interpolation=cv2.INTER_AREA)
    low = cv2.dct(small.astype(np.float32))[:_HASH_SIDE, :_HASH_SIDE].ravel()
    bits = low > np.median(low[1:])  # the first is the mean, far larger than the rest
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def hash_distance(a: int, b: int) -> int:
    """The number of bits, 0 to 64, in which two hashes differ."""
    return (int(a) ^ int(b)).bit_count()


def _luma(crop: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w"]:
    return cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
