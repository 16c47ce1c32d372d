"""A run that is stopped at any moment ends with the same state and the same metrics."""

import json
import os
import signal
import struct

import jax
import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event

from fer_jax.data import iterators
from fer_jax.errors import TerminatedError, UserError
from tests.training.tiny import (
    STEPS,
    TinyLearner,
    assert_same_bits,
    leaves,
    make_source,
    train,
)


class Killed(BaseException):
    """Simulates SIGKILL: nothing more is saved."""


def stopping(step, how):
    """A learner that calls `how` after the step number `step`."""
    learner = TinyLearner()
    learner.after = lambda done: how() if done == step else None
    return learner


def kill():
    raise Killed


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)


def lines(folder):
    """The content of metrics.jsonl without times."""
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for line in found:
        line.pop("time")
    return found


def events(folder):
    """Every scalar in the TensorBoard files, as (step, name, value)."""
    found = []
    for file in sorted((folder / "tensorboard").iterdir()):
        data, place = file.read_bytes(), 0
        while place < len(data):
            (length,) = struct.unpack("<Q", data[place : place + 8])
            event = Event.FromString(data[place + 12 : place + 12 + length])
            place += 16 + length
            found += [(event.step, v.tag, v.simple_value) for v in event.summary.value]
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    better = []
    fitted = train(folder, evaluate_every=4, best=kept(better))
    assert [line["step"] for line in lines(folder)] == [3, 4, 6, 8, 9, 12, 12]
    return folder, fitted, better[-1]


def kept(better):
    """A function that appends the arrays of each better state to a list."""
    return lambda state: better.append(leaves(state))


@pytest.mark.parametrize("at", [1, 3, 4, 7, STEPS])
@pytest.mark.parametrize("how", [kill, terminate])
def test_a_stopped_and_resumed_run_has_the_same_state_and_figures(tmp_path, whole, at, how):
    better = []
    settings = {"evaluate_every": 4, "checkpoint_every_s": 0, "best": kept(better)}
    with pytest.raises((Killed, TerminatedError)):
        train(tmp_path, stopping(at, how), **settings)
    fitted = train(tmp_path, **settings)
    assert_same_bits(fitted.state, whole[1].state)
    assert lines(tmp_path) == lines(whole[0])
    assert fitted.figures == whole[1].figures
    assert_same_bits(better[-1], whole[2])


@pytest.mark.parametrize(("at", "saved", "measured"), [(2, 1e9, 2), (2, 0, 1), (7, 0, 1)])
def test_step_0_is_recorded_once_even_if_the_run_is_killed(tmp_path, at, saved, measured):
    seen = []

    def before(state):
        seen.append(int(state["step"]))
        return {"probe/knn/features": 0.25}

    settings = {"before": before, "evaluate_every": 4, "checkpoint_every_s": saved}
    with pytest.raises(Killed):
        train(tmp_path, stopping(at, kill), **settings)
    fitted = train(tmp_path, **settings)
    assert seen == [0] * measured
    reported = lines(tmp_path)
    assert [line["step"] for line in reported] == [0, 3, 4, 6, 8, 9, 12, 12]
    assert reported[0] == {"step": 0, "validation/probe/knn/features": 0.25}
    assert (0, "validation/probe/knn/features", 0.25) in events(tmp_path)
    assert fitted.figures["validation/probe/knn/features"] == 0.25  # the newest with this name


def test_figures_of_step_0_do_not_count_for_the_best_state(tmp_path):
    better = []
    train(tmp_path, before=lambda state: {"loss": 0.0}, best=better.append)
    assert not better


def test_without_a_validation_loss_there_is_no_best_state(tmp_path):
    learner = TinyLearner()
    learner.evaluate = lambda state, batches: {"probe/knn/features": 0.5}
    better = []
    train(tmp_path, learner, evaluate_every=4, best=better.append)
    assert not better
    reported = [line for line in lines(tmp_path) if "validation/probe/knn/features" in line]
    assert [line["step"] for line in reported] == [4, 8, 12]


