"""Messages and progress on the terminal. Messages are single lines without control characters.

Results of stages (`result`), bars and marks are in the current language of messages. `say`,
`detail` and `warn` use the standard library's logger "fer_jax", so a program that uses this
package can redirect or silence them. Importing this module changes only that logger; `configure`,
which only the command line calls, sets up the loggers of other packages.

`Progress` counts work. On a terminal it is a bar, which disappears at the end. Without a terminal,
`signs_of_life` writes a mark whenever nothing else was written for ten seconds. A terminal that
reports a width of 0 columns, in which no bar fits, is treated as no terminal.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from fer_jax.languages.language import ENGLISH, Language, spoken

_LOGGER = logging.getLogger("fer_jax")
# C0 except tab, DEL, C1, line and paragraph separators, bidirectional overrides and isolates, tag
# characters, surrogates. Joiners and direction marks stay: Persian file names contain them.
_UNSAFE = re.compile(
    "[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069"
    "\U000e0000-\U000e007f\ud800-\udfff]"
)
_reworded: Callable[[str], str] = str
_SILENCE_S = 10.0  # the longest time without output, if there is no terminal
_MARKS_WIDTH = 76  # characters of a line of marks
_BAR = {  # tqdm's format for each placeholder of the texts progress.bar and progress.count
    "percentage": "{percentage:3.0f}",
    "bar": "{bar:30}",
    "done": "{n:.0f}",
    "total": "{total:.0f}",
    "unit": "{unit}",
    "elapsed": "{elapsed}",
    "remaining": "{remaining}",
    "note": "{postfix}",
}


def say(*lines: str) -> None:
    """Logs each of `lines` as information, by default as one line on standard output."""
    for line in lines:
        _LOGGER.info("%s", printable(line))


def result(key: str, **values: Any) -> None:
    """Logs the text "result.`key`" in the current language of messages, indented by two spaces."""
    say(f"  {spoken().text(f'result.{key}', **values)}")


def detail(*lines: str) -> None:
    """Logs each of `lines` for debugging; shown only if `configure` was called with verbosity 1."""
    for line in lines:
        _LOGGER.debug("%s", printable(line))


def warn(text: str) -> None:
    """Logs a warning, by default as the line "warning: `text`" on standard error."""
    _LOGGER.warning("%s", printable(text))


def fail(text: str) -> None:
    """Logs an error, by default as the line "error: `text`" on standard error."""
    _LOGGER.error("%s", printable(text))


def reword(rule: Callable[[str], str]) -> None:
    """Sets a rule that rewrites all further messages of this package before they are printed.

    The command `fer-jax` uses it to name flags as they are typed: --FIELD, not --config.FIELD.
    """
    global _reworded
    _reworded = rule


def printable(text: str) -> str:
    r"""`text` with control characters, bidirectional overrides and undecodable bytes escaped.

    A file name can contain such characters. Printed as they are, they could move the cursor,
    forge a line or fail to encode. For example, a line break becomes \n, and the byte 255,
    which is not UTF-8, becomes \xff. Tabs stay.
    """
    return _UNSAFE.sub(_escaped, text)


def one_line(text: str) -> str:
    """The lines of `text` that are not blank, stripped and joined by "; "."""
    return "; ".join(line.strip() for line in text.splitlines() if line.strip())


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells as indented lines; the first column is left-aligned, the others right-aligned.

    Args:
        rows: at least one; all have the same number of cells.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  " + "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip()
        for row in rows
    ]


def percent(share: float, words: Language = ENGLISH, decimals: int = 1) -> str:
    """A share from 0 to 1 as a percentage, such as "97.0 %"."""
    return words.text("plot.percent", number=words.number(100 * share, decimals))


def count(number: int, thing: str, things: str = "") -> str:
    """A number with its noun in English, for errors and warnings; see also `Language.count`."""
    return f"{number:,} {thing if number == 1 else things or f'{thing}s'}"


class Progress:
    """A context manager that counts work. Of nested ones, only the outermost is shown.

    An inner one counts parts of the outer one's next unit: for example, training steps are parts of
    a fold.

    Args:
        name: the text before the bar; "" if an earlier message says what is counted.
        total: the number of units; None if it is unknown.
        unit: what the units are; "frame" selects the noun "count.frame" of the language.
        done: the number of units that were done before this run.
        shown: whether the progress may be displayed.

    Attributes:
        total: see the argument; may be changed.
        done: units done so far.
    """

    def __init__(
        self,
        name: str = "",
        total: int | None = None,
        unit: str = "step",
        *,
        done: int = 0,
        shown: bool = True,
    ) -> None:
        self.total, self.done = total, done
        self._name, self._unit, self._shown = name, unit, shown
        self._words = spoken()  # kept, because the thread that writes marks has no language
        self._part = 0.0  # the fraction of the next unit that is done
        self._outer: Progress | None = None
        self._bar: Any = None

    def __enter__(self) -> Progress:
        if not self._shown:
            return self
        with _lock:
            self._outer = _open[-1] if _open else None
            _open.append(self)
        if self._outer is None and _is_watched():
            self._bar = self._make_bar()
        return self

    def _make_bar(self) -> Any:
        from tqdm import tqdm  # takes 0.1 s to import, and messages do not need it

        words = self._words
        form = words.texts["progress.count" if self.total is None else "progress.bar"]

        class Bar(tqdm):
            monitor_interval = 0  # otherwise each such class would start a monitoring thread

            def __str__(self) -> str:
                return words.digits(super().__str__().replace(", ", words.texts["list.comma"]))

        return Bar(
            desc=printable(self._name) or None,
            total=self.total,
            initial=self.done,
            unit=words.noun(self._unit, 0),
            bar_format="{desc}" + form.format_map(_BAR),
            leave=False,
            dynamic_ncols=True,
            mininterval=0.5,
        )

    def __exit__(self, *_: object) -> None:
        with _lock:
            if self in _open:
                _open.remove(self)
        if self._bar is not None:
            self._bar.total = self.total
            self._bar.close()

    def update(self, units: int = 1) -> None:
        """Counts `units` further units."""
        self.done += units
        self._part = 0.0
        self._changed()

    def note(self, text: str) -> None:
        """Shows a short text after the bar, such as the loss."""
        outermost = self
        while outermost._outer is not None:
            outermost = outermost._outer
        if outermost._bar is not None:
            outermost._bar.set_postfix_str(printable(text), refresh=False)

    def mark(self) -> str:
        """The work done so far, as a percentage of `total` or, without one, a number of units.

        It is "" if nothing is done, or less than half a percent.
        """
        if self.total:
            share = round(min((self.done + self._part) / self.total, 1.0), 2)
            return percent(share, self._words, 0) if share else ""
        return self._words.count(self.done, self._unit) if self.done else ""

    def _changed(self) -> None:
        outer = self._outer
        if outer is not None and self.total:
            part = min((self.done + self._part) / self.total, 1.0)
            outer._part = max(outer._part, part)  # a later inner one must not lower it
            outer._changed()
        if self._bar is not None:
            self._bar.total = self.total
            self._bar.update(self.done + self._part - self._bar.n)


@contextlib.contextmanager
def signs_of_life(clock: Callable[[], float] = time.monotonic) -> Iterator[Callable[[], float]]:
    """Without a terminal, writes a mark in the block after each ten seconds without output.

    A mark is the progress of the outermost open `Progress`: "after 20 s: 33 %, 33 %, 40 %". If
    there is no progress yet, the mark is the number of seconds since the last message: "still
    working: 10 s, 20 s". Marks share a line of at most 76 characters, until the next message begins
    a new line. So hours of work produce few lines and no control characters. If the log level hides
    information, no marks are written.

    Args:
        clock: returns monotonic seconds.

    Yields:
        The function that a thread calls. It writes a mark if one is due, and returns the seconds
        until the next one. If marks are not written at all, it does nothing and returns 10.
    """
    global _marks
    if _is_watched() or not _LOGGER.isEnabledFor(logging.INFO):
        yield lambda: _SILENCE_S
        return
    marks, ended = _Marks(clock), threading.Event()

    def watch() -> None:
        while not ended.wait(marks.write_if_due()):
            pass

    thread = threading.Thread(target=watch, name="signs of life", daemon=True)
    with _lock:
        _marks = marks
    thread.start()
    try:
        yield marks.write_if_due
    finally:
        ended.set()
        thread.join()
        with _lock:
            _end_marks()
            _marks = None


def configure(verbosity: int | None = None) -> None:
    """Configures the logging of the whole process; called by the entry point.

    Args:
        verbosity: absl's level: -2 for errors, -1 for warnings, 0 for information, 1 for debugging.
            None shows information, warnings and errors of this package, and warnings and errors of
            other packages, except errors that Orbax and asyncio log before they raise them.
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
    """In the block, hides this package's messages except for warnings and errors."""
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


