"""Hypothesis strategies for inputs such as a user, a damaged disk or an attacker may produce."""

from __future__ import annotations

import csv
import io
import json
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from tests.robustness.originals import EMOTIONS, PEOPLE

HOSTILE = (
    "=HYPERLINK(1)", "+1", "-2+3", "@SUM(A1)", "a\nb", "a\rb", "\x1b[31mred", "$x$", "$\\frac{",
    "<script>alert(1)</script>", "علي", "علی", "كاوه", "کاوه", "p۱", "p1", "P1", "پ\u200cا", "é",
    "e\u0301", "n" * 120, " a ", ".hidden", "con", "a\\b", "..", "a,b", 'a"b', "'", "%s%n", "{0}",
    "\u202eabc", "\ufeff", "🙂", "\x7f", "~", "", "a\x00b", "#", "`x`", "|", "null", "nan", "١",
)  # fmt: skip
SUFFIXES = (".png", ".jpg", ".mp4", ".mkv", ".txt", ".tiff", ".PNG", "", ".mov.mp4")
ENCODINGS = ("utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "cp1256", "latin-1")

texts = st.one_of(
    st.sampled_from(HOSTILE), st.text(max_size=12), st.from_regex(r"[a-z]{1,6}", fullmatch=True)
)


# damaged bytes


@dataclass(frozen=True)
class Damage:
    """One change to a file's bytes; `place` and `other` are fractions of its length."""

    kind: str
    place: float
    other: float
    length: int
    value: int

    def __call__(self, data: bytes) -> bytes:
        """Returns the bytes with the change."""
        if not data:
            return data
        at, to = (min(int(share * len(data)), len(data) - 1) for share in (self.place, self.other))
        block = data[at : at + self.length]
        match self.kind:
            case "flip":
                return data[:at] + bytes([data[at] ^ (1 << self.value % 8)]) + data[at + 1 :]
            case "set":
                return data[:at] + bytes([self.value]) * len(block) + data[at + len(block) :]
            case "truncate":
                return data[:at]
            case "delete":
                return data[:at] + data[at + self.length :]
            case "insert":
                return data[:at] + data[to : to + self.length] + data[at:]
            case "swap":
                low, high = sorted((at, to))
                size = min(self.length, high - low, len(data) - high)
                one, two = data[low : low + size], data[high : high + size]
                return data[:low] + two + data[low + size : high] + one + data[high + size :]
            case "dimensions":
                return _with_dimensions(data, self.place, self.other)
        raise ValueError(self.kind)


def _with_dimensions(data: bytes, width: float, height: float) -> bytes:
    """Changes the width and height in a PNG's header, and the header's checksum.

    Both are given as fractions of 40,000 pixels. Other files are unchanged.
    """
    if not data.startswith(b"\x89PNG") or len(data) < 33:
        return data
    sides = struct.pack(">II", 1 + int(width * 40_000), 1 + int(height * 40_000))
    header = b"IHDR" + sides + data[24:29]
    return data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]


shares = st.floats(0, 1, allow_nan=False)
damages = st.builds(
    Damage,
    kind=st.sampled_from(
        ("flip", "flip", "set", "truncate", "delete", "insert", "swap", "dimensions")
    ),
    place=shares,
    other=shares,
    length=st.integers(1, 64),
    value=st.integers(0, 255),
)
damage_lists = st.lists(damages, min_size=1, max_size=4)


def damaged(data: bytes, changes: Sequence[Damage]) -> bytes:
    """The bytes after all `changes`, which are made one after the other."""
    for change in changes:
        data = change(data)
    return data


# tables


@dataclass(frozen=True)
class Table:
    """A CSV file.

    Attributes:
        content: the bytes of the file.
        header: the intended first row.
        rows: the intended other rows.
        plain: whether `content` is exactly the header and these rows, in UTF-8 and with commas.
    """

    content: bytes
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    plain: bool


Cells = Callable[[str, int], st.SearchStrategy[str]]  # of a cell in a column and a row number


