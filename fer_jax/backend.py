"""Sets up JAX before a stage runs: the compilation cache, and the connection of processes.

A run is one process unless several are configured: by the flags of `launch.py`, by the variables
JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID, or by Slurm, Open MPI or a TPU slice.
Several processes run the same program with the same workdir. Only process 0 writes to it, except
for checkpoints, which all processes save together.
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

FIND_OUT = "auto"  # as --coordinator_address: JAX detects the address from the cluster


def compiler_options() -> dict[str, str | bool]:
    """XLA's options for the programs of a network, chosen by measurement (docs/experiments.md).

    On CPU, JAX 0.10 and 0.11 compute unpadded convolutions with the library YNNPACK, which takes up
    to 15 times as long as the library Eigen for the gradients of kernels on large images. With
    these options, Eigen computes the convolutions, and YNNPACK only the matrix products. Empty
    except on CPU.
    """
    if jax.default_backend() != "cpu":
        return {}
    return {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"}


def run_once_options() -> dict[str, str | bool]:
    """XLA's options for programs that run once, for which fast compilation matters most.

    Empty except on CPU.
    """
    if jax.default_backend() != "cpu":
        return {}
    return {"xla_backend_optimization_level": "0", "xla_llvm_disable_expensive_passes": True}


def prepare(
    coordinator: str | None = None, processes: int | None = None, process: int | None = None
) -> None:
    """Sets up the cache of compiled programs, and connects to the other processes if there are any.

    Arguments that are None are read from the environment (see the top of this module).

    Args:
        coordinator: "HOST:PORT" of process 0, or "auto": JAX detects it from the cluster.
        processes: the number of processes.
        process: the number of this process, from 0.

    Raises:
        UserError: an argument is missing or out of range, an environment variable that
            must be a number is not, the other processes cannot be reached, or JAX cannot use the
            platform that JAX_PLATFORMS names.
    """
    keep_compiled()
    coordinator = coordinator or os.environ.get("JAX_COORDINATOR_ADDRESS")
    processes = _number("JAX_NUM_PROCESSES", processes)
    process = _number("JAX_PROCESS_ID", process)
    if coordinator == FIND_OUT or (coordinator is None and _in_a_cluster()):
        _connect()
    elif coordinator or processes is not None or process is not None:
        if not coordinator or processes is None or process is None or ":" not in coordinator:
            raise UserError(
                f"a run of several processes needs --coordinator_address=HOST:PORT, "
                f"--num_processes and --process_id; got {coordinator}, {processes} and {process}"
            )
        if not 0 <= process < processes:
            most = processes - 1
            raise UserError(f"--process_id={process} must be a number from 0 to {most}")
        if processes > 1:
            _connect(coordinator, processes, process)
    _initialise()


def keep_compiled() -> None:
    """Keeps compiled programs between runs, so that only the first run compiles them.

    They are stored in the folder that the environment variable JAX_COMPILATION_CACHE_DIR names,
    else in the user's cache folder. A cache folder that the program has already set is not changed.
    """
    # JAX has read JAX_COMPILATION_CACHE_DIR into this option, if the variable is set.
    if not getattr(jax.config, "jax_compilation_cache_dir", None):
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(base / "fer_jax" / "compiled"))
    # Small programs are stored too: compiling one takes several times as long as reading it.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def several() -> bool:
    """Whether this run has more than one process."""
    return jax.process_count() > 1


def writes() -> bool:
    """Whether this process is the one that writes to the workdir."""
    return jax.process_index() == 0


def wait_for_all(place: str) -> None:
    """Waits until every process has called this function with the same text `place`."""
    if several():
        multihost_utils.sync_global_devices(place)


@contextlib.contextmanager
def first_one_then_the_others(place: str) -> Iterator[None]:
    """Process 0 runs the block, which may write files; then the others run it and find the files.

    Args:
        place: as in `wait_for_all`.
    """
    if not writes():
        wait_for_all(place)
    yield
    if writes():
        wait_for_all(place)


@contextlib.contextmanager
def an_error_ends_all(workdir: str | os.PathLike[str] | None = None) -> Iterator[None]:
    """With several processes, an error in the block ends this process at once.

    `failures.report` first reports the error, with this `workdir`. The end of this process also
    ends the other processes, which would otherwise wait for it forever. With a single process,
    errors are only passed on; so is a `TerminatedError`, which all processes raise.
    """
    try:
        yield
    except TerminatedError:  # raised in all processes
        raise
    except BaseException as error:
        if not several():
            raise
        error.add_note(f"in process {jax.process_index()} of {jax.process_count()}")
        os._exit(failures.report(error, workdir, f"process {jax.process_index()}: "))


def _number(variable: str, given: int | None = None) -> int | None:
    """`given`; if None, the number in the environment variable; None if that is unset or empty."""
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


def _connect(
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
    except Exception as error:  # the type depends on the cluster
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise UserError(
            f"cannot connect to the other processes{f' at {coordinator}' if coordinator else ''} "
            f"({reason}); start all of them, each with the same address and its own --process_id"
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
