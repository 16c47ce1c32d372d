"""Worker processes, which end with the process that started them, and pools of threads."""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import connection
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")


class WorkerPool(ProcessPoolExecutor):
    """A pool of spawned processes, since forks of a process that uses JAX may hang.

    Workers ignore SIGINT, which a terminal sends to all processes at once. If an exception leaves
    the `with` block, workers are terminated instead of finishing their work.

    Args:
        workers: the number of processes.
        prepare: called in each process before its first job.
        *arguments: the arguments of `prepare`.
    """

    def __init__(self, workers: int, prepare: Callable[..., None], *arguments: Any) -> None:
        super().__init__(
            workers, multiprocessing.get_context("spawn"), _begin, (prepare, *arguments)
        )

    def submit(
        self, function: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs
    ) -> Future[_T]:
        with _sigint_blocked():  # a process that this starts inherits the mask
            return super().submit(function, *args, **kwargs)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is not None:
            processes = multiprocessing.active_children()
            for process in processes:
                process.terminate()
            for process in processes:
                connection.wait([process.sentinel])
            # A worker that ended while it wrote a result leaves the pool's thread waiting for the
            # rest, as long as any process could still write.
            self._result_queue._writer.close()  # type: ignore[attr-defined]
        super().__exit__(kind, error, traceback)  # the pool's thread joins its processes


def threads(name: str, count: int) -> ThreadPoolExecutor:
    """The pool `name` of `count` threads, made by the first call and kept until the process ends.

    The C library may give each new thread memory of its own and keep it when the thread ends, so
    that memory would grow if every batch had new threads.
    """
    return _threads(os.getpid(), name, count)


@functools.cache
def _threads(process: int, name: str, count: int) -> ThreadPoolExecutor:
    # `process` is part of the cache's key, since a forked process has none of its parent's threads.
    return ThreadPoolExecutor(count, name)


@contextlib.contextmanager
def _sigint_blocked() -> Iterator[None]:
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin(prepare: Callable[..., None], *arguments: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    prepare(*arguments)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
