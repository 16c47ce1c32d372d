"""What a run tells while it runs: JSON lines, TensorBoard, a progress bar and a time ledger."""

from __future__ import annotations

import contextlib
import json
import math
import os
import secrets
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.summary import scalar
from tqdm import tqdm

from fer_jax import backend, console, outputs
from fer_jax.errors import UserError
from fer_jax.workdir import atomic_file, log_metrics, read_metrics


class Recorder:
    """Writes scalars of a step to `folder/metrics.jsonl` and to TensorBoard event files.

    Lines beyond `first_step`, which a killed run wrote after its last checkpoint, are dropped,
    so that every step stands there once; the event files are written anew from those that stay.
    Among several processes, the first alone writes. With `wandb_project` the same scalars go
    to Weights & Biases: no console, code, command line or measurements of the machine.
    """

    def __init__(self, folder: Path, first_step: int, wandb_project: str = "") -> None:
        self._file = folder / "metrics.jsonl"
        self._tensorboard: EventsWriter | None = None
        self._wandb: Any = None
        if not backend.writes():
            return
        if wandb_project:
            self._wandb = _weights_and_biases(wandb_project, folder)
        lines = _drop_lines_after(self._file, first_step)
        outputs.delete_folder(folder / "tensorboard")
        outputs.claim(folder / "tensorboard", "folder")
        (folder / "tensorboard").mkdir(exist_ok=True)
        # Not its SummaryWriter, whose thread dies on a full disk, and whose queue then blocks us.
        self._tensorboard = EventsWriter(str(folder / "tensorboard" / "events"))
        for line in lines:
            self._plot(line, line.get("time", 0.0))

    def record(self, step: int, figures: Mapping[str, float]) -> None:
        if self._tensorboard is not None:
            line = {"step": step, **{name: _short(value) for name, value in figures.items()}}
            log_metrics(self._file.parent, **line)
            self._plot(line, time.time())
        if self._wandb is not None:
            self._wandb.log(dict(figures), step=step)

    def secure(self) -> None:
        """Makes what was recorded outlive a power cut, as a checkpoint does."""
        if self._tensorboard is not None and self._file.exists():
            with self._file.open("rb") as file:
                os.fsync(file.fileno())

    def close(self) -> None:
        if self._tensorboard is not None:
            self._tensorboard.close()
        if self._wandb is not None:
            self._wandb.finish()

    def _plot(self, line: Mapping[str, Any], when: float) -> None:
        assert self._tensorboard is not None
        for name, value in line.items():
            if name not in ("time", "step") and isinstance(value, int | float):
                event = Event(wall_time=when, step=line["step"], summary=scalar(name, value))
                self._tensorboard.write_event(event)
        self._tensorboard.flush()


class Ledger:
    """Seconds spent by purpose: `with ledger("data_wait"): ...`."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextlib.contextmanager
    def __call__(self, purpose: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[purpose] += time.perf_counter() - started

    def share(self, purpose: str) -> float:
        """The fraction of all recorded time that went to `purpose`."""
        return self.seconds[purpose] / max(sum(self.seconds.values()), 1e-9)


def progress_bar(name: str, steps: int, first_step: int) -> tqdm:
    """A bar over steps with time left; figures are set as its postfix."""
    return tqdm(
        total=steps,
        initial=first_step,
        desc=console.printable(name),
        unit="step",
        dynamic_ncols=True,
        mininterval=1.0,
        disable=not backend.writes(),
    )


def _weights_and_biases(project: str, folder: Path) -> Any:
    """The run of this folder, the same one after a restart. Imported here: it is an extra.

    Raises:
        UserError: it is not installed.
    """
    try:
        import wandb
    except ImportError as error:
        raise UserError(
            "config.wandb needs Weights & Biases: pip install 'fer_jax[wandb]', or leave it empty"
        ) from error
    name = folder / "wandb_run.txt"
    if not name.exists():
        with atomic_file(name) as temporary:
            temporary.write_text(secrets.token_hex(8))
    outputs.claim(folder / "wandb", "folder")
    only_scalars = {
        "console": "off",
        "disable_code": True,
        "disable_git": True,
        "x_disable_machine_info": True,
        "x_disable_meta": True,
        "x_disable_stats": True,
    }
    return wandb.init(
        project=project,
        name=folder.name,
        id=name.read_text(),
        dir=folder,
        resume="allow",
        settings=only_scalars,
    )


def _drop_lines_after(path: Path, step: int) -> list[dict[str, Any]]:
    """Rewrites the file without lines of later steps; the lines of steps that stay."""
    if not path.exists():
        return []
    kept = [line for line in read_metrics(path.parent) if line.get("step", 0) <= step]
    with atomic_file(path) as temporary:
        temporary.write_text("".join(json.dumps(line) + "\n" for line in kept))
    return [line for line in kept if "step" in line]


def _short(value: float) -> float:
    return float(f"{value:.6g}") if math.isfinite(value) else value
