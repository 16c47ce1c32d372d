"""A live camera: its frames, how it ends, and the errors without a camera or a display."""

from __future__ import annotations

import signal

import numpy as np
import pytest

from fer_jax.errors import UserError
from fer_jax.faces import camera
from fer_jax.faces.camera import Camera, Window
from tests.faces.fake_capture import FakeCapture


def test_frames_are_rgb_with_times_from_zero(capture: type[FakeCapture]) -> None:
    source = Camera(3)
    frames = source.frames()
    first, second = next(frames), next(frames)
    assert (first.index, first.time_s, second.index) == (0, 0.0, 1)
    assert second.time_s > 0
    np.testing.assert_array_equal(second.image[0, 0], [0, 0, 2])
    source.end()
    assert list(frames) == []
    assert capture.made[0].number == 3 and capture.made[0].released


def test_frames_that_come_too_soon_are_skipped(
    capture: type[FakeCapture], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = iter(np.arange(1000) / 10)
    monkeypatch.setattr(camera.time, "monotonic", lambda: next(now))
    frames = Camera(0, every_s=0.45).frames()
    assert [next(frames).index for _ in range(3)] == [0, 5, 10]


def test_an_unplugged_camera_ends_the_frames(capture: type[FakeCapture]) -> None:
    capture.count = 5
    try:
        assert len(list(Camera(0).frames())) == 5
        capture.count = 0
        with pytest.raises(UserError, match="delivers no picture"):
            list(Camera(0).frames())
    finally:
        capture.count = 1000


def test_a_missing_camera_is_a_user_error(
    capture: type[FakeCapture], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capture, "opens", False)
    with pytest.raises(UserError, match=r"camera 2 cannot be opened; .*--config\.camera"):
        next(Camera(2).frames())
    assert capture.made[0].released


def test_a_missing_display_is_a_user_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camera.sys, "platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(UserError, match="no display"):
        Window(Camera(0))


def test_q_ends_the_camera(capture: type[FakeCapture], keys: list[int]) -> None:
    source = Camera(0)
    keys += [-1, ord("q")]
    with Window(source) as window:
        shown = [window.show(frame.image) for frame in source.frames()]
    assert len(shown) == 2


def test_the_first_interrupt_ends_the_camera_and_the_second_the_program(
    capture: type[FakeCapture], keys: list[int]
) -> None:
    source, before = Camera(0), signal.getsignal(signal.SIGINT)
    with Window(source):
        frames = source.frames()
        next(frames)
        signal.raise_signal(signal.SIGINT)
        assert list(frames) == []
        assert signal.getsignal(signal.SIGINT) is before
    assert signal.getsignal(signal.SIGINT) is before
