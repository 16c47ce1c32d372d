"""The metrics of a run, collected at each step, reported at intervals and saved in checkpoints."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from fer_jax import backend, console
from fer_jax.languages.language import spoken
from fer_jax.schemas import Loop
from fer_jax.training.logging import Ledger, Recorder


class Meter:
    """Collects the metrics of steps and reports their means at intervals.

    The result of `get_state` is saved in checkpoints, so that a resumed run reports the same
    metrics as an uninterrupted one.

    Args:
        folder: the folder of metrics.jsonl.
        first: the step of the checkpoint from which training continues; 0 without one.
        steps: the total number of steps.
        loop: the batch size of all processes, and the project of Weights & Biases, if any.
        state: the result of `get_state` in the checkpoint; None without one.
    """

    def __init__(
        self,
        folder: Path,
        first: int,
        steps: int,
        loop: Loop,
        state: dict[str, Any] | None,
    ) -> None:
        self.ledger = Ledger()
        self.figures: dict[str, float] = {}
        self.evaluations = 0
        self.first_step_s = 0.0
        self._best = math.inf
        self._waiting: list[tuple[int, Mapping[str, Any]]] = []
        self._timed = self._done = 0
        if state is not None:
            self.figures = state["figures"]
            self.evaluations, self._best = state["validation"]
            self._waiting = [(step, figures) for step, figures in state["waiting"]]
            self._timed = state["timed"]
            self.ledger.seconds.update(state["seconds"])
        # Without a checkpoint, the metrics of step 0 are computed and recorded again.
        kept = -1 if state is None else first
        self._recorder = Recorder(folder, kept, loop.wandb)
        self._progress = console.Progress(
            total=steps, unit="step", done=first, shown=backend.writes()
        )
        self._batch_size = loop.batch_size
        self._before = sum(self.ledger.seconds.values())
        self._started = time.perf_counter()

    def __enter__(self) -> Meter:
        self._progress.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.__exit__()
        self._recorder.close()

    def get_state(self) -> dict[str, Any]:
        """The metrics, counts and seconds that a resumed run needs, as JSON-serialisable data."""
        return {
            "waiting": [[step, dict(figures)] for step, figures in self.fetch()],
            "figures": self.figures,
            "validation": [self.evaluations, self._best],
            "timed": self._timed,
            "seconds": self.seconds_by_purpose(),
        }

    def add(self, step: int, figures: Mapping[str, jax.Array]) -> None:
        """Adds the metrics of a step to the next report; the device may still be computing them."""
        self._waiting.append((step, figures))
        self._timed += self._done > 0  # the first step compiles
        self._done += 1
        self._progress.update()

    def fetch(self) -> list[tuple[int, Mapping[str, float]]]:
        """Waits for the device; returns each step since the last report with its metrics."""
        with self.ledger("step"):
            fetched = jax.device_get([figures for _, figures in self._waiting])
        steps = [step for step, _ in self._waiting]
        values = [{name: float(value) for name, value in figures.items()} for figures in fetched]
        self._waiting = list(zip(steps, values, strict=True))
        return list(self._waiting)

    def report(self, step: int) -> None:
        """Records mean metrics since the last report; shows loss and speed in the progress bar."""
        figures = [figures for _, figures in self.fetch()]
        self._waiting.clear()
        means = {name: math.fsum(f[name] for f in figures) / len(figures) for name in figures[0]}
        self.record(step, means)
        words = spoken()
        loss, speed = words.number(means["loss"], 3), words.number(self.images_per_s())
        self._progress.note(words.text("progress.loss", loss=loss, speed=speed))

    def record(self, step: int, figures: Mapping[str, float]) -> None:
        """Writes metrics of a step; the attribute `figures` has the newest value of each metric."""
        self._recorder.record(step, figures)
        self.figures |= figures

    def is_best(self, loss: float) -> bool:
        """Whether a validation loss is lower than those of all previous calls."""
        better = loss < self._best
        self._best = min(loss, self._best)
        return better

    def secure(self) -> None:
        """Flushes the recorded metrics to disk, which is done before a checkpoint is saved."""
        self._recorder.secure()

    def compiled(self, within: str, seconds: float) -> None:
        """Moves seconds of compilation from the purpose `within` to `compile`."""
        self.ledger.seconds[within] -= seconds
        self.ledger.seconds["compile"] += seconds

    def images_per_s(self) -> float:
        """Training images per second of all processes.

        The first step of each run is not counted, since it compiles.
        """
        seconds = self.ledger.seconds["step"] + self.ledger.seconds["data_wait"]
        return self._timed * self._batch_size / max(seconds, 1e-9)

    def seconds_by_purpose(self) -> dict[str, float]:
        """Seconds by purpose, including those of interrupted runs.

        `other` is the time without a purpose.
        """
        purposes = ("compile", "data_wait", "step", "evaluate", "save", "other")
        seconds = {purpose: self.ledger.seconds[purpose] for purpose in purposes}
        all_of_them = sum(self.ledger.seconds.values())
        passed = self._before + time.perf_counter() - self._started
        return seconds | {"other": seconds["other"] + max(passed - all_of_them, 0.0)}