class _Marks:
    """The marks of `signs_of_life`, and the time of the last output."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._line_at = self._written_at = clock()
        self._column = 0  # characters in the current line of marks; 0 if there is no such line
        self._heading = ""  # the key of the text with which the line of marks begins
        self._words = spoken()  # the language of the stage's last message
        self._thread = threading.get_ident()

    def write_if_due(self) -> float:
        with _lock:
            left = self._written_at + _SILENCE_S - self._clock()
            if left > 0:
                return left
            words, seconds = self._words, round(self._clock() - self._line_at)
            mark, heading = _open[0].mark() if _open else "", "progress.after"
            if not mark:
                mark, heading = words.text("progress.seconds", seconds=seconds), "progress.working"
            text = words.texts["list.comma"] + mark
            if heading != self._heading or self._column + len(text) > _MARKS_WIDTH:
                self.end_line()
            if not self._column:
                text = f"  {words.text(heading, seconds=seconds)}{mark}"
            self._heading = heading
            self._column += len(text)
            self._written_at = self._clock()
            _put(sys.stderr, text)
            return _SILENCE_S

    def end_line(self) -> None:
        if self._column:
            self._column = 0
            _put(sys.stderr, "\n")

    def line_written(self) -> None:
        self._line_at = self._written_at = self._clock()
        if threading.get_ident() == self._thread:  # other threads have no language of messages
            self._words = spoken()


class _TerminalHandler(logging.Handler):
    """Writes warnings and errors to standard error, and other messages to standard output.

    The work continues if the terminal was closed or cannot encode a character.
    """

    def emit(self, record: logging.LogRecord) -> None:
        stream = sys.stdout if record.levelno <= logging.INFO else sys.stderr
        prefix = {logging.WARNING: "warning: ", logging.ERROR: "error: "}.get(record.levelno, "")
        _write(stream, prefix + _reworded(record.getMessage()))


class _LibraryHandler(logging.Handler):
    """Writes messages of other packages to standard error, one line each.

    With verbosity 1, the traceback of an exception that was logged with the message follows.

    Args:
        repeats: whether to also write the errors that Orbax and asyncio log before they raise
            them, and which are therefore reported twice.
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


