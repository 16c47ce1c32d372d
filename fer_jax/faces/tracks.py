"""Tracks moving faces through successive frames, by the overlap of their boxes."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from fer_jax.faces.cascade.boxes import intersection_over_union

LONGEST_GAP_S = 1.5
_LONGEST_GAP_FRAMES = 2.5


def longest_gap(every_s: float) -> float:
    """The maximum time in seconds for which a tracked face may be missing.

    This is 1.5 seconds, or 2.5 times the interval between frames if that is longer.

    Args:
        every_s: seconds between the frames.
    """
    return max(LONGEST_GAP_S, _LONGEST_GAP_FRAMES * every_s)


class Tracker:
    """Numbers the faces of one video so that a moving face keeps its number.

    Frames are passed in order. A new box continues the track of a known box if their IoU is at
    least `least_overlap`; the pairs with the largest IoU are linked first. A face that is missing
    for more than `longest_gap_s` seconds is forgotten, and a later face at the same position gets a
    new number. Faces are also forgotten if the time goes backwards by more than `longest_gap_s`, as
    in joined recordings.
    """

    def __init__(self, *, least_overlap: float = 0.3, longest_gap_s: float = LONGEST_GAP_S) -> None:
        self._least_overlap = least_overlap
        self._longest_gap_s = longest_gap_s
        self._next = 0
        self._known: dict[int, tuple[float, Float[np.ndarray, " 4"]]] = {}

    def forget(self) -> None:
        """Forgets all known faces, as is necessary after a scene cut."""
        self._known = {}

    def update(self, time_s: float, boxes: Float[np.ndarray, "n 4"]) -> Int[np.ndarray, " n"]:
        """The track number of each box (x0, y0, x1, y1) of the frame at `time_s`."""
        self._known = {
            track: seen
            for track, seen in self._known.items()
            if abs(time_s - seen[0]) <= self._longest_gap_s
        }
        tracks = np.full(len(boxes), -1)
        names = list(self._known)
        if names and len(boxes):
            known = np.stack([self._known[name][1] for name in names])
            overlaps = intersection_over_union(known, boxes)
            while overlaps.max() >= self._least_overlap:
                old, new = np.unravel_index(overlaps.argmax(), overlaps.shape)
                tracks[new] = names[old]
                overlaps[old], overlaps[:, new] = -1, -1
        for new in np.flatnonzero(tracks < 0):
            tracks[new] = self._next
            self._next += 1
        self._known |= {int(t): (time_s, box) for t, box in zip(tracks, boxes, strict=True)}
        return tracks
