"""Applies compiled functions to any number of rows, in padded batches of few different sizes.

XLA compiles a program for each shape, so there should be few batch sizes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

BatchSize = Callable[[int], int]  # maps the number of remaining rows to the next batch's size


def pad(rows: np.ndarray, size: int) -> np.ndarray:
    """`rows` [n, ...] with zeros added up to `size` rows."""
    return np.pad(rows, [(0, size - len(rows))] + [(0, 0)] * (rows.ndim - 1))


def in_batches(function: Callable[..., Any], *columns: np.ndarray, size: BatchSize) -> Any:
    """Applies a compiled function to rows in batches and concatenates its results.

    One batch is computed while the next is prepared.

    Args:
        function: maps arrays [b, ...] to a pytree of arrays [b, ...]; each row of the results must
            depend only on the same row of the arguments.
        columns: arrays [n, ...]; a batch has the same rows of each. n may be 0; one batch of
            zeros is then computed, to get the shapes of the results.
        size: maps the number of remaining rows to the size of the next batch. The last batch is
            padded with zeros.

    Returns:
        A pytree like those that `function` returns, of NumPy arrays float32 [n, ...].
    """
    start, rows = 0, len(columns[0])
    results: list[Any] = []
    while start < rows or not results:
        batch = size(rows - start)
        parts = [pad(column[start : start + batch], batch) for column in columns]
        results.append(function(*parts))
        results[-2:-1] = [jax.tree.map(_fetched, result) for result in results[-2:-1]]
        start += batch
    return jax.tree.map(lambda *parts: np.concatenate([*map(_fetched, parts)])[:rows], *results)


def power_of_two(rows: int, most: int) -> int:
    """The smallest power of two that is at least `rows` (2 if `rows` is 0), but at most `most`."""
    return min(most, 1 << (rows - 1).bit_length())


def _fetched(array: Any) -> np.ndarray:
    return np.asarray(array, np.float32)
