"""Runs stages on a few generated inputs; benchmarks/robustness.py does so on many."""

import itertools
import shutil

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.robustness import parts, stand_ins
from tests.robustness.parts import PARTS, Accepted, ViolationError, attempt, require
from tests.robustness.strategies import Damage

EXAMPLES = {
    "labels": 15, "ledgers": 30, "folders": 10, "media": 4, "models": 6, "records": 6,
    "configs": 10, "workdirs": 3, "names": 3,
}  # fmt: skip


@pytest.mark.parametrize("name", PARTS)
def test_a_stage_succeeds_or_refuses_whatever_its_inputs_are(name, tmp_path, monkeypatch):
    part, numbers = PARTS[name], itertools.count()
    stand_ins.replace_all(monkeypatch.setattr, models=not part.real_models)
    results = []
    monkeypatch.setattr(
        parts, "attempt", lambda *given: results.append(attempt(*given)) or results[-1]
    )

    @settings(
        max_examples=EXAMPLES[name], derandomize=True, deadline=None, database=None,
        phases=[Phase.generate], suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(part.strategy)
    def check(example):
        folder = tmp_path / f"example {next(numbers)}"
        folder.mkdir()
        part.check(folder, example)
        shutil.rmtree(folder)

    check()
    assert next(numbers) >= EXAMPLES[name]
    if name not in ("configs", "models"):  # nearly all of these inputs are out of range or damaged
        assert any(isinstance(result, Accepted) for result in results), "every input was refused"


def test_the_harness_notices_a_changed_original(tmp_path):
    original = tmp_path / "original"
    original.write_text("before")

    def destructive(config, workdir):
        original.write_text("after")
        return {}

    with pytest.raises(ViolationError, match="originals were changed"):
        attempt(destructive, dict, tmp_path / "work", original)


def test_the_harness_notices_another_exception_and_an_escape_sequence(tmp_path):
    def faulty(config, workdir):
        raise KeyError("a traceback")

    def loud(config, workdir):
        print("\x1b[31mred")
        return {}

    with pytest.raises(KeyError):
        attempt(faulty, dict, tmp_path)
    with pytest.raises(ViolationError, match="control characters"):
        attempt(loud, dict, tmp_path)
    with pytest.raises(ViolationError, match="not so"):
        require(False, "not so")


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("flip", b"01234\x3756789"[:5] + b"\x37" + b"6789"),
        ("truncate", b"01234"),
        ("delete", b"0123489"),
        ("insert", b"01234" + b"012" + b"56789"),
        ("swap", b"56734" + b"012" + b"89"),
        ("set", b"01234" + b"\x01" * 3 + b"89"),
    ],
)
def test_damage_changes_bytes_as_described(kind, expected):
    damage = Damage(kind, place=0.5, other=0.0, length=3, value=1)
    assert damage(b"0123456789") == expected
