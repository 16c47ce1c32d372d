"""Every task has the same inputs, targets, loss and gradients on one device and on eight (float64).

In float32 the random numbers are also the same, but eight devices add in a different order, so that
the last bit of a normalised tile may differ. New files in fer_jax/tasks are tested automatically.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.tasks.test_tasks import every_task

ROOT = Path(__file__).parents[2]
QUICK = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    file = tmp_path_factory.mktemp("devices") / "measured.npz"
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "JAX_ENABLE_X64": "1",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count=8 {QUICK}",
    }
    command = [sys.executable, "-m", "tests.tasks.devices_run", str(file)]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, timeout=280)
    with np.load(file) as results:
        return dict(results)


def of(measured, name, fields, devices):
    start = f"{name}{fields}/{devices}/"
    return {k.removeprefix(start): v for k, v in measured.items() if k.startswith(start)}


@every_task
def test_eight_devices_agree_with_one(measured, name, fields):
    one, eight = of(measured, name, fields, 1), of(measured, name, fields, 8)
    assert one.keys() == eight.keys()
    assert {leaf.split("[")[0] for leaf in one} == {"prepared", "figures", "gradients"}
    for leaf, values in one.items():
        assert values.dtype != np.float32 or "loss" not in leaf, leaf
        exact = np.issubdtype(values.dtype, np.integer)
        np.testing.assert_allclose(
            eight[leaf], values, rtol=0, atol=0 if exact else 1e-10, err_msg=leaf
        )
    assert one["prepared[0]"].dtype == np.float64
    assert one["figures['loss']"] > 0.1
    kernel = one["gradients['backbone']['conv']['kernel']"]
    assert np.abs(kernel).max() > 1e-4


def test_the_tolerance_detects_another_loss(measured):
    """The losses of two variants of a task differ by far more than the tolerance."""
    one = measured["rotation{}/1/figures['loss']"]
    other = measured["rotation{'views': 1}/1/figures['loss']"]
    assert abs(one - other) > 1e-6
