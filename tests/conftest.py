"""Fixtures for several folders of tests."""

import logging

import pytest
from absl import logging as absl


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
