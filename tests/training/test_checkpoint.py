"""Damaged checkpoints of every kind are reported, and never restored as wrong values."""

import contextlib
import json
import logging
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
from tests.privileges import nobody
from tests.training.tiny import TinyLearner, assert_same_bits, leaves, train


def steps_in(folder):
    return sorted(int(p.name) for p in (folder / "checkpoints").iterdir() if p.name.isdecimal())


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a run with checkpoints of steps 11 and 12, and its state at step 12."""
    folder = tmp_path_factory.mktemp("trained")
    fitted = train(folder, checkpoint_every_s=0)
    assert steps_in(folder) == [11, 12]
    return folder, fitted.state


@pytest.fixture
def copy(trained, tmp_path):
    shutil.copytree(trained[0], tmp_path / "run")
    return tmp_path / "run"


def arrays(step):
    """The files with the values of arrays, largest first."""
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
    """Combines the arrays of step 11 with the progress of step 12."""
    shutil.rmtree(step / "state")
    shutil.copytree(step.parent / "11" / "state", step / "state")


DAMAGE = {
    "no commit marker": (remove("commit_success.txt"), "it is incomplete"),
    "no tree of names": (remove("state", "_METADATA"), ""),
    "no manifest": (remove("state", "manifest.ocdbt"), ""),
    "truncated arrays": (truncate, ""),
    "flipped bits": (flip, ""),
    "an array's file missing": (remove_arrays, ""),
    "an empty folder": (empty, "folder is empty"),
    "a file for the folder": (replace_by_file, "a file, not a folder"),
    "no state": (lambda step: shutil.rmtree(step / "state"), ""),
    "the state of another step": (mix_with_older, "differ from what was saved"),
    "no progress": (lambda step: shutil.rmtree(step / "progress"), "progress/metadata is missing"),
    "half of the progress": (overwrite("progress", "metadata"), "progress/metadata is damaged"),
    "another position of the iterator": (alter_iterator, "its checksum is wrong"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_newest_checkpoint_is_reported_and_the_previous_one_used(
    copy, trained, capfd, kind
):
    damage, reason = DAMAGE[kind]
    damage(copy / "checkpoints" / "12")
    resumed = train(copy)
    reported = [line for line in capfd.readouterr().err.splitlines() if "warning:" in line]
    assert len(reported) == 1
    assert (
        "checkpoint of step 12 cannot be used" in reported[0]
        and "continuing from step 11" in reported[0]
    )
    assert reason in reported[0]
    assert_same_bits(resumed.state, trained[1])
    assert steps_in(copy) == [11, 12]
    assert (copy / "checkpoints" / "damaged" / "12").exists()


def test_training_starts_again_if_killed_while_saving_the_first_checkpoint(copy, trained, capfd):
    shutil.rmtree(copy / "checkpoints" / "11")
    (copy / "checkpoints" / "12" / "commit_success.txt").unlink()
    resumed = train(copy)
    assert "checkpoint of step 12 cannot be used" in capfd.readouterr().err
    assert_same_bits(resumed.state, trained[1])
    assert (copy / "checkpoints" / "damaged" / "12").exists()


def test_it_is_a_user_error_if_all_checkpoints_are_damaged(copy):
    for step in ("11", "12"):
        flip(copy / "checkpoints" / step)
    before = sorted(copy.rglob("*"))
    with pytest.raises(UserError, match=r"no checkpoint in .*checkpoints can be used \(step 12: "):
        train(copy)
    assert sorted(copy.rglob("*")) == before  # nothing is deleted


def test_a_damaged_older_checkpoint_does_not_matter(copy):
    flip(copy / "checkpoints" / "11")
    resumed = train(copy, steps=14)
    assert int(resumed.state["step"]) == 14
    assert steps_in(copy) == [12, 14]


def test_arrays_of_another_shape_are_named_in_the_error(copy):
    with pytest.raises(UserError, match=r"another network .*float32 \[3, 16\], expected"):
        train(copy, width=17)
    assert steps_in(copy) == [11, 12]


def test_missing_and_unknown_arrays_are_named_in_the_error(copy):
    like = TinyLearner().init(5)
    like["statistics"]["variance"] = like["statistics"].pop("mean")
    with pytest.raises(
        UserError, match="statistics/variance is missing, statistics/mean is unknown"
    ):
        Checkpoints(copy / "checkpoints").restore(like)


def test_a_checkpoint_without_read_permission_is_a_user_error(trained):
    with tempfile.TemporaryDirectory() as there:
        Path(there).chmod(0o755)
        shutil.copytree(trained[0], Path(there) / "run")
        (Path(there) / "run").chmod(0o755)
        file = Path(there) / "run" / "checkpoints" / "12" / "progress" / "metadata"
        file.chmod(0)
        like = TinyLearner().init(5)
        with nobody(), pytest.raises(UserError, match="12/progress/metadata: Permission denied"):
            Checkpoints(Path(there) / "run" / "checkpoints").restore(like)


def test_a_file_in_place_of_the_folder_is_a_user_error(tmp_path):
    (tmp_path / "checkpoints").write_text("")
    with pytest.raises(UserError, match="checkpoints is a file"):
        train(tmp_path)


def test_leftovers_of_an_interrupted_save_are_deleted(copy, trained):
    stray = copy / "checkpoints" / "13.orbax-checkpoint-tmp"
    shutil.copytree(copy / "checkpoints" / "12", stray)
    resumed = train(copy, steps=13)
    assert not stray.exists()
    assert int(resumed.state["step"]) == 13


def test_starting_again_without_a_checkpoint_is_reported(tmp_path, capfd):
    with (tmp_path / "metrics.jsonl").open("w") as file:
        file.write('{"time": 1, "step": 3, "loss": 1.0}\n')
    train(tmp_path)
    assert "no checkpoint yet; starting again at step 0" in capfd.readouterr().err


def test_the_newest_checkpoints_are_kept_and_better_states_are_passed_on(tmp_path):
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


def test_the_lowest_loss_is_restored(tmp_path):
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
    """A file system of one megabyte, and a file that fills it.

    Skips the test if the file system cannot be mounted.
    """

    def __init__(self, folder):
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
        if subprocess.run(command, capture_output=True).returncode:
            pytest.skip("no permission to mount a small file system here")
        self.folder = folder

    def fill(self):
        """Fills the free space; may be called again after an unfinished checkpoint was deleted."""
        with contextlib.suppress(OSError), (self.folder / "filler").open("ab", 0) as file:
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


def test_training_continues_after_the_disk_was_full(disk, tmp_path, capfd):
    learner = TinyLearner()
    learner.after = lambda step: disk.fill() if 6 <= step < 10 else disk.free() if step == 10 else 0
    run = tmp_path / "run"
    run.mkdir()
    (run / "checkpoints").symlink_to(disk.folder)
    fitted = train(run, learner, checkpoint_every_s=0)
    reported = [line for line in capfd.readouterr().err.splitlines() if "warning:" in line]
    pattern = (
        r"step (\d+) was not written \(no space left\); "
        r"a resumed run would continue from step (\d+);"
    )
    failed, newest = zip(
        *[map(int, re.search(pattern, line).groups()) for line in reported], strict=True
    )
    # Which steps fail depends on the timing: a checkpoint is written while training continues.
    assert set(failed) <= set(range(5, 11)) and set(range(7, 9)) & set(failed)
    assert all(4 <= good < bad for bad, good in zip(failed, newest, strict=True))
    assert not set(newest) & set(failed)
    assert steps_in(run) == [11, 12]
    assert_same_bits(fitted.state, train(tmp_path / "other").state)


def test_a_disk_that_stays_full_is_a_user_error_at_the_end(disk, tmp_path):
    learner = TinyLearner()
    learner.after = lambda step: disk.fill() if step >= 6 else None
    run = tmp_path / "run"
    run.mkdir()
    (run / "checkpoints").symlink_to(disk.folder)
    with pytest.raises(UserError, match="last state was not saved") as raised:
        train(run, learner, checkpoint_every_s=0)
    assert f"continues from step {steps_in(run)[-1]}" in str(raised.value)
    assert "make that folder writable, or free some disk space" in str(raised.value)
    assert 4 <= steps_in(run)[-1] < 12
    disk.free()
    assert_same_bits(train(run).state, train(tmp_path / "other").state)


def test_a_seal_detects_any_change():
    content = {"step": 3, "values": [0.1, 1e-30], "nested": {"a": None}}
    sealed = json.loads(json.dumps(seal(content)))
    assert unseal(sealed) == content
    sealed["content"]["values"][0] = 0.2
    with pytest.raises(ValueError, match="checksum"):
        unseal(sealed)


def test_a_flipped_bit_in_any_leaf_is_detected():
    state = TinyLearner().init(5)
    described, bad = describe(state)
    assert not bad and described["parameters/head/0/kernel"]["shape"] == [3, 16]
    state["statistics"]["half"] = jax.numpy.array([1.0, 1.0078125], jax.numpy.bfloat16)
    other, _ = describe(state)
    assert [name for name in other if other[name] != described[name]] == ["statistics/half"]
    state["statistics"]["half"] = jax.numpy.array([1.0, jax.numpy.inf], jax.numpy.bfloat16)
    assert describe(state)[1] == ["statistics/half"]


def test_sealed_content_is_a_copy():
    counted = {"figures": {"loss": 1.0}}
    sealed = seal(counted)
    counted["figures"]["loss"] = 2.0  # like the loop while a checkpoint is written
    assert unseal(sealed) == {"figures": {"loss": 1.0}}


def test_waiting_for_the_previous_save_prints_no_advice(tmp_path, monkeypatch):
    """Orbax prints this advice after a second of waiting, which is common on a busy machine."""
    monkeypatch.setattr(checkpoint_manager, "_WAIT_FOR_PREV_SAVE_WARNING_THRESHOLD_SECS", -1.0)
    reported = []
    handler = logging.Handler()
    handler.emit = lambda record: reported.append(record.getMessage())
    logging.getLogger("absl").addHandler(handler)
    try:
        train(tmp_path, checkpoint_every_s=0)
    finally:
        logging.getLogger("absl").removeHandler(handler)
    assert not [text for text in reported if "Waiting for previous save" in text]
    assert checkpoint._not_advice not in logging.getLogger("absl").filters
