"""Sources that cannot be used: each is counted and listed with its reason."""

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

_OF_THE_DISK = (
    errno.EACCES, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENOSPC, errno.EPERM, errno.EROFS,
)  # fmt: skip
_SHOWN = 10


class Skips:
    """The sources skipped so far: `rows` holds name and reason of each, in order."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str]] = []

    def __len__(self) -> int:
        """Number of different sources."""
        return len({name for name, _ in self.rows})

    def add(self, name: str, reason: str) -> None:
        """Records why a source, or a part of it, is left out."""
        self.rows.append((name, " ".join(reason.split())))

    @contextlib.contextmanager
    def each(self, name: str, what: str = "") -> Iterator[None]:
        """Turns an exception in the block into a row for the source `name`.

        Exceptions with another cause are raised: a full or read-only disk, a refused output, an
        interruption. `what` names what failed, if it is not the source as a whole.
        """
        try:
            yield
        except Exception as error:
            if not _of_the_source(error):
                raise
            self.add(name, f"{what}: {_reason(error)}" if what else _reason(error))

    def write(self, path: Path) -> None:
        """Writes the rows as CSV: source, reason."""
        with (
            atomic_file(path) as temporary,
            temporary.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file,
        ):
            rows = [tuple(safe_cell(cell) for cell in row) for row in self.rows]
            csv.writer(file).writerows([("source", "reason"), *rows])

    def tell(self, stage: str) -> None:
        """Prints the first of them, and how many more there are."""
        for name, reason in self.rows[:_SHOWN]:
            console.say(f"[{stage}] skipped {name}: {reason}")
        if len(self.rows) > _SHOWN:
            more = len(self.rows) - _SHOWN
            console.say(f"[{stage}] and {more} more, see skipped.csv")


def _of_the_source(error: Exception) -> bool:
    if isinstance(error, ImageError | VideoError):
        return True
    cause = error if isinstance(error, OSError) else error.__cause__
    if isinstance(cause, OSError):
        return cause.errno not in _OF_THE_DISK
    return not isinstance(error, UserError)


def _reason(error: Exception) -> str:
    if isinstance(error, VideoError):
        return f"{error.reason}: {error.detail}"
    if isinstance(error, UserError):
        return str(error)
    return f"{type(error).__name__}: {error}"
