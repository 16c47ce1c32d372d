"""By which rows of which consent ledger people are included in what is made of photographs."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from fer_jax.data import consent, names
from fer_jax.data.originals import root_of

NO_LINE = 0


@dataclass(frozen=True)
class Ledger:
    """A consent ledger as it was when it was read; without a file, `digest` is "".

    `withheld` counts the people whose consent is absent or withdrawn, and `lines` are the line
    numbers of all people, by `names.key`.
    """

    file: Path
    digest: str
    read_at: datetime
    withheld: int
    lines: dict[str, int]

    @property
    def description(self) -> str:
        """Which ledger, and as of when, in words; without any person's name."""
        if not self.digest:
            return "none, so nobody's consent is on record"
        when = self.read_at.strftime("%Y-%m-%d %H:%M UTC")
        return f"{self.file.name} as of {when}, SHA-256 {self.digest[:16]}"

    def lines_of(self, subjects: pd.Series) -> pd.Series:
        """The line of the ledger that includes each subject, NO_LINE where there is no ledger."""
        return subjects.map(lambda name: self.lines.get(names.key(name), NO_LINE)).astype("int32")


def read_ledger(photos: Path) -> Ledger:
    """The ledger beside the photographs at `photos`, a folder or a table."""
    file = root_of(photos) / consent.NAME
    digest = hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else ""
    people, _ = consent.read_consent(file)
    lines = {key: int(row.place.rpartition(" ")[2]) for key, row in people.items()}
    withheld = sum(bool(row.withheld) for row in people.values())
    return Ledger(file, digest, datetime.now(UTC), withheld, lines)
