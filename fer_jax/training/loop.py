"""The training loop, which is the same for all tasks."""

from __future__ import annotations

import dataclasses
import math
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, Protocol, runtime_checkable

import jax
import numpy as np
from jax.experimental import multihost_utils

from fer_jax import backend, console
from fer_jax.errors import TerminatedError, UserError
from fer_jax.schemas import Loop, Training
from fer_jax.training import flops
from fer_jax.training.checkpoint import Checkpoints, NotFiniteError
from fer_jax.training.learner import HostBatch, Learner
from fer_jax.training.meter import Meter
from fer_jax.training.state import State
from fer_jax.workdir import write_json

_VALIDATION_LOSS = "validation/loss"


@runtime_checkable
class BatchIterator(Protocol):
    """An endless stream of batches whose position can be saved and restored."""

    def __next__(self) -> HostBatch: ...
    def get_state(self) -> dict[str, Any]: ...
    def set_state(self, state: dict[str, Any]) -> None: ...
    def examples(self, batch: int) -> list[str]:
        """The ids of the examples of batch `batch` (from 0) in all processes together."""


@dataclasses.dataclass
class Fitted:
    """The result of `fit`.

    Attributes:
        state: the final state.
        figures: the newest value of each recorded metric, by name.
        images_per_s: training images per second of all processes, without the first step.
        data_wait: share of the recorded time that the loop spent waiting for batches, 0 to 1.
        first_step_s: seconds of the first step of this call, including its compilation; 0 if no
            step was left.
        seconds: seconds by purpose, including those of interrupted runs. The purposes are compile,
            data_wait, step, evaluate, save and other.
        flops_per_s: floating-point operations per second of all devices in training.
    """

    state: State
    figures: dict[str, float]
    images_per_s: float
    data_wait: float
    first_step_s: float
    seconds: dict[str, float]
    flops_per_s: float

    def speed(self) -> dict[str, float]:
        """Rounded measures of speed by name.

        `utilisation`, the share of the published peak FLOP/s, is included if the peak is known.
        """
        peak = flops.peak_of_all_devices()
        return {
            "images_per_s": round(self.images_per_s, 1),
            "data_wait": round(self.data_wait, 4),
            "first_step_s": round(self.first_step_s, 2),
            "gflop_per_s": round(self.flops_per_s / 1e9, 2),
            **({"utilisation": round(self.flops_per_s / peak, 4)} if peak else {}),
        }


def steps_of(config: Training, images: int | float) -> int:
    """The number of steps in `config.epochs` epochs of `images` images.

    It is at least `config.min_steps`, and at least 1.
    """
    steps = max(1, round(config.epochs * images / config.batch_size))
    least = config.min_steps
    if config.epochs and steps < least and backend.writes():
        console.detail(
            f"[{config.stage}] training for --config.min_steps={least} steps, since "
            f"--config.epochs={config.epochs:g} would be only {steps} steps"
        )
    return max(steps, least)


