"""Locks a folder, so that only one process at a time works in it.

This is a lock of the kernel on the folder itself: it ends with the process, even a killed one, and
leaves no file behind. On a network file system, other machines may not see the lock. On Windows and
some network file systems there are no such locks, and nothing is locked.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from fer_jax import backend
from fer_jax.errors import UserError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_LOCKS_UNSUPPORTED = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)


@contextlib.contextmanager
def alone_in(folder: Path, who: str) -> Iterator[None]:
    """Creates the folder if needed and locks it during the block.

    The lock prevents a second run from deleting files there. If the run has several processes,
    only the first one creates and locks the folder. A folder that was created here and is empty at
    the end of the block is removed. Error messages begin with `who`.

    Raises:
        UserError: another process is working there, or the folder cannot be created.
    """
    if not backend.writes():
        yield
        return
    new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{who}: cannot write to {folder} ({error.strerror}); choose another --workdir"
        ) from error
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(turn_in(folder, wait=False))
        except BlockingIOError as error:
            raise UserError(
                f"{who}: another process is working in {folder}; wait for it or stop it, or choose "
                f"another --workdir"
            ) from error
        try:
            yield
        finally:
            if new and folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()


@contextlib.contextmanager
def turn_in(folder: Path, *, wait: bool = True) -> Iterator[None]:
    """Locks an existing folder during the block; first waits for the lock, unless `wait` is false.

    This is for short work on files that several stages share, such as the table of pseudonyms, not
    for a stage's workdir, which `alone_in` locks for the whole run.

    Raises:
        BlockingIOError: another process has the lock, and `wait` is false.
        OSError: the folder cannot be read.
    """
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError as error:
            if error.errno not in _LOCKS_UNSUPPORTED:
                raise
        yield
    finally:
        os.close(descriptor)
