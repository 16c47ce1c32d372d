"""Protects text in CSV files from being run as a formula by spreadsheet programs."""

from __future__ import annotations

import pandas as pd

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def safe_table(table: pd.DataFrame) -> pd.DataFrame:
    """The table with `safe_cell` applied to each text; other values are unchanged."""
    return table.map(lambda value: safe_cell(value) if isinstance(value, str) else value)


def safe_cell(text: str) -> str:
    """The text, with an apostrophe before it if a spreadsheet might run it as a formula.

    It is meant for messages, file names and people's names, which may come from somebody else.
    """
    return f"'{text}" if text.startswith(_FORMULA) else text


def possible_texts(cell: str) -> tuple[str, ...]:
    """The texts that `safe_cell` may have turned into `cell`.

    These are `cell` and, if `safe_cell` may have added its apostrophe, the text without it.
    """
    bare = cell.removeprefix("'")
    return (cell,) if safe_cell(bare) == bare else tuple({cell, bare})
