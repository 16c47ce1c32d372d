"""Labelled photographs: `root/<subject>/<emotion>/*`, or a `labels.csv`; validated all at once."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd

from fer_jax.data import consent, names, pseudonyms, tables
from fer_jax.errors import UserError
from fer_jax.faces import images

NAME = "labels.csv"
COLUMNS = ("path", "photo", "subject", "emotion", "split", "share")
_TABLES = frozenset((NAME, consent.NAME, pseudonyms.NAME))
_LITTER = frozenset(("thumbs.db", "desktop.ini"))  # what file managers leave behind
_MOST_WARNINGS = 20
_MOST_PROBLEMS = 200  # printed; a column that is empty throughout makes thousands
_LONGEST_PROBLEM = 380  # characters


def read_labels(
    path: str | os.PathLike[str],
    emotions: Sequence[str],
    *,
    ignore: Sequence[str] = (),
) -> pd.DataFrame:
    """Reads which photograph shows which subject with which emotion.

    Names of emotions and subjects are compared by `fer_jax.data.names.key`: letter case, Arabic or
    Persian letters and digits, vowel signs and joiners do not count. Emotions come back as they are
    spelled in `emotions`; a subject with several spellings comes back under one of them, and a
    warning says so.

    Args:
        path: a folder `<subject>/<emotion>/<photograph>`; or a table with the columns `path`
            (relative to the table, inside its folder), `subject`, `emotion` and, if wanted,
            `split`; or a folder with such a table in `labels.csv`.
        emotions: the closed set of labels.
        ignore: emotions whose photographs are left out.

    Returns:
        One row a photograph, sorted by `photo`: `path` (absolute), `photo` (unique: the path
        relative to the folder or table), `subject`, `emotion`, `split` ("" where none is given),
        `share` (whether the face may be shown in a report). `attrs["warnings"]` is a list of
        sentences, `attrs["merged"]` the number of subjects with several spellings,
        `attrs["ignored"]` that of photographs left out by emotion, `attrs["withheld"]` that of
        photographs of people who do not consent (see `fer_jax.data.consent`).

    Raises:
        UserError: with every problem found, each with its file and line.
    """
    source = Path(path)
    if not os.path.lexists(source):
        raise UserError(f"there is no folder or table of photographs at {source}")
    folder = source if source.is_dir() else source.parent
    table = tables.find(folder, NAME) if source.is_dir() else source
    reader = _Reader(tuple(emotions), frozenset(names.key(name) for name in ignore))
    rows = list(reader.table(table) if table else reader.folder(source))
    problems = [*reader.problems, *reader.unknown_emotions()]
    if not (rows or problems or reader.ignored):
        raise UserError(
            f"{source} holds no photograph; it should hold <subject>/<emotion>/<photograph> "
            f"or {NAME}" + "".join(f"; {told}" for told in _unlike_photographs(reader.litter))
        )
    rows, merged = _merge_spellings(rows)
    problems += [*_duplicates(rows), *_unreadable(rows), *_split_people(rows)]
    ledger = _ledger(folder, rows, problems)
    if problems:
        raise UserError(_told(source, problems, _those(merged)))
    if not rows:
        raise UserError(f"{source}: all {reader.ignored} photographs are of ignored emotions")
    kept, withheld = _consenting(rows, ledger)
    if not kept:
        raise UserError(f"{source}: nobody in {consent.NAME} consents to train; nothing is left")
    labels = pd.DataFrame([dataclasses.astuple(row)[:-1] for row in kept], columns=list(COLUMNS))
    warnings = _those(merged) + _single_emotions(labels) + _unlike_photographs(reader.litter)
    labels.attrs = {
        "warnings": warnings + withheld,
        "merged": len(merged),
        "ignored": reader.ignored,
        "not_photographs": len(reader.litter),
        "withheld": len(rows) - len(kept),
    }
    return labels


def files_read(path: str | os.PathLike[str]) -> list[Path]:
    """The files that are read with the folder or table of photographs at `path`.

    The consent ledger and the pseudonyms, whether or not there are any, and the pictures that a
    table names as far as it can be read; those in a folder lie in it.
    """
    source = Path(path)
    folder = source if source.is_dir() else source.parent
    files = [folder / consent.NAME, _ledger_above(folder), folder / pseudonyms.NAME]
    if not source.is_file():
        return files
    with contextlib.suppress(tables.TableError):  # `read_labels` will say so
        rows, _ = tables.read_rows(source, ("path",))
        paths = [row.value["path"] for row in rows]
        inside = [name for name in paths if not tables.path_problem(name)]
        files += [tables.path_below(source, name) for name in inside]
    return files


@dataclasses.dataclass(frozen=True)
class _Row:
    path: str
    photo: str
    subject: str
    emotion: str
    split: str
    share: bool
    place: str  # where the row was read, for messages


def _consenting(
    rows: Sequence[_Row], ledger: dict[str, consent.Consent]
) -> tuple[list[_Row], list[str]]:
    """The rows that may be used, sorted and with `share`; and a sentence about the others."""
    ordered = sorted(rows, key=lambda row: row.photo)
    if not ledger:
        return ordered, []
    people = {row.subject: ledger[names.key(row.subject)] for row in rows}
    kept = [
        dataclasses.replace(row, share=people[row.subject].share)
        for row in ordered
        if not people[row.subject].withheld
    ]
    withheld = sum(1 for person in people.values() if person.withheld)
    told = [
        f"{len(rows) - len(kept)} photographs of {withheld} people are left out, since "
        f"{consent.NAME} does not allow them"
    ]
    return kept, told if withheld else []


def _ledger(folder: Path, rows: Sequence[_Row], problems: list[str]) -> dict[str, consent.Consent]:
    """The consent ledger in the folder; its problems and the people whom it lacks are added.

    A ledger elsewhere among the photographs, or above them, which would not be read, is a problem
    too.
    """
    ledger, found = consent.read_consent(folder / consent.NAME)
    problems += found
    if not found:
        places = {row.subject: row.place for row in reversed(rows)}
        problems += consent.missing_people(ledger, places, folder / consent.NAME)
    above = _ledger_above(folder)
    if os.path.lexists(above) and not os.path.lexists(folder / consent.NAME):
        problems.append(f"{above}: a ledger here is not read; copy it to {folder / consent.NAME}")
    root = folder.absolute()
    folders = {os.path.dirname(row.path) for row in rows}  # noqa: PTH120 (there are many rows)
    below = {place for name in folders for place in (Path(name), *Path(name).parents)}
    problems += [
        f"{place / consent.NAME}: a ledger here is not read; move its rows to "
        f"{folder / consent.NAME}"
        for place in sorted(below)
        if root in place.parents and os.path.lexists(place / consent.NAME)
    ]
    return ledger


def _ledger_above(folder: Path) -> Path:
    """Where a ledger lies that was put beside the folder of photographs rather than into it."""
    return folder.absolute().parent / consent.NAME


class _Reader:
    """Collects problems while it reads, rather than stopping at the first."""

    def __init__(self, emotions: tuple[str, ...], ignore: frozenset[str]) -> None:
        self.emotions = {names.key(name): name for name in emotions}
        if len(self.emotions) < len(emotions):
            told = ", ".join(map(names.shown, emotions))
            raise UserError(f"--config.emotions names one emotion twice: {told}")
        for name in emotions:  # they become folders, as subjects do
            if problem := tables.id_problem(name, "emotion"):
                raise UserError(f"--config.emotions: {problem}")
        self._unknown: dict[str, list[str]] = {}  # where each unknown emotion was read
        self.ignore = ignore
        self.problems: list[str] = []
        self.litter: list[Path] = []
        self.ignored = 0

    def folder(self, root: Path) -> Iterator[_Row]:
        for file in _files(root):
            parts = file.relative_to(root).parts
            if file.suffix.lower() not in images.SUFFIXES:
                table = len(parts) == 1 and file.name in _TABLES
                if file.name.lower() not in _LITTER and not table:
                    self.litter.append(file)
                continue
            if len(parts) != 3:
                self.problems.append(f"{file}: does not lie in {root}/<subject>/<emotion>/")
                continue
            if not _is_utf8("/".join(parts)):
                self.problems.append(f"{str(file)!a}: the name is not UTF-8; rename it")
                continue
            if problem := tables.id_problem(parts[0], "subject"):
                self.problems.append(f"{file}: {problem}")
                continue
            emotion = self._emotion(parts[1], str(file.parent))
            if emotion:
                path, photo = str(file.absolute()), "/".join(parts)
                yield _Row(path, photo, parts[0], emotion, "", False, str(file))

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
        elif not os.path.isfile(tables.path_below(file, value["path"])):  # noqa: PTH113 (any name)
            self.problems.append(f"{place}: there is no file {file.parent / value['path']}")
        if problem := tables.id_problem(value["subject"], "subject"):  # becomes a folder
            self.problems.append(f"{place}: {problem}")
        emotion = self._emotion(value["emotion"], place)
        if len(self.problems) > found or not emotion:
            return None
        path = tables.path_below(file, value["path"])
        photo = Path(os.path.normpath(value["path"])).as_posix()
        split = names.key(value["split"])
        return _Row(str(path), photo, value["subject"], emotion, split, False, place)

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
            f"{places[0]}: unknown emotion {names.shown(name)}; known are {known}; "
            + (f"{len(places) - 1} more photographs have it; " if len(places) > 1 else "")
            + "correct it, or add it to --config.emotions or --config.ignore"
            for name, places in self._unknown.items()
        ]


def _files(folder: Path, above: frozenset[str] = frozenset()) -> Iterator[Path]:
    """All files except hidden ones; linked folders are followed, though not in circles."""
    real = os.path.realpath(folder)
    if real in above:
        return
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise UserError(f"cannot read the folder {folder} ({error.strerror})") from error
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _files(entry, above | {real})
        else:
            yield entry


def _is_utf8(name: str) -> bool:
    """Whether a name from the file system can be written to a table."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _duplicates(rows: Iterable[_Row]) -> Iterator[str]:
    first: dict[str, _Row] = {}
    for row in rows:
        before = first.setdefault(os.path.realpath(row.path), row)
        if before is not row:
            same = (before.subject, before.emotion) == (row.subject, row.emotion)
            other = "" if same else " with another label"
            yield f"{row.place}: {row.photo} is already in {before.place}{other}"


