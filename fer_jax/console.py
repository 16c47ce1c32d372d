"""Messages on the terminal: one line each, without control characters.

`say` and `warn` use the standard library's logger "fer_jax", so a program that uses this package
can redirect or silence them. Importing this module changes only that logger; `configure`, which
only the command line calls, sets up the loggers of other packages.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
from collections.abc import Iterator
from typing import Any

_LOGGER = logging.getLogger("fer_jax")
# C0 except tab, DEL, C1, line and paragraph separators, bidirectional overrides and isolates, tag
# characters, surrogates. Joiners and direction marks stay: Persian file names contain them.
_UNSAFE = re.compile(
    "[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069"
    "\U000e0000-\U000e007f\ud800-\udfff]"
)


def say(*lines: str) -> None:
    """Prints each of `lines` as one line on standard output."""
    for line in lines:
        _LOGGER.info("%s", printable(line))


def warn(text: str) -> None:
    """Prints "warning: `text`" as one line on standard error."""
    _LOGGER.warning("%s", printable(text))


def fail(text: str) -> None:
    """Prints "error: `text`" as one line on standard error."""
    _LOGGER.error("%s", printable(text))


def printable(text: str) -> str:
    r"""`text` with control characters, bidirectional overrides and undecodable bytes escaped.

    A file name can contain such characters. Printed as they are, they could move the cursor,
    forge a line or fail to encode. A line break becomes \n, an escape \x1b, a byte that is not
    UTF-8 \xff.
    """
    return _UNSAFE.sub(_escaped, text)


def one_line(text: str) -> str:
    """The lines of `text` that are not blank, joined by "; "."""
    return "; ".join(line.strip() for line in text.splitlines() if line.strip())


def configure(verbosity: int | None = None) -> None:
    """Configures the logging of the whole process; called by the entry point after its flags.

    Args:
        verbosity: absl's level: -2 for errors, -1 for warnings, 0 for information, 1 for debugging.
            None shows all messages of this package, and warnings and errors of other packages.
    """
    from absl import logging as absl_logging
    from absl.logging import converter

    libraries, own = absl_logging.WARNING, absl_logging.INFO
    if verbosity is not None:
        libraries = own = min(verbosity, absl_logging.DEBUG)
    absl_logging.set_verbosity(libraries)
    root = logging.getLogger()
    root.setLevel(converter.absl_to_standard(libraries))
    root.handlers[:] = [_LibraryHandler(repeats=verbosity is not None)]
    logging.captureWarnings(True)
    _LOGGER.setLevel(converter.absl_to_standard(own))
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


@contextlib.contextmanager
def only_warnings() -> Iterator[None]:
    """Prints no information in the block, as a notebook wants it; warnings and errors stay."""
    level = _LOGGER.level
    _LOGGER.setLevel(max(level, logging.WARNING))
    try:
        yield
    finally:
        _LOGGER.setLevel(level)


def discard(stream: Any) -> None:
    """Drops what is written to `stream` from now on, because its pipe is no longer read.

    Otherwise Python would print an error about the pipe when it exits.
    """
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def debugging() -> bool:
    """Whether `configure` was called with verbosity 1, so that tracebacks are printed."""
    return _LOGGER.isEnabledFor(logging.DEBUG)


class _TerminalHandler(logging.Handler):
    """Writes information to the current standard output, the rest to standard error.

    The work continues if the terminal was closed or cannot encode a character.
    """

    def emit(self, record: logging.LogRecord) -> None:
        stream = sys.stdout if record.levelno <= logging.INFO else sys.stderr
        prefix = {logging.WARNING: "warning: ", logging.ERROR: "error: "}.get(record.levelno, "")
        _write(stream, prefix + record.getMessage())


class _LibraryHandler(logging.Handler):
    """Writes a message of another package to standard error as one line.

    Args:
        repeats: whether to write also the errors that Orbax and asyncio log and then raise, and
            which are therefore reported twice.
    """

    def __init__(self, *, repeats: bool) -> None:
        super().__init__()
        self._repeats = repeats

    def emit(self, record: logging.LogRecord) -> None:
        logged_twice = record.name == "asyncio" or "orbax" in record.pathname
        if logged_twice and record.levelno == logging.ERROR and not self._repeats:
            return
        try:
            text = record.getMessage()
        except (TypeError, ValueError):  # the arguments do not match the format
            text = str(record.msg)
        prefix = f"{record.levelname.lower()}: {record.name}: "
        _write(sys.stderr, prefix + printable(one_line(text)))
        if record.exc_info and debugging():
            trace = logging.Formatter().formatException(record.exc_info)
            for line in trace.splitlines():
                _write(sys.stderr, printable(line))


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # how `os.fsdecode` represents a byte that is not UTF-8
        code -= 0xDC00
    if code == 0x0A:
        return "\\n"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def _write(stream: Any, line: str) -> None:
    if stream is None:
        return
    encoding = getattr(stream, "encoding", None) or "utf-8"
    line = line.encode(encoding, "backslashreplace").decode(encoding)
    bars = sys.modules.get("tqdm")
    above_bars = bars.tqdm.external_write_mode(stream) if bars else contextlib.nullcontext()
    try:
        with above_bars:
            stream.write(line + "\n")
            stream.flush()
    except BrokenPipeError:
        discard(stream)
    except (OSError, ValueError):  # the terminal is closed
        pass


_LOGGER.setLevel(logging.INFO)
_LOGGER.propagate = False
if not _LOGGER.handlers:
    _LOGGER.addHandler(_TerminalHandler())
