"""Kills a stage at random moments and runs it again; it must end like an uninterrupted run."""

from __future__ import annotations

import hashlib
import json
import random
import re
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path

from fer_jax import outputs
from tests.robustness import originals, processes, stand_ins
from tests.robustness.processes import Child
from tests.robustness.stages import CASES, StageCase

KILLS = 10  # number of kills in a unit
_TEMPORARY = re.compile(r"(^|/)\.[^/]*partial|incomplete")
# Written by libraries, under names that contain a time or are random.
_LIBRARIES = re.compile(r"(^|/)(checkpoints|tensorboard)/")
_LONGEST_S = 120.0
_TIMED = ("**/done.json", "**/metrics.jsonl")  # contain times, which may agree by chance

Contents = dict[str, str]  # digests of files by their path


@dataclass
class KillResult:
    """The numbers of kills and of compared runs in a unit, its duration, and the failures."""

    kills: int = 0
    runs_compared: int = 0
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list)


@dataclass
class Reference:
    """An uninterrupted run: its files and its duration.

    Attributes:
        before: digests of the files that the stage may write, before the run.
        after: digests of these files after the run.
        varying: the names of files that may differ between uninterrupted runs, for example because
            they contain times.
        seconds: from the start of the process to its end.
    """

    before: Contents
    after: Contents
    varying: frozenset[str]
    seconds: float


class Bench:
    """A stage with its originals and its workdir, whose paths are always the same."""

    def __init__(self, case: StageCase, folder: Path) -> None:
        self.case, self.folder = case, folder
        self.main, self.side, self.work = (folder / part for part in ("main", "side", "work"))
        self.log = folder / "log.txt"
        self.reference: Reference | None = None

    def begin(self) -> None:
        """Deletes the workdir, and writes the originals again if they may have changed."""
        shutil.rmtree(self.work, ignore_errors=True)
        pristine = self.folder / "pristine"
        if not pristine.exists():
            shutil.rmtree(self.folder, ignore_errors=True)
            for part in ("main", "side"):
                (pristine / part).mkdir(parents=True)
            self._prepare()
        if self.case.name == "remove" or not self.main.exists():  # others leave them unchanged
            for part in (self.main, self.side):
                shutil.rmtree(part, ignore_errors=True)
                originals.copy(pristine / part.name, part)

    def _prepare(self) -> None:
        """Prepares the originals in a child, since this may run a stage."""

        def work() -> None:
            stand_ins.replace_all()
            processes.prepare_jax(self.folder.parent / "compiled")
            self.case.prepare(self.main, self.side)

        self.main.mkdir()
        self.side.mkdir()
        code = Child(work, self.log).wait(_LONGEST_S)
        if code != 0:
            raise RuntimeError(f"{self.case.name} cannot be prepared:\n{self.log.read_text()}")
        for part in (self.main, self.side):
            originals.copy(part, self.folder / "pristine" / part.name)

    def start(self) -> Child:
        """Starts the stage in a child."""

        def work() -> None:
            stand_ins.replace_all()
            processes.prepare_jax(self.folder.parent / "compiled")
            self.case.run(self.case.configure(self.main, self.side), self.work)

        return Child(work, self.log)

    def contents(self) -> Contents:
        """Digests of the files that the stage may write.

        Temporary files, checkpoints and TensorBoard files are left out.
        """
        roots = [self.work]
        if self.case.name == "remove":
            roots += [self.main, self.side]
        found: Contents = {}
        for root in roots:
            for file in root.rglob("*"):
                name = file.relative_to(self.folder).as_posix()
                if not file.is_file() or _TEMPORARY.search(name) or _LIBRARIES.search(name):
                    continue
                content = file.read_bytes()
                if file.name == outputs.RECORD:  # its lines are in the order of writing
                    names = outputs.written(file.parent)
                    content = "\n".join(
                        sorted(n for n in names if not _LIBRARIES.search(n))
                    ).encode()
                found[name] = hashlib.sha256(content).hexdigest()
        return found

    def originals(self) -> dict[Path, str]:
        """Digests of the originals; empty for `remove`, which has to delete some of them."""
        found = originals.digests(self.main, self.side)
        if self.case.name == "remove":
            return {}
        return found

    def measure(self) -> Reference:
        """Runs the stage three times without a kill; the last is the reference.

        The first run compiles. Files that differ between the other two, and files that contain
        times, may vary.
        """
        runs = []
        for _ in range(3):
            self.begin()
            before = self.contents()
            started = time.monotonic()
            child = self.start()
            if child.wait(_LONGEST_S) != 0:
                raise RuntimeError(
                    f"{self.case.name} ended with exit code {child.code}: {child.last_output()}"
                )
            runs.append((before, self.contents(), time.monotonic() - started))
        (_, first, _), (before, last, seconds) = runs[1:]
        varying = {n for n in first.keys() | last.keys() if first.get(n) != last.get(n)}
        for pattern in (*_TIMED, *self.case.timed):
            varying |= {f.relative_to(self.folder).as_posix() for f in self.work.glob(pattern)}
        self.reference = Reference(before, last, frozenset(varying), seconds)
        return self.reference


_BENCHES: dict[tuple[str, Path], Bench] = {}