def _unreadable(rows: Sequence[_Row]) -> Iterator[str]:
    files = {os.path.realpath(row.path): row for row in reversed(rows)}  # each is read once
    with ThreadPoolExecutor(max_workers=min(16, os.cpu_count() or 1)) as pool:
        faults = list(pool.map(images.fault, files))
    for row, fault in zip(files.values(), faults, strict=True):
        if fault:
            yield f"{row.place}: cannot read {row.path}: {fault}"


def _split_people(rows: Iterable[_Row]) -> Iterator[str]:
    """Nobody may be in two splits; and splits are given for all or for none."""
    splits: dict[str, dict[str, str]] = {}
    without = []
    for row in rows:
        if row.split:
            splits.setdefault(row.subject, {}).setdefault(row.split, row.place)
        else:
            without.append(row)
    for subject, places in splits.items():
        if len(places) > 1:
            yield (
                f"{list(places.values())[-1]}: subject {names.shown(subject)} is in several "
                f"splits: {', '.join(sorted(places))}"
            )
    if splits:
        for row in without:
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
    told = [f"{len(files)} files are not photographs by their names and were left out: {names}"]
    return told + sorted({images.advice(file) for file in files} - {""})


def _told(source: Path, problems: Sequence[str], notes: Sequence[str]) -> str:
    lines = [f"{source}: {len(problems)} problem{'s' if len(problems) > 1 else ''}"]
    lines += [
        problem if len(problem) <= _LONGEST_PROBLEM else f"{problem[:_LONGEST_PROBLEM]}…"
        for problem in problems[:_MOST_PROBLEMS]
    ]
    if len(problems) > _MOST_PROBLEMS:
        lines.append(f"... and {len(problems) - _MOST_PROBLEMS} more")
    lines += [f"note: {note}" for note in notes]
    return "\n  ".join(lines)


def _merge_spellings(rows: Sequence[_Row]) -> tuple[list[_Row], list[str]]:
    """The rows with one spelling of each subject; a sentence for each that had several."""
    spellings: dict[str, set[str]] = {}
    for row in rows:
        spellings.setdefault(names.key(row.subject), set()).add(row.subject)
    one = {key: names.spelling(found) for key, found in spellings.items()}
    told = [
        f"the spellings {', '.join(map(_with_code_points, sorted(found)))} are read as one "
        f"subject, {one[key]!r}"
        for key, found in spellings.items()
        if len(found) > 1
    ]
    return [dataclasses.replace(row, subject=one[names.key(row.subject)]) for row in rows], told


def _those(merged: list[str]) -> list[str]:
    """The first of the sentences about merged spellings, and how many there are more."""
    more = len(merged) - _MOST_WARNINGS
    rest = [f"... and so are those of {more} more subjects"] if more > 0 else []
    return merged[:_MOST_WARNINGS] + rest


def _with_code_points(name: str) -> str:
    """A name as it is shown, and its code points where these alone tell it from another."""
    points = " ".join(f"U+{ord(letter):04X}" for letter in name)
    return repr(name) if name.isascii() else f"{name!r} ({points})"