def fit(
    learner: Learner,
    state: State,
    batches: BatchIterator,
    *,
    steps: int,
    folder: Path,
    loop: Loop,
    evaluate: Callable[[State], Mapping[str, float]] | None = None,
    before: Callable[[State], Mapping[str, float]] | None = None,
    best: Callable[[State], None] | None = None,
) -> Fitted:
    """Trains until step `steps`, continuing from the newest usable checkpoint in `folder`, if any.

    The random numbers of an update depend only on the state's seed and step, and a checkpoint
    contains the iterator's position and the metrics that are not yet reported. So a run that was
    killed and resumed ends with the same parameters as an uninterrupted one, and with the same
    lines in metrics.jsonl except for times.

    Args:
        learner: makes the updates.
        state: the state at step 0.
        batches: the training batches.
        steps: the total number of steps, including those before the checkpoint.
        folder: the folder of checkpoints and metrics.jsonl.
        loop: how often metrics are logged and the state is evaluated and saved, the batch size of
            all processes, and the project of Weights & Biases, if any.
        evaluate: computes the validation metrics of a state; None: no evaluation.
        before: computes validation metrics of the initial state, which are recorded for step 0; not
            called if training is resumed from a checkpoint.
        best: called with each state whose validation "loss" is the lowest so far, unless the final
            state is the only one that is evaluated.

    Raises:
        TerminatedError: SIGTERM was received; the state is saved.
        UserError: a metric or the state is not finite (the last good checkpoint stays), none of the
            existing checkpoints can be used, or the last state cannot be saved.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _Termination() as termination, Checkpoints(folder / "checkpoints") as checkpoints:
        restored = checkpoints.restore(state)
        first, meter_state = 0, None
        if restored is not None:
            state, first, meter_state = restored.state, restored.step, restored.progress["meter"]
            batches.set_state(restored.progress["iterator"])
        elif (folder / "metrics.jsonl").exists() and backend.writes():
            console.warn(f"{folder.name}: there is no checkpoint yet; starting again at step 0")
        run = _Run(learner, batches, steps, folder, loop, evaluate, best, checkpoints, termination)
        with Meter(folder, first, steps, loop, meter_state) as meter:
            if restored is None and before is not None:
                run.measure(before, state, 0, meter)
            state = run.train(state, first, meter)
            return Fitted(
                state,
                meter.figures,
                meter.images_per_s(),
                meter.ledger.share("data_wait"),
                meter.first_step_s,
                meter.seconds_by_purpose(),
                learner.flops_per_step * meter.images_per_s() / loop.batch_size,
            )


@dataclasses.dataclass
class _Run:
    """One call of `fit`: its arguments, its checkpoints and its handler of SIGTERM."""

    learner: Learner
    batches: BatchIterator
    steps: int
    folder: Path
    loop: Loop
    evaluate: Callable[[State], Mapping[str, float]] | None
    best: Callable[[State], None] | None
    checkpoints: Checkpoints
    termination: _Termination

    def train(self, state: State, first: int, meter: Meter) -> State:
        """Trains from step `first + 1` to the last; logs, evaluates and saves, in this order."""
        saved = time.perf_counter()
        for step in range(first + 1, self.steps + 1):
            state = self._step(state, step, meter)
            last = step == self.steps
            if last or (self.loop.log_every and step % self.loop.log_every == 0):
                self._check(meter)
                meter.report(step)
            self._evaluate(state, step, meter)
            terminated = self.termination.agreed(step)
            elapsed = time.perf_counter() - saved
            if last or terminated or self._due(step, elapsed):
                self._save(state, step, meter)
                saved = time.perf_counter()
            if terminated:
                self._stop(step)
        with meter.ledger("save"):
            self.checkpoints.wait()
        if self.checkpoints.failure:
            raise UserError(
                f"the last state was not saved in {self.checkpoints.folder} "
                f"({self.checkpoints.failure}); make that folder writable, or free some disk "
                f"space, and run the same command again, which "
                f"continues from step {self.checkpoints.latest_step()}"
            )
        return state

    def _step(self, state: State, step: int, meter: Meter) -> State:
        with meter.ledger("data_wait"):
            batch = next(self.batches)
        started, compiled = time.perf_counter(), self._compile_seconds()
        with meter.ledger("step"):
            state, figures = self.learner.train(state, batch)
            if meter.first_step_s == 0:
                jax.block_until_ready(figures)
                meter.first_step_s = time.perf_counter() - started
        meter.compiled("step", self._compile_seconds() - compiled)
        meter.add(step, figures)
        return state

    def _evaluate(self, state: State, step: int, meter: Meter) -> None:
        """Computes and records validation metrics if they are due; calls `best` as in `fit`."""
        every = self.loop.evaluate_every
        if self.evaluate is None or not (step == self.steps or (every and step % every == 0)):
            return
        figures = self.measure(self.evaluate, state, step, meter)
        meter.evaluations += 1
        bad = [name for name, value in figures.items() if not math.isfinite(value)]
        if bad:
            self._check(meter)  # reports an earlier training step that is not finite, if any
            self._not_finite(step, bad, figures, [])
        better = _VALIDATION_LOSS in figures and meter.is_best(figures[_VALIDATION_LOSS])
        is_only_one = step == self.steps and meter.evaluations == 1
        if better and self.best is not None and not is_only_one:
            with meter.ledger("save"):
                self.best(state)

    def measure(
        self, how: Callable[[State], Mapping[str, float]], state: State, step: int, meter: Meter
    ) -> dict[str, float]:
        """Computes metrics of a state with `how`.

        Records and returns them under names that begin with "validation/".
        """
        compiled = self._compile_seconds()
        with meter.ledger("evaluate"):
            figures = {f"validation/{name}": float(value) for name, value in how(state).items()}
        meter.compiled("evaluate", self._compile_seconds() - compiled)
        meter.record(step, figures)
        return figures

    def _save(self, state: State, step: int, meter: Meter) -> None:
        with meter.ledger("save"):
            self._check(meter)
            meter.secure()
            progress = {"iterator": self.batches.get_state(), "meter": meter.get_state()}
            try:
                self.checkpoints.save(state, progress)
            except NotFiniteError as error:
                self._not_finite(step, [str(error)], {}, self.batches.examples(step - 1))

    def _check(self, meter: Meter) -> None:
        """Raises a `UserError` if a metric of a step since the last report is NaN or Inf."""
        for step, figures in meter.fetch():
            bad = [name for name, value in figures.items() if not math.isfinite(value)]
            if bad:
                self._not_finite(step, bad, figures, self.batches.examples(step - 1))

    def _not_finite(
        self, step: int, bad: list[str], figures: Mapping[str, float], examples: list[str]
    ) -> NoReturn:
        self.checkpoints.wait()
        good = self.checkpoints.latest_step()
        file = self.folder / "not_finite.json"
        if backend.writes():
            report = {
                "step": step,
                "not_finite": bad,
                "figures": {name: str(value) for name, value in figures.items()},
                "batch": step - 1,
                "examples": examples,
                "last_checkpoint": good,
            }
            write_json(file, report)
        shown = f" (batch {step - 1} with {', '.join(examples[:3])}, ...)" if examples else ""
        raise UserError(
            f"at step {step}, values are not finite: {', '.join(bad)}{shown}; see {file}; there is "
            f"{f'a good checkpoint of step {good}' if good else 'no checkpoint yet'}; "
            f"try a lower --config.optimizer.learning_rate in a new workdir"
        )

    def _due(self, step: int, elapsed: float) -> bool:
        """Whether to save now, `elapsed` seconds after the last save.

        With several processes, the clock of the first one decides, and only at logged steps (at
        each step if none are logged).
        """
        due = elapsed > self.loop.checkpoint_every_s
        if not backend.several():
            return bool(due)
        if self.loop.log_every and step % self.loop.log_every:  # a broadcast at each step is slow
            return False
        return bool(multihost_utils.broadcast_one_to_all(np.array(due)))

    def _stop(self, step: int) -> NoReturn:
        self.checkpoints.wait()
        if self.checkpoints.failure:
            step = self.checkpoints.latest_step()
            raise UserError(
                f"terminated, and the state was not saved in {self.checkpoints.folder} "
                f"({self.checkpoints.failure}); make that folder writable, or free some disk "
                f"space, and run the same command again, which continues from "
                f"step {step}"
            )
        raise TerminatedError(
            f"terminated at step {step} and saved; run the same command again to continue"
        )

    def _compile_seconds(self) -> float:
        return float(sum(self.learner.compile_seconds.values()))


class _Termination:
    """Handles SIGTERM, so that the loop can save before it ends."""

    def __init__(self) -> None:
        self.asked = False

    def __enter__(self) -> _Termination:
        # With several processes, JAX's own handler determines the step at which all of them stop.
        self._before = None if backend.several() else signal.signal(signal.SIGTERM, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)

    def agreed(self, step: int) -> bool:
        """Whether to stop after this step; the same in all processes."""
        if backend.several():
            return bool(multihost_utils.reached_preemption_sync_point(step))
        return self.asked

    def _ask(self, _signal: int, _frame: FrameType | None) -> None:
        self.asked = True
