"""Damage of every kind is told, and never becomes a wrong value."""

import contextlib
import json
import logging
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import jax
import pytest
from orbax.checkpoint import checkpoint_manager

from fer_jax.errors import UserError
from fer_jax.training import checkpoint
from fer_jax.training.checkpoint import Checkpoints
from fer_jax.training.integrity import describe, seal, unseal
from tests.training.tiny import TinyLearner, assert_same_bits, leaves, train


def steps_in(folder):
    return sorted(int(p.name) for p in (folder / "checkpoints").iterdir() if p.name.isdecimal())


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Checkpoints of the steps 11 and 12, and the state at 12."""
    folder = tmp_path_factory.mktemp("trained")
    fitted = train(folder, checkpoint_every_s=0)
    assert steps_in(folder) == [11, 12]
    return folder, fitted.state


@pytest.fixture
def copy(trained, tmp_path):
    shutil.copytree(trained[0], tmp_path / "run")
    return tmp_path / "run"


def arrays(step):
    """The files that hold the arrays' values, largest first."""
    files = [path for path in (step / "state").rglob("d/*") if path.is_file()]
    return sorted(files, key=lambda path: -path.stat().st_size)


def truncate(step):
    for file in arrays(step):
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flip(step):
    for file in arrays(step):
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)


def empty(step):
    shutil.rmtree(step)
    step.mkdir()


def replace_by_file(step):
    shutil.rmtree(step)
    step.write_text("no folder")


def alter_iterator(step):
    file = step / "progress" / "metadata"
    file.write_text(file.read_text().replace('"next_batch": 12', '"next_batch": 13'))


def remove(*parts):
    return lambda step: step.joinpath(*parts).unlink()


def overwrite(*parts):
    return lambda step: step.joinpath(*parts).write_text("{")


def remove_arrays(step):
    arrays(step)[0].unlink()


def mix_with_older(step):
    """The arrays of step 11 under the progress of step 12."""
    shutil.rmtree(step / "state")
    shutil.copytree(step.parent / "11" / "state", step / "state")