def test_tensorboard_events_agree_with_metrics_jsonl(tmp_path):
    with pytest.raises(Killed):  # before the first checkpoint
        train(tmp_path, stopping(5, kill))
    train(tmp_path)
    expected = [
        (line["step"], name, pytest.approx(value, rel=1e-6))
        for line in lines(tmp_path)
        for name, value in line.items()
        if name != "step"
    ]
    assert events(tmp_path) == expected


def test_a_finished_run_returns_its_figures_again(tmp_path):
    first = train(tmp_path, evaluate_every=4)
    again = train(tmp_path, evaluate_every=4)
    assert again.figures == first.figures
    assert {"loss", "validation/loss"} <= again.figures.keys()
    assert [line["step"] for line in lines(tmp_path)] == [3, 4, 6, 8, 9, 12, 12]
    assert again.images_per_s > 0 and again.seconds["step"] > 0  # of the previous run


def test_termination_saves_the_state_and_has_its_own_exit_code(tmp_path):
    with pytest.raises(TerminatedError, match="terminated at step 5 and saved") as caught:
        train(tmp_path, stopping(5, terminate))
    assert caught.value.exit_code == 143
    assert (tmp_path / "checkpoints" / "5").is_dir()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


class Poisoned(TinyLearner):
    """A learner whose loss or statistics are not finite from a step on."""

    def __init__(self, step, part):
        super().__init__()
        self.step, self.part = step, part

    def train(self, state, batch):
        state, figures = super().train(state, batch)
        if int(state["step"]) >= self.step:
            if self.part == "figures":
                return state, figures | {"loss": jax.numpy.inf * figures["loss"]}
            state = state | {"statistics": jax.tree.map(lambda x: x * np.nan, state["statistics"])}
        return state, figures


@pytest.mark.parametrize(("log_every", "checkpoint_every_s"), [(1, 0), (3, 0), (12, 0), (12, 1e9)])
def test_the_error_names_the_first_step_that_is_not_finite_and_its_batch(
    tmp_path, log_every, checkpoint_every_s
):
    settings = {"log_every": log_every, "checkpoint_every_s": checkpoint_every_s}
    pattern = r"at step 8, values are not finite: loss \(batch 7 with face"
    with pytest.raises(UserError, match=pattern):
        train(tmp_path, Poisoned(8, "figures"), **settings)
    report = json.loads((tmp_path / "not_finite.json").read_text())
    assert report["step"] == 8 and report["not_finite"] == ["loss"]
    good = 7 if checkpoint_every_s == 0 else 0
    assert report["last_checkpoint"] == good
    source = make_source()
    with iterators.TrainIterator(source, batch_size=8, seed=1) as batches:
        eighth = [next(batches) for _ in range(8)][-1]
    seen = [source.images[int(name.removeprefix("face"))] for name in report["examples"]]
    np.testing.assert_array_equal(np.stack(seen), eighth["image"])
    if good:  # the last checkpoint can be used
        assert int(train(tmp_path, steps=7).state["step"]) == 7


def test_a_state_that_is_not_finite_is_not_saved(tmp_path):
    with pytest.raises(UserError, match=r"at step 8, .* not finite: .*statistics/half and 1 more"):
        train(tmp_path, Poisoned(8, "state"), checkpoint_every_s=0)
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["6", "7"]


def test_a_validation_loss_that_is_not_finite_stops_the_run(tmp_path):
    learner = TinyLearner()
    learner.evaluate = lambda state, batches: {"loss": float("nan")}
    with pytest.raises(UserError, match=r"at step 4, .* not finite: .*validation/loss"):
        train(tmp_path, learner, evaluate_every=4)


def test_seconds_by_purpose_sum_to_the_total_time(tmp_path):
    fitted = train(tmp_path, evaluate_every=4)
    assert set(fitted.seconds) == {"compile", "data_wait", "step", "evaluate", "save", "other"}
    assert all(spent >= 0 for spent in fitted.seconds.values())
    assert fitted.seconds["save"] > 0 and fitted.seconds["evaluate"] > 0
