"""Text that is written into CSV files, which spreadsheet programs open."""

from __future__ import annotations

import pandas as pd

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def safe_table(table: pd.DataFrame) -> pd.DataFrame:
    """The table with each text as `safe_cell` gives it; other values stay."""
    return table.map(lambda value: safe_cell(value) if isinstance(value, str) else value)


def safe_cell(text: str) -> str:
    """The text, with an apostrophe before it if a spreadsheet would run it as a formula.

    For names of files and people and for messages, which others choose; numbers need none of it.
    """
    return f"'{text}" if text.startswith(_FORMULA) else text


def possible_texts(cell: str) -> tuple[str, ...]:
    """The texts that `safe_cell` turns into this cell: itself, and without its apostrophe."""
    bare = cell.removeprefix("'")
    return (cell,) if safe_cell(bare) == bare else tuple({cell, bare})