def _is_watched() -> bool:
    """Whether bars can be drawn: in a notebook, and on a terminal unless its width is 0."""
    if "ipykernel" in sys.modules:
        return True
    try:
        if not sys.stderr.isatty():
            return False
    except (AttributeError, ValueError):  # there is no standard error, or it is closed
        return False
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns > 0
    except (AttributeError, OSError, ValueError):  # the width is unknown
        return True


def _end_marks() -> None:
    if _marks is not None:
        _marks.end_line()


def _write(stream: Any, line: str) -> None:
    with _lock:
        _end_marks()
        if _marks is not None:
            _marks.line_written()
        _put(stream, line + "\n")


def _put(stream: Any, text: str) -> None:
    """Writes `text`, above a bar if there is one; does nothing if the stream is closed."""
    if stream is None:
        return
    encoding = getattr(stream, "encoding", None) or "utf-8"
    text = text.encode(encoding, "backslashreplace").decode(encoding)
    bars = sys.modules.get("tqdm")
    above_bars = bars.tqdm.external_write_mode(stream) if bars else contextlib.nullcontext()
    try:
        with above_bars:
            stream.write(text)
            stream.flush()
    except BrokenPipeError:
        discard(stream)
    except (OSError, ValueError):  # the terminal is closed
        pass


_lock = threading.RLock()
_open: list[Progress] = []  # from the outermost to the innermost
_marks: _Marks | None = None
_LOGGER.setLevel(logging.INFO)
_LOGGER.propagate = False
if not _LOGGER.handlers:
    _LOGGER.addHandler(_TerminalHandler())
