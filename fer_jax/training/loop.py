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
    restored = checkpoints.restore(state)
    if restored is not None:
        state, iterator_state = restored
        batches.set_state(iterator_state)
    first = int(state["step"])
    recorder = Recorder(folder, first)
    ledger, waiting, figures = Ledger(), [], {}  # type: ignore[var-annotated]
    begun = saved = time.perf_counter()
    first_step_s = 0.0
    with _Termination() as termination, progress_bar(folder.name, steps, first) as bar:
        for step in range(first + 1, steps + 1):
            with ledger("data_wait"):
                batch = next(batches)
            purpose = "step" if "train" in learner.compile_seconds else "compile"
            with ledger(purpose):
                state, device_figures = learner.train(state, batch)
                waiting.append(device_figures)
            if step == first + 1:
                jax.block_until_ready(device_figures)
                first_step_s = time.perf_counter() - begun
            if step % config.log_every == 0 or step == steps:
                with ledger("step"):
                    figures = _means(waiting)
                waiting.clear()
                _check_finite(figures, step, checkpoints.latest_step())
                recorder.record(step, figures)
                bar.set_postfix(_postfix(figures, ledger, step - first, config.batch_size))
            bar.update()
            if evaluate and config.evaluate_every and step % config.evaluate_every == 0:
                with ledger("evaluate"):
                    recorder.record(step, _prefixed(evaluate(state)))
            if time.perf_counter() - saved > config.checkpoint_every_s or termination.asked:
                with ledger("save"):
                    checkpoints.save(state, batches.get_state())
                saved = time.perf_counter()
            if termination.asked:
                checkpoints.close()
                raise UserError(f"terminated at step {step}, saved; the same command goes on")
    if first < steps:
        checkpoints.save(state, batches.get_state())
    checkpoints.close()
    if evaluate:
        figures |= _prefixed(evaluate(state))
        recorder.record(steps, figures)
    recorder.close()
    images = (steps - first) * config.batch_size
    return Fitted(
        state=state,
        figures=figures,
        images_per_s=images / max(ledger.seconds["step"] + ledger.seconds["data_wait"], 1e-9),
        data_wait=ledger.share("data_wait"),
        first_step_s=first_step_s,
    )


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


def _postfix(
    figures: Mapping[str, float], ledger: Ledger, steps: int, batch_size: int
) -> dict[str, str]:
    seconds = ledger.seconds["step"] + ledger.seconds["data_wait"]
    return {
        "loss": f"{figures['loss']:.3f}",
        "images/s": f"{steps * batch_size / max(seconds, 1e-9):.0f}",
        "data wait": f"{ledger.share('data_wait'):.1%}",
    }
