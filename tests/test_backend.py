"""When a run takes itself for one of several, and what it says if that is half described."""

import pytest

from fer_jax import backend
from fer_jax.errors import UserError

VARIABLES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID", "SLURM_NTASKS",
             "SLURM_STEP_NODELIST", "OMPI_COMM_WORLD_SIZE", "TPU_WORKER_HOSTNAMES",
             "TPU_PROCESS_ADDRESSES")  # fmt: skip


@pytest.fixture
def met(monkeypatch):
    """What `jax.distributed.initialize` was told, without anybody being met."""
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    told = []
    monkeypatch.setattr(backend, "_meet", lambda *given: told.append(given))
    return told


def test_one_process_meets_nobody(met):
    backend.prepare()
    backend.prepare("localhost:1", 1, 0)
    assert met == []


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"SLURM_STEP_NODELIST": "node[1-2]", "SLURM_NTASKS": "2"}, [()]),
        ({"SLURM_STEP_NODELIST": "node1", "SLURM_NTASKS": "1"}, []),
        ({"SLURM_NTASKS": "2"}, []),  # in the batch script itself, outside of srun
        ({"OMPI_COMM_WORLD_SIZE": "4"}, [()]),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, [()]),
        ({"TPU_WORKER_HOSTNAMES": "a"}, []),
        ({"JAX_COORDINATOR_ADDRESS": "auto"}, [()]),
        (
            {
                "JAX_COORDINATOR_ADDRESS": "host:7",
                "JAX_NUM_PROCESSES": "3",
                "JAX_PROCESS_ID": "2",
            },
            [("host:7", 3, 2)],
        ),
    ],
)
def test_the_environment_tells_of_others(met, monkeypatch, environment, expected):
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    backend.prepare()
    assert met == expected


def test_flags_go_before_the_environment(met, monkeypatch):
    monkeypatch.setenv("JAX_PROCESS_ID", "0")
    backend.prepare("host:7", 2, 1)
    assert met == [("host:7", 2, 1)]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("host:7", None, None), "need --coordinator_address=HOST:PORT, --num_processes and"),
        (("host", 2, 0), "HOST:PORT"),
        ((None, 2, 0), "got None, 2 and 0"),
        ((None, None, 1), "got None, None and 1"),
        (("host:7", 2, 2), "--process_id=2 is not in 0 to 1"),
    ],
)
def test_half_a_description_is_an_error(met, given, message):
    with pytest.raises(UserError, match=message):
        backend.prepare(*given)
    assert met == []


def test_a_variable_that_is_no_number_is_named(met, monkeypatch):
    monkeypatch.setenv("JAX_NUM_PROCESSES", "two")
    with pytest.raises(UserError, match="JAX_NUM_PROCESSES='two'"):
        backend.prepare("host:7", None, 0)


def test_others_that_do_not_come_are_an_error(monkeypatch):
    def initialize(*_, **__):
        raise RuntimeError("DEADLINE_EXCEEDED: Barrier timed out\nmore")

    monkeypatch.setattr(backend.jax.distributed, "initialize", initialize)
    with pytest.raises(UserError, match=r"cannot meet .* at host:7 \(DEADLINE_EXCEEDED: Barrier"):
        backend.prepare("host:7", 2, 1)
