"""The consent ledger: how the photographs of each person may be used.

`consent.csv` is in the folder of the photographs, or next to their table:

    subject,share,train,demo,revoked
    p01,no,yes,no,
    p02,yes,yes,yes,
    p03,no,yes,no,2026-03-01

`train`: models may be trained and tested on the person. `share`: a report that is passed on may
show the person; otherwise the face is blurred. `demo`: a demonstration may show the person.
`revoked`: the date on which consent was withdrawn, or yes; empty or no while consent is in force.
If there is a ledger, every subject needs a row. A person without consent to `train`, or with a
revocation, is excluded. A ledger that cannot be read completely is an error. The optional column
`note` is free text; other columns are refused, since they could mean anything.
"""

from __future__ import annotations

import datetime
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fer_jax.data import names, tables

NAME = "consent.csv"
_COLUMNS = ("subject", "share", "train", "demo", "revoked")
# Suffixes of files that may be a ledger in another format.
_LEDGER_SUFFIXES = frozenset(("", ".csv", ".numbers", ".ods", ".tsv", ".txt", ".xls", ".xlsx"))
_WORDS = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}


@dataclass(frozen=True)
class Consent:
    """The consent of one person, and its row in the ledger.

    `share` is True if a report that is passed on may show the person; `withheld` is True if the
    person's photographs must not be used.
    """

    subject: str
    share: bool
    withheld: bool
    row: tables.Row = field(repr=False)


@dataclass(frozen=True)
class Ledger:
    """A consent ledger at the time of reading.

    `people` maps the key of each subject (`names.key`) to the subject's consent. A ledger with
    `problems` must not be used. `description` says which ledger it is and when it was read, without
    names of people.
    """

    file: Path
    people: Mapping[str, Consent] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    description: str = "none, so no consent is on record"

    @property
    def withheld(self) -> list[str]:
        """The subjects who did not consent to `train`, or who withdrew their consent."""
        return [row.subject for row in self.people.values() if row.withheld]


def read_ledger(folder: Path) -> Ledger:
    """Reads the consent ledger in the folder of the photographs.

    Without a ledger, the result is empty and has no problems. Anything that may be an unreadable or
    incomplete ledger is a problem, since it may contain a withdrawal: a broken link, a folder, a
    malformed row, an unknown column, a ledger with another name or in another format.
    """
    file = folder / NAME
    try:
        if tables.find(folder, NAME) is None:
            others = [other for other in sorted(folder.iterdir()) if _looks_like_a_ledger(other)]
            found = [
                f"{other}: this looks like a consent ledger, but only {NAME} is read; save it "
                f"under that name (CSV in UTF-8) or, if it is not a ledger, rename it"
                for other in others
            ]
            return Ledger(file, problems=tuple(found))
        digest = hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else ""
        rows, problems = tables.read_rows(file, _COLUMNS, ("note",), others=False)
    except OSError as error:
        return Ledger(file, problems=(f"cannot read {file} ({error.strerror})",))
    except tables.TableError as error:
        return Ledger(file, problems=(str(error),))
    people: dict[str, Consent] = {}
    for row in rows:
        subject = row.value["subject"]
        before = people.get(names.key(subject))
        if before is not None:
            spelled = "" if before.subject == subject else f" as {names.shown(before.subject)}"
            problems.append(
                f"{row.place}: {names.shown(subject)} is already listed in "
                f"{before.row.place}{spelled}; remove one of the two rows"
            )
            continue
        found = _problems(row.value)
        problems += [f"{row.place}: {problem}" for problem in found]
        if not found:
            share, train = (_WORDS[names.key(row.value[name])] for name in ("share", "train"))
            revoked = names.key(row.value["revoked"])
            withdrawn = bool(revoked) and _WORDS.get(revoked, True)
            people[names.key(subject)] = Consent(subject, share, withdrawn or not train, row)
    when = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    description = f"{NAME} as of {when}, SHA-256 {digest[:16]}"
    return Ledger(file, people, tuple(problems), description)


def _looks_like_a_ledger(file: Path) -> bool:
    """Whether a file is named like a ledger that was saved or copied under another name."""
    name = names.key(file.name)
    named_so = re.match(r"consents?(?![^\W\d_])", name) is not None
    return named_so and Path(name).suffix in _LEDGER_SUFFIXES and not file.is_dir()


def _problems(value: Mapping[str, str]) -> list[str]:
    """The faults of a row of the ledger."""
    found = [] if names.key(value["subject"]) else ["the subject is empty"]
    for name in ("share", "train", "demo"):
        if names.key(value[name]) not in _WORDS:
            found.append(f"{name} is {names.shown(value[name])}; write yes or no")
    revoked = names.key(value["revoked"])
    if revoked and revoked not in _WORDS:
        try:
            datetime.date.fromisoformat(revoked)
        except ValueError:
            found.append(
                f"revoked is {names.shown(value['revoked'])}; write a date such as 2026-03-31, or "
                f"yes, or leave it empty"
            )
    return found
