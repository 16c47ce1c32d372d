"""Labelled photographs: `root/<subject>/<emotion>/*`, or a `labels.csv`; validated all at once."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from PIL import Image, UnidentifiedImageError

from fer_jax.data import consent, names, pseudonyms, tables
from fer_jax.errors import UserError

SUFFIXES = frozenset(
    {".bmp", ".jfif", ".jp2", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)
COLUMNS = ("path", "photo", "subject", "emotion", "split")
_TABLES = frozenset(("labels.csv", consent.NAME, pseudonyms.NAME))
_LITTER = frozenset(("thumbs.db", "desktop.ini"))  # what file managers leave behind
_MOST_WARNINGS = 20
_MOST_PROBLEMS = 200  # printed; a column that is empty throughout makes thousands


def read_labels(
    path: str | os.PathLike[str],
    emotions: Sequence[str],
    *,
    ignore: Sequence[str] = (),
) -> pd.DataFrame:
    """Reads which photograph shows whom with which emotion.

    Names of emotions and subjects are compared by `fer_jax.data.names.key`: letter case, Arabic or
    Persian letters and digits, vowel signs and joiners do not count. Emotions come back as they are
    spelled in `emotions`; a subject with several spellings comes back under one of them, and a
    warning says so.

    Args:
        path: a folder `<subject>/<emotion>/<photograph>`; or a table with the columns `path`
            (relative to the table), `subject`, `emotion` and, if wanted, `split`; or a folder
            with such a table in `labels.csv`.
        emotions: the closed set of labels.
        ignore: emotions whose photographs are left out.

    Returns:
        One row a photograph, sorted by `photo`: `path` (absolute), `photo` (unique: the path
        relative to the folder or table), `subject`, `emotion`, `split` ("" where none is given),
        `share` (whether the face may be shown in a report). `attrs["warnings"]` is a list of
        sentences, `attrs["ignored"]` the number left out by emotion, `attrs["withheld"]` that of
        photographs of people who do not consent (see `fer_jax.data.consent`).

    Raises:
        UserError: with every problem found, each with its file and line.
    """
    source = Path(path)
    table = source / "labels.csv" if (source / "labels.csv").is_file() else source
    if not source.exists():
        raise UserError(f"there is no folder or table of photographs at {source}")
    reader = _Reader(tuple(emotions), frozenset(names.key(name) for name in ignore))
    rows = list(reader.table(table) if table.is_file() else reader.folder(source))
    if not (rows or reader.problems or reader.unknown_emotions() or reader.ignored):
        raise UserError(
            f"{source} holds no photograph; it should hold <subject>/<emotion>/<photograph> "
            f"or labels.csv"
        )
    frame = pd.DataFrame([dataclasses.astuple(row) for row in rows], columns=[*COLUMNS, "place"])
    reader.problems.extend(reader.unknown_emotions())
    merged = _merge_spellings(frame)
    reader.problems.extend(_duplicates(frame))
    reader.problems.extend(_unreadable(frame))
    reader.problems.extend(_split_people(frame))
    ledger = _ledger(source if source.is_dir() else source.parent, frame, reader.problems)
    if reader.problems:
        raise UserError(_told(source, reader.problems))
    if frame.empty:
        raise UserError(f"{source}: all {reader.ignored} photographs are of ignored emotions")
    kept, withheld = _consenting(frame, ledger)
    if kept.empty:
        raise UserError(f"{source}: nobody in {consent.NAME} consents to train; nothing is left")
    warnings = merged + _single_emotions(kept) + _unlike_photographs(reader.litter) + withheld
    labels = kept[[*COLUMNS, "share"]]
    labels.attrs = {
        "warnings": warnings,
        "ignored": reader.ignored,
        "withheld": len(frame) - len(kept),
    }
    return labels


def files_read(path: str | os.PathLike[str]) -> list[Path]:
    """The files that a table of photographs at `path` stands for, beside the table itself.

    The consent ledger, whether or not there is one, and the pictures that the table names as far as
    it can be read. Nothing for a folder, in which all of this lies.
    """
    source = Path(path)
    if not source.is_file():
        return []
    text = source.read_bytes().decode("utf-8-sig", "replace")
    with contextlib.suppress(csv.Error):
        lines = csv.DictReader(io.StringIO(text, newline=""))
        lines.fieldnames = [(name or "").strip().lower() for name in lines.fieldnames or ()]
        named = [str(line.get("path") or "").strip() for line in lines]
        return [source.parent / consent.NAME, *(source.parent / name for name in named if name)]
    return [source.parent / consent.NAME]


def _consenting(
    frame: pd.DataFrame, ledger: dict[str, consent.Consent]
) -> tuple[pd.DataFrame, list[str]]:
    """The rows that may be used, sorted and with `share`; and a sentence about the others."""
    keys = frame["subject"].map(names.key)
    allowed = keys.map(lambda key: not (ledger and ledger[key].withheld)).astype(bool)
    kept = frame[allowed].sort_values("photo", ignore_index=True)
    share = [bool(ledger) and ledger[names.key(name)].share for name in kept["subject"]]
    people = frame["subject"][~allowed].nunique()
    told = [
        f"{(~allowed).sum()} photographs of {people} people are left out, since "
        f"{consent.NAME} does not allow them"
    ]
    return kept.assign(share=share), told if people else []


def _ledger(folder: Path, frame: pd.DataFrame, problems: list[str]) -> dict[str, consent.Consent]:
    """The consent ledger in the folder, its problems and the people whom it lacks."""
    ledger, found = consent.read_consent(folder / consent.NAME)
    problems.extend(found)
    if not found:
        first = frame.drop_duplicates("subject")
        places = dict(zip(first["subject"], first["place"], strict=True))
        problems.extend(consent.missing_people(ledger, places, folder / consent.NAME))
    return ledger


@dataclasses.dataclass(frozen=True)
class _Row:
    path: str
    photo: str
    subject: str
    emotion: str
    split: str
    place: str  # where the row was read, for messages


class _Reader:
    """Collects problems while it reads, rather than stopping at the first."""

    def __init__(self, emotions: tuple[str, ...], ignore: frozenset[str]) -> None:
        self.emotions = {names.key(name): name for name in emotions}
        self._unknown: dict[str, list[str]] = {}  # where each unknown emotion was read
        self.ignore = ignore
        self.problems: list[str] = []
        self.litter: list[Path] = []
        self.ignored = 0

    def folder(self, root: Path) -> Iterator[_Row]:
        for file in _files(root):
            parts = file.relative_to(root).parts
            if file.suffix.lower() not in SUFFIXES:
                if file.name.lower() not in _LITTER and file.name not in _TABLES:
                    self.litter.append(file)
                continue
            if len(parts) != 3:
                self.problems.append(f"{file}: lies not in {root}/<subject>/<emotion>/")
                continue
            if problem := tables.id_problem(parts[0], "subject"):
                self.problems.append(f"{file}: {problem}")
                continue
            emotion = self._emotion(parts[1], str(file.parent))
            if emotion:
                yield _Row(str(file.absolute()), "/".join(parts), parts[0], emotion, "", str(file))

    def table(self, file: Path) -> Iterator[_Row]:
        rows, problems = tables.read_rows(file, ("path", "subject", "emotion"), ("split",))
        self.problems.extend(problems)
        for line in rows:
            row = self._table_row(file, line.place, line.value)
            if row:
                yield row

    def _table_row(self, file: Path, place: str, value: dict[str, str]) -> _Row | None:
        found = len(self.problems)
        if problem := tables.path_problem(value["path"]):
            self.problems.append(f"{place}: {problem}")
        elif not (file.parent / value["path"]).is_file():
            self.problems.append(f"{place}: there is no file {file.parent / value['path']}")
        if problem := tables.id_problem(value["subject"], "subject"):  # becomes a folder
            self.problems.append(f"{place}: {problem}")
        emotion = self._emotion(value["emotion"], place)
        if len(self.problems) > found or not emotion:
            return None
        path = Path(os.path.normpath(file.parent.absolute() / value["path"]))
        photo = Path(os.path.normpath(value["path"])).as_posix()
        return _Row(str(path), photo, value["subject"], emotion, value["split"].lower(), place)

    def _emotion(self, name: str, place: str) -> str | None:
        """The emotion as the config spells it; None if it is ignored, or unknown and noted."""
        folded = names.key(name)
        if folded in self.ignore:
            self.ignored += 1
            return None
        if folded not in self.emotions:
            self._unknown.setdefault(name, []).append(place)
            return None
        return self.emotions[folded]

    def unknown_emotions(self) -> list[str]:
        """One problem for each emotion that the config does not name."""
        known = ", ".join(self.emotions.values())
        return [
            f"{places[0]}: unknown emotion {name!r}; known are {known}; "
            + (f"{len(places) - 1} more photographs have it; " if len(places) > 1 else "")
            + "correct it, or add it to --config.emotions or --config.ignore"
            for name, places in self._unknown.items()
        ]


def _files(folder: Path, above: frozenset[str] = frozenset()) -> Iterator[Path]:
    """All files but hidden ones; linked folders are followed, though not in circles."""
    real = os.path.realpath(folder)
    if real in above:
        return
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise UserError(f"cannot look into the folder {folder} ({error.strerror})") from error
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _files(entry, above | {real})
        else:
            yield entry


def _duplicates(frame: pd.DataFrame) -> Iterator[str]:
    resolved = frame["path"].map(os.path.realpath)
    for _, rows in frame.groupby(resolved, sort=False):
        first = rows.iloc[0]
        for row in rows.iloc[1:].itertuples():
            labels = {(first["subject"], first["emotion"]), (row.subject, row.emotion)}
            other = " with another label" if len(labels) > 1 else ""
            yield f"{row.place}: {row.photo} stands already in {first['place']}{other}"


def _unreadable(frame: pd.DataFrame) -> Iterator[str]:
    with ThreadPoolExecutor(max_workers=min(16, os.cpu_count() or 1)) as pool:
        faults = list(pool.map(_fault, frame["path"]))
    for row, fault in zip(frame.itertuples(), faults, strict=True):
        if fault:
            yield f"{row.place}: cannot read {row.path}: {fault}"


def _fault(path: str) -> str | None:
    """What keeps the image from being read. Pillow notices that a file is cut off; OpenCV reads
    a few kinds that Pillow does not know."""
    try:
        with Image.open(path) as image:
            image.load()
    except UnidentifiedImageError:
        data = np.fromfile(path, np.uint8)
        if data.size == 0:
            return "it is empty"
        return None if cv2.imdecode(data, cv2.IMREAD_COLOR) is not None else "it is no image"
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return str(error) or type(error).__name__
    return None


def _split_people(frame: pd.DataFrame) -> Iterator[str]:
    """Nobody may stand in two splits; and splits are given for all or for none."""
    for subject, rows in frame.groupby("subject"):
        splits = sorted(set(rows["split"]) - {""})
        if len(splits) > 1:
            last = rows.drop_duplicates("split").iloc[-1]["place"]
            yield f"{last}: subject {subject!r} is in several splits: {', '.join(splits)}"
    if (frame["split"] != "").any():
        for row in frame[frame["split"] == ""].itertuples():
            yield f"{row.place}: no split, where other rows have one"


def _single_emotions(frame: pd.DataFrame) -> list[str]:
    counts = frame.groupby("subject")["emotion"].agg(["nunique", "first"])
    single = counts[counts["nunique"] == 1]
    told = [
        f"subject {subject!r} has photographs of one emotion only ({row['first']})"
        for subject, row in single.head(_MOST_WARNINGS).iterrows()
    ]
    more = len(single) - len(told)
    return told + ([f"... and so have {more} more subjects"] if more else [])


def _unlike_photographs(files: Sequence[Path]) -> list[str]:
    if not files:
        return []
    names = ", ".join(str(file) for file in files[:5]) + (", ..." if len(files) > 5 else "")
    return [f"{len(files)} files are no photographs by their names and were left out: {names}"]


def _told(source: Path, problems: Sequence[str]) -> str:
    lines = [f"{source}: {len(problems)} problem{'s' if len(problems) > 1 else ''} to mend"]
    lines += problems[:_MOST_PROBLEMS]
    if len(problems) > _MOST_PROBLEMS:
        lines.append(f"... and {len(problems) - _MOST_PROBLEMS} more")
    return "\n  ".join(lines)


def _merge_spellings(frame: pd.DataFrame) -> list[str]:
    """Gives one spelling to each subject, in place; a sentence for each that had several."""
    told = []
    for _, rows in frame.groupby(frame["subject"].map(names.key), sort=False):
        spellings = set(rows["subject"])
        if len(spellings) > 1:
            one = names.spelling(spellings)
            frame.loc[rows.index, "subject"] = one
            told.append(
                f"the spellings {', '.join(map(_with_code_points, sorted(spellings)))} are read as "
                f"one subject, {one!r}"
            )
    more = len(told) - _MOST_WARNINGS
    return told[:_MOST_WARNINGS] + ([f"... and so are those of {more} more"] if more > 0 else [])


def _with_code_points(name: str) -> str:
    """A name as it is shown, and its code points where these alone tell it from another."""
    points = " ".join(f"U+{ord(letter):04X}" for letter in name)
    return repr(name) if name.isascii() else f"{name!r} ({points})"
