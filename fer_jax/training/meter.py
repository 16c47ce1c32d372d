"""The figures of a run: collected step by step, told every now and then, kept in checkpoints."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from fer_jax.schemas import Loop
from fer_jax.training.logging import Ledger, Recorder, progress_bar


class Meter:
    """Collects the figures of steps, and tells them every now and then.

    Its `get_state` goes into checkpoints, so that a resumed run tells what one run would.
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
        # Without a checkpoint what stands there of step 0 is measured, and told, again.
        kept = -1 if state is None else first
        self._recorder = Recorder(folder, kept, loop.wandb)
        self._bar = progress_bar(folder.name, steps, first)
        self._batch_size = loop.batch_size
        self._before = sum(self.ledger.seconds.values())
        self._started = time.perf_counter()

    def __enter__(self) -> Meter:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()
        self._recorder.close()

    def get_state(self) -> dict[str, Any]:
        """JSON-able: figures not yet reported, the newest of each, and what was counted."""
        return {
            "waiting": [[step, dict(figures)] for step, figures in self.fetch()],
            "figures": self.figures,
            "validation": [self.evaluations, self._best],
            "timed": self._timed,
            "seconds": self.seconds_by_purpose(),
        }

    def add(self, step: int, figures: Mapping[str, jax.Array]) -> None:
        """Keeps the figures of one step, which may still be computed, for the next report."""
        self._waiting.append((step, figures))
        self._timed += self._done > 0  # the first one compiles
        self._done += 1
        self._bar.update()

    def fetch(self) -> list[tuple[int, Mapping[str, float]]]:
        """The figures of each step since the last report, once the device has computed them."""
        with self.ledger("step"):
            fetched = jax.device_get([figures for _, figures in self._waiting])
        steps = [step for step, _ in self._waiting]
        values = [{name: float(value) for name, value in figures.items()} for figures in fetched]
        self._waiting = list(zip(steps, values, strict=True))
        return list(self._waiting)

    def report(self, step: int) -> None:
        """Tells the means since the last report."""
        figures = [figures for _, figures in self.fetch()]
        self._waiting.clear()
        means = {name: math.fsum(f[name] for f in figures) / len(figures) for name in figures[0]}
        self.record(step, means)
        self._bar.set_postfix(
            {
                "loss": f"{means['loss']:.3f}",
                "images/s": f"{self.images_per_s():.0f}",
                "data wait": f"{self.ledger.share('data_wait'):.1%}",
            }
        )

    def record(self, step: int, figures: Mapping[str, float]) -> None:
        """Writes figures of a step; the newest of each name are kept in `figures`."""
        self._recorder.record(step, figures)
        self.figures |= figures

    def is_best(self, loss: float) -> bool:
        """Whether a validation loss is lower than all before it."""
        better = loss < self._best
        self._best = min(loss, self._best)
        return better

    def secure(self) -> None:
        """Before a checkpoint: what was recorded until now should outlive it."""
        self._recorder.secure()

    def compiled(self, within: str, seconds: float) -> None:
        """Books seconds of compilation, which passed within another purpose."""
        self.ledger.seconds[within] -= seconds
        self.ledger.seconds["compile"] += seconds

    def images_per_s(self) -> float:
        """Of all processes together, without the first step, which compiles."""
        seconds = self.ledger.seconds["step"] + self.ledger.seconds["data_wait"]
        return self._timed * self._batch_size / max(seconds, 1e-9)

    def seconds_by_purpose(self) -> dict[str, float]:
        """With `other`: what passed since the start beside the purposes named."""
        purposes = ("compile", "data_wait", "step", "evaluate", "save", "other")
        seconds = {purpose: self.ledger.seconds[purpose] for purpose in purposes}
        all_of_them = sum(self.ledger.seconds.values())
        passed = self._before + time.perf_counter() - self._started
        return seconds | {"other": seconds["other"] + max(passed - all_of_them, 0.0)}
