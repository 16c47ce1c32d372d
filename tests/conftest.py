"""Fixtures for several folders of tests."""

import logging

import cv2
import pytest
from absl import logging as absl

from tests.faces.fake_capture import FakeCapture


@pytest.fixture
def restored_logging():
    """Undoes what `console.configure` does to the whole process."""
    root, ours = logging.getLogger(), logging.getLogger("fer_jax")
    levels, handlers, verbosity = (root.level, ours.level), root.handlers[:], absl.get_verbosity()
    yield
    logging.captureWarnings(False)
    absl.set_verbosity(verbosity)
    root.setLevel(levels[0])
    ours.setLevel(levels[1])
    root.handlers[:] = handlers


@pytest.fixture
def capture(monkeypatch: pytest.MonkeyPatch) -> type[FakeCapture]:
    monkeypatch.setattr(cv2, "VideoCapture", FakeCapture)
    monkeypatch.setattr(FakeCapture, "made", [])
    return FakeCapture


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Stands in for the display. The keys that a test adds are pressed one after the other."""
    pressed: list[int] = []
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(cv2, "namedWindow", lambda *_: None)
    monkeypatch.setattr(cv2, "destroyWindow", lambda *_: None)
    monkeypatch.setattr(cv2, "imshow", lambda *_: None)
    monkeypatch.setattr(cv2, "waitKey", lambda _: pressed.pop(0) if pressed else -1)
    monkeypatch.setattr(cv2, "getWindowProperty", lambda *_: 1.0)
    return pressed
