"""One process at a time in a folder.

The lock is the kernel's, on the folder itself: it ends with the process, however that ends, and
leaves no file behind. Other machines may not see it on a network file system, and where there are
no such locks (Windows, some network file systems), nothing is locked.
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

_NO_LOCKS_HERE = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)


@contextlib.contextmanager
def alone_in(folder: Path, who: str) -> Iterator[None]:
    """Makes the folder and locks it, so that no second run deletes what this one is writing.

    Of several processes of one run, the first one locks. A new folder in which nothing was written
    is removed again. Errors begin with `who`.

    Raises:
        UserError: another process is at work there, or the folder cannot be made.
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
                f"{who}: another process is at work in {folder}; wait until it is done or stop it, "
                f"or give another --workdir"
            ) from error
        try:
            yield
        finally:
            if new and folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()


@contextlib.contextmanager
def turn_in(folder: Path, *, wait: bool = True) -> Iterator[None]:
    """Waits until no other process is in such a block for the same folder, which must exist.

    For short work on files that several stages share, such as the table of pseudonyms. Not for a
    stage's workdir, which `alone_in` locks for the whole run.

    Raises:
        BlockingIOError: another process is in such a block, and `wait` is false.
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
            if error.errno not in _NO_LOCKS_HERE:
                raise
        yield
    finally:
        os.close(descriptor)
