"""A stand-in for the camera that OpenCV opens."""

from __future__ import annotations

from typing import ClassVar

import numpy as np


class FakeCapture:
    """A stand-in for cv2.VideoCapture; the blue channel of each frame is its number, from 1."""

    opens, count = True, 1000
    made: ClassVar[list[FakeCapture]] = []

    def __init__(self, number: int) -> None:
        self.number, self.grabbed, self.released = number, 0, False
        FakeCapture.made.append(self)

    def isOpened(self) -> bool:  # noqa: N802
        return self.opens

    def set(self, *_: object) -> None: ...

    def grab(self) -> bool:
        self.grabbed += 1
        return self.grabbed <= self.count

    def retrieve(self) -> tuple[bool, np.ndarray]:
        image = np.zeros((4, 6, 3), np.uint8)
        image[..., 0] = self.grabbed  # blue
        return True, image

    def release(self) -> None:
        self.released = True
