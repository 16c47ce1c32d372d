"""What a run tells while it runs: JSON lines, TensorBoard, a progress bar and a time ledger."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

from tensorboardX import SummaryWriter
from tqdm import tqdm

from fer_jax.workdir import atomic_file, log_metrics


class Recorder:
    """Writes scalars of a step to `folder/metrics.jsonl` and to TensorBoard event files.

    Lines beyond `first_step`, which a killed run wrote after its last checkpoint, are dropped,
    so that every step stands there once.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        self._folder = folder
        _drop_lines_after(folder / "metrics.jsonl", first_step)
        self._tensorboard = SummaryWriter(
            str(folder / "tensorboard"), purge_step=first_step or None, write_to_disk=True
        )

    def record(self, step: int, figures: Mapping[str, float]) -> None:
        log_metrics(self._folder, step=step, **{k: _short(v) for k, v in figures.items()})
        for name, value in figures.items():
            self._tensorboard.add_scalar(name, value, step)

    def close(self) -> None:
        self._tensorboard.close()


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
        total=steps, initial=first_step, desc=name, unit="step", dynamic_ncols=True, mininterval=1.0
    )


def _drop_lines_after(path: Path, step: int) -> None:
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines():
        with contextlib.suppress(json.JSONDecodeError):  # half a line: the run was killed there
            if json.loads(line).get("step", 0) <= step:
                kept.append(line + "\n")
    with atomic_file(path) as temporary:
        temporary.write_text("".join(kept))


def _short(value: float) -> float:
    return float(f"{value:.6g}") if math.isfinite(value) else value
