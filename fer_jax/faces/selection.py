"""Selection of face crops in a video: which are kept, and why the others are removed."""

from __future__ import annotations

import numpy as np
import pandas as pd

from fer_jax.faces.quality import hash_distance
from fer_jax.schemas.faces import Limits

# The reasons for removal during extraction, in the order in which they are checked.
REASONS = ("small", "blurred", "dark", "bright", "turned", "duplicate", "thinned")


def sizes(faces: pd.DataFrame) -> np.ndarray:
    """The shorter side of each face's box in pixels, float64 [n]."""
    boxes = np.array(faces["box"].tolist(), np.float64).reshape(-1, 4)
    return (boxes[:, 2:] - boxes[:, :2]).min(1)


def reasons(faces: pd.DataFrame, limits: Limits) -> list[str]:
    """The reason for removing each face of a video, one of `REASONS`; "" for faces that are kept.

    If several reasons apply, the first of them in `REASONS` is returned.

    Args:
        faces: rows of a manifest, sorted by frame.
        limits: the requirements that a kept crop meets.
    """
    found = np.select(
        [
            sizes(faces) < limits.min_size,
            faces["sharpness"] < limits.min_sharpness,
            faces["brightness"] < limits.min_brightness,
            faces["brightness"] > limits.max_brightness,
            faces["yaw"].abs() > limits.max_yaw,
        ],
        REASONS[:5],
        "",
    ).astype(object)
    tracks = faces["track"].to_numpy()
    for track in np.unique(tracks):
        rows = np.flatnonzero((tracks == track) & (found == ""))
        hashes = [int(value) for value in faces["phash"].iloc[rows]]
        found[rows[_near(hashes, limits.min_hash_distance)]] = "duplicate"
        rows = rows[found[rows] == ""]
        if limits.per_track and len(rows) > limits.per_track:
            kept = np.linspace(0, len(rows) - 1, limits.per_track).round().astype(int)
            found[np.delete(rows, kept)] = "thinned"
    return found.tolist()


def _near(hashes: list[int], least: int) -> list[bool]:
    """Whether each hash differs in fewer than `least` bits from an earlier hash that is kept.

    A hash is kept if its own result is False.
    """
    kept: list[int] = []
    near = []
    for value in hashes:
        near.append(any(hash_distance(value, other) < least for other in kept))
        if not near[-1]:
            kept.append(value)
    return near
