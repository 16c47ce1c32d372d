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
        names: by language, "en" and "fa".
        aliases: further names under which labels may list it.
    """

    names: Mapping[str, str]
    aliases: tuple[str, ...]


@functools.cache
def table() -> dict[str, Emotion]:
    """The known emotions by their label: angry, contempt, disgust, fear, happy and so on."""
    stored = tomllib.loads(Path(__file__).with_name("emotions.toml").read_text("utf-8"))
    return {
        label: Emotion({code: row[code] for code in ("en", "fa")}, tuple(row["aliases"]))
        for label, row in stored.items()
    }
