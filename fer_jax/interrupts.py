"""Ctrl-C (SIGINT) ends a command at any moment, with one line and exit code 130.

During imports, `KeyboardInterrupt` is not enough: some modules swallow it, others end in a
traceback. Nothing has been written by then, so the process exits at once. While a stage runs,
SIGINT raises `KeyboardInterrupt`, so that temporary files are deleted and workers are stopped. A
second SIGINT exits at once.

This module is imported before all others and therefore imports almost nothing itself.
"""

from __future__ import annotations

import os
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any, NoReturn

EXIT_CODE = 128 + 2
MESSAGE = "interrupted; the same command continues from here"

_RETRY_S = 0.1
_asked = False


def exit_at_once() -> None:
    """Makes SIGINT end the process at once, with one line; called by the entry point.

    Nothing is cleaned up. If SIGINT is ignored, as in a background job of a shell script, it stays
    ignored.
    """
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _exit)


class as_exception:  # noqa: N801
    """In a block `with as_exception():` of the main thread, SIGINT raises `KeyboardInterrupt`.

    The interpreter swallows exceptions in some callbacks, such as the one that JAX adds to the
    garbage collector. In that case SIGINT is sent again a moment later.
    """

    def __enter__(self) -> None:
        global _asked
        _asked = False
        self._handler = signal.getsignal(signal.SIGINT)
        self._hook = sys.unraisablehook
        if self._handler is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, _raise)
            sys.unraisablehook = self._again_if_swallowed

    def __exit__(self, *_: object) -> None:
        if self._handler is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, self._handler)
            sys.unraisablehook = self._hook

    def _again_if_swallowed(self, unraisable: Any) -> None:
        global _asked
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            self._hook(unraisable)
            return
        import threading

        _asked = False
        main = threading.main_thread().ident
        timer = threading.Timer(_RETRY_S, signal.pthread_kill, (main, signal.SIGINT))
        timer.daemon = True
        timer.start()


def asked() -> bool:
    """Whether SIGINT was received in the latest block of `as_exception`."""
    return _asked


def _exit(_signal: int = 0, _frame: FrameType | None = None) -> NoReturn:
    try:
        os.write(2, f"error: {MESSAGE}\n".encode())
    finally:
        os._exit(EXIT_CODE)


def _raise(_signal: int, _frame: FrameType | None) -> NoReturn:
    global _asked
    if _asked:
        _exit()
    _asked = True
    raise KeyboardInterrupt
