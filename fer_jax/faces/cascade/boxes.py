"""Operations on boxes of candidate faces: (x0, y0, x1, y1) in pixels, one box per row."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import numpy as np
from jaxtyping import Float, Int, Real

Boxes = Float[np.ndarray, "n 4"]
AnyBoxes: TypeAlias = Any  # float [..., 4] of NumPy or JAX

_BLOCK = 1024  # rows and columns of the overlap table that are computed at once


def suppress(
    boxes: Boxes,
    scores: Float[np.ndarray, " n"],
    threshold: float,
    over: Literal["union", "smaller"] = "union",
) -> Int[np.ndarray, " kept"]:
    """Non-maximum suppression in one pass, as in mtcnn 1.0.0; returns the rows to keep, best first.

    A box is suppressed if its intersection with any box of higher score exceeds `threshold` times
    the area of their union or, with `over="smaller"`, of the smaller box. In contrast to greedy
    suppression, this also holds if that other box is itself suppressed.
    """
    # For equal scores (easy faces saturate at 1) the later box comes first, as in mtcnn.
    order = np.argsort(scores, kind="stable")[::-1]
    boxes = boxes[order]
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    gone = np.zeros(len(boxes), bool)
    for start in range(0, len(boxes), _BLOCK):
        block = slice(start, start + _BLOCK)
        for first in range(0, start + 1, _BLOCK):
            above = slice(first, first + _BLOCK)
            shared = shared_area(boxes[above], boxes[block])
            base = (
                areas[above, None] + areas[block] - shared
                if over == "union"
                else np.minimum(areas[above, None], areas[block])
            )
            overlaps = shared > threshold * base
            gone[block] |= (np.triu(overlaps, 1) if first == start else overlaps).any(0)
    return order[~gone]


def suppress_in_groups(
    groups: Int[np.ndarray, " n"],
    boxes: Boxes,
    scores: Float[np.ndarray, " n"],
    threshold: float,
    over: Literal["union", "smaller"] = "union",
) -> Int[np.ndarray, " kept"]:
    """Applies `suppress` within each group, such as the boxes of an image or of a pyramid level.

    Returns the rows to keep: by ascending group, and best first within each group.
    """
    kept = [np.zeros(0, int)]
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        kept.append(rows[suppress(boxes[rows], scores[rows], threshold, over)])
    return np.concatenate(kept)


def regress(boxes: AnyBoxes, offsets: AnyBoxes) -> AnyBoxes:
    """Moves each edge of the boxes by its offset.

    Offsets are in units of the box's width or height, counting the pixels at both edges, hence + 1.
    """
    size = boxes[..., 2:] - boxes[..., :2] + 1
    return boxes + offsets * boxes.__array_namespace__().concat([size, size], axis=-1)


def to_square(boxes: AnyBoxes) -> AnyBoxes:
    """Squares with the centres of the boxes; the side of each is the longer side of its box."""
    size = boxes[..., 2:] - boxes[..., :2]
    longer = size.max(-1, keepdims=True)
    corner = boxes[..., :2] + size / 2 - longer / 2
    return boxes.__array_namespace__().concat([corner, corner + longer], axis=-1)


def intersection_over_union(a: Boxes, b: Float[np.ndarray, "m 4"]) -> Float[np.ndarray, "n m"]:
    """The IoU of each box of `a` with each box of `b`; 0 if both boxes are empty."""
    shared = shared_area(a, b)
    area_a, area_b = (np.prod(np.maximum(x[:, 2:] - x[:, :2], 0), axis=1) for x in (a, b))
    union = area_a[:, None] + area_b - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def shared_area(a: Real[np.ndarray, "n 4"], b: Real[np.ndarray, "m 4"]) -> Real[np.ndarray, "n m"]:
    """The area of the intersection of each box of `a` with each box of `b`."""
    width = np.minimum(a[:, None, 2], b[:, 2]) - np.maximum(a[:, None, 0], b[:, 0])
    height = np.minimum(a[:, None, 3], b[:, 3]) - np.maximum(a[:, None, 1], b[:, 1])
    return np.maximum(width, 0) * np.maximum(height, 0)