@st.composite
def tables(
    draw: st.DrawFn,
    columns: Sequence[str],
    optional: Sequence[str],
    good: Cells,
    odd_cells: Cells,
    usual: int,
) -> Table:
    """Tables with `columns` and up to two `optional` ones, often with the `usual` number of rows.

    About half of them have cells from `good`, except up to two from `odd_cells`; the others have
    only cells from `odd_cells`, and often an unusual format.
    """
    tidy = draw(st.booleans())
    extra = draw(st.lists(st.sampled_from(optional), unique=True, max_size=2))
    header = list(draw(st.permutations([*columns, *extra])))
    count = draw(st.one_of(*[st.just(usual)] * 3, st.integers(0, 7)))
    cells = good if tidy else odd_cells
    rows = [[draw(cells(name, number)) for name in header] for number in range(count)]
    odd_count = draw(st.sampled_from((0, 0, 0, 1, 1, 2))) if tidy and count else 0
    for _ in range(odd_count):
        row, column = draw(st.integers(0, count - 1)), draw(st.integers(0, len(header) - 1))
        rows[row][column] = draw(odd_cells(header[column], row))
    if not tidy:
        odd = draw(st.sampled_from(("", "case", "double", "missing", "extra", "blank", "short")))
        if odd == "case":
            header = [f" {name.upper()} " for name in header]
        elif odd == "double":
            again = draw(st.sampled_from(header))
            header.append(again)
            rows = [[*row, draw(cells(again, i))] for i, row in enumerate(rows)]
        elif odd == "missing":
            header, rows = header[1:], [row[1:] for row in rows]
        elif odd == "extra" and rows:
            place = draw(st.integers(0, len(rows) - 1))
            at = draw(st.integers(0, len(header)))
            rows[place] = [*rows[place][:at], draw(texts), *rows[place][at:]]
        elif odd == "blank":
            rows.insert(draw(st.integers(0, len(rows))), [])
        elif odd == "short" and rows:
            place = draw(st.integers(0, len(rows) - 1))
            rows[place] = rows[place][: draw(st.integers(0, len(header)))]
    delimiter = "," if tidy else draw(st.sampled_from(",,,;\t"))
    encoding = "utf-8" if tidy else draw(st.sampled_from(ENCODINGS))
    ending = draw(st.sampled_from(("\n", "\r\n")))
    file = io.StringIO(newline="")
    csv.writer(file, delimiter=delimiter, lineterminator=ending).writerows([header, *rows])
    content = file.getvalue().encode(encoding, "replace")
    changes = [] if tidy else draw(st.lists(damages, max_size=1))
    plain = delimiter == "," and encoding in ("utf-8", "utf-8-sig") and not changes
    return Table(damaged(content, changes), tuple(header), tuple(map(tuple, rows)), plain)


def _label_cell(name: str, number: int) -> st.SearchStrategy[str]:
    """A valid cell of a table of labels, in which each row names a different picture."""
    kinds = {
        "path": st.just(f"{number}.png"),
        "subject": st.sampled_from(PEOPLE),
        "emotion": st.sampled_from((*EMOTIONS, "Happy", " sad ")),
        "split": st.just(""),
    }
    return kinds.get(name, texts)


def _odd_label_cell(name: str, number: int) -> st.SearchStrategy[str]:
    paths = ("", ".", "..", "/etc/hostname", "../outside.png", "nowhere.png", "labels.csv", "0.png")
    kinds = {
        "path": st.one_of(st.just(f"{number}.png"), st.sampled_from(paths), texts),
        "subject": st.one_of(st.sampled_from(PEOPLE), texts),
        "emotion": st.sampled_from((*EMOTIONS * 2, "bored", "", "HAPPY\u200c", "ｓａｄ")),
        "split": st.sampled_from(("train", "test", "Train", "", "other")),
    }
    return kinds.get(name, texts)


def _ledger_cell(name: str, number: int) -> st.SearchStrategy[str]:
    """A valid cell of a consent ledger, in which the rows name the people in turn."""
    kinds = {
        "subject": st.just(PEOPLE[number % len(PEOPLE)]),
        "revoked": st.sampled_from(("", "", "no", "2026-03-01")),
    }
    return kinds.get(name, st.sampled_from(("yes", "yes", "no")))


def _odd_ledger_cell(name: str, number: int) -> st.SearchStrategy[str]:
    kinds = {
        "subject": st.one_of(st.sampled_from(PEOPLE), texts),
        "revoked": st.sampled_from(("", "", "yes", "31.3.2026", " ", "?", "2026-13-40", "۱۴۰۴/۱")),
    }
    return kinds.get(name, st.sampled_from(("yes", "Yes", "1", "0", "true", "maybe", "", "yes ")))


label_tables = tables(
    ("path", "subject", "emotion"),
    ("split", "note", "share"),
    _label_cell,
    _odd_label_cell,
    usual=6,
)
ledger_tables = tables(
    ("subject", "share", "train", "demo", "revoked"), ("note",), _ledger_cell, _odd_ledger_cell,
    usual=len(PEOPLE),
)  # fmt: skip


@dataclass(frozen=True)
class Ledger:
    """The entry at the path of `consent.csv`: a file, a link to one, or something else."""

    kind: str  # file, link, broken, circular, folder, pipe
    table: Table


