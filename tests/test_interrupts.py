"""Ctrl-C during imports, in a callback that swallows it, and while worker processes run."""

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from multiprocessing import connection
from pathlib import Path

import pytest

from fer_jax import interrupts
from fer_jax.workers import WorkerPool

ROOT = Path(__file__).parents[1]


@pytest.fixture
def handler():
    """Sets Python's own handler, since new processes would inherit an ignored SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_during_the_imports_is_one_line(tmp_path, handler):
    """Each process is interrupted after it has imported one of the modules."""
    moments = ("absl.app", "jax._src.core")
    command = [sys.executable, "-X", "importtime", "launch.py", "--config=configs/render.py"]
    processes = {
        moment: subprocess.Popen(
            [*command, f"--workdir={tmp_path}/{moment}"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for moment in moments
    }
    for moment, process in processes.items():
        for line in process.stderr:
            if line.split("|")[-1].strip() == moment:
                break
        process.send_signal(signal.SIGINT)
        out, rest = process.communicate(timeout=60)
        reported = [line for line in rest.splitlines() if not line.startswith("import time:")]
        assert reported == [f"error: {interrupts.MESSAGE}"], moment
        assert out == "" and process.returncode == 130
        assert not (tmp_path / moment).exists()


class Swallows:
    """An object whose finalizer is interrupted; the interpreter swallows the exception."""

    def __del__(self):
        signal.raise_signal(signal.SIGINT)


def test_an_interrupt_that_a_callback_swallows_is_sent_again(handler):
    with pytest.raises(KeyboardInterrupt), interrupts.as_exception():
        Swallows()
        time.sleep(30)
    assert interrupts.asked()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_ignored_sigint_stays_ignored(handler):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    interrupts.exit_at_once()
    with interrupts.as_exception():
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    assert not interrupts.asked()


def test_workers_do_not_outlive_an_interrupt():
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt), WorkerPool(1, int) as pool:
        pool.submit(int, "1").result()
        pool.submit(time.sleep, 60)
        pool.submit(time.sleep, 60)
        raise KeyboardInterrupt
    assert time.monotonic() - started < 30
    assert not multiprocessing.active_children()


def test_an_interrupt_ends_a_pool_whose_worker_has_written_half_a_result(tmp_path):
    process = multiprocessing.get_context("spawn").Process(
        target=interrupt_a_half_written_result, args=(tmp_path / "written",)
    )
    process.start()
    process.join(60)
    ended = process.exitcode
    process.kill()
    assert ended == 0


def interrupt_a_half_written_result(written):
    with contextlib.suppress(KeyboardInterrupt), WorkerPool(1, int) as pool:
        pool.submit(write_half, written)
        while not written.exists():
            time.sleep(0.01)
        raise KeyboardInterrupt
    assert not multiprocessing.active_children()


def write_half(written):
    """Makes this process write only the first half of its result, and then the file `written`."""

    def send(self, message):
        os.write(self.fileno(), bytes(message[: len(message) // 2]))
        written.touch()
        time.sleep(60)

    connection.Connection._send = send
    return bytes(100)
