"""Flags and environment decide whether a run has several processes; failures are explained."""

import pytest

from fer_jax import backend
from fer_jax.errors import UserError

VARIABLES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID", "SLURM_NTASKS",
             "SLURM_STEP_NODELIST", "OMPI_COMM_WORLD_SIZE", "TPU_WORKER_HOSTNAMES",
             "TPU_PROCESS_ADDRESSES")  # fmt: skip


@pytest.fixture
def met(monkeypatch):
    """The arguments of each call of `_connect`, which is replaced; unsets the `VARIABLES`."""
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    reported = []
    monkeypatch.setattr(backend, "_connect", lambda *given: reported.append(given))
    return reported


def test_a_single_process_does_not_connect(met):
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
def test_the_environment_says_that_there_are_several_processes(
    met, monkeypatch, environment, expected
):
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    backend.prepare()
    assert met == expected


def test_flags_take_precedence_over_the_environment(met, monkeypatch):
    monkeypatch.setenv("JAX_PROCESS_ID", "0")
    backend.prepare("host:7", 2, 1)
    assert met == [("host:7", 2, 1)]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("host:7", None, None), "needs --coordinator_address=HOST:PORT, --num_processes and"),
        (("host", 2, 0), "HOST:PORT"),
        ((None, 2, 0), "got None, 2 and 0"),
        ((None, None, 1), "got None, None and 1"),
        (("host:7", 2, 2), "--process_id=2 must be a number from 0 to 1"),
    ],
)
def test_an_incomplete_description_is_an_error(met, given, message):
    with pytest.raises(UserError, match=message):
        backend.prepare(*given)
    assert met == []


@pytest.mark.parametrize(
    "variable", ["JAX_NUM_PROCESSES", "JAX_PROCESS_ID", "SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE"]
)
def test_a_variable_that_is_not_a_number_is_named(met, monkeypatch, variable):
    monkeypatch.setenv("SLURM_STEP_NODELIST", "node[1-2]")
    monkeypatch.setenv(variable, "two")
    with pytest.raises(UserError, match=f"{variable}='two' must be a whole number"):
        backend.prepare()
    assert met == []


def test_an_empty_variable_counts_as_unset(met, monkeypatch):
    for variable in VARIABLES:
        monkeypatch.setenv(variable, "")
    backend.prepare()
    assert met == []


def test_a_timeout_that_is_not_a_number_is_named(monkeypatch):
    monkeypatch.setenv("JAX_COORDINATION_TIMEOUT", "soon")
    with pytest.raises(UserError, match="JAX_COORDINATION_TIMEOUT='soon'"):
        backend.prepare("host:7", 2, 1)


def test_the_error_for_an_unknown_platform_is_one_line(met, monkeypatch):
    def devices():
        raise RuntimeError("Unable to initialize backend 'foo'\nmore")

    monkeypatch.setenv("JAX_PLATFORMS", "foo")
    monkeypatch.setattr(backend.jax, "devices", devices)
    with pytest.raises(UserError, match=r"JAX cannot use JAX_PLATFORMS=foo .*'foo'") as caught:
        backend.prepare()
    assert "\n" not in str(caught.value)


def test_an_error_among_several_processes_names_the_process(monkeypatch, capsys):
    ended = []
    monkeypatch.setattr(backend, "several", lambda: True)
    monkeypatch.setattr(backend.os, "_exit", ended.append)
    for error, code in ((UserError("no folder"), 2), (KeyboardInterrupt(), 130)):
        with backend.an_error_ends_all(""):
            raise error
        assert ended.pop() == code
        assert capsys.readouterr().err.startswith("error: process 0: ")


def test_missing_processes_are_an_error(monkeypatch):
    def initialize(*_, **__):
        raise RuntimeError("DEADLINE_EXCEEDED: Barrier timed out\nmore")

    monkeypatch.setattr(backend.jax.distributed, "initialize", initialize)
    with pytest.raises(
        UserError, match=r"cannot connect .* at host:7 \(DEADLINE_EXCEEDED: Barrier"
    ):
        backend.prepare("host:7", 2, 1)
