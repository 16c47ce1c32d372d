"""The appearance of a face as a vector, to distinguish the few people of one video."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from fer_jax.faces.alignment import align, crop_outline

_SIDE, _CELLS, _BINS = 64, 8, 8  # pixels, cells per side, orientations in 180 degrees
_ROWS = 5  # of 7 rows of blocks: the mouth, which moves most, is below them
_MOST = 0.2  # largest share of a block's length in one value; limits single strong edges
_FLAT = 1e-3  # added to the length of a block, which keeps blocks without contrast short
_SURROUNDINGS = 0.25  # margin around the face, in sides of the aligned face


def describe(
    image: UInt8[np.ndarray, "h w 3"], landmarks: Float[np.ndarray, "5 2"]
) -> Float[np.ndarray, " 1120"]:
    """The mean of the gradient histograms of the aligned face and of its mirror image.

    The method is that of Dalal and Triggs 2005, "Histograms of oriented gradients for human
    detection", with cells of 8 pixels and blocks of 2 x 2 cells, over the forehead, the eyes and
    the nose. The histograms are computed from the grey image, and depend little on lighting and
    size. The mirror image reduces the effect of a rotation of the head. Descriptions of several
    faces of a person may be averaged; compare them with `difference`.

    Args:
        image: uint8 [H, W, 3] RGB.
        landmarks: (x, y) in pixels, as in `Faces.landmarks`.

    Returns:
        float32 [1120].

    Raises:
        ValueError: all landmarks are at the same point.
    """
    face = align(*_surroundings(image, landmarks), _SIDE, 0.0)
    grey = cv2.cvtColor(face, cv2.COLOR_RGB2GRAY).astype(np.float32)
    across = cv2.Sobel(grey, cv2.CV_32F, 1, 0, ksize=1)
    down = cv2.Sobel(grey, cv2.CV_32F, 0, 1, ksize=1)
    strength, angle = cv2.cartToPolar(across, down)
    # Each gradient counts in the two nearest orientations.
    place = angle * (_BINS / np.pi)
    lower = np.floor(place)
    upper_share = place - lower
    index = lower.astype(np.int64) % _BINS
    cells = np.zeros(_CELLS * _CELLS * _BINS)
    for number, share in ((index, 1 - upper_share), ((index + 1) % _BINS, upper_share)):
        flat = (_CELL_OF_PIXEL + number).ravel()
        cells += np.bincount(flat, (strength * share).ravel(), len(cells))
    histograms = cells.reshape(_CELLS, _CELLS, _BINS)
    mirrored = histograms[:, ::-1, -np.arange(_BINS)]
    return ((_blocks(histograms) + _blocks(mirrored)) / 2).astype(np.float32)


def difference(one: Float[np.ndarray, " n"], other: Float[np.ndarray, " n"]) -> float:
    """1 minus the cosine similarity of two descriptions, or of averages of descriptions.

    The result is between 0, for equal ones, and 1.
    """
    return 1 - float(one @ other / (np.linalg.norm(one) * np.linalg.norm(other) + 1e-9))


def _surroundings(
    image: UInt8[np.ndarray, "h w 3"], landmarks: Float[np.ndarray, "5 2"]
) -> tuple[UInt8[np.ndarray, "_ _ 3"], Float[np.ndarray, "5 2"]]:
    """The part of the image that `align` needs, and the landmarks relative to it.

    This saves time, since `align` may shrink the whole image that it is given.
    """
    corners = crop_outline(landmarks, _SURROUNDINGS)
    limits = np.array(image.shape[1::-1])
    x0, y0 = np.clip(np.floor(corners.min(0)), 0, limits - 1).astype(int)
    x1, y1 = np.clip(np.ceil(corners.max(0)), (x0 + 1, y0 + 1), limits).astype(int)
    return image[y0:y1, x0:x1], landmarks - (x0, y0)


def _blocks(cells: Float[np.ndarray, "c c b"]) -> Float[np.ndarray, " n"]:
    """The upper blocks of 2 x 2 cells, each normalised to length 1, clipped and renormalised."""
    blocks = np.concatenate(
        [cells[:-1, :-1], cells[:-1, 1:], cells[1:, :-1], cells[1:, 1:]], axis=-1
    )[:_ROWS]
    blocks = np.minimum(_unit(blocks), _MOST)
    return _unit(blocks).ravel()


def _unit(blocks: Float[np.ndarray, "r c n"]) -> Float[np.ndarray, "r c n"]:
    """Normalises each block to length 1; blocks with little contrast stay shorter."""
    return blocks / (np.linalg.norm(blocks, axis=-1, keepdims=True) + _FLAT)


_LINE = np.arange(_SIDE) // (_SIDE // _CELLS)
_CELL_OF_PIXEL = (_LINE[:, None] * _CELLS + _LINE) * _BINS
