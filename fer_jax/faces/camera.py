"""A live camera as a source of frames, and a window that shows them."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, ClassVar

import cv2
import numpy as np
from jaxtyping import UInt8

from fer_jax.errors import UserError
from fer_jax.faces.video import Frame

_TITLE = "fer_jax (q ends)"
_MISSES = 30  # attempts in a row without a picture, after which a camera counts as failed


@dataclass(frozen=True, eq=False)
class Camera:
    """A camera of this machine, read by OpenCV; a source for `fer_jax.reading.Reader`.

    Each frame shows what the camera sees when the frame is read, so a slow reader skips frames.

    Args:
        number: the number of the camera in OpenCV; 0 for the first one.
        every_s: the minimum time in seconds between two frames.
    """

    number: int
    every_s: float = 0.0
    prefix: ClassVar[str] = ""
    moving: ClassVar[bool] = True
    _ended: threading.Event = field(init=False, default_factory=threading.Event)

    @property
    def name(self) -> str:
        """The name of the source, such as "camera-0"."""
        return f"camera-{self.number}"

    def end(self) -> None:
        """Ends `frames` before the next frame."""
        self._ended.set()

    def expected(self) -> None:
        """Returns None, since the number of frames is unknown."""
        return

    def frames(self) -> Iterator[Frame]:
        """Yields frames until `end` is called or the camera fails, as when it is unplugged.

        The time of the first frame is 0. The camera counts as failed after 30 attempts in a row
        without a picture.

        Raises:
            UserError: there is no such camera, another program uses it, or it delivers no picture.
        """
        capture = cv2.VideoCapture(self.number)
        try:
            if not capture.isOpened():
                raise UserError(
                    f"camera {self.number} cannot be opened; check that it is connected and that "
                    "no other program uses it, or choose another number with --config.camera"
                )
            capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # a larger buffer would delay frames
            yield from self._frames(capture)
        finally:
            capture.release()

    def _frames(self, capture: Any) -> Iterator[Frame]:
        started, index, due, misses = None, -1, 0.0, 0
        while not self._ended.is_set() and misses < _MISSES:
            grabbed, index, now = capture.grab(), index + 1, time.monotonic()
            if not grabbed:
                misses += 1
                continue
            if now < due:
                continue
            taken, image = capture.retrieve()
            if not taken:
                misses += 1
                continue
            misses, due = 0, now + self.every_s
            started = now if started is None else started
            yield Frame(index, now - started, cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
        if started is None and not self._ended.is_set():
            raise UserError(f"camera {self.number} delivers no picture; check its driver")


class Window:
    """A window that shows pictures during a block `with Window(camera) as window:`.

    Pressing q, Escape or Ctrl-C, or closing the window, ends the frames of the camera. A second
    Ctrl-C interrupts the program as usual.

    Raises:
        UserError: there is no display, or OpenCV cannot open a window.
    """

    def __init__(self, camera: Camera) -> None:
        self._camera = camera
        if sys.platform.startswith("linux") and not (
            os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
        ):
            raise UserError(
                "the camera's pictures are shown in a window, but there is no display (DISPLAY "
                "and WAYLAND_DISPLAY are not set); run this in a graphical session"
            )

    def __enter__(self) -> Window:
        try:
            cv2.namedWindow(_TITLE, cv2.WINDOW_NORMAL)
        except cv2.error as error:
            raise UserError(
                f"OpenCV cannot open a window ({error.err}); run this in a graphical session, "
                "with opencv-python instead of opencv-python-headless"
            ) from error
        self._handler = signal.signal(signal.SIGINT, self._interrupt)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._handler)
        cv2.destroyWindow(_TITLE)

    def show(self, image: UInt8[np.ndarray, "h w 3"]) -> None:
        """Shows an RGB picture, and handles pressed keys and the closing of the window."""
        cv2.imshow(_TITLE, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        key = cv2.waitKey(1) & 0xFF
        closed = cv2.getWindowProperty(_TITLE, cv2.WND_PROP_VISIBLE) < 1
        if key in (ord("q"), ord("Q"), 27) or closed:
            self._camera.end()

    def _interrupt(self, _number: int, _frame: FrameType | None) -> None:
        self._camera.end()
        signal.signal(signal.SIGINT, self._handler)
