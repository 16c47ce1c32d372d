"""Confidence intervals by resampling people.

Photographs of the same person are similar, so people are resampled with replacement, each with all
their photographs (cluster bootstrap; Field and Welsh 2007, doi:10.1111/j.1467-9868.2007.00593.x).
The results for the seeds of a run are first averaged within each person, so that more seeds do not
count as more people.

The interval is BCa, bias-corrected and accelerated (Efron 1987,
doi:10.1080/01621459.1987.10478410), which accounts for the skew of accuracies near 100 %. Its
normal quantiles are replaced by those that make the percentile interval of a mean as wide as that
of Student's t (the "expanded" interval of Hesterberg 2015, doi:10.1080/00031305.2015.1089789). This
matters if there are few people. The method was chosen among six by simulation; docs/results.md
compares its coverage with that of two others (`benchmarks/coverage.py`).

If every resample gives the same value, for example if there are no errors, there is no bootstrap
interval. For a measure of 0 or 1, the exact interval of Clopper and Pearson with people as trials
is then used: with 15 people and no errors, its lower limit is 78 %. In all other cases (other
values, differences, a single person) both limits are the value that the resamples have in common.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

from fer_jax.metrics.measures import measures

LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A measure, and the limits of its 95 % confidence interval over people."""

    value: float
    low: float
    high: float


def draw_people(people: int, *, samples: int, seed: int) -> Int[np.ndarray, "S P"]:
    """How often each person occurs in each bootstrap sample, [S, P]."""
    rng = np.random.default_rng([seed, people])
    return rng.multinomial(people, np.full(people, 1.0 / people), size=samples)


def replicate(
    by_person: Float[np.ndarray, "P C C1"], draws: Int[np.ndarray, "S P"]
) -> dict[str, Float[np.ndarray, " S"]]:
    """Each measure in each bootstrap sample, from one confusion matrix per person.

    Args:
        by_person: the confusion matrices (see `measures.confusion_by_person`), in the order of the
            columns of `draws`.
        draws: see `draw_people`.
    """
    people, classes, answers = by_person.shape
    pooled = draws.astype(np.float64) @ by_person.reshape(people, classes * answers)
    return measures(pooled.reshape(-1, classes, answers))


def estimate(
    by_person: Float[np.ndarray, "P C C1"], *, samples: int, seed: int
) -> dict[str, Estimate]:
    """Each measure with its interval, from one confusion matrix per person.

    `samples` is the number of bootstrap samples. With a single person the interval is a single
    point, which is meaningless.
    """
    people, found = len(by_person), {}
    for name, (value, replicates, left_out) in _resampled(by_person, samples, seed).items():
        if np.ptp(replicates) < 1e-12 and people > 1 and value in (0.0, 1.0):
            exact = stats.binomtest(round(value * people), people).proportion_ci(LEVEL, "exact")
            found[name] = Estimate(value, float(exact.low), float(exact.high))
        else:
            found[name] = Estimate(value, *interval(value, replicates, left_out))
    return found


def estimate_difference(
    first: Float[np.ndarray, "P C C1"],
    second: Float[np.ndarray, "P C C1"],
    *,
    samples: int,
    seed: int,
) -> dict[str, Estimate]:
    """Each measure of `first` minus that of `second`, with the interval of the paired difference.

    `first` and `second` are the confusion matrices of two runs, with the same people in the same
    order. Each bootstrap sample draws the same people for both runs, so that the difficulty of a
    person, if common to both, cancels.
    """
    runs = [_resampled(run, samples, seed) for run in (first, second)]
    found = {}
    for name, parts in runs[0].items():
        value, drawn, left_out = map(operator.sub, parts, runs[1][name])
        found[name] = Estimate(value, *interval(value, drawn, left_out))
    return found


def _resampled(
    by_person: Float[np.ndarray, "P C C1"], samples: int, seed: int
) -> dict[str, tuple[float, Float[np.ndarray, " S"], Float[np.ndarray, " P"]]]:
    """Each measure over all people, over each bootstrap sample, and with each person left out."""
    left_out = measures(leave_one_out(by_person))
    draws = draw_people(len(by_person), samples=samples, seed=seed)
    replicates = replicate(by_person, draws)
    return {
        name: (float(value), replicates[name], left_out[name])
        for name, value in measures(by_person.sum(axis=0)).items()
    }


def leave_one_out(by_person: Float[np.ndarray, "P C C1"]) -> Float[np.ndarray, "P C C1"]:
    """One confusion matrix per person, pooled over all others; if P = 1, that of this person."""
    pooled = by_person.sum(axis=0)
    return pooled[None] - by_person if len(by_person) > 1 else pooled[None]


def interval(
    value: float,
    replicates: Float[np.ndarray, " S"],
    left_out: Float[np.ndarray, " P"],
    *,
    expand: bool = True,
) -> tuple[float, float]:
    """The BCa interval as (low, high); see the module's docstring.

    If all replicates are equal, both limits are their value.

    Args:
        value: the measure over all people.
        replicates: the measure over each resample.
        left_out: the measure with each person left out, which determines the acceleration.
        expand: whether to use the expanded quantiles, which widen the interval.
    """
    # Rounding errors must not count as differences between resamples.
    replicates = np.round(replicates, 12)
    if replicates.min() == replicates.max():
        return float(replicates[0]), float(replicates[0])
    people = len(left_out)
    tail = (1.0 - LEVEL) / 2.0
    quantile = stats.norm.ppf(1.0 - tail)
    if expand:
        quantile = np.sqrt(people / (people - 1)) * stats.t.ppf(1.0 - tail, people - 1)
    below = np.mean(replicates < round(value, 12)) + np.mean(replicates == round(value, 12)) / 2
    size = len(replicates)
    bias = stats.norm.ppf(np.clip(below, 0.5 / size, 1 - 0.5 / size))
    centred = left_out.mean() - left_out
    spread = (centred**2).sum()
    acceleration = (centred**3).sum() / (6.0 * spread**1.5) if spread > 0 else 0.0
    shifted = bias + np.array([-quantile, quantile])
    # For scales below 0 the correction would change sign; the extreme resample is used instead.
    scale = np.maximum(1.0 - acceleration * shifted, 1e-6)
    low, high = np.quantile(replicates, stats.norm.cdf(bias + shifted / scale))
    return float(low), float(high)