def run_unit(name: str, number: int, folder: Path, *, kills: int = KILLS) -> KillResult:
    """Runs a stage and kills it `kills` times, at moments drawn from `name` and the seed `number`.

    After a kill, the stage is started again in the same workdir. If it ends before its kill, the
    result is compared with that of an uninterrupted run, and it begins in a new workdir. After the
    last kill it runs to its end and is compared. The first failure ends the unit.
    """
    bench = _BENCHES.setdefault((name, folder), Bench(CASES[name], folder))
    reference = bench.reference or bench.measure()
    dice = random.Random(f"{name} {number}")
    result = KillResult()
    started = time.monotonic()
    while True:
        killed_to_the_end = _one_folder(bench, reference, dice, kills, result)
        if killed_to_the_end or result.failures:
            break
    result.seconds = time.monotonic() - started
    return result


def _one_folder(
    bench: Bench, reference: Reference, dice: random.Random, kills: int, result: KillResult
) -> bool:
    """Runs the stage in a new workdir to its end; returns whether the unit is finished.

    It is finished after `kills` kills, or after a failure.
    """
    bench.begin()
    before = bench.originals()
    committed: Contents = {}
    kept: dict[str, tuple[int, str]] = {}
    while True:
        enough = result.kills >= kills
        moment = _LONGEST_S if enough else dice.uniform(0, reference.seconds)
        child = bench.start()
        code = child.wait(moment)
        place = f"{bench.case.name}, kill {result.kills + 1} after {moment:.3f} s"
        if code is None:
            child.kill()
            if enough:
                result.failures.append(
                    f"{place}: did not end in {_LONGEST_S:g} s: {child.last_output()}"
                )
                return True
            result.kills += 1
        elif code != 0:
            result.failures.append(f"{place}: exit code {code}: {child.last_output()}")
            return True
        found = bench.contents()
        result.failures += [
            f"{place}: {fault}" for fault in _faults(bench, reference, committed, found, kept)
        ]
        missing = originals.lost(before, bench.originals())
        if missing:
            result.failures.append(f"{place}: originals were changed: {missing[:3]}")
        if code == 0:
            result.failures += [f"{place}: {fault}" for fault in _differences(reference, found)]
            result.runs_compared += 1
        if code == 0 or result.failures:
            return enough or bool(result.failures)
        committed = {n: d for n, d in found.items() if n in reference.after}
        committed.pop("work/done.json", None)  # a stage that revisits its results writes them again


def _faults(
    bench: Bench,
    reference: Reference,
    committed: Contents,
    found: Contents,
    kept: dict[str, tuple[int, str]],
) -> list[str]:
    """Describes files that are damaged, lost, not recorded or written again.

    A file is damaged if its bytes are neither those before nor those after an uninterrupted run,
    unless these vary, or if it should be JSON and is not. A file is lost if an earlier run had
    finished it and it is missing. `kept`, the files that must not be written again and the newest
    checkpoint, is updated.
    """
    faults = [f"{name} was there before the run and is lost" for name in committed.keys() - found]
    for name, digest in found.items():
        known = {reference.before.get(name), reference.after.get(name)}
        grows = name in reference.varying or name.endswith(outputs.RECORD)
        if name in reference.after and not grows and digest not in known:
            faults.append(f"{name} is neither as before nor as after an uninterrupted run")
        if name.endswith(".json") and not _is_json(bench.folder / name):
            faults.append(f"{name} is not valid JSON")
    faults += [f"{name} is not recorded" for name in _unrecorded(bench.work)]
    for pattern in bench.case.kept:
        for file in bench.work.glob(pattern):
            name = file.relative_to(bench.folder).as_posix()
            if name in found:
                was = kept.setdefault(name, (file.stat().st_ino, found[name]))
                if was != (file.stat().st_ino, found[name]):
                    faults.append(f"{name} was finished and is written again")
    newest = _newest_checkpoint(bench.work)
    if newest < kept.get("checkpoint", (0, ""))[0] and not (bench.work / "done.json").exists():
        faults.append(f"the checkpoint of step {kept['checkpoint'][0]} is lost")
    kept["checkpoint"] = (max(newest, kept.get("checkpoint", (0, ""))[0]), "")
    return faults


def _unrecorded(work: Path) -> list[str]:
    """Files in a workdir, except temporary ones, that no record of a stage in it names."""
    files = {path.relative_to(work) for path in work.rglob("*") if not path.is_dir()}
    for record in work.rglob(outputs.RECORD):
        place = record.parent.relative_to(work)
        files -= {place / name for name in outputs.written(record.parent)} | {
            place / outputs.RECORD
        }
    return sorted(name for name in map(str, files) if not _TEMPORARY.search(name))


def _is_json(file: Path) -> bool:
    try:
        json.loads(file.read_bytes())
    except ValueError:
        return False
    return True


def _newest_checkpoint(work: Path) -> int:
    """The newest step that the stage `train` has saved; 0 if there is none."""
    files = (work / "checkpoints").glob("*/commit_success.txt")
    return max((int(f.parent.name) for f in files if f.parent.name.isdecimal()), default=0)


def _differences(reference: Reference, found: Contents) -> list[str]:
    """The differences between the files of a killed run at its end and of an uninterrupted run."""
    fixed = (reference.after.keys() | found.keys()) - reference.varying
    faults = [
        f"{name} differs from an uninterrupted run" + ("" if name in found else ": it is missing")
        for name in sorted(fixed)
        if found.get(name) != reference.after.get(name)
    ]
    return faults + [
        f"{name} is missing" for name in sorted(reference.varying & reference.after.keys() - found)
    ]
