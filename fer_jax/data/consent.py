"""The consent ledger: what each person has allowed to be done with their photographs.

`consent.csv` lies beside the photographs or their table:

    subject,share,train,demo,revoked
    p01,no,yes,no,
    p02,yes,yes,yes,
    p03,no,yes,no,2026-03-01

`train`: to teach and test models. `share`: to be seen in a report that is handed on; without it a
face is blurred there. `demo`: to be shown by a demonstration. `revoked`: the day on which consent
was withdrawn, or yes; empty or no while it stands. Where there is a ledger, everybody needs a row;
whoever does not allow `train`, or has revoked, is left out of every build.
"""

from __future__ import annotations

import csv
import datetime
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

COLUMNS = ("subject", "share", "train", "demo", "revoked")
NAME = "consent.csv"
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
    """The ledger by subject, and every problem with it, with file and line.

    An absent file gives an empty ledger without problems.
    """
    if not file.is_file():
        return {}, []
    problems: list[str] = []
    ledger: dict[str, Consent] = {}
    try:
        text = file.read_text(encoding="utf-8-sig")
        lines = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        lines.fieldnames = [(name or "").strip().lower() for name in lines.fieldnames or ()]
        missing = [name for name in COLUMNS if name not in lines.fieldnames]
        if missing:
            return {}, [f"{file}, line 1: no column {', '.join(missing)}"]
        for line in lines:
            place = f"{file}, line {lines.line_num}"
            value = {name: (line.get(name) or "").strip() for name in COLUMNS}
            row = _row(value, place, problems)
            if row is None:
                continue
            if row.subject in ledger:
                before = ledger[row.subject].place
                problems.append(f"{place}: {row.subject!r} stands already in {before}")
            ledger.setdefault(row.subject, row)
    except (csv.Error, UnicodeDecodeError) as error:
        problems.append(f"{file} is no table in UTF-8 with commas: {error}")
    return ledger, problems


def missing_people(
    ledger: Mapping[str, Consent], places: Mapping[str, str], file: Path
) -> list[str]:
    """A problem for each subject (`places`: where each was read) that the ledger lacks."""
    if not ledger and not file.is_file():
        return []
    return [
        f"{place}: the subject {subject!r} has no row in {file}"
        for subject, place in places.items()
        if subject not in ledger
    ]


def _row(value: dict[str, str], place: str, problems: list[str]) -> Consent | None:
    found = len(problems)
    if not value["subject"]:
        problems.append(f"{place}: no subject")
    answers = {}
    for name in ("share", "train", "demo"):
        if value[name].lower() not in _WORDS:
            problems.append(f"{place}: {name} is {value[name]!r}; write yes or no")
        answers[name] = _WORDS.get(value[name].lower(), False)
    revoked = value["revoked"].lower()
    if revoked and revoked not in _WORDS:
        try:
            datetime.date.fromisoformat(revoked)
        except ValueError:
            problems.append(
                f"{place}: revoked is {value['revoked']!r}; write a day as 2026-03-31, yes, or "
                "leave it empty"
            )
    if len(problems) > found:
        return None
    withdrawn = bool(revoked) and _WORDS.get(revoked, True)
    return Consent(value["subject"], **answers, revoked=withdrawn, place=place)
