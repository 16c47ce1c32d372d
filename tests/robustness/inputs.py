"""Runs units of generated inputs, each in a child process and from one seed."""

from __future__ import annotations

import json
import os
import shutil
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.robustness import processes, stand_ins
from tests.robustness.parts import PARTS, ViolationError
from tests.robustness.processes import Child

EXAMPLES = 25  # number of inputs in a unit


@dataclass
class InputResult:
    """The number of inputs in a unit, its duration in seconds, and its failures.

    `slowest_s` and `most_bytes` are the largest time and memory of an input.
    """

    inputs: int = 0
    seconds: float = 0.0
    slowest_s: float = 0.0
    most_bytes: int = 0
    failures: list[str] = field(default_factory=list)


def run_unit(
    name: str, number: int, folder: Path, *, examples: int = EXAMPLES, stop: bool = False
) -> InputResult:
    """Runs `examples` inputs of a part, generated from the seed `number`, in a child process.

    With `stop`, the first failure ends the unit; Hypothesis then searches for a smaller example and
    prints it.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    journal = folder / "journal.jsonl"
    journal.touch()
    result = InputResult()
    started = time.monotonic()

    def work() -> None:
        _try_examples(name, number, folder, journal, examples, stop)

    with processes.ending(Child(work, folder / "log.txt")) as child:
        _watch(child, journal, result, unlimited=stop)
    result.seconds = time.monotonic() - started
    for line in _lines(journal):
        if "seconds" in line:
            result.inputs += 1
            result.slowest_s = max(result.slowest_s, line["seconds"])
        if line.get("failure"):
            result.failures.append(f"example {line['number']}: {line['failure']}")
    if stop:
        print(child.last_output())
    elif child.code != 0 and not result.failures:
        result.failures.append(f"exit code {child.code}: {child.last_output()}")
    if not result.failures:
        shutil.rmtree(folder, ignore_errors=True)
    return result


def _watch(child: Child, journal: Path, result: InputResult, *, unlimited: bool) -> None:
    """Waits for the child; kills it if an example takes too long or too much memory.

    With `unlimited`, it is not killed.
    """
    at_first = processes.resident_bytes(os.getpid())
    newest, since = -1, time.monotonic()
    while child.wait(0.02) is None:
        taken = processes.resident_bytes(child.pid) - at_first
        result.most_bytes = max(result.most_bytes, taken)
        size = journal.stat().st_size
        if size != newest:
            newest, since = size, time.monotonic()
        fault = ""
        if time.monotonic() - since > processes.MOST_SECONDS:
            fault = f"took more than {processes.MOST_SECONDS:g} s"
        elif taken > processes.MOST_BYTES:
            fault = f"took more than {processes.MOST_BYTES >> 20} MiB"
        if fault and not unlimited:
            child.kill()
            last = _lines(journal)[-1]
            result.inputs += 1
            example = last.get("example", "before the first example")
            result.failures.append(f"example {last.get('number')}: {fault}: {example}")
            return


def _lines(journal: Path) -> list[dict[str, Any]]:
    lines = []
    for line in journal.read_text().splitlines():
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:  # the last one of a killed child
            continue
    return lines or [{}]


def _try_examples(
    name: str, number: int, folder: Path, journal: Path, examples: int, stop: bool
) -> None:
    """Runs each example in a separate folder and logs its start and end; runs in the child."""
    part = PARTS[name]
    stand_ins.replace_all(models=not part.real_models)
    processes.prepare_jax(folder.parent / "compiled")
    processes.bound_memory()
    count = 0

    def check(example: Any) -> None:
        nonlocal count
        count += 1
        place = folder / f"example {count}"
        place.mkdir()
        with journal.open("a") as file:
            file.write(json.dumps({"number": count, "example": repr(example)[:1000]}) + "\n")
            file.flush()
            started = time.monotonic()
            failure = ""
            try:
                part.check(place, example)
            except BaseException as error:
                if stop:
                    raise
                failure = f"{describe(error)} for {example!r:.600}"
            seconds = round(time.monotonic() - started, 3)
            entry = {"number": count, "seconds": seconds, "failure": failure}
            file.write(json.dumps(entry) + "\n")
        shutil.rmtree(place, ignore_errors=True)

    phases = [Phase.generate, Phase.shrink] if stop else [Phase.generate]
    chosen = settings(
        max_examples=examples, deadline=None, database=None, phases=phases,
        suppress_health_check=list(HealthCheck), print_blob=False,
    )  # fmt: skip
    seed(number)(chosen(given(part.strategy)(check)))()


def describe(error: BaseException) -> str:
    """An error as text, with the innermost line of fer_jax.

    The text of a `ViolationError` is its message alone.
    """
    if isinstance(error, ViolationError):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "/fer_jax/" in frame.filename]
    place = f" in {Path(ours[-1].filename).name}, line {ours[-1].lineno}" if ours else ""
    return f"{type(error).__name__}{place}: {str(error)[:300]}"
