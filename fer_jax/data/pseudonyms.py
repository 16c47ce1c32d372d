"""Names of people become ids that say nothing, by a table that stays with the photographs."""

from __future__ import annotations

import csv
import hashlib
import os
import secrets
from pathlib import Path

import pandas as pd

from fer_jax.data import names, tables
from fer_jax.errors import UserError
from fer_jax.locking import turn_in
from fer_jax.workdir import atomic_file

NAME = "pseudonyms.csv"


def pseudonymise(labels: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """The labels with drawn ids for `subject`, and `photo` without the names of files.

    `folder/pseudonyms.csv` (subject, pseudonym) says who is who. It is read, and gets a row for
    each new subject; it is the owner's, and no workdir holds a copy. Ids are drawn, not computed,
    so that nobody can find out a name by trying names.

    Raises:
        UserError: the table is damaged, or cannot be written.
    """
    subjects = labels["subject"].map(_with_new_ids(sorted(labels["subject"].unique()), folder))
    digests = labels["photo"].map(lambda photo: hashlib.sha256(photo.encode()).hexdigest())
    salted = [
        hashlib.sha256(f"{subject}{digest}".encode()).hexdigest()[:12]
        for subject, digest in zip(subjects, digests, strict=True)
    ]
    photos = subjects + "/" + labels["emotion"] + "/" + pd.Series(salted, index=labels.index)
    changed = labels.assign(subject=subjects, photo=photos)
    changed.attrs = labels.attrs
    return changed


def _with_new_ids(subjects: list[str], folder: Path) -> dict[str, str]:
    """The pseudonym of each subject, drawn and written down for those that have none.

    Runs that do so at the same time take turns, so that no id is lost.
    """
    try:
        with turn_in(folder):
            known = read_pseudonyms(folder)
            ids = {names.key(subject): pseudonym for subject, pseudonym in known.items()}
            new = [subject for subject in subjects if names.key(subject) not in ids]
            for subject in new:
                drawn = f"s{secrets.token_hex(4)}"
                while drawn in ids.values():
                    drawn = f"s{secrets.token_hex(4)}"
                known[subject] = ids[names.key(subject)] = drawn
            if new:
                with atomic_file(folder / NAME) as temporary:
                    _write(temporary, known)
    except OSError as error:
        raise UserError(f"cannot write {folder / NAME} ({error.strerror})") from error
    return {subject: ids[names.key(subject)] for subject in subjects}


def _write(file: Path, known: dict[str, str]) -> None:
    with file.open("w", newline="", encoding="utf-8") as text:
        csv.writer(text).writerows([("subject", "pseudonym"), *sorted(known.items())])


def read_pseudonyms(folder: Path) -> dict[str, str]:
    """Pseudonyms by subject; empty where there is no table.

    Raises:
        UserError: the table is damaged, has a subject twice, or gives two people one pseudonym or
            one that cannot be the name of a folder.
    """
    file = folder / NAME
    if not os.path.lexists(file):
        return {}
    rows, problems = tables.read_rows(file, ("subject", "pseudonym"))
    known: dict[str, str] = {}
    places: dict[str, str] = {}
    for row in rows:
        subject, pseudonym = row.value["subject"], row.value["pseudonym"]
        found = tables.id_problem(subject, "subject") or tables.id_problem(pseudonym, "pseudonym")
        if found:
            problems.append(f"{row.place}: {found}")
        for name in (f"subject {names.key(subject)}", f"pseudonym {names.key(pseudonym)}"):
            if name in places:
                problems.append(f"{row.place}: the {name} stands already in {places[name]}")
            places.setdefault(name, row.place)
        known[subject] = pseudonym
    if problems:
        raise UserError(f"{file}: " + "; ".join(problems[:10]))
    return known
