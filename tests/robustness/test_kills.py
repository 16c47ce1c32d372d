"""Kills a few stages twice each; benchmarks/robustness.py kills more stages, and more often."""

import os
import subprocess
import sys
from pathlib import Path

from tests.robustness.kills import Reference, _differences, _is_json

ROOT = Path(__file__).parents[2]


def test_killed_stages_end_like_uninterrupted_ones(tmp_path):
    """Runs in a new process, because a process in which JAX was initialised must not be forked."""
    stages = ("photographs", "predict", "remove")
    only = ",".join(f"kill_{name}" for name in stages)
    command = [sys.executable, "-m", "benchmarks.robustness", f"--only={only}", "--kills=2"]
    ended = subprocess.run(
        [*command, f"--workdir={tmp_path}"],
        cwd=ROOT, capture_output=True, text=True, env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.splitlines() == [f"kill_{name}: 2 kills, 0 failed" for name in stages]


def test_the_harness_notices_lost_and_different_files(tmp_path):
    reference = Reference({}, {"a": "1", "b": "2", "time": "3"}, frozenset({"time"}), 1.0)
    assert _differences(reference, {"a": "1", "b": "2", "time": "4"}) == []
    assert _differences(reference, {"a": "1", "b": "5", "time": "4"}) == [
        "b differs from an uninterrupted run"
    ]
    assert len(_differences(reference, {"a": "1", "more": "6"})) == 3
    (tmp_path / "half.json").write_text('{"stage":')
    assert not _is_json(tmp_path / "half.json")
