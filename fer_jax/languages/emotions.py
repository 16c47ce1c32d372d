"""The names of emotions in each language, and their aliases."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Emotion:
    """The names of an emotion.

    Attributes:
        names: its name in each language, "en" and "fa".
        aliases: other names that label files may use for it.
    """

    names: Mapping[str, str]
    aliases: tuple[str, ...]


LANGUAGES = ("en", "fa")


@functools.cache
def table() -> dict[str, Emotion]:
    """The known emotions by their label: angry, contempt, disgust, fear, happy and so on."""
    stored = tomllib.loads(Path(__file__).with_name("emotions.toml").read_text("utf-8"))
    return {
        label: Emotion({code: row[code] for code in LANGUAGES}, tuple(row["aliases"]))
        for label, row in stored.items()
    }


def by_language() -> dict[str, dict[str, str]]:
    """The names of the known emotions by language and label."""
    return {
        code: {label: emotion.names[code] for label, emotion in table().items()}
        for code in LANGUAGES
    }
