"""The training loop, the same for every task and for every fold."""

from __future__ import annotations

import dataclasses
import math
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any, Protocol, runtime_checkable

import jax
from ml_collections import ConfigDict

from fer_jax.errors import UserError
from fer_jax.training.checkpoint import Checkpoints
from fer_jax.training.learner import HostBatch, Learner
from fer_jax.training.logging import Ledger, Recorder, progress_bar
from fer_jax.training.state import State


@runtime_checkable
class BatchIterator(Protocol):
    """An endless stream of batches whose place can be saved and restored."""

    def __next__(self) -> HostBatch: ...
    def get_state(self) -> dict[str, Any]: ...
    def set_state(self, state: dict[str, Any]) -> None: ...


@dataclasses.dataclass
class Fitted:
    """What `fit` returns: the final state, the last figures, and where the time went."""

    state: State
    figures: dict[str, float]
    images_per_s: float
    data_wait: float
    first_step_s: float

    def speed(self) -> dict[str, float]:
        """The figures that every training stage reports."""
        return {
            "images_per_s": round(self.images_per_s, 1),
            "data_wait": round(self.data_wait, 4),
            "first_step_s": round(self.first_step_s, 2),
        }


def fit(
    learner: Learner,
    state: State,
    batches: BatchIterator,
    *,
    steps: int,
    folder: Path,
    config: ConfigDict,
    evaluate: Callable[[State], Mapping[str, float]] | None = None,
) -> Fitted:
    """Trains until `steps`, going on from the newest checkpoint in `folder` if there is one.

    Everything random is keyed by the state's seed and step, and the iterator's place is saved
    with the state: a run that was killed and resumed ends with the same parameters.

    Fields of `config`: `log_every` and `evaluate_every`, in steps (0: only at the end);
    `checkpoint_every_s`, in seconds.

    Raises:
        UserError: the loss is not finite any more; the last good checkpoint stays.
    """
    folder.mkdir(parents=True, exist_ok=True)
    checkpoints = Checkpoints(folder / "checkpoints")
    state = _restore(checkpoints, state, batches)
    first = int(state["step"])
    saved = time.perf_counter()
    with _Termination() as termination, _Meter(folder, first, steps, config.batch_size) as meter:
        for step in range(first + 1, steps + 1):
            with meter.ledger("data_wait"):
                batch = next(batches)
            with meter.ledger("step" if step > first + 1 else "first_step"):
                state, device_figures = learner.train(state, batch)
                meter.add(device_figures)
                if step == first + 1:
                    jax.block_until_ready(device_figures)
            if step % config.log_every == 0 or step == steps:
                meter.report(step, saved_step=checkpoints.latest_step())
            if evaluate and config.evaluate_every and step % config.evaluate_every == 0:
                with meter.ledger("evaluate"):
                    meter.record(step, _prefixed(evaluate(state)))
            due = time.perf_counter() - saved > config.checkpoint_every_s or step == steps
            if due or termination.asked:
                meter.check(step, saved_step=checkpoints.latest_step())
                with meter.ledger("save"):
                    checkpoints.save(state, batches.get_state())
                saved = time.perf_counter()
            if termination.asked:
                checkpoints.close()
                raise UserError(f"terminated at step {step}, saved; the same command goes on")
        checkpoints.close()
        if evaluate:
            meter.record(steps, _prefixed(evaluate(state)))
        return Fitted(
            state,
            meter.figures,
            meter.images_per_s(),
            meter.ledger.share("data_wait"),
            meter.ledger.seconds["first_step"],
        )


class _Meter:
    """Collects the figures of steps, and tells them every now and then."""

    def __init__(self, folder: Path, first: int, steps: int, batch_size: int) -> None:
        self.ledger = Ledger()
        self.figures: dict[str, float] = {}
        self._recorder = Recorder(folder, first)
        self._waiting: list[dict[str, jax.Array]] = []
        self._bar = progress_bar(folder.name, steps, first)
        self._batch_size = batch_size
        self._done = 0

    def __enter__(self) -> _Meter:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()
        self._recorder.close()

    def add(self, figures: dict[str, jax.Array]) -> None:
        """Keeps the figures of one step, which may still be computed, for the next report."""
        self._waiting.append(figures)
        self._done += 1
        self._bar.update()

    def report(self, step: int, *, saved_step: int) -> None:
        """Tells the means since the last report, after checking that they are finite."""
        with self.ledger("step"):  # fetching waits for the device
            means = _means(self._waiting)
        self._waiting.clear()
        _check_finite(means, step, saved_step)
        self.record(step, means)
        self._bar.set_postfix(
            {
                "loss": f"{means['loss']:.3f}",
                "images/s": f"{self.images_per_s():.0f}",
                "data wait": f"{self.ledger.share('data_wait'):.1%}",
            }
        )

    def check(self, step: int, *, saved_step: int) -> None:
        """Raises `UserError` if a figure since the last report is not finite."""
        if self._waiting:
            _check_finite(_means(self._waiting), step, saved_step)

    def record(self, step: int, figures: Mapping[str, float]) -> None:
        """Writes figures of a step; the newest of each name are kept in `figures`."""
        self._recorder.record(step, figures)
        self.figures |= figures

    def images_per_s(self) -> float:
        """Without the first step, which compiles."""
        seconds = self.ledger.seconds["step"] + self.ledger.seconds["data_wait"]
        return max(self._done - 1, 0) * self._batch_size / max(seconds, 1e-9)


def _restore(checkpoints: Checkpoints, state: State, batches: BatchIterator) -> State:
    """The newest checkpoint, with the iterator set to its place; `state` if there is none."""
    restored = checkpoints.restore(state)
    if restored is None:
        return state
    batches.set_state(restored[1])
    return restored[0]


class _Termination:
    """Notices SIGTERM, so that the loop can save before it ends."""

    def __init__(self) -> None:
        self.asked = False

    def __enter__(self) -> _Termination:
        self._before = signal.signal(signal.SIGTERM, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGTERM, self._before)

    def _ask(self, _signal: int, _frame: FrameType | None) -> None:
        self.asked = True


def _means(waiting: list[dict[str, jax.Array]]) -> dict[str, float]:
    """Means of each figure over the steps since the last record."""
    fetched = jax.device_get(waiting)
    return {name: float(sum(f[name] for f in fetched) / len(fetched)) for name in fetched[0]}


def _check_finite(figures: Mapping[str, float], step: int, saved_step: int) -> None:
    bad = [name for name, value in figures.items() if not math.isfinite(value)]
    if bad:
        raise UserError(
            f"{', '.join(bad)} not finite within the steps up to {step}; the last checkpoint is "
            f"of step {saved_step}; try a lower config.optimizer.learning_rate in a new workdir"
        )


def _prefixed(figures: Mapping[str, float]) -> dict[str, float]:
    return {f"validation/{name}": value for name, value in figures.items()}
