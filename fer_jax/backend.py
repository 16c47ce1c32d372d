"""What has to be set in JAX before a stage runs: the compilation cache, and the other processes.

A run is one process unless it is told of others: by the flags of `launch.py`, by the variables
JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID, or by Slurm, Open MPI or a TPU slice.
Then all processes run the same program on the same folder, and process 0 alone writes to it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import jax
from jax.experimental import multihost_utils

from fer_jax import failures
from fer_jax.errors import TerminatedError, UserError

FIND_OUT = "auto"  # as the coordinator's address: JAX asks the cluster


def compiler_options() -> dict[str, str | bool]:
    """What XLA is told for the programs of a network, by measurement (docs/results.md).

    On CPU, JAX 0.10 and 0.11 hand unpadded convolutions to YNNPACK, which takes up to 15 times as
    long for the gradients of large images' kernels as Eigen does; Eigen gets them back, and
    YNNPACK keeps the matrix products.
    """
    if jax.default_backend() != "cpu":
        return {}
    return {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"}


def run_once_options() -> dict[str, str | bool]:
    """What XLA is told for programs that run once: compile fast rather than run fast."""
    if jax.default_backend() != "cpu":
        return {}
    return {"xla_backend_optimization_level": "0", "xla_llvm_disable_expensive_passes": True}


def prepare(
    coordinator: str | None = None, processes: int | None = None, process: int | None = None
) -> None:
    """Keeps compiled programs between runs, and meets the other processes if there are any.

    Args:
        coordinator: "HOST:PORT" of process 0, or "auto": JAX asks the cluster that it runs on.
        processes: how many there are.
        process: which one this is, from 0.

    Raises:
        UserError: the description is incomplete, the others cannot be reached, or JAX does not
            know or find the platform that JAX_PLATFORMS names.
    """
    keep_compiled()
    coordinator = coordinator or os.environ.get("JAX_COORDINATOR_ADDRESS")
    processes = _number("JAX_NUM_PROCESSES", processes)
    process = _number("JAX_PROCESS_ID", process)
    if coordinator == FIND_OUT or (coordinator is None and _in_a_cluster()):
        _meet()
    elif coordinator or processes is not None or process is not None:
        if not coordinator or processes is None or process is None or ":" not in coordinator:
            raise UserError(
                f"several processes need --coordinator_address=HOST:PORT, --num_processes and "
                f"--process_id; got {coordinator}, {processes} and {process}"
            )
        if not 0 <= process < processes:
            raise UserError(f"--process_id={process} is not in 0 to {processes - 1}")
        if processes > 1:
            _meet(coordinator, processes, process)
    _initialise()


def keep_compiled() -> None:
    """Keeps compiled programs between runs, so that only the first one compiles.

    They lie in the folder that the environment variable JAX_COMPILATION_CACHE_DIR names, else in
    the user's cache folder. A folder that the program has given to JAX stays.
    """
    if not getattr(jax.config, "jax_compilation_cache_dir", None):  # the variable sets it too
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(base / "fer_jax" / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def several() -> bool:
    """Whether this run has more processes than one."""
    return jax.process_count() > 1


def writes() -> bool:
    """Whether this process is the one that writes to the workdir."""
    return jax.process_index() == 0


def wait_for_all(place: str) -> None:
    """Returns when every process has come to the same place."""
    if several():
        multihost_utils.sync_global_devices(place)


@contextlib.contextmanager
def first_one_then_the_others(place: str) -> Iterator[None]:
    """Process 0 runs the block, which may write files; then the others do, and find them."""
    if not writes():
        wait_for_all(place)
    yield
    if writes():
        wait_for_all(place)


@contextlib.contextmanager
def an_error_ends_all(workdir: str | os.PathLike[str] | None = None) -> Iterator[None]:
    """Among several processes, an error in one ends it at once, and thereby the others.

    Otherwise they would wait for it, and it would wait for them when it exits.
    """
    try:
        yield
    except TerminatedError:  # all of them are
        raise
    except BaseException as error:
        if not several():
            raise
        error.add_note(f"in process {jax.process_index()} of {jax.process_count()}")
        os._exit(failures.report(error, workdir, f"process {jax.process_index()}: "))


def _number(variable: str, given: int | None = None) -> int | None:
    """`given`, or else the number in an environment variable; None where that is unset or empty."""
    text = os.environ.get(variable, "").strip()
    if given is not None or not text:
        return given
    try:
        return int(text)
    except ValueError:
        raise UserError(
            f"the environment variable {variable}={text!r} must be a whole number; correct it or "
            f"unset it"
        ) from None


def _in_a_cluster() -> bool:
    """Whether Slurm, Open MPI or a TPU slice started this process as one of several."""
    tasks = _number("SLURM_NTASKS") if "SLURM_STEP_NODELIST" in os.environ else None
    ranks = _number("OMPI_COMM_WORLD_SIZE")
    hosts = os.environ.get("TPU_WORKER_HOSTNAMES") or os.environ.get("TPU_PROCESS_ADDRESSES") or ""
    return (tasks or 1) > 1 or (ranks or 1) > 1 or "," in hosts


def _meet(
    coordinator: str | None = None, processes: int | None = None, process: int | None = None
) -> None:
    seconds = _number("JAX_COORDINATION_TIMEOUT")
    try:
        jax.distributed.initialize(
            coordinator,
            processes,
            process,
            initialization_timeout=300 if seconds is None else seconds,
            heartbeat_timeout_seconds=30,
        )
    except Exception as error:  # of many types: each cluster is detected by code of its own
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise UserError(
            f"cannot meet the other processes at {coordinator or 'the cluster'} ({reason}); are "
            f"all of them started, with the same address and their own --process_id?"
        ) from error


def _initialise() -> None:
    try:
        jax.devices()
    except RuntimeError as error:
        asked = os.environ.get("JAX_PLATFORMS") or os.environ.get("JAX_PLATFORM_NAME")
        setting = f"JAX_PLATFORMS={asked}" if asked else "the default platform"
        reason = str(error).strip().split("\n")[0]
        raise UserError(
            f"JAX cannot use {setting} ({reason}); set JAX_PLATFORMS to cpu, cuda or tpu, or "
            f"unset it"
        ) from error
