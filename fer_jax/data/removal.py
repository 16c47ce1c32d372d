"""Removing a person: from the photographs, and from whatever was made of them.

Tables lose the person's rows, crops and photographs are deleted; what mixes people together and
can be made again (contact sheets, records, reports, lists of suspects) is deleted whole. Models
cannot forget: those that saw the person are named, and those that began from them.
"""

from __future__ import annotations

import csv
import io
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from fer_jax import outputs
from fer_jax.data import consent, pseudonyms
from fer_jax.data.labels import SUFFIXES
from fer_jax.errors import UserError
from fer_jax.workdir import atomic_file, read_json

# Of a finished evaluation; all of it is of people together.
_REPORT = ("report.html", "metrics.json", "per_person.csv", "model_card.md", "datasheet.md")
_SHEETS = ("sheet.png", "suspects.png", "leaks.csv", "leaks.json", "embedding.npz", "heat.npz")
# Of a pretraining that was watched on photographs of the person, which it did not learn from.
_WATCHED = ("neighbours.png", "embedding.png")
_TABLES = ("photographs.parquet", "predictions.parquet")
_TEXTS = frozenset((".csv", ".html", ".json", ".jsonl", ".md", ".parquet", ".txt"))


@dataclass
class Removed:
    """What was done; paths as text."""

    files: list[str] = field(default_factory=list)
    rows: int = 0
    models: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


def remove_person(person: str, photos: Path | None, work: Path) -> Removed:
    """Removes a person from the photographs at `photos` (a folder or table) and from all workdirs
    under `work`.

    `person` is an id as it stands in the labels, or its pseudonym.

    Raises:
        UserError: nobody is called so anywhere.
    """
    names = _names(person, photos)
    done = Removed()
    seeing: set[Path] = set()
    for folder in _workdirs(work):
        seeing |= _clear(folder, names, done)
    for folder in _workdirs(work):
        _clear_watched(folder, seeing, done)
    if photos is not None:
        _clear_photographs(names, photos, done)
    if not (done.files or done.rows):
        raise UserError(f"remove: nobody is called {person!r} in {photos or ''} or under {work}")
    _clear_records(work, done)
    for folder in _workdirs(work):
        outputs.forget(folder)  # the names of files that are gone
    done.models = _models(work, seeing)
    done.left = sorted(_mentions(names, [work] + ([photos] if photos else [])))
    return done


def _names(person: str, photos: Path | None) -> frozenset[str]:
    """The id and its pseudonym, whichever was given."""
    if photos is None:
        return frozenset((person,))
    known = pseudonyms.read_pseudonyms(photos if photos.is_dir() else photos.parent)
    pairs = [pair for pair in known.items() if person in pair]
    return frozenset((person, *(name for pair in pairs for name in pair)))


def _workdirs(work: Path) -> list[Path]:
    return sorted({file.parent for file in work.rglob("config.json")})


def _clear(folder: Path, names: frozenset[str], done: Removed) -> set[Path]:
    """Clears what lies below a workdir; returns the innermost workdirs that showed the person."""
    seen: set[Path] = set()
    for name in _TABLES:
        for file in sorted(folder.rglob(name)):
            table = pd.read_parquet(file)
            rows = table["subject"].astype(str).isin(names)
            if not rows.any():
                continue
            seen.add(next((p for p in file.parents if (p / "config.json").is_file()), folder))
            done.rows += int(rows.sum())
            for crop in table.loc[rows].get("crop", pd.Series(dtype=str)):
                _delete(file.parent / crop, done) if crop else None
            with atomic_file(file) as temporary:
                table[~rows].reset_index(drop=True).to_parquet(temporary)
    if seen:
        for name in _SHEETS:
            for file in sorted(folder.rglob(name)):
                _delete(file, done)
    reports = any((folder / name).is_file() for name in _REPORT)
    if reports and any(_mentions(names, [folder])):
        for name in (*_REPORT, "done.json", "config.json", "inputs.json"):
            _delete(folder / name, done)
    for empty in [p for name in names for p in folder.rglob(name) if p.is_dir()]:
        if not any(p.is_file() for p in empty.rglob("*")):
            shutil.rmtree(empty)
    return seen


