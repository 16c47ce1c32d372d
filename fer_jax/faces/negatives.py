"""Regions without a face, whose crops are negative examples for the verifier."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from fer_jax.faces.alignment import TEMPLATE, crop_outline
from fer_jax.faces.cascade.boxes import shared_area

_TRIES = 30


def background_landmarks(
    rng: np.random.Generator,
    landmarks: Float[np.ndarray, "5 2"],
    taken: Float[np.ndarray, "n 4"],
    image_size: tuple[int, int],
    margin: float,
) -> Float[np.ndarray, "5 2"] | None:
    """The landmarks of a face, scaled, rotated and moved to a region without detections.

    A crop at these landmarks has borders and resampling blur like those of a crop of a face, so
    that a verifier can distinguish the two only by their content.

    Args:
        rng: the random number generator.
        landmarks: those of the face, (x, y) in pixels.
        taken: boxes (x0, y0, x1, y1) in pixels that the crop must not overlap.
        image_size: height and width in pixels; the landmarks stay inside.
        margin: the margin of the crop, as in `align`.

    Returns:
        (x, y) in pixels, or None if none of 30 random regions is free.
    """
    shape = landmarks - landmarks.mean(0)
    outline = crop_outline(shape, margin)
    limits = np.array(image_size[::-1]) - 1
    for _ in range(_TRIES):
        angle, scale = rng.uniform(-0.5, 0.5), np.exp(rng.uniform(np.log(0.35), np.log(1.3)))
        turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        turned = shape @ turn.T
        low, high = -turned.min(0), limits - turned.max(0)
        if (low > high).any():
            continue
        move = rng.uniform(low, high)
        if not touches(_bounds(outline @ turn.T + move), taken):
            return turned + move
    return None


def typical_landmarks(
    rng: np.random.Generator, image_size: tuple[int, int]
) -> Float[np.ndarray, "5 2"]:
    """The template's landmarks at a random size, in pixels.

    A crop without a margin at these landmarks has a side of 0.2 to 0.5 times the image's shorter
    side.
    """
    return TEMPLATE * min(image_size) * rng.uniform(0.2, 0.5)


def outline_box(landmarks: Float[np.ndarray, "5 2"], margin: float) -> Float[np.ndarray, " 4"]:
    """The bounding box (x0, y0, x1, y1), in pixels, of the crop by `align` with `margin`."""
    return _bounds(crop_outline(landmarks, margin))


def _bounds(corners: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, " 4"]:
    """The smallest box (x0, y0, x1, y1) that contains the points `corners`, (x, y)."""
    return np.concatenate([corners.min(0), corners.max(0)])


def touches(box: Float[np.ndarray, " 4"], others: Float[np.ndarray, "n 4"]) -> bool:
    """Whether `box` overlaps any box of `others`."""
    return bool((shared_area(box[None], others) > 0).any())
