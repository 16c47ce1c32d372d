"""One device, eight devices and two processes of four devices give the same numbers (float64)."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
ALONE = ["one:1:1:20", "half:8:1:10", "eight:8:1:20:from=half", "one_more:1:1:20:from=half"]
# The interrupted pair comes last, since JAX remembers a SIGTERM until the process ends.
TOGETHER = ["pair2:8:2:20:from=half", "pair:8:1:20:term", "pair:8:1:20"]
KILLED, AGAIN = ["killed:8:1:20:from=half:kill"], ["killed:8:1:20"]

# Flags for quick compilation, which dominates the time.
QUICK = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"


def start(folder, runs, *, devices, port=0, processes=1, process=0):
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "JAX_ENABLE_X64": "1",
        "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices} {QUICK}",
    }
    module = "tests.training.topology_run"
    where = [str(folder), f"127.0.0.1:{port}", str(processes), str(process)]
    return subprocess.Popen(
        [sys.executable, "-m", module, *where, *runs],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def start_pair(folder, runs):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return [
        start(folder, runs, devices=4, port=port, processes=2, process=number)
        for number in range(2)
    ]


def finish(*processes):
    """Waits for all processes, which must succeed; returns the output of each."""
    reported = [process.communicate(timeout=240)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), reported
    return reported


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("topologies")
    finish(start(folder, ALONE, devices=8))
    said = finish(*start_pair(folder, TOGETHER))
    return folder, said


@pytest.fixture(scope="module")
def killed(runs):
    """The exit codes of two processes, the second killed, and the seconds between their ends."""
    folder, _ = runs
    first, second = start_pair(folder, KILLED)
    second.communicate(timeout=240)
    ended = time.monotonic()
    first.communicate(timeout=120)
    waited = time.monotonic() - ended
    finish(*start_pair(folder, AGAIN))
    return first.returncode, second.returncode, waited


def results(folder, name):
    with np.load(folder / f"{name}.npz") as file:
        return dict(file)


@pytest.mark.parametrize("name", ["eight", "one_more", "pair", "pair2"])
def test_any_topology_gives_the_same_numbers(runs, name):
    folder, _ = runs
    one, other = results(folder, "one"), results(folder, name)
    assert one.keys() == other.keys()
    assert {"parameters/backbone/conv/kernel", "statistics/backbone/norm/mean"} <= one.keys()
    assert "figures/validation/rotation/loss" in one
    losses = other.pop("losses")
    # Each continued from a checkpoint; the step at which SIGTERM stopped the pair is not fixed.
    assert len(losses) == 10 if name != "pair" else 0 < len(losses) <= 15
    np.testing.assert_allclose(losses, one["losses"][-len(losses) :], rtol=0, atol=1e-10)
    for leaf, values in other.items():
        np.testing.assert_allclose(values, one[leaf], rtol=0, atol=1e-10, err_msg=leaf)
    assert one["parameters/backbone/conv/kernel"].dtype == np.float64
    assert np.ptp(one["losses"]) > 1e-3


def test_a_run_of_which_a_process_was_killed_ends_and_continues_from_its_checkpoint(runs, killed):
    first, second, waited = killed
    assert second == -signal.SIGKILL
    assert first != 0 and waited < 90  # it does not wait forever
    test_any_topology_gives_the_same_numbers(runs, "killed")


def test_the_first_half_of_the_run_is_equal_too(runs):
    folder, _ = runs
    half, one = results(folder, "half")["losses"], results(folder, "one")["losses"]
    np.testing.assert_allclose(half, one[:10], rtol=0, atol=1e-10)


def test_only_the_first_process_writes(runs):
    folder, _ = runs

    def reported(name):
        lines = [json.loads(x) for x in (folder / name / "metrics.jsonl").read_text().splitlines()]
        return [{k: v for k, v in line.items() if k != "time"} for line in lines]

    assert reported("pair") == reported("one")
    assert [line["step"] for line in reported("pair")] == [4, 8, 10, 12, 16, 20, 20]
    assert len(list((folder / "pair" / "tensorboard").iterdir())) == 1


def test_sigterm_to_one_process_stops_all_at_the_same_step(runs):
    _, said = runs
    stopped = [[line for line in text.splitlines() if "terminated" in line] for text in said]
    assert len(stopped[0]) == 1 and stopped[0] == stopped[1]
    assert stopped[0][0].endswith(" and saved; run the same command again to continue")
