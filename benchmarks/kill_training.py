"""Kills a training run at random moments, and compares the result with an uninterrupted run.

    python -m benchmarks kill_training --kills=100 --terminations=20 --workdir=work/kills

Trains a small network on noise, in processes forked from one that has imported everything. Each
receives SIGKILL or SIGTERM at a random moment, unless it ends first, and the run is started again
until it is done; then another run begins. Counts what was interrupted (`save` is the
part of saving that the loop waits for, `write` the part in the background), and checks after every
signal:

- that no committed checkpoint was lost: the newest on disk is never older than before, and a
  process continues from the one that was the newest when it started;
- that a SIGTERM during the training loop leads to exit code 143 and a checkpoint, or to a finished
  run;

and, for every finished run, that parameters, optimizer state, statistics, the weights of the
last and the best model, and metrics.jsonl except for times are those of an uninterrupted run. The
exit code is 1 if a check fails.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import mmap
import multiprocessing
import os
import random
import shutil
import signal
import struct
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
PHASES = ("start", "restore", "compile", "step", "evaluate", "save", "write", "end")
STEPS, IMAGES, BATCH = 200, 64, 8
TIMES = ("time", "wall_s", "images_per_s", "data_wait", "first_step_s", "compile_s")


class Board:
    """The child's phase and the step from which it continued, in eight bytes of shared memory.

    The step is 0 without a checkpoint, and -1 until the child has looked for one.
    """

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(8))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), 8)

    def write(self, phase: str | None = None, restored: int | None = None) -> None:
        if phase is not None:
            self._memory[:4] = struct.pack("<i", PHASES.index(phase))
        if restored is not None:
            self._memory[4:] = struct.pack("<i", restored)

    def read(self) -> tuple[str, int]:
        phase, restored = struct.unpack("<ii", self._memory[:])
        return PHASES[phase], restored


def train(workdir: str, board_path: str, log: str) -> None:
    """Runs the stage `train` in the child, as launch.py does, with a tiny network on noise."""
    sys.stdout = sys.stderr = open(log, "a", buffering=1)  # noqa: SIM115, PTH123
    os.dup2(sys.stderr.fileno(), 2)
    import numpy as np

    from configs import pretrain
    from fer_jax import backend
    from fer_jax.data import sources
    from fer_jax.errors import UserError
    from fer_jax.models import inception_resnet_v2
    from fer_jax.stages import train as stage
    from fer_jax.training import checkpoint, learner, loop
    from tests.training.tiny import TinyBackbone

    board = Board(Path(board_path))
    board.write("start", -1)
    backend.prepare()

    def source(_data: object, split: str, _workdir: Path) -> sources.ArraySource:
        rng = np.random.default_rng(len(split))
        return sources.ArraySource(rng.integers(0, 256, (IMAGES, 32, 32, 3)).astype(np.uint8))

    def in_phase(owner: type, method: str, phase: str, after: str) -> None:
        wrapped = getattr(owner, method)

        def watched(self: object, *args: object, **kwargs: object) -> object:
            board.write(phase)
            try:
                result = wrapped(self, *args, **kwargs)
                if method == "restore":
                    board.write(restored=result.step if result else 0)
                return result
            finally:
                board.write(after)

        setattr(owner, method, watched)

    stage._open = source
    inception_resnet_v2.InceptionResNetV2 = TinyBackbone  # type: ignore[misc]
    in_phase(checkpoint.Checkpoints, "restore", "restore", "start")
    in_phase(learner.Learner, "_compile", "compile", "step")
    in_phase(loop._Run, "_evaluate", "evaluate", "step")
    in_phase(checkpoint.Checkpoints, "save", "save", "step")
    in_phase(loop._Run, "train", "step", "end")

    config = pretrain.get_config("small,rotation")
    config.unlock()
    config.data.root, config.data.image_size = str(Path(board_path).parent / "data"), 32
    config.batch_size, config.epochs = BATCH, STEPS * BATCH / IMAGES
    config.log_every, config.evaluate_every, config.checkpoint_every_s = 7, 20, 0.15
    try:
        stage.run(config, workdir)
    except UserError as error:
        print(f"error: {error}", flush=True)
        sys.exit(error.exit_code)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--terminations", type=int, default=20)
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    os.environ["PYTHONPATH"] = f"{ROOT}"
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(options.workdir.absolute() / "compiled"))
    shutil.rmtree(options.workdir, ignore_errors=True)
    (options.workdir / "data").mkdir(parents=True)
    (options.workdir / "data" / "README").write_text("the images are noise, made in memory\n")
    context = multiprocessing.get_context("forkserver")
    sys.path.insert(0, str(ROOT))
    context.set_forkserver_preload(
        ["fer_jax.stages.train", "configs.pretrain", "tests.training.tiny"]
    )
    sys.exit(Bench(options, context).run())


class Bench:
    def __init__(self, options: argparse.Namespace, context: object) -> None:
        self.folder = options.workdir.absolute()
        self.board = Board(self.folder / "board")
        self.dice = random.Random(options.seed)
        self.signals = [signal.SIGKILL] * options.kills + [signal.SIGTERM] * options.terminations
        self.dice.shuffle(self.signals)
        self.context = context
        self.counts: collections.Counter[tuple[str, str]] = collections.Counter()
        self.faults: list[str] = []

    def run(self) -> int:
        started = time.time()
        reference = self.folder / "reference"
        life = self.undisturbed(reference)
        life = self.undisturbed(self.folder / "again")  # everything is compiled now
        self.compare(reference, self.folder / "again")
        trainings, disturbed = 1, self.folder / "killed1"
        while self.signals:
            if (disturbed / "done.json").exists():
                self.compare(reference, disturbed)
                trainings += 1
                disturbed = self.folder / f"killed{trainings}"
            self.disturb(disturbed, self.dice.uniform(0, 0.4 * life))
        self.undisturbed(disturbed)
        self.compare(reference, disturbed)
        self.report(trainings, life, time.time() - started)
        return int(bool(self.faults))

    def start(self, folder: Path):  # type: ignore[no-untyped-def]
        self.board.write("start", -1)
        arguments = (str(folder), str(self.folder / "board"), str(self.folder / "log.txt"))
        process = self.context.Process(target=train, args=arguments)  # type: ignore[attr-defined]
        process.start()
        return process

    def undisturbed(self, folder: Path) -> float:
        """Trains without a signal; returns the duration in seconds."""
        began = time.time()
        process = self.start(folder)
        process.join(300)
        self.expect(process.exitcode == 0, f"{folder.name}: exit code {process.exitcode}")
        return time.time() - began

    def disturb(self, folder: Path, delay: float) -> None:
        """Runs one process and sends it the next signal, unless it ends first.

        The signal comes `delay` seconds after the start of the process or of its training steps, or
        up to 10 ms after a rarer phase has begun; the choice is random.
        """
        before = committed(folder)
        began = time.time()
        process = self.start(folder)
        # The start takes longest; two of three signals wait for its end, or for a rarer phase.
        sought = self.dice.choice(["start", "step", "step", "evaluate", "save", "start"])
        while process.exitcode is None and sought not in ("start", self.board.read()[0]):
            time.sleep(0.001)
        process.join(delay if sought in ("start", "step") else self.dice.uniform(0, 0.01))
        if process.exitcode is not None:  # it ended before the signal
            self.expect(process.exitcode == 0, f"{folder.name}: exit code {process.exitcode}")
            return
        which = self.signals.pop()
        phase, _ = self.board.read()
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, which)
        process.join(120)
        _, restored = self.board.read()
        name = signal.Signals(which).name
        halves = (folder / "checkpoints").glob("*tmp*")  # an earlier kill may have left some
        if any(half.stat().st_mtime > began for half in halves):
            phase = "write"  # a checkpoint, in the background
        self.counts[phase, name] += 1
        after = committed(folder)
        place = f"{folder.name}, {name} during {phase} after {delay:.2f} s"
        self.expect(
            after >= before, f"{place}: step {before} was committed, but the newest is {after}"
        )
        self.expect(
            restored in (-1, before),
            f"{place}: step {before} was committed, but the run continued from {restored}",
        )
        if which == signal.SIGTERM and phase not in ("start", "restore", "end"):
            done = process.exitcode == 0 and (folder / "done.json").exists()
            saved = process.exitcode == 143 and after > 0
            self.expect(done or saved, f"{place}: exit code {process.exitcode}, step {after}")
        left = len(self.signals)
        print(f"{left:4d} to go  {place}: steps {before} to {after}", flush=True)

    def compare(self, reference: Path, other: Path) -> None:
        for what, read in (
            ("state", leaves),
            ("model", lambda f: (f / "model" / "weights.safetensors").read_bytes()),
            ("best model", lambda f: (f / "best" / "model" / "weights.safetensors").read_bytes()),
            ("metrics.jsonl", metrics),
        ):
            same = read(reference) == read(other)
            self.expect(same, f"{other.name}: {what} differs from the reference")
            self.counts["compared", what] += same

    def expect(self, good: bool, fault: str) -> None:
        if not good:
            self.faults.append(fault)
            print(f"FAULT {fault}", flush=True)

    def report(self, trainings: int, life: float, seconds: float) -> None:
        print(f"\n{'interrupted':12s}{'SIGKILL':>9s}{'SIGTERM':>9s}")
        for phase in PHASES:
            row = [self.counts[phase, name] for name in ("SIGKILL", "SIGTERM")]
            print(f"{phase:12s}{row[0]:9d}{row[1]:9d}")
        same = {what: n for (kind, what), n in self.counts.items() if kind == "compared"}
        print(f"an undisturbed run takes {life:.1f} s; {seconds:.0f} s in all")
        print(f"{trainings} runs with signals and one without; equal to the reference: {same}")
        log = (self.folder / "log.txt").read_text()
        for word in ("damaged", "not written", "Traceback"):
            self.expect(word not in log, f"log.txt contains {word!r}")
        print(f"{len(self.faults)} faults")


def committed(folder: Path) -> int:
    """The newest step with a committed checkpoint; 0 if there is none."""
    files = (folder / "checkpoints").glob("*/commit_success.txt")
    return max((int(f.parent.name) for f in files if f.parent.name.isdecimal()), default=0)


def leaves(folder: Path) -> object:
    """The checksums of all arrays in the last checkpoint, computed again from its files."""
    import jax

    from fer_jax.training import integrity

    jax.config.update("jax_platforms", "cpu")
    import orbax.checkpoint as ocp

    step = folder / "checkpoints" / str(STEPS)
    with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as reader:
        return integrity.describe(reader.restore(step / "state"))


def metrics(folder: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if not k.endswith(("_s", *TIMES))} for line in lines]


if __name__ == "__main__":
    main()
