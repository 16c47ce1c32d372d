"""The consent ledger: what each person has allowed to be done with their photographs.

`consent.csv` lies beside the photographs or their table:

    subject,share,train,demo,revoked
    p01,no,yes,no,
    p02,yes,yes,yes,
    p03,no,yes,no,2026-03-01

`train`: models may be trained and tested on the person. `share`: the person may be seen in a report
that is passed on; otherwise the face is blurred there. `demo`: a demonstration may show the person.
`revoked`: the day on which consent was withdrawn, or yes; empty or no while it is in force. Where
there is a ledger, every subject needs a row. A person without consent to `train`, or with a
revocation, is left out of every build. A ledger that cannot be read completely stops the build. A
further column `note` is free text; other columns are refused, since they could mean anything.
"""

from __future__ import annotations

import datetime
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fer_jax.data import names, tables

COLUMNS = ("subject", "share", "train", "demo", "revoked")
OPTIONAL = ("note",)
NAME = "consent.csv"
# Of files that may be a ledger in another format, or one that was given a second suffix.
_LEDGER_SUFFIXES = frozenset(("", ".csv", ".numbers", ".ods", ".tsv", ".txt", ".xls", ".xlsx"))
_WORDS = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}


@dataclass(frozen=True)
class Consent:
    """What one person allows; `place` is the file and line."""

    subject: str
    share: bool
    train: bool
    demo: bool
    revoked: bool
    place: str

    @property
    def withheld(self) -> str:
        """Why this person's photographs may not be used; "" where they may."""
        if self.revoked:
            return "consent revoked"
        return "" if self.train else "no consent to train"


def read_consent(file: Path) -> tuple[dict[str, Consent], list[str]]:
    """The ledger by the key of each subject (see `fer_jax.data.names`), and its problems.

    Where nothing is at `file`, the ledger is empty and has no problems. Whatever else is there and
    is not a complete ledger is a problem, since someone may have withdrawn in it: a broken link, a
    folder, a malformed row, an unknown column, a ledger with another name or in another format.
    """
    try:
        if tables.find(file.parent, file.name) is None:
            return {}, [
                f"{other}: this looks like a consent ledger and would not be read; save it as "
                f"{NAME} (CSV in UTF-8), or give it another name"
                for other in sorted(file.parent.iterdir())
                if _looks_like_a_ledger(other)
            ]
        rows, problems = tables.read_rows(file, COLUMNS, OPTIONAL, others=False)
    except tables.TableError as error:
        return {}, [str(error)]
    ledger: dict[str, Consent] = {}
    for line in rows:
        row = _row(line.value, line.place, problems)
        if row is None:
            continue
        same = names.key(row.subject)
        if same in ledger:
            before = ledger[same]
            problems.append(
                f"{row.place}: {names.shown(row.subject)} is already in {before.place}"
                + ("" if before.subject == row.subject else f", as {names.shown(before.subject)}")
            )
        ledger.setdefault(same, row)
    return ledger, problems


def missing_people(
    ledger: Mapping[str, Consent], places: Mapping[str, str], file: Path
) -> list[str]:
    """A problem for each subject (`places`: where each was read) that the ledger lacks."""
    if not ledger and not os.path.lexists(file):
        return []
    return [
        f"{place}: the subject {subject!r} has no row in {file}"
        for subject, place in places.items()
        if names.key(subject) not in ledger
    ]


def _looks_like_a_ledger(file: Path) -> bool:
    """Whether a file is called as a ledger that was saved or copied under another name."""
    name = names.key(file.name)
    called_so = re.match(r"consents?(?![^\W\d_])", name) is not None
    return called_so and Path(name).suffix in _LEDGER_SUFFIXES and not file.is_dir()


def _row(value: dict[str, str], place: str, problems: list[str]) -> Consent | None:
    found = len(problems)
    if not names.key(value["subject"]):
        problems.append(f"{place}: no subject")
    answers = {}
    for name in ("share", "train", "demo"):
        word = names.key(value[name])
        if word not in _WORDS:
            problems.append(f"{place}: {name} is {names.shown(value[name])}; write yes or no")
        answers[name] = _WORDS.get(word, False)
    revoked = names.key(value["revoked"])
    if revoked and revoked not in _WORDS:
        try:
            datetime.date.fromisoformat(revoked)
        except ValueError:
            problems.append(
                f"{place}: revoked is {names.shown(value['revoked'])}; write a day as "
                "2026-03-31, yes, or leave it empty"
            )
    if len(problems) > found:
        return None
    withdrawn = bool(revoked) and _WORDS.get(revoked, True)
    return Consent(value["subject"], **answers, revoked=withdrawn, place=place)