ledgers = st.builds(
    Ledger,
    kind=st.sampled_from(("file",) * 7 + ("link", "broken", "circular", "folder", "pipe")),
    table=ledger_tables,
)


# folders


@dataclass(frozen=True)
class Entry:
    """An entry of a folder.

    Attributes:
        folders: names of the folders above it, as bytes.
        name: the name of the entry, as bytes.
        kind: picture, video, empty, text, pipe, link, broken, circular, linked_folder.
    """

    folders: tuple[bytes, ...]
    name: bytes
    kind: str


def _file_name(text: str | bytes, suffix: str) -> bytes:
    raw = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    raw = raw.replace(b"/", b"").replace(b"\0", b"")[: 255 - len(suffix)]
    name = raw + suffix.encode()
    return b"x" + name if name in (b"", b".", b"..") else name


names = st.builds(
    _file_name,
    st.one_of(
        texts,
        st.sampled_from(HOSTILE),
        st.binary(max_size=8),
        st.just("l" * 251),
        st.just("و" * 122),
    ),
    st.sampled_from(SUFFIXES),
)
folder_names = st.one_of(
    st.sampled_from([name.encode() for name in (*PEOPLE, *EMOTIONS)] * 3),
    st.builds(_file_name, texts, st.just("")),
)
KINDS = (
    "picture", "picture", "picture", "video", "empty", "text", "pipe", "link", "broken",
    "circular", "linked_folder",
)  # fmt: skip
entries = st.builds(
    Entry,
    folders=st.lists(folder_names, max_size=2).map(tuple),
    name=names,
    kind=st.sampled_from(KINDS),
)
entry_lists = st.lists(entries, max_size=7)


# values of config fields and of JSON

_WHOLE = (-(2**31), -7, -1, 0, 1, 2, 3, 5, 1000, 2**31, 10**9, 2**63)
_REAL = (-1.0, -1e-9, 0.0, 1e-9, 0.3, 0.99, 1.0, 1.5, 2.0, 5.0, 1e9, 1e308)
_NOT_FINITE = (float("nan"), float("inf"), float("-inf"))

whole = st.one_of(st.sampled_from(_WHOLE), st.integers(-10, 300))
real = st.one_of(st.sampled_from(_REAL), st.sampled_from(_NOT_FINITE), st.floats(-2, 3))
words = st.one_of(texts, st.sampled_from(("yes", "Yes", "no", "unknown", "auto", "random", "x.y")))
json_values: st.SearchStrategy[Any] = st.one_of(
    st.none(), st.booleans(), whole, real, words, st.lists(st.integers(-1, 3), max_size=3),
    st.just({}), st.just([[1]]), st.just({"a": {"b": 1}}),
)  # fmt: skip


def value_like(value: Any) -> st.SearchStrategy[Any]:
    """Values of the type of `value`, and sometimes of another type."""
    if isinstance(value, bool):
        fitting: st.SearchStrategy[Any] = st.booleans()
    elif isinstance(value, int):
        fitting = whole
    elif isinstance(value, float):
        fitting = real
    elif isinstance(value, tuple | list):
        inner = value_like(value[0]) if value else st.one_of(whole, words)
        fitting = st.lists(inner, max_size=4).map(tuple)
    else:
        fitting = words
    return st.one_of(fitting, fitting, fitting, fitting, json_values)


# JSON


@dataclass(frozen=True)
class JsonChange:
    """Replaces or deletes one value of a JSON document; `place` is its position, as a fraction."""

    place: float
    delete: bool
    value: Any

    def __call__(self, text: str) -> str:
        """Returns the document with the change."""
        document = json.loads(text)
        spots = list(_spots(document))
        if not spots:
            return json.dumps(self.value)
        holder, key = spots[min(int(self.place * len(spots)), len(spots) - 1)]
        if self.delete:
            del holder[key]
        else:
            holder[key] = self.value
        return json.dumps(document)


def _spots(value: Any) -> Any:
    """Yields every (container, key) below a value."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, child in list(pairs):
        yield value, key
        if isinstance(child, dict | list):
            yield from _spots(child)


json_changes = st.builds(JsonChange, place=shares, delete=st.booleans(), value=json_values)


# parquet tables


@dataclass(frozen=True)
class TableChange:
    """A change of a `kind` to a data frame, at a column and a row that are given as fractions."""

    kind: str  # drop, rename, value, double, empty, text
    column: float
    row: float
    value: Any


table_changes = st.builds(
    TableChange,
    kind=st.sampled_from(("drop", "rename", "value", "value", "value", "double", "empty", "text")),
    column=shares,
    row=shares,
    value=st.one_of(real, whole, words, st.none()),
)
