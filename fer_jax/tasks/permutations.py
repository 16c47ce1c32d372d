"""Permutations with large Hamming distances, for jigsaw puzzles."""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import permutations

import numpy as np
from jaxtyping import UInt8

from fer_jax.errors import UserError

# All 9! = 362,880 permutations of a 3x3 puzzle are candidates; for larger puzzles, this many are
# drawn.
CANDIDATES = 400_000


@lru_cache(maxsize=8)
def distant_permutations(items: int, count: int) -> UInt8[np.ndarray, "count items"]:
    """`count` permutations of 0 to `items` - 1 with large pairwise Hamming distances.

    The selection is greedy as in Noroozi & Favaro 2016 (arXiv:1603.09246, section 4.2): the next
    permutation is the candidate whose nearest chosen permutation is farthest. The first one is the
    identity. Ties are broken by a fixed random order, so that the result is the same on every
    machine. The array is read-only and cached.

    Raises:
        UserError: there are fewer than `count` permutations, or `count` is below 2.
    """
    if not 2 <= count <= math.factorial(items):
        raise UserError(
            f"permutations={count} is not possible for a puzzle of {items} tiles; use 2 to "
            f"{math.factorial(items)}, the number of all its permutations"
        )
    rng = np.random.default_rng(items)
    candidates = _candidates(items, rng)
    preference = rng.random(len(candidates), dtype=np.float32)
    columns = np.ascontiguousarray(candidates.T)
    distance = np.full(len(candidates), items + 1, np.uint8)
    chosen = [0]  # the identity is the first candidate
    while len(chosen) < count:
        latest = candidates[chosen[-1]]
        same = np.zeros(len(candidates), np.uint8)
        for column, item in zip(columns, latest, strict=True):
            same += column == item
        np.minimum(distance, items - same, out=distance)
        farthest = np.flatnonzero(distance == distance.max())
        chosen.append(int(farthest[preference[farthest].argmax()]))
    result = candidates[chosen]
    result.setflags(write=False)
    return result


def smallest_distance(chosen: UInt8[np.ndarray, "count items"]) -> int:
    """The smallest Hamming distance between two rows of `chosen`."""
    distances = (chosen[:, None] != chosen[None]).sum(-1)
    return int(distances[~np.eye(len(chosen), dtype=bool)].min())


def _candidates(items: int, rng: np.random.Generator) -> UInt8[np.ndarray, "n items"]:
    if math.factorial(items) <= CANDIDATES:
        return np.array(list(permutations(range(items))), np.uint8)
    drawn = rng.permuted(np.tile(np.arange(items, dtype=np.uint8), (CANDIDATES, 1)), axis=1)
    drawn[0] = np.arange(items)
    return drawn
