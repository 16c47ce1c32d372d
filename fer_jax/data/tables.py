"""Reading tables (CSV) that people write: strictly, with a file and a line for every problem."""

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


class TableError(UserError):
    """A file that cannot be read as a table at all."""


@dataclass(frozen=True)
class Row:
    """One row: the text of each wanted column, stripped, and `place`, its file and line."""

    place: str
    value: dict[str, str]


def read_rows(
    file: Path, required: Sequence[str], optional: Sequence[str] = ()
) -> tuple[list[Row], list[str]]:
    """The rows of a table with a header, and a sentence for each row that is malformed.

    The encoding is UTF-8, with or without a byte order mark; the separator is a comma. Header names
    count without regard to case and surrounding blanks. Further columns are allowed and left out.
    Empty rows are passed over.

    Args:
        file: the table.
        required: columns that must be there.
        optional: columns that are read as "" where they are not there.

    Raises:
        TableError: the file cannot be read, is in another encoding, or its header lacks a required
            column or has one twice.
    """
    lines = csv.reader(io.StringIO(_text(file), newline=""), strict=True)
    problems: list[str] = []
    rows: list[Row] = []
    try:
        header = [name.strip().lower() for name in next(lines, [])]
        _check_header(file, header, required, optional)
        for cells in lines:
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
            rows.append(Row(place, {name: found.get(name, "") for name in (*required, *optional)}))
    except csv.Error as error:
        raise TableError(f"{file}, line {lines.line_num}: not a table with commas: {error}") from (
            error
        )
    return rows, problems


def path_problem(path: str) -> str:
    """What is wrong with a path that a table gives; "" if it stays below the table's folder.

    Symbolic links are not looked at.
    """
    if not path:
        return "no path"
    if path.startswith(("/", "\\")) or path[1:2] == ":":  # also of Windows
        return f"the path {path} is absolute; give it relative to the table"
    if f"{os.path.normpath(path)}/".startswith("../"):
        return f"the path {path} leads out of the table's folder; move the file into that folder"
    return ""


def id_problem(name: str, what: str) -> str:
    """What is wrong with an id that becomes the name of a folder; "" if nothing is."""
    if not name:
        return f"no {what}"
    if name.startswith(".") or {"/", "\\"} & set(name):
        return f"the {what} {name!r} starts with a point or holds a slash"
    if any(unicodedata.category(letter) == "Cc" for letter in name):
        return f"the {what} {name!r} holds a control character"
    if not names.key(name):
        return f"the {what} {name!r} holds no letter that can be seen"
    return ""


def _text(file: Path) -> str:
    try:
        if not stat.S_ISREG(file.stat().st_mode):  # a pipe would wait for a writer
            raise TableError(f"{file} is not a file; a table should be there")
        data = file.read_bytes()
    except OSError as error:
        raise TableError(f"cannot read {file} ({error.strerror})") from error
    if data.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in data:
        raise TableError(f"{file} is UTF-16 or not text; save it as CSV in UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise TableError(f"{file}, line {line}: not in UTF-8; save it as CSV in UTF-8") from error


def _check_header(
    file: Path, header: Sequence[str], required: Sequence[str], optional: Sequence[str]
) -> None:
    missing = [name for name in required if name not in header]
    if missing:
        wanted = ",".join(required) + "".join(f"[,{name}]" for name in optional)
        raise TableError(
            f"{file}, line 1: no column {', '.join(missing)}; it has {', '.join(header) or 'none'} "
            f"(wanted, with commas between: {wanted})"
        )
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        raise TableError(f"{file}, line 1: the column {', '.join(twice)} is there twice")
