"""Fixtures for several folders of tests, and the option --no-skips."""

import logging
from collections.abc import Iterator

import cv2
import pytest
from absl import logging as absl

from tests.faces.fake_capture import FakeCapture


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-skips", action="store_true", help="count skipped tests as failures")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Iterator[pytest.TestReport]:
    return _without_skips(item.config, (yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[pytest.CollectReport]:
    return _without_skips(collector.config, (yield))


def _without_skips(config, report):
    if config.getoption("--no-skips") and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"--no-skips: {report.nodeid} was skipped: {report.longrepr}"
    return report


@pytest.fixture
def restored_logging():
    """Restores, after the test, the logging that `console.configure` changes."""
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
    """Replaces the display; keys that a test adds to the returned list are pressed one by one."""
    pressed: list[int] = []
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(cv2, "namedWindow", lambda *_: None)
    monkeypatch.setattr(cv2, "destroyWindow", lambda *_: None)
    monkeypatch.setattr(cv2, "imshow", lambda *_: None)
    monkeypatch.setattr(cv2, "waitKey", lambda _: pressed.pop(0) if pressed else -1)
    monkeypatch.setattr(cv2, "getWindowProperty", lambda *_: 1.0)
    return pressed
