"""A person and all their names: the id in the labels and its pseudonym."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pandas as pd

from fer_jax.data import names, pseudonyms

# Minimum length of an id that is searched for in paths and texts. Shorter ids, and numbers, are
# only searched for in columns of subjects and names of folders.
SHORTEST_NAME = 3
_PATHS = ("photo", "source", "video", "tested", "other")  # columns of tables that stages write


@dataclass(frozen=True)
class Person:
    """A person, identified by the keys (`names.key`) of all their names."""

    keys: frozenset[str]

    @property
    def is_distinct(self) -> bool:
        """Whether the names are unlikely to occur in a path or a text by chance."""
        return all(len(key) >= SHORTEST_NAME and not key.isdigit() for key in self.keys)

    def is_named(self, name: str) -> bool:
        """Whether `name` is one of the person's names."""
        return names.key(name) in self.keys

    def in_path(self, path: str) -> bool:
        """Whether a folder in `path`, or the file without its suffixes, has the person's name."""
        parts = PurePosixPath(path.replace("\\", "/")).parts
        if not parts:
            return False
        stems = {parts[-1].split(".")[0], PurePosixPath(parts[-1]).stem}
        return any(self.is_named(part) for part in (*parts, *stems))

    def in_words(self, text: str) -> bool:
        """Whether one of the names is a word of `text`, as in `p07_smile.mp4`."""
        text = names.key(text)
        return any(re.search(rf"(?<![^\W_]){re.escape(key)}(?![^\W_])", text) for key in self.keys)

    def rows(self, table: pd.DataFrame) -> pd.Series:
        """Whether each row of a table that a stage wrote is about the person: bool [N]."""
        found = pd.Series(False, index=table.index)
        for column in table.columns.intersection(["subject", *_PATHS]):
            if column == "subject" or self.is_distinct:
                matches = self.is_named if column == "subject" else self.in_words
                values = table[column].astype(str)
                found |= values.isin([value for value in values.unique() if matches(value)])
        return found


def find_person(name: str, folders: Iterable[Path]) -> Person:
    """The person whose id or pseudonym is `name`, according to the pseudonym tables in `folders`.

    If no table contains `name`, it is the person's only name.

    Raises:
        UserError: a table of pseudonyms is damaged.
    """
    keys = {names.key(name)}
    for folder in folders:
        for subject, pseudonym in pseudonyms.read_pseudonyms(folder).items():
            if names.key(name) in (names.key(subject), names.key(pseudonym)):
                keys |= {names.key(subject), names.key(pseudonym)}
    return Person(frozenset(keys))
