"""Names of people become ids that say nothing, by a table that stays with the photographs."""

from __future__ import annotations

import csv
import hashlib
import secrets
from pathlib import Path

import pandas as pd

from fer_jax.errors import UserError
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
    known = read_pseudonyms(folder)
    new = [name for name in sorted(labels["subject"].unique()) if name not in known]
    for name in new:
        drawn = f"s{secrets.token_hex(4)}"
        while drawn in known.values():
            drawn = f"s{secrets.token_hex(4)}"
        known[name] = drawn
    if new:
        try:
            with atomic_file(folder / NAME) as temporary, temporary.open("w", newline="") as file:
                writer = csv.writer(file)
                writer.writerows([("subject", "pseudonym"), *sorted(known.items())])
        except OSError as error:
            raise UserError(f"cannot write {folder / NAME} ({error.strerror})") from error
    subjects = labels["subject"].map(known)
    digests = labels["photo"].map(lambda photo: hashlib.sha256(photo.encode()).hexdigest())
    salted = [
        hashlib.sha256(f"{subject}{digest}".encode()).hexdigest()[:12]
        for subject, digest in zip(subjects, digests, strict=True)
    ]
    photos = subjects + "/" + labels["emotion"] + "/" + pd.Series(salted, index=labels.index)
    changed = labels.assign(subject=subjects, photo=photos)
    changed.attrs = labels.attrs
    return changed


def read_pseudonyms(folder: Path) -> dict[str, str]:
    """Pseudonyms by subject; empty where there is no table."""
    file = folder / NAME
    if not file.is_file():
        return {}
    try:
        with file.open(newline="", encoding="utf-8") as lines:
            return {row["subject"]: row["pseudonym"] for row in csv.DictReader(lines)}
    except (KeyError, csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"{file} is no table of subject,pseudonym ({error})") from error