def _clear_watched(folder: Path, seen: set[Path], done: Removed) -> None:
    """Deletes pictures of the photographs on which probes watched a training."""
    if not (folder / "config.json").is_file():
        return
    probed = (read_json(folder / "config.json").get("probe") or {}).get("photographs")
    if probed and _within(Path(str(probed)).absolute(), seen):
        for name in _WATCHED:
            _delete(folder / name, done)


def _clear_records(work: Path, done: Removed) -> None:
    """Records hold everybody in one file; they are written again when they are asked for."""
    for records in sorted(work.rglob("persian_emotion-*")):
        if records.is_dir():
            done.files.append(str(records))
            shutil.rmtree(records)


def _clear_photographs(names: frozenset[str], photos: Path, done: Removed) -> None:
    """Deletes the photographs themselves, and the person's rows in the tables beside them."""
    folder = photos if photos.is_dir() else photos.parent
    tables = [photos] if photos.is_file() else [folder / "labels.csv"]
    for table in tables:
        _drop_rows(table, names, done, with_files=True)
    for name in names:
        own = folder / name
        if own.is_dir():
            for file in sorted(own.rglob("*")):
                if file.is_file() and (file.suffix.lower() in SUFFIXES or name in file.parts):
                    _delete(file, done)
            shutil.rmtree(own)
    for name in (consent.NAME, pseudonyms.NAME):
        _drop_rows(folder / name, names, done)


def _drop_rows(
    table: Path, names: frozenset[str], done: Removed, *, with_files: bool = False
) -> None:
    """Writes a CSV again without the rows whose `subject` is one of the names.

    With `with_files` the files in their column `path` go first: who is killed in between still
    knows which they were.
    """
    if not table.is_file():
        return
    lines = csv.DictReader(io.StringIO(table.read_text("utf-8-sig"), newline=""))
    columns = list(lines.fieldnames or ())
    subject = next((c for c in columns if c.strip().lower() == "subject"), None)
    path = next((c for c in columns if c.strip().lower() == "path"), None)
    if subject is None:
        return
    rows = list(lines)
    gone = [row for row in rows if row[subject].strip() in names]
    if with_files and path is not None:
        for row in gone:
            _delete(table.parent / row[path].strip(), done)
    if gone:
        with atomic_file(table) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(row for row in rows if row not in gone)
        done.rows += len(gone)


def _delete(file: Path, done: Removed) -> None:
    if file.is_file():
        file.unlink()
        done.files.append(str(file))


def _models(work: Path, seeing: set[Path]) -> list[str]:
    """Model directories and checkpoints under workdirs that saw the person, or began from such."""
    configs = {
        folder: read_json(folder / "config.json")
        for folder in _workdirs(work)
        if (folder / "config.json").is_file()
    }
    tainted = set(seeing)
    while True:
        more = {
            folder
            for folder, config in configs.items()
            if folder not in tainted
            and any(
                value and _within(Path(str(value)).absolute(), tainted)
                for value in (
                    config.get("init"),
                    config.get("photographs"),
                    config.get("model"),
                    (config.get("data") or {}).get("root"),
                )
            )
        }
        if not more:
            break
        tainted |= more
    found: set[str] = set()
    for folder in tainted:
        found |= {str(file.parent) for file in folder.rglob("model.json")}
        found |= {str(path) for path in folder.rglob("checkpoints") if path.is_dir()}
    return sorted(found)


def _within(path: Path, folders: set[Path]) -> bool:
    return bool(folders & {path, *path.parents})


def _mentions(names: frozenset[str], roots: list[Path]) -> Iterator[str]:
    """Files whose name or text still holds one of the ids, as a word of its own."""
    pattern = re.compile(
        b"|".join(rb"(?<![\w-])" + re.escape(name.encode()) + rb"(?![\w-])" for name in names)
    )
    for root in roots:
        files = root.rglob("*") if root.is_dir() else [root]
        for file in sorted(files):
            if not file.is_file():
                continue
            named = any(name in (*file.relative_to(root).parts, file.stem) for name in names)
            text = file.suffix.lower() in _TEXTS
            if named or (text and pattern.search(file.read_bytes())):
                yield str(file)
