"""Which face crops of a video are worth keeping, and why the others are not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from fer_jax.faces.quality import hash_distance

# Every reason that extraction gives, in the order in which they are looked for.
REASONS = ("small", "blurred", "dark", "bright", "turned", "duplicate", "thinned")


@dataclass(frozen=True)
class Limits:
    """What a crop must be to be kept; the defaults keep everything.

    Attributes:
        min_size: the shorter side of the face's box, pixels; below: "small".
        min_sharpness: see `quality.sharpness`; below: "blurred".
        min_brightness, max_brightness: mean luma in 0..255; outside: "dark", "bright".
        max_yaw: degrees to either side; beyond: "turned".
        min_hash_distance: bits, 0..64, in which a crop's hash must differ from those of all
            crops that were kept of its track; nearer: "duplicate".
        per_track: the most crops of a track, evenly spread over it; others: "thinned". 0 for all.
    """

    min_size: float = 0.0
    min_sharpness: float = 0.0
    min_brightness: float = 0.0
    max_brightness: float = 255.0
    max_yaw: float = 90.0
    min_hash_distance: int = 0
    per_track: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.min_brightness <= self.max_brightness:
            raise ValueError("min_brightness must lie between 0 and max_brightness")
        least = min(self.min_size, self.min_sharpness, self.max_yaw)
        if least < 0 or self.per_track < 0 or not 0 <= self.min_hash_distance <= 64:
            raise ValueError(f"no crop can be judged by {self}")


def sizes(faces: pd.DataFrame) -> np.ndarray:
    """The shorter side of each face's box, float [n], pixels."""
    boxes = np.array(faces["box"].tolist(), np.float64).reshape(-1, 4)
    return (boxes[:, 2:] - boxes[:, :2]).min(1)


def reasons(faces: pd.DataFrame, limits: Limits) -> list[str]:
    """Why each face of one video is not kept; "" for those that are.

    Args:
        faces: rows of a manifest in the order of their frames.
        limits: what is asked of them.
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
    """Which hashes differ in fewer than `least` bits from an earlier one that does not."""
    kept: list[int] = []
    near = []
    for value in hashes:
        near.append(any(hash_distance(value, other) < least for other in kept))
        if not near[-1]:
            kept.append(value)
    return near
