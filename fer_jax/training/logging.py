"""Logging of a run: JSON lines, TensorBoard, Weights & Biases, and the time for each purpose."""

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

from fer_jax import backend, outputs
from fer_jax.errors import UserError
from fer_jax.workdir import atomic_file, log_metrics, read_metrics


class Recorder:
    """Writes scalars by step to `folder/metrics.jsonl` and to TensorBoard event files.

    Lines of steps after `first_step`, which a killed run wrote after its last checkpoint, are
    deleted, because these steps are repeated; the event files are rewritten from the remaining
    lines. Of several processes, only the first one writes. With `wandb_project` the same scalars
    are sent to Weights & Biases, but no console output, code, command line or measurements of the
    machine.

    Raises:
        UserError: `wandb_project` is set, but Weights & Biases is not installed.
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
        # The thread of tensorboardX's SummaryWriter dies on a full disk, and its queue then blocks.
        self._tensorboard = EventsWriter(str(folder / "tensorboard" / "events"))
        for line in lines:
            self._plot(line, line.get("time", 0.0))

    def record(self, step: int, figures: Mapping[str, float]) -> None:
        """Records the metrics of a step, with six significant digits in the files."""
        if self._tensorboard is not None:
            line = {"step": step, **{name: _short(value) for name, value in figures.items()}}
            log_metrics(self._file.parent, **line)
            self._plot(line, time.time())
        if self._wandb is not None:
            self._wandb.log(dict(figures), step=step)

    def secure(self) -> None:
        """Flushes metrics.jsonl to disk, so that its lines survive a power failure."""
        if self._tensorboard is not None and self._file.exists():
            with self._file.open("rb") as file:
                os.fsync(file.fileno())

    def close(self) -> None:
        """Closes the files and ends the run of Weights & Biases, if there is one."""
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
    """Measures seconds by purpose: `with ledger("data_wait"): ...`."""

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
        """The fraction of all recorded time that was spent on `purpose`."""
        return self.seconds[purpose] / max(sum(self.seconds.values()), 1e-9)


def _weights_and_biases(project: str, folder: Path) -> Any:
    """The Weights & Biases run of this folder, which is the same after a restart.

    Raises:
        UserError: the optional package is not installed.
    """
    try:
        import wandb
    except ImportError as error:
        raise UserError(
            "--config.wandb requires Weights & Biases; run in the checkout: "
            "pip install '.[wandb]', or leave that field empty"
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
    """Deletes lines of steps after `step` from the file; returns the other lines with a step."""
    if not path.exists():
        return []
    kept = [line for line in read_metrics(path.parent) if line.get("step", 0) <= step]
    with atomic_file(path) as temporary:
        temporary.write_text("".join(json.dumps(line) + "\n" for line in kept))
    return [line for line in kept if "step" in line]


def _short(value: float) -> float:
    return float(f"{value:.6g}") if math.isfinite(value) else value
