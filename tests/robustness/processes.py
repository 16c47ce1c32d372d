"""Forked child processes, and limits of time and memory for them."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2

from fer_jax import backend
from fer_jax.errors import UserError

# Limits for one input. `MOST_BYTES` is resident memory in addition to that after the imports.
MOST_SECONDS = 60.0
MOST_BYTES = 1 << 30
_HARD_BYTES = (
    16 << 30
)  # of additional address space; ends a process before the machine runs out of memory


class Child:
    """A forked process, in a separate process group, that calls `work` and ends.

    What it prints is appended to `log`. JAX must not have been initialised in the parent process,
    because JAX's threads do not survive a fork.
    """

    def __init__(self, work: Callable[[], None], log: Path) -> None:
        self.log = log
        self.code: int | None = None
        self.pid = os.fork()
        if not self.pid:
            os.setsid()
            _redirect(log)
            os._exit(_run(work))

    def poll(self) -> int | None:
        """The exit code, or minus the number of the signal that ended it; None while it runs."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
        return self.code

    def wait(self, seconds: float) -> int | None:
        """Waits at most `seconds` for the end of the process; returns the same as `poll`."""
        deadline = time.monotonic() + seconds
        while self.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        return self.code

    def kill(self) -> None:
        """Sends SIGKILL to the process group, and waits for the end of the process."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        if self.code is None:
            self.code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def last_output(self) -> str:
        """The last 1,500 characters of its output."""
        return self.log.read_text(errors="replace")[-1500:]


def _redirect(log: Path) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.stdout = sys.stderr = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115


def _run(work: Callable[[], None]) -> int:
    try:
        cv2.setNumThreads(1)
        work()
    except UserError as error:
        print(f"error: {error}", flush=True)
        return error.exit_code
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def prepare_jax(compiled: Path) -> None:
    """Sets up JAX in a child; the folder `compiled` caches even the smallest programs."""
    import jax

    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(compiled)
    backend.prepare()
    jax.config.update("jax_compilation_cache_dir", str(compiled))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)


def bound_memory() -> None:
    """Limits the address space of this process to its present size plus `_HARD_BYTES`."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * os.sysconf("SC_PAGE_SIZE") + _HARD_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def resident_bytes(pid: int) -> int:
    """The resident memory of a process in bytes; 0 once it has ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


@contextlib.contextmanager
def ending(child: Child) -> Iterator[Child]:
    """Kills the child if it still runs at the end of the block."""
    try:
        yield child
    finally:
        if child.poll() is None:
            child.kill()
