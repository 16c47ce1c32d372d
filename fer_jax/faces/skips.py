"""Skipped sources, such as pictures or videos: each is counted, and listed with the reason."""

from __future__ import annotations

import contextlib
import csv
import errno
from collections.abc import Iterator
from pathlib import Path

from fer_jax import console
from fer_jax.errors import UserError
from fer_jax.faces.images import ImageError
from fer_jax.faces.video import VideoError
from fer_jax.spreadsheets import safe_cell
from fer_jax.workdir import atomic_file

_DISK_ERRORS = (
    errno.EACCES, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENOSPC, errno.EPERM, errno.EROFS,
)  # fmt: skip
_SHOWN = 10


class Skips:
    """The sources skipped so far; `rows` contains (name, reason), one or more for each source."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str]] = []

    def __len__(self) -> int:
        """The number of distinct sources."""
        return len({name for name, _ in self.rows})

    def add(self, name: str, reason: str) -> None:
        """Records that a source, or a part of it, is skipped, with the reason."""
        self.rows.append((name, " ".join(reason.split())))

    @contextlib.contextmanager
    def each(self, name: str, what: str = "") -> Iterator[None]:
        """Converts an exception in the block to a skip of the source `name`.

        Exceptions that the source does not cause, such as those of a full or read-only disk, of an
        invalid output or of an interruption, are not converted. `what` says which part is missing
        if the block fails, and comes before the reason; "" means that the whole source is skipped.
        """
        try:
            yield
        except Exception as error:
            if not _is_caused_by_source(error):
                raise
            self.add(name, f"{what} ({_reason(error)})" if what else _reason(error))

    def write(self, path: Path) -> None:
        """Writes the rows to a CSV file with the columns `source` and `reason`."""
        with (
            atomic_file(path) as temporary,
            temporary.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file,
        ):
            rows = [tuple(safe_cell(cell) for cell in row) for row in self.rows]
            csv.writer(file).writerows([("source", "reason"), *rows])

    def tell(self) -> None:
        """Prints the first ten rows, and the number of further rows."""
        for name, reason in self.rows[:_SHOWN]:
            console.result("skipped", name=name, reason=reason)
        if len(self.rows) > _SHOWN:
            console.result("more", number=len(self.rows) - _SHOWN, file="skipped.csv")


def _is_caused_by_source(error: Exception) -> bool:
    if isinstance(error, ImageError | VideoError):
        return True
    cause = error if isinstance(error, OSError) else error.__cause__
    if isinstance(cause, OSError):
        return cause.errno not in _DISK_ERRORS
    return not isinstance(error, UserError)


def _reason(error: Exception) -> str:
    if isinstance(error, VideoError):
        return error.detail
    if isinstance(error, UserError):
        return str(error)
    return f"{type(error).__name__}: {error}"