DAMAGE = {
    "no commit marker": (remove("commit_success.txt"), "saving was not finished"),
    "no tree of names": (remove("state", "_METADATA"), ""),
    "no manifest": (remove("state", "manifest.ocdbt"), ""),
    "truncated arrays": (truncate, ""),
    "flipped bits": (flip, ""),
    "an array's file missing": (remove_arrays, ""),
    "an empty folder": (empty, "folder is empty"),
    "a file for the folder": (replace_by_file, "a file, not a folder"),
    "no state": (lambda step: shutil.rmtree(step / "state"), ""),
    "the state of another step": (mix_with_older, "not what was saved"),
    "no progress": (lambda step: shutil.rmtree(step / "progress"), "progress/metadata is missing"),
    "half of the progress": (overwrite("progress", "metadata"), "progress/metadata is damaged"),
    "another place of the iterator": (alter_iterator, "its checksum is wrong"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_to_the_newest_is_told_and_the_one_before_it_used(copy, trained, capfd, kind):
    damage, reason = DAMAGE[kind]
    damage(copy / "checkpoints" / "12")
    resumed = train(copy)
    told = [line for line in capfd.readouterr().err.splitlines() if "warning:" in line]
    assert len(told) == 1
    assert "checkpoint of step 12 is damaged" in told[0] and "from that of step 11" in told[0]
    assert reason in told[0]
    assert_same_bits(resumed.state, trained[1])
    assert steps_in(copy) == [11, 12]
    assert (copy / "checkpoints" / "damaged" / "12").exists()


def test_killed_while_the_first_is_saved_training_starts_again(copy, trained, capfd):
    shutil.rmtree(copy / "checkpoints" / "11")
    (copy / "checkpoints" / "12" / "commit_success.txt").unlink()
    resumed = train(copy)
    assert "checkpoint of step 12 is damaged" in capfd.readouterr().err
    assert_same_bits(resumed.state, trained[1])
    assert (copy / "checkpoints" / "damaged" / "12").exists()


def test_when_all_are_damaged_the_error_says_where_and_what_to_do(copy):
    for step in ("11", "12"):
        flip(copy / "checkpoints" / step)
    before = sorted(copy.rglob("*"))
    with pytest.raises(UserError, match=r"no checkpoint in .*checkpoints can be used \(step 12: "):
        train(copy)
    assert sorted(copy.rglob("*")) == before  # nothing is thrown away


def test_damage_to_an_older_one_does_not_stop_the_newest(copy):
    flip(copy / "checkpoints" / "11")
    resumed = train(copy, steps=14)
    assert int(resumed.state["step"]) == 14
    assert steps_in(copy) == [12, 14]


def test_arrays_of_another_shape_are_an_error_that_names_them(copy):
    with pytest.raises(UserError, match=r"another network .*float32 \[3, 16\] and should be"):
        train(copy, width=17)
    assert steps_in(copy) == [11, 12]


def test_arrays_of_another_name_are_an_error_that_names_them(copy):
    like = TinyLearner().init(5)
    like["statistics"]["variance"] = like["statistics"].pop("mean")
    with pytest.raises(UserError, match="statistics/variance is missing, statistics/mean is not"):
        Checkpoints(copy / "checkpoints").restore(like)


@contextlib.contextmanager
def nobody():
    """No superuser, whom permissions do not stop."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_checkpoint_that_may_not_be_read_is_an_error(trained):
    with tempfile.TemporaryDirectory() as there:
        Path(there).chmod(0o755)
        shutil.copytree(trained[0], Path(there) / "run")
        (Path(there) / "run").chmod(0o755)
        file = Path(there) / "run" / "checkpoints" / "12" / "progress" / "metadata"
        file.chmod(0)
        like = TinyLearner().init(5)
        with nobody(), pytest.raises(UserError, match="12/progress/metadata: Permission denied"):
            Checkpoints(Path(there) / "run" / "checkpoints").restore(like)


def test_a_file_where_the_folder_should_be(tmp_path):
    (tmp_path / "checkpoints").write_text("")
    with pytest.raises(UserError, match="checkpoints is a file"):
        train(tmp_path)


def test_what_an_interrupted_save_left_is_cleared(copy, trained):
    stray = copy / "checkpoints" / "13.orbax-checkpoint-tmp"
    shutil.copytree(copy / "checkpoints" / "12", stray)
    resumed = train(copy, steps=13)
    assert not stray.exists()
    assert int(resumed.state["step"]) == 13


def test_no_checkpoint_yet_is_told(tmp_path, capfd):
    with (tmp_path / "metrics.jsonl").open("w") as file:
        file.write('{"time": 1, "step": 3, "loss": 1.0}\n')
    train(tmp_path)
    assert "no checkpoint yet: starts at step 0 again" in capfd.readouterr().err


def test_the_newest_are_kept_and_each_better_state_is_handed_over(tmp_path):
    losses = iter([3.0, 1.0, 2.0, 4.0, 5.0, 6.0])
    learner = TinyLearner()
    learner.evaluate = lambda state, batches: {"loss": next(losses)}
    better = []
    train(
        tmp_path,
        learner,
        evaluate_every=2,
        checkpoint_every_s=0,
        best=lambda state: better.append(leaves(state["parameters"])),
    )
    assert steps_in(tmp_path) == [11, 12]
    assert len(better) == 2
    best = train(tmp_path / "best", steps=4)
    assert_same_bits(better[-1], leaves(best.state["parameters"]))


def test_the_lowest_loss_is_known_after_a_restart(tmp_path):
    steps_of_the_better = []
    for steps, loss in ((4, 1.0), (8, 2.0), (12, 0.5)):
        learner = TinyLearner()
        learner.evaluate = lambda state, batches, loss=loss: {"loss": loss}
        train(
            tmp_path,
            learner,
            steps=steps,
            evaluate_every=2,
            best=lambda state: steps_of_the_better.append(int(state["step"])),
        )
    assert steps_of_the_better == [2, 10]


class FullDisk:
    """A file system of a megabyte, and a file that fills it."""

    def __init__(self, folder):
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
        if subprocess.run(command, capture_output=True).returncode:
            pytest.skip("no permission to mount a small file system here")
        self.folder = folder

    def fill(self):
        with contextlib.suppress(OSError), (self.folder / "filler").open("wb", 0) as file:
            while True:
                file.write(b"x" * 4096)

    def free(self):
        (self.folder / "filler").unlink()

    def close(self):
        subprocess.run(["umount", "--lazy", str(self.folder)], check=True)


@pytest.fixture
def disk(tmp_path):
    disk = FullDisk(tmp_path / "disk")
    yield disk
    disk.close()


def test_a_full_disk_is_told_and_survived(disk, tmp_path, capfd):
    learner = TinyLearner()
    learner.after = lambda step: {6: disk.fill, 10: disk.free}.get(step, int)()
    run = tmp_path / "run"
    run.mkdir()
    (run / "checkpoints").symlink_to(disk.folder)
    fitted = train(run, learner, checkpoint_every_s=0)
    told = [line for line in capfd.readouterr().err.splitlines() if "warning:" in line]
    assert [line for line in told if "step 6 was not written" in line]
    assert all(
        re.search(r"\(no space left\); the last one is of step [45];", line) for line in told
    )
    assert steps_in(run) == [11, 12]
    assert_same_bits(fitted.state, train(tmp_path / "other").state)


def test_a_disk_that_stays_full_ends_the_run_with_an_error(disk, tmp_path):
    learner = TinyLearner()
    learner.after = lambda step: {6: disk.fill}.get(step, int)()
    run = tmp_path / "run"
    run.mkdir()
    (run / "checkpoints").symlink_to(disk.folder)
    with pytest.raises(UserError, match=r"last state was not saved .*it goes on from step [45]"):
        train(run, learner, checkpoint_every_s=0)
    disk.free()
    assert_same_bits(train(run).state, train(tmp_path / "other").state)


def test_a_seal_shows_any_change():
    content = {"step": 3, "values": [0.1, 1e-30], "nested": {"a": None}}
    sealed = json.loads(json.dumps(seal(content)))
    assert unseal(sealed) == content
    sealed["content"]["values"][0] = 0.2
    with pytest.raises(ValueError, match="checksum"):
        unseal(sealed)


def test_every_bit_of_every_leaf_counts():
    state = TinyLearner().init(5)
    described, bad = describe(state)
    assert not bad and described["parameters/head/0/kernel"]["shape"] == [3, 16]
    state["statistics"]["half"] = jax.numpy.array([1.0, 1.0078125], jax.numpy.bfloat16)
    other, _ = describe(state)
    assert [name for name in other if other[name] != described[name]] == ["statistics/half"]
    state["statistics"]["half"] = jax.numpy.array([1.0, jax.numpy.inf], jax.numpy.bfloat16)
    assert describe(state)[1] == ["statistics/half"]


def test_what_was_sealed_does_not_follow_its_source():
    counted = {"figures": {"loss": 1.0}}
    sealed = seal(counted)
    counted["figures"]["loss"] = 2.0  # as the loop does while a checkpoint is being written
    assert unseal(sealed) == {"figures": {"loss": 1.0}}


def test_waiting_for_the_save_before_gives_no_advice(tmp_path, monkeypatch):
    """Orbax would say so after a second, which a busy machine often needs."""
    monkeypatch.setattr(checkpoint_manager, "_WAIT_FOR_PREV_SAVE_WARNING_THRESHOLD_SECS", -1.0)
    told = []
    handler = logging.Handler()
    handler.emit = lambda record: told.append(record.getMessage())
    logging.getLogger("absl").addHandler(handler)
    try:
        train(tmp_path, checkpoint_every_s=0)
    finally:
        logging.getLogger("absl").removeHandler(handler)
    assert not [text for text in told if "Waiting for previous save" in text]
    assert checkpoint._not_advice not in logging.getLogger("absl").filters
