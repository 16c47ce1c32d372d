"""A readable table of the parameters of a network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fer_jax.training.state import Tree, flatten, shapes


def draw(parameters: Tree, frozen: Mapping[str, Any]) -> str:
    """A table of the numbers of tensors, parameters and trained parameters per block and in total.

    `frozen` marks leaves of `parameters` that are not trained (see `optimizer.frozen_mask`).
    """
    marks = flatten(dict(frozen))
    rows: dict[str, list[int]] = {}
    for path, shape in shapes(parameters).items():
        row = rows.setdefault(_block(path), [0, 0, 0])
        size = int(np.prod(shape))
        for place, number in enumerate((1, size, 0 if marks[path] else size)):
            row[place] += number
    total = [sum(column) for column in zip(*rows.values(), strict=True)]
    width = max(map(len, rows))
    lines = [f"{'block':{width}s} {'tensors':>9s} {'parameters':>12s} {'trained':>12s}"]
    for name, row in [*rows.items(), ("all", total)]:
        lines.append(f"{name:{width}s} {row[0]:9,d} {row[1]:12,d} {row[2]:12,d}")
    return "\n".join(lines) + "\n"


def _block(path: str) -> str:
    """The first two names of a path, and the third one if it is a number.

    For example "backbone/stem" and "backbone/block17/3".
    """
    names = path.split("/")
    return "/".join(names[:3] if len(names) > 2 and names[2].isdigit() else names[:2])
