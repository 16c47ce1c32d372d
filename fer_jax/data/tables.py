"""Strict reading of hand-written CSV tables; a problem in a row is reported with file and line."""

from __future__ import annotations

import csv
import io
import os
import stat
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fer_jax.data import names
from fer_jax.errors import UserError

_LONGEST_ID = 100  # bytes; file systems allow 255


class TableError(UserError):
    """A table cannot be read at all, or would be overlooked because of its name."""


@dataclass(frozen=True)
class Row:
    """A row of a table: its file, its first and last line (from 1), and its text by column.

    `value` has the requested columns only; white space around the text is removed.
    """

    file: Path
    first_line: int
    line: int
    value: dict[str, str]

    @property
    def place(self) -> str:
        """The file and line, for messages."""
        return f"{self.file}, line {self.line}"


def find(folder: Path, name: str) -> Path | None:
    """The path of the table `name` in a folder, even if it is a broken link; None if absent.

    Raises:
        TableError: the folder cannot be read, or contains another spelling of the name, such as
            `Labels.csv`, which would be overlooked.
    """
    try:
        entries = sorted(entry.name for entry in folder.iterdir())
    except OSError as error:
        raise TableError(
            f"cannot read the folder {folder} ({error.strerror}); make it readable"
        ) from error
    for entry in entries:
        if entry != name and names.key(entry) == name:
            raise TableError(f"{folder / entry}: the table must be called {name}; rename it")
    return folder / name if name in entries else None


def read_rows(
    file: Path, required: Sequence[str], optional: Sequence[str] = (), *, others: bool = True
) -> tuple[list[Row], list[str]]:
    """The rows of a table with a header, and one sentence for each malformed row.

    The encoding is UTF-8, with or without a byte order mark; the separator is a comma. Header names
    are compared by `names.key`. Empty rows are skipped. A quoted cell may contain line breaks or
    commas but not both, since a missing quote would hide the rows up to the next quote.

    Args:
        file: the table.
        required: columns that the table must have.
        optional: columns that are read as "" if the table lacks them.
        others: whether further columns are allowed; they are ignored.

    Raises:
        TableError: the file cannot be read, is in another encoding or is not valid CSV, or its
            header lacks a required column, has a column twice, a column without a name, or, if
            `others` is false, an unknown column.
    """
    lines = csv.reader(io.StringIO(_text(file), newline=""), strict=True)
    problems: list[str] = []
    rows: list[Row] = []
    try:
        header = [names.key(name) for name in next(lines, [])]
        _check_header(file, header, required, optional, others)
        end = lines.line_num
        for cells in lines:
            first_line, end = end + 1, lines.line_num
            if not any(cell.strip() for cell in cells):
                continue
            place = f"{file}, line {lines.line_num}"
            if len(cells) != len(header):
                amount = "more" if len(cells) > len(header) else "fewer"
                problems.append(
                    f"{place}: {amount} fields than the header has columns ({len(cells)}, not "
                    f"{len(header)})"
                )
                continue
            found = dict(zip(header, (cell.strip() for cell in cells), strict=True))
            hiding = [c for c, cell in found.items() if "," in cell and {"\n", "\r"} & {*cell}]
            if hiding:  # the cell may contain the end of one row and the beginning of another
                problems.append(
                    f"{place}: the {hiding[0]} contains a line break and a comma; add the missing "
                    f"quote, or remove the line break or the comma"
                )
                continue
            value = {name: found.get(name, "") for name in (*required, *optional)}
            rows.append(Row(file, first_line, lines.line_num, value))
    except csv.Error as error:
        raise TableError(
            f"{file}, line {lines.line_num}: not valid CSV ({error}); save the table as CSV with "
            f"commas"
        ) from error
    return rows, problems


def path_problem(path: str) -> str:
    """The fault of a path in a table; "" if it is below the table's folder.

    Symbolic links are not followed.
    """
    if not path:
        return "the path is empty"
    if path.startswith(("/", "\\")) or path[1:2] == ":":  # also absolute on Windows
        return f"the path {names.shown(path)} is absolute; write it relative to the table"
    if f"{os.path.normpath(path)}/".startswith("../"):
        return (
            f"the path {names.shown(path)} leads out of the table's folder; move or link the file "
            f"into that folder"
        )
    return ""


def path_below(table: Path, path: str) -> Path:
    """The absolute form of a path in a table, which is relative to the folder of the table.

    `link/../a.png` is `a.png`, wherever `link` points.
    """
    return table.parent.absolute() / os.path.normpath(path)


def id_problem(name: str, what: str) -> str:
    """The fault of an id that becomes the name of a folder; "" if it is valid.

    `what` is the kind of id, for the message, such as "subject".
    """
    if not name:
        return f"the {what} is empty"
    plain = names.key(name)  # finds look-alikes that some systems treat as a slash, such as U+2215
    if name.startswith(".") or plain.startswith(".") or {"/", "\\"} & {*name, *plain}:
        return f"the {what} {names.shown(name)} starts with a dot or contains a slash"
    if any(unicodedata.category(letter) == "Cc" for letter in name):
        return f"the {what} {names.shown(name)} contains a control character"
    if not plain:
        return f"the {what} {names.shown(name)} contains no visible character"
    if len(name.encode()) > _LONGEST_ID:
        return f"the {what} {names.shown(name)} is longer than {_LONGEST_ID} bytes"
    return ""


def _text(file: Path) -> str:
    try:
        if not stat.S_ISREG(file.stat().st_mode):  # a pipe would wait for a writer
            raise TableError(f"{file} is not a regular file; a table (CSV) is expected there")
        data = file.read_bytes()
    except FileNotFoundError as error:
        broken = (
            "is a link to a file that does not exist" if file.is_symlink() else "does not exist"
        )
        raise TableError(f"{file} {broken}") from error
    except OSError as error:
        raise TableError(f"cannot read {file} ({error.strerror})") from error
    if b"\0" in data:
        raise TableError(f"{file} is UTF-16 or not text; save it as CSV in UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise TableError(f"{file}, line {line}: not in UTF-8; save it as CSV in UTF-8") from error


def _check_header(
    file: Path,
    header: Sequence[str],
    required: Sequence[str],
    optional: Sequence[str],
    others: bool,
) -> None:
    wanted = ",".join(required) + "".join(f"[,{name}]" for name in optional)
    missing = [name for name in required if name not in header]
    if missing:
        raise TableError(
            f"{file}, line 1: the header lacks {', '.join(missing)}; expected {wanted}, "
            f"separated by commas, but found {', '.join(map(names.shown, header[:20])) or 'none'}"
        )
    if "" in header:
        raise TableError(
            f"{file}, line 1: column {header.index('') + 1} has no name; name it, or delete it "
            f"with its commas in every row"
        )
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise TableError(
            f"{file}, line 1: the header contains {', '.join(twice)} twice; keep one of each"
        )
    further = [name for name in header if name not in (*required, *optional)]
    if further and not others:
        raise TableError(
            f"{file}, line 1: unknown column {names.shown(further[0])}; remove it (expected: "
            f"{wanted})"
        )
