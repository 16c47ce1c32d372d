"""File permissions in tests that may run as root, whom permissions do not stop."""

import contextlib
import os
from collections.abc import Iterator

_NOBODY = 65534


@contextlib.contextmanager
def nobody() -> Iterator[None]:
    """If this user is root, runs the block as another user.

    The other user cannot enter pytest's own temporary folders.
    """
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(_NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
