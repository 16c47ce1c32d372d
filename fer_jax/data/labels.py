"""Reading labelled photographs from `root/<subject>/<emotion>/*` or a `labels.csv`."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from fer_jax import console
from fer_jax.data import consent, emotion_names, names, pseudonyms, tables
from fer_jax.data.emotion_names import EmotionNames
from fer_jax.errors import UserError
from fer_jax.faces import images
from fer_jax.files import absolute, below

NAME = "labels.csv"
COLUMNS = ("path", "photo", "subject", "emotion", "split", "share", "ledger_line")
_NOT_LISTED = frozenset((NAME, consent.NAME, pseudonyms.NAME))
_LEFT_BY_SYSTEMS = frozenset(("thumbs.db", "desktop.ini"))
_MOST_WARNINGS = 20
_MOST_PROBLEMS = 200  # in the message; an empty column causes thousands
_LONGEST_PROBLEM = 380  # characters


def read_labels(
    path: str | os.PathLike[str],
    emotions: Sequence[str],
    *,
    ignore: Sequence[str] = (),
) -> pd.DataFrame:
    """Reads which photograph shows which subject with which emotion.

    Names of emotions and subjects are compared by `fer_jax.data.names.key`, which ignores letter
    case, vowel signs, joiners, and whether letters and digits are Arabic or Persian. Emotions are
    returned as they are spelled in `emotions`; aliases such as "anger" or "خشم" are read as the
    emotion that they stand for (see `EmotionNames`). A subject with several spellings is returned
    under one of them, with a warning.

    Args:
        path: a folder `<subject>/<emotion>/<photograph>`; or a table with the columns `path`
            (relative to the table, inside its folder), `subject`, `emotion` and, optionally,
            `split`; or a folder with such a table in `labels.csv`.
        emotions: the closed set of labels.
        ignore: emotions whose photographs are skipped.

    Returns:
        One row per photograph, sorted by `photo`: `path` (absolute), `photo` (unique: the path
        relative to the folder or table), `subject`, `emotion`, `split` ("" if none is given),
        `share` (whether a report may show the face), `ledger_line` (the person's line in the
        consent ledger, 0 without a ledger). `attrs` contains the list "warnings", the description
        "consent_ledger", "aliases" (the number of photographs by alias and emotion), and counts:
        "merged" (subjects with several spellings), "ignored" (photographs of ignored emotions),
        "not_photographs" (other files), "withheld" (photographs without consent) and
        "people_without_consent" (in the ledger).

    Raises:
        UserError: there are no photographs that may be used, or something is wrong with a label, a
            picture or the consent ledger; the message lists up to 200 problems with file and line.
    """
    source = Path(path)
    if not os.path.lexists(source):
        raise UserError(
            f"there is no folder or table of photographs at {source}; correct --config.photos"
        )
    _check_emotions(emotions)
    folder = source if source.is_dir() else source.parent
    table = tables.find(folder, NAME) if source.is_dir() else source
    found = _read_table(table) if table else _read_folder(source)
    rows, ignored, aliases = _check_names(found, emotions, ignore)
    others = _not_photographs(found.others)
    if not (rows or found.problems or ignored):
        raise UserError(
            f"{source} contains no photographs; expected <subject>/<emotion>/<photograph>, or "
            f"photographs that a table such as {NAME} lists"
            + "".join(f"; {warning}" for warning in others)
        )
    rows, merged = _merge_spellings(rows)
    ledger = consent.read_ledger(folder)
    problems = [*found.problems, *_duplicates(rows), *_unreadable(rows), *_split_problems(rows)]
    problems += [*ledger.problems, *_not_in_ledger(ledger, rows)]
    problems += _misplaced_ledgers(ledger.file, rows)
    if problems:
        raise UserError(_message(source, problems, _at_most(merged)))
    if not rows:
        raise UserError(
            f"{source}: all photographs ({ignored}) have ignored emotions; change --config.ignore"
        )
    kept = []
    for row in sorted(rows, key=lambda row: row.photo):
        person = ledger.people.get(names.key(row.subject))
        share, line = (person.share, person.row.line) if person else (False, 0)
        if not (person and person.withheld):
            fields = (row.path, row.photo, row.subject, row.emotion, row.split)
            kept.append((*fields, share, line))
    if not kept:
        raise UserError(
            f"{source}: no photograph may be used, since {consent.NAME} has no valid consent "
            "(train=yes, not revoked) of any person shown; add photographs of people who consent"
        )
    labels = pd.DataFrame(kept, columns=list(COLUMNS)).astype({"ledger_line": "int32"})
    withheld = {row.subject for row in rows} - set(labels["subject"])
    people = console.count(len(withheld), "person", "people")
    left_out = (
        f"photographs skipped: {len(rows) - len(kept)}, of {people}, since "
        f"{consent.NAME} does not allow their use"
    )
    labels.attrs = {
        "warnings": [
            *_at_most(merged),
            *_single_emotions(labels),
            *others,
            *([left_out] if withheld else []),
        ],
        "aliases": aliases,
        "merged": len(merged),
        "ignored": ignored,
        "not_photographs": len(found.others),
        "withheld": len(rows) - len(kept),
        "people_without_consent": len(ledger.withheld),
        "consent_ledger": ledger.description,
    }
    return labels


def files_read(path: str | os.PathLike[str]) -> list[Path]:
    """Files, besides `path` itself, on which the result of reading the labels at `path` depends.

    These are the consent ledger, a ledger in the folder above, and the table of pseudonyms, whether
    or not they exist, and, if `path` is a table, the pictures that it lists. If `path` is a folder,
    the other files below it are not included.
    """
    source = Path(path)
    folder = source if source.is_dir() else source.parent
    above = absolute(folder).parent / consent.NAME
    files = [folder / consent.NAME, above, folder / pseudonyms.NAME]
    if not source.is_file():
        return files
    with contextlib.suppress(tables.TableError):  # `read_labels` reports it
        rows, _ = tables.read_rows(source, ("path",))
        paths = [row.value["path"] for row in rows]
        inside = [name for name in paths if not tables.path_problem(name)]
        files += [tables.path_below(source, name) for name in inside]
    return files


@dataclass(frozen=True)
class _Row:
    """A labelled photograph, the place from which its label was read, and a problem with its path.

    `problem` is "" if there is none.
    """

    path: str
    photo: str
    subject: str
    emotion: str
    split: str
    place: str
    problem: str = ""


@dataclass(frozen=True)
class _Found:
    """The content of a folder or table; `others` are files that are not photographs."""

    rows: list[_Row]
    problems: list[str]
    others: list[Path]


def _check_emotions(emotions: Sequence[str]) -> None:
    if len({names.key(name) for name in emotions}) < len(emotions):
        listed = ", ".join(map(names.shown, emotions))
        raise UserError(f"--config.emotions lists an emotion twice ({listed}); remove one")
    for name in emotions:  # they become folder names, like subjects
        if problem := tables.id_problem(name, "emotion"):
            raise UserError(f"--config.emotions: {problem}")


def _read_folder(root: Path) -> _Found:
    found = _Found([], [], [])
    try:
        files = [path for path in below(root, hidden=False) if not path.is_dir()]
    except OSError as error:
        raise UserError(
            f"cannot read the folder {error.filename} ({error.strerror}); fix its permissions"
        ) from error
    for file in files:
        parts = file.relative_to(root).parts
        if file.suffix.lower() not in images.SUFFIXES:
            is_table = len(parts) == 1 and file.name in _NOT_LISTED
            if file.name.lower() not in _LEFT_BY_SYSTEMS and not is_table:
                found.others.append(file)
        elif len(parts) != 3:
            found.problems.append(
                f"{file} is not in a folder of one subject and emotion; move it to "
                f"{root}/<subject>/<emotion>/"
            )
        elif not _is_utf8("/".join(parts)):
            found.problems.append(f"{str(file)!a}: the name is not UTF-8; rename it")
        else:
            path, photo = str(file.absolute()), "/".join(parts)
            found.rows.append(_Row(path, photo, parts[0], parts[1], "", str(file)))
    return found


def _read_table(file: Path) -> _Found:
    lines, problems = tables.read_rows(file, ("path", "subject", "emotion"), ("split",))
    rows = []
    for line in lines:
        name, subject, emotion, split = line.value.values()
        path = tables.path_below(file, name)
        problem = tables.path_problem(name)
        if not problem and not os.path.isfile(path):  # noqa: PTH113 (never raises)
            problem = f"there is no file {file.parent / name}; correct the path"
        photo = Path(os.path.normpath(name)).as_posix()
        split = names.key(split)
        rows.append(_Row(str(path), photo, subject, emotion, split, line.place, problem))
    return _Found(rows, problems, [])


def _check_names(
    found: _Found, emotions: Sequence[str], ignore: Sequence[str]
) -> tuple[list[_Row], int, dict[tuple[str, str], int]]:
    """The valid rows with emotions as spelled in the config, and counts.

    The counts are the number of ignored rows, and the number of rows by alias and emotion. Problems
    with paths and subjects, and one problem per unknown emotion, are added to `found.problems`.
    Only the first unknown emotion comes with the advice, which is the same for all.
    """
    known = EmotionNames(emotions, ignore)
    rows, ignored = [], 0
    aliases: Counter[tuple[str, str]] = Counter()
    unknown: dict[str, list[str]] = {}
    for row in found.rows:
        problems = [row.problem, tables.id_problem(row.subject, "subject")]
        found.problems.extend(f"{row.place}: {problem}" for problem in problems if problem)
        try:
            emotion = known.find(row.emotion)
        except KeyError:
            unknown.setdefault(row.emotion, []).append(row.place)
            continue
        if emotion is None:
            ignored += 1
        elif not any(problems):
            rows.append(replace(row, emotion=emotion))
            if emotion_names.is_alias(row.emotion, emotion):
                aliases[row.emotion, emotion] += 1
    advice = (
        f"; known emotions are {', '.join(emotions)}; correct it, or add it to --config.emotions "
        f"or --config.ignore"
    )
    found.problems.extend(
        f"{places[0]}: unknown emotion {names.shown(name)}"
        + (known.suggestion(name) if number < _MOST_PROBLEMS else "")
        + (f" (of {len(places)} photographs)" if len(places) > 1 else "")
        + (advice if number == 0 else "")
        for number, (name, places) in enumerate(unknown.items())
    )
    return rows, ignored, dict(aliases)


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
            yield f"{row.place}: {row.photo} occurs twice, also at {before.place}{other}; keep one"


def _unreadable(rows: Sequence[_Row]) -> Iterator[str]:
    files = {os.path.realpath(row.path): row for row in reversed(rows)}  # each is read once
    with ThreadPoolExecutor(max_workers=min(16, os.cpu_count() or 1)) as pool:
        faults = list(pool.map(images.fault, files))
    for row, fault in zip(files.values(), faults, strict=True):
        if fault:
            yield f"{row.place}: cannot read {row.path}: {fault}"


def _split_problems(rows: Iterable[_Row]) -> Iterator[str]:
    """Yields a problem for each subject in several splits.

    If any row has a split, there is also a problem for each row without one.
    """
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
                f"{list(places.values())[-1]}: subject {names.shown(subject)} is in several splits "
                f"({', '.join(sorted(places))}); use one split for all photographs of this person"
            )
    if splits:
        for row in without:
            yield f"{row.place}: the split is empty; fill it in, as in other rows"


def _not_in_ledger(ledger: consent.Ledger, rows: Sequence[_Row]) -> Iterator[str]:
    """Yields a problem for each subject without a row in the consent ledger.

    There are none if there is no ledger, or if it has other problems.
    """
    if os.path.lexists(ledger.file) and not ledger.problems:
        for subject, place in {row.subject: row.place for row in reversed(rows)}.items():
            if names.key(subject) not in ledger.people:
                yield f"{place}: the subject {subject!r} has no row in {ledger.file}; add one"


def _misplaced_ledgers(ledger: Path, rows: Sequence[_Row]) -> Iterator[str]:
    """Yields a problem for each ledger in a place where it is not read.

    Such places are the folders below `ledger.parent` with photographs at any depth and, if there is
    no file `ledger`, the folder above `ledger.parent`.
    """
    root = ledger.parent.absolute()
    above = absolute(root).parent / consent.NAME
    if os.path.lexists(above) and not os.path.lexists(ledger):
        yield f"{above}: a ledger here is not read; copy it to {ledger}"
    folders = {os.path.dirname(row.path) for row in rows}  # noqa: PTH120 (there are many rows)
    for place in sorted({place for name in folders for place in (Path(name), *Path(name).parents)}):
        if root in place.parents and os.path.lexists(place / consent.NAME):
            yield f"{place / consent.NAME}: a ledger here is not read; move its rows to {ledger}"


def _single_emotions(frame: pd.DataFrame) -> list[str]:
    counts = frame.groupby("subject")["emotion"].agg(["nunique", "first"])
    single = counts[counts["nunique"] == 1]
    named = [
        f"subject {subject!r} has photographs of one emotion only ({row['first']})"
        for subject, row in single.head(_MOST_WARNINGS).iterrows()
    ]
    more = len(single) - len(named)
    return named + ([f"... and {more} more subjects with one emotion only"] if more else [])


def _not_photographs(files: Sequence[Path]) -> list[str]:
    if not files:
        return []
    some = ", ".join(str(file) for file in files[:5]) + (", ..." if len(files) > 5 else "")
    first = f"files skipped, since their suffixes are not those of images: {len(files)} ({some})"
    return [first, *sorted({images.advice(file) for file in files} - {""})]


def _message(source: Path, problems: Sequence[str], notes: Sequence[str]) -> str:
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
    """The rows with one spelling per subject, and a sentence for each subject that had several."""
    spellings: dict[str, set[str]] = {}
    for row in rows:
        spellings.setdefault(names.key(row.subject), set()).add(row.subject)
    one = {key: names.spelling(found) for key, found in spellings.items()}
    merged = [
        f"the spellings {', '.join(map(_with_code_points, sorted(found)))} are read as one "
        f"subject, {one[key]!r}"
        for key, found in spellings.items()
        if len(found) > 1
    ]
    return [replace(row, subject=one[names.key(row.subject)]) for row in rows], merged


def _at_most(merged: list[str]) -> list[str]:
    """The first sentences about merged spellings, and the number of further ones."""
    more = len(merged) - _MOST_WARNINGS
    rest = [f"... and the spellings of {more} more subjects"] if more > 0 else []
    return merged[:_MOST_WARNINGS] + rest


def _with_code_points(name: str) -> str:
    """A name, with its code points if it is not ASCII, since different names may look the same."""
    points = " ".join(f"U+{ord(letter):04X}" for letter in name)
    return repr(name) if name.isascii() else f"{name!r} ({points})"
