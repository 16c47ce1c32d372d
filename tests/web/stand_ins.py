"""A recogniser without networks, and an application that uses it."""

from __future__ import annotations

import threading

import numpy as np

from fer_jax.faces.mtcnn import Faces
from fer_jax.recogniser import Analysis, Recogniser
from fer_jax.web.app import Limits, make_app

LABELS = ("angry", "happy", "neutral", "sad")
_POINTS = np.array([[[0.3, 0.3], [0.7, 0.3], [0.5, 0.6], [0.3, 0.8], [0.7, 0.8]]], np.float32)
ADDRESS = "http://127.0.0.1:8765"


class Brightness(Recogniser):
    """Finds one face in every picture that is not black; brighter pictures are happier.

    Attributes:
        go_on: while it is cleared, the recogniser waits before it answers.
        calls: the number of pictures that it was given.
    """

    def __init__(self) -> None:
        self.labels, self.reference, self.where = LABELS, "", "a stand-in"
        self.go_on = threading.Event()
        self.go_on.set()
        self.calls = 0

    def __call__(self, pictures):
        self.calls += len(pictures)
        assert self.go_on.wait(30)
        return [self._answer(picture) for picture in pictures]

    def _answer(self, picture):
        height, width = picture.shape[:2]
        share = float(picture.mean()) / 255
        if not share:
            nothing = np.zeros((0, 4), np.float32)
            return Analysis(
                Faces(nothing, np.zeros(0, np.float32), np.zeros((0, 5, 2), np.float32)), nothing
            )
        box = np.array([[width / 4, height / 4, width / 2, height / 2]], np.float32)
        points = (_POINTS + 1) * np.array([width, height], np.float32) / 4
        probabilities = np.array([[0.0, share, 1 - share, 0.0]], np.float32)
        return Analysis(Faces(box, np.array([0.9], np.float32), points), probabilities)


def application(recogniser: Recogniser | None = None, *, every_s: float = 0.0, **limits: float):
    """The application, by default with a stand-in; `limits` sets fields of `Limits`."""
    all_limits = {"upload_bytes": 10_000_000, "video_s": 600.0} | limits
    facts = {"model": "stand-in", "measured": None}
    return make_app(
        recogniser or Brightness(), facts, Limits(**all_limits), every_s=every_s, batch=4
    )
