"""Finding and deleting the photographs of one person, and the person's rows in tables.

Only files in the folder of photographs are deleted. If a symbolic link there points to a photograph
inside the folder, both are deleted. If it points outside, the user has to decide first.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fer_jax.data import consent, pseudonyms, tables
from fer_jax.data.person import Person
from fer_jax.errors import UserError
from fer_jax.faces.images import SUFFIXES
from fer_jax.files import below, replace_text
from fer_jax.locking import turn_in

_MADE_BY_SYSTEMS = frozenset(("thumbs.db", "desktop.ini", ".ds_store"))  # may contain thumbnails


@dataclass
class Originals:
    """The photographs and table rows of a person in a folder of photographs.

    Attributes:
        root: the folder, with links resolved.
        files: the photographs, the links to them, and thumbnails made by operating systems.
        folders: the person's folders and the links to them.
        rows: the person's rows in the tables of labels, consent and pseudonyms.
        listed: all files that the table of labels assigns to other people.
        problems: what has to be done by hand before anything is deleted.
    """

    root: Path
    files: list[Path] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)
    rows: list[tables.Row] = field(default_factory=list)
    listed: frozenset[Path] = frozenset()
    problems: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.files or self.folders or self.rows or self.problems)


def root_of(photos: Path) -> Path:
    """The folder of photographs, given the folder itself or a table in it."""
    return photos if photos.is_dir() else photos.parent


def find_originals(photos: Path, person: Person) -> Originals:
    """Finds a person's photographs and rows at `photos`, a folder or a table.

    Raises:
        UserError: `photos` does not exist, or a table cannot be read.
    """
    if not photos.exists():
        raise UserError(
            f"there is no folder or table of photographs at {photos}; correct --config.photos"
        )
    found = Originals(Path(os.path.realpath(root_of(photos))))
    labels = photos if photos.is_file() else found.root / "labels.csv"
    for file in (labels, found.root / consent.NAME, found.root / pseudonyms.NAME):
        kept, gone = _read(file, person)
        found.rows += gone
        if gone and not Path(os.path.realpath(file)).is_relative_to(found.root):
            found.problems.append(
                f"{file} is a link to {os.path.realpath(file)} outside {found.root}; delete the "
                f"person's rows there by hand"
            )
        if file == labels:
            _find_listed(found, kept, gone)
    if person.is_distinct or not os.path.lexists(labels):
        _find_in_folders(found, person)
    _find_links(found)
    found.files = list(dict.fromkeys(found.files))
    found.problems = list(dict.fromkeys(found.problems))
    return found


def delete_files(found: Originals) -> None:
    """Deletes the files of `found`, the links to its folders, and its folders that become empty.

    Raises:
        OSError: a file cannot be deleted; the next run deletes the rest.
    """
    for file in found.files:
        file.unlink(missing_ok=True)
    for folder in found.folders:
        if folder.is_symlink():
            folder.unlink()
        elif folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def delete_rows(found: Originals, person: Person) -> None:
    """Deletes the person's rows from the tables and leaves every other byte unchanged.

    The tables are read again, since rows may have been added after `found` was made.

    Raises:
        UserError: a table can no longer be read.
    """
    with turn_in(found.root):  # a run of `photographs` may be adding pseudonyms
        for file in dict.fromkeys(row.file for row in found.rows):
            _, gone = _read(file, person)
            if not gone:  # they have been deleted in the meantime
                continue
            lines = {line for row in gone for line in range(row.first_line, row.line + 1)}
            with file.open(newline="", encoding="utf-8") as content:
                kept = [text for line, text in enumerate(content, 1) if line not in lines]
            replace_text(Path(os.path.realpath(file)), "".join(kept))


def _read(file: Path, person: Person) -> tuple[list[tables.Row], list[tables.Row]]:
    """The rows of a table about other people, and those about the person; empty without a table."""
    if not os.path.lexists(file):
        return [], []
    rows, problems = tables.read_rows(file, ("subject",), ("path",))
    if problems:  # a row that cannot be read may be the person's
        raise UserError(f"{'; '.join(problems[:10])}; correct the table first")
    kept: list[tables.Row] = []
    gone: list[tables.Row] = []
    for row in rows:
        (gone if person.is_named(row.value["subject"]) else kept).append(row)
    return kept, gone


def _find_listed(found: Originals, kept: Sequence[tables.Row], gone: Sequence[tables.Row]) -> None:
    """Adds the photographs in the person's rows (`gone`) and the files that other rows list."""
    others: dict[Path, str] = {}
    for row in kept:
        if not tables.path_problem(row.value["path"]):
            file = Path(os.path.realpath(tables.path_below(row.file, row.value["path"])))
            others.setdefault(file, f"{row.place}, assigns it to {row.value['subject']}")
    found.listed = frozenset(others)
    for row in gone:
        path = row.value["path"]
        if not path:
            continue
        if problem := tables.path_problem(path):
            found.problems.append(
                f"{row.place}: {problem}, or delete the photograph and the row by hand"
            )
            continue
        file = tables.path_below(row.file, path)
        other = others.get(Path(os.path.realpath(file)))
        if other:
            found.problems.append(
                f"{row.place}: {path} is listed twice; {other}; correct the table"
            )
        elif file.is_dir():
            found.problems.append(f"{row.place}: {file} is a folder; correct the table")
        else:
            _add_photograph(found, file)


def _find_in_folders(found: Originals, person: Person) -> None:
    """Adds the person's folders, and the pictures and thumbnail files in them.

    Files that the table of labels assigns to other people are left out.
    """
    listed = {str(file) for file in found.listed}
    for own in sorted(found.root.iterdir()):
        if person.is_named(own.name) and own.is_dir():
            for path in below(own):
                if path.is_dir():
                    found.folders.append(path)
                elif os.path.realpath(path) not in listed and (
                    path.suffix.lower() in SUFFIXES or path.name.lower() in _MADE_BY_SYSTEMS
                ):
                    _add_photograph(found, path)
            found.folders.append(own)
            real = Path(os.path.realpath(own))
            if own.is_symlink() and real.is_relative_to(found.root):
                found.folders.append(real)
        elif person.is_named(own.name) and own.is_symlink():  # the folder it points to is gone
            found.folders.append(own)


def _add_photograph(found: Originals, file: Path) -> None:
    """Adds the photograph `file` or, if it is a link, the chain of links and the photograph.

    If that photograph exists outside the folder of photographs, a problem is added instead.
    """
    hops = _link_chain(file)
    outside = [hop for hop in hops if not hop.is_relative_to(found.root)]
    if outside and outside[-1].exists():
        found.problems.append(
            f"{file} is a link to a photograph outside {found.root}; delete {outside[-1]} by hand, "
            f"or delete only the link to keep the original"
        )
        return
    found.files += [hop for hop in reversed(hops) if hop not in outside and os.path.lexists(hop)]


def _link_chain(file: Path) -> list[Path]:
    """The file and the chain of files that it links to, each as a path without linked folders."""
    hops: list[Path] = []
    while True:
        file = Path(os.path.realpath(file.parent)) / file.name
        if file in hops:
            return hops
        hops.append(file)
        if not file.is_symlink():
            return hops
        file = file.parent / file.readlink()


def _find_links(found: Originals) -> None:
    """Adds all other links to the photographs that will be deleted."""
    gone = {str(file) for file in found.files}
    if not gone:
        return
    for parent, _, names in os.walk(found.root):
        for name in names:
            file = Path(parent) / name
            if file.is_symlink() and os.path.realpath(file) in gone:
                found.files.insert(0, file)
