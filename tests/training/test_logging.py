"""Metrics are sent to Weights & Biases only if requested."""

import json
import sys
import types

import pytest

from fer_jax.errors import UserError
from fer_jax.training.logging import Recorder
from tests.training.tiny import train


@pytest.fixture
def wandb(monkeypatch):
    """A fake `wandb` that records calls."""
    reported = []
    run = types.SimpleNamespace(
        log=lambda figures, step: reported.append((step, figures)),
        finish=lambda: reported.append("end"),
    )
    module = types.ModuleType("wandb")
    module.init = lambda **given: reported.append(given) or run
    monkeypatch.setitem(sys.modules, "wandb", module)
    return reported


def test_figures_are_sent_to_weights_and_biases_if_requested(tmp_path, wandb):
    train(tmp_path, steps=6, wandb="faces")
    train(tmp_path, steps=9, wandb="faces")
    begun = [reported for reported in wandb if isinstance(reported, dict)]
    assert [(x["project"], x["resume"]) for x in begun] == [("faces", "allow")] * 2
    assert begun[0]["id"] == begun[1]["id"]  # the restart continues the same run
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    heard = [reported[0] for reported in wandb if isinstance(reported, tuple)]
    assert heard == [line["step"] for line in lines] == [3, 6, 6, 9, 9]
    assert wandb[-1] == "end"


def test_nothing_is_sent_by_default(tmp_path, wandb):
    train(tmp_path, steps=6)
    assert wandb == []


def test_the_error_says_how_to_install_weights_and_biases(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)  # as if it were not installed
    with pytest.raises(UserError, match=r"pip install '\.\[wandb\]'"):
        Recorder(tmp_path, 0, "faces")
