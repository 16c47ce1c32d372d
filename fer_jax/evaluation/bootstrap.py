"""Intervals by resampling people.

Photographs of one person resemble each other, so people are what is drawn: with replacement, as
many as there are, each with all of their photographs (the cluster bootstrap; Field and Welsh,
2007, doi:10.1111/j.1467-9868.2007.00593.x). Percentile intervals (Efron and Tibshirani, 1993,
chapter 13). The seeds of a run are averaged within a person before, so that more seeds do not
pass for more people.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from fer_jax.evaluation.metrics import measures

LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A measure and its interval over people."""

    value: float
    low: float
    high: float


def draw_people(people: int, *, samples: int, seed: int) -> Int[np.ndarray, "S P"]:
    """How often each person occurs in each bootstrap sample: multinomial, rows sum to `people`."""
    rng = np.random.default_rng([seed, people])
    return rng.multinomial(people, np.full(people, 1.0 / people), size=samples)


def replicate(
    by_person: Float[np.ndarray, "P C C1"], draws: Int[np.ndarray, "S P"]
) -> dict[str, Float[np.ndarray, " S"]]:
    """Every measure in every bootstrap sample."""
    people, classes, answers = by_person.shape
    pooled = draws.astype(np.float64) @ by_person.reshape(people, classes * answers)
    return measures(pooled.reshape(-1, classes, answers))


def estimate(
    by_person: Float[np.ndarray, "P C C1"], *, samples: int, seed: int
) -> dict[str, Estimate]:
    """Each measure with its interval, from one confusion matrix a person.

    With a single person nothing can be resampled: the interval is a point, and means nothing.
    """
    draws = draw_people(len(by_person), samples=samples, seed=seed)
    replicates = replicate(by_person, draws)
    return {
        name: _interval(float(value), replicates[name])
        for name, value in measures(by_person.sum(axis=0)).items()
    }


def estimate_difference(
    first: Float[np.ndarray, "P C C1"],
    second: Float[np.ndarray, "P C C1"],
    *,
    samples: int,
    seed: int,
) -> dict[str, Estimate]:
    """`first` minus `second`, with the interval of the paired difference.

    Both hold the same people in the same order, and each sample draws the same people for both:
    what makes a person hard for the two runs alike cancels.
    """
    draws = draw_people(len(first), samples=samples, seed=seed)
    drawn_first, drawn_second = replicate(first, draws), replicate(second, draws)
    whole_first, whole_second = measures(first.sum(axis=0)), measures(second.sum(axis=0))
    return {
        name: _interval(
            float(whole_first[name] - whole_second[name]),
            drawn_first[name] - drawn_second[name],
        )
        for name in whole_first
    }


def _interval(value: float, replicates: Float[np.ndarray, " S"]) -> Estimate:
    tail = (1.0 - LEVEL) / 2.0
    low, high = np.quantile(replicates, [tail, 1.0 - tail])
    return Estimate(value, float(low), float(high))
