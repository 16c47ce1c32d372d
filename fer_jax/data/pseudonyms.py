"""Random ids in place of people's names; the table that links them stays with the photographs."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import secrets
import shutil
from pathlib import Path

import pandas as pd

from fer_jax.data import names, tables
from fer_jax.errors import UserError
from fer_jax.locking import turn_in
from fer_jax.workdir import atomic_file

NAME = "pseudonyms.csv"
COLUMNS = ("subject", "pseudonym")


def pseudonymise(labels: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """The labels with random ids as `subject`, and with digests in place of file names in `photo`.

    `folder/pseudonyms.csv` (subject, pseudonym) links ids and names, and gets a row for each new
    subject. It belongs to the owner of the photographs; no workdir has a copy. Ids are random, not
    computed from the name, so that no name can be found from an id by trying candidates.

    Raises:
        UserError: the table is damaged or cannot be written, or a pseudonym is also the name of
            another subject.
    """
    ids = _ids(sorted(labels["subject"].unique()), folder)
    subjects = labels["subject"].map(ids)
    photos = [
        f"{subject}/{emotion}/{_digest(subject + _digest(photo))[:12]}"
        for subject, emotion, photo in zip(
            subjects, labels["emotion"], labels["photo"], strict=True
        )
    ]
    return labels.assign(subject=subjects, photo=photos)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _ids(subjects: list[str], folder: Path) -> dict[str, str]:
    """The pseudonym of each subject; missing ones are drawn and added to the table.

    Concurrent runs take turns, so that no id is lost.
    """
    try:
        with turn_in(folder):
            known = read_pseudonyms(folder)
            ids = {names.key(subject): pseudonym for subject, pseudonym in known.items()}
            people = {*ids, *map(names.key, subjects)}
            for subject, pseudonym in ids.items():
                if names.key(pseudonym) in people - {subject}:
                    raise UserError(
                        f"{folder / NAME}: the pseudonym {names.shown(pseudonym)} is the name of "
                        f"another subject; choose another pseudonym"
                    )
            taken = {*people, *map(names.key, known.values())}
            drawn: dict[str, str] = {}
            for subject in subjects:
                if names.key(subject) not in ids:
                    while (pseudonym := f"s{secrets.token_hex(4)}") in taken:
                        pass
                    taken.add(pseudonym)
                    drawn[subject] = ids[names.key(subject)] = pseudonym
            if drawn:
                _append(folder / NAME, drawn)
    except OSError as error:
        raise UserError(
            f"cannot read or write {folder / NAME} ({error.strerror}); change its permissions, or "
            f"free some disk space"
        ) from error
    return {subject: ids[names.key(subject)] for subject in subjects}


def _append(file: Path, drawn: dict[str, str]) -> None:
    """Adds rows to the table and leaves every existing byte unchanged; creates a missing table.

    If the table is a symbolic link, the file that it points to is written.
    """
    real = Path(os.path.realpath(file))
    text = real.read_bytes().decode() if real.exists() else ",".join(COLUMNS) + "\n"
    end = "\r\n" if "\r\n" in text else "\n"
    header = [names.key(name) for name in next(csv.reader(io.StringIO(text, newline="")))]
    rows = io.StringIO(newline="")
    writer = csv.DictWriter(rows, header, lineterminator=end)
    for subject, pseudonym in sorted(drawn.items()):
        writer.writerow({"subject": subject, "pseudonym": pseudonym})
    with atomic_file(real) as temporary:
        between = "" if text.endswith(("\r", "\n")) else end
        temporary.write_bytes(f"{text}{between}{rows.getvalue()}".encode())
        if real.exists():
            shutil.copymode(real, temporary)


def read_pseudonyms(folder: Path) -> dict[str, str]:
    """The pseudonym of each subject in the table of `folder`; empty if there is no table.

    Raises:
        UserError: the table is damaged, lists a subject twice, assigns the same pseudonym to two
            subjects, or contains a subject or pseudonym that cannot be the name of a folder.
    """
    file = tables.find(folder, NAME)
    if file is None:
        return {}
    rows, problems = tables.read_rows(file, COLUMNS)
    known: dict[str, str] = {}
    places: dict[str, str] = {}
    for row in rows:
        subject, pseudonym = row.value["subject"], row.value["pseudonym"]
        found = tables.id_problem(subject, "subject") or tables.id_problem(pseudonym, "pseudonym")
        if found:
            problems.append(f"{row.place}: {found}")
        for name in (f"subject {names.key(subject)}", f"pseudonym {names.key(pseudonym)}"):
            if name in places:
                problems.append(
                    f"{row.place}: the {name} is already in {places[name]}; remove one of the two"
                )
            places.setdefault(name, row.place)
        known[subject] = pseudonym
    if problems:
        raise UserError("; ".join(problems[:10]))
    return known
