"""Intervals over both people and seeds: every seed is tested on the same people.

A seed decides the initial weights, the order of examples, the pretraining, and the labelled faces
of a low-shot run. Resampling people alone shows how the gain varies with other people for the same
seeds; if seeds differ much, that interval is far too narrow.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy import stats

from fer_jax.metrics.bootstrap import LEVEL, Estimate
from fer_jax.metrics.predictions import Predictions


@dataclass(frozen=True)
class Gain(Estimate):
    """A mean with its 95 % interval and two-sided p against 0."""

    p: float


def gains(first: Predictions, second: Predictions) -> Float[np.ndarray, "seeds people"]:
    """How many more photographs of each person `first` classifies right than `second`, by seed.

    In units of the mean number of photographs of a person, so that the mean over all is the
    difference of the accuracies. Both must test the same photographs with the same seeds.
    """
    hits = [_hits(run) for run in (first, second)]
    return (hits[0] - hits[1]) * len(first.people) / first.photographs


def gain(differences: Float[np.ndarray, "seeds people"]) -> Gain:
    """The mean of a table of seeds × people, both drawn from many.

    Crossed random effects: the variance of the mean is that of seeds, of people and of what is
    left, from the mean squares of a two-way analysis of variance; Student's t with the degrees of
    freedom of Satterthwaite 1946 (doi:10.2307/3002019), as for several readers of the same cases
    in Hillis 2007 (doi:10.1002/sim.2532). A component that comes out negative counts as none. With
    a single seed the interval knows nothing of seeds.
    """
    seeds, people = differences.shape
    value = float(differences.mean())
    by_seed, by_person = differences.mean(axis=1), differences.mean(axis=0)
    rest = differences - by_seed[:, None] - by_person[None] + value
    free = {"seeds": seeds - 1, "people": people - 1, "rest": (seeds - 1) * (people - 1)}
    squares = {
        "seeds": people * float(((by_seed - value) ** 2).sum()),
        "people": seeds * float(((by_person - value) ** 2).sum()),
        "rest": float((rest**2).sum()),
    }
    mean_squares = {name: squares[name] / max(free[name], 1) for name in free}
    kept = [n for n in ("seeds", "people") if free[n] and mean_squares[n] > mean_squares["rest"]]
    if not kept:
        kept = ["rest"] if free["rest"] else ["people"]
    terms = {name: mean_squares[name] for name in kept}
    if len(kept) == 2:
        terms["rest"] = -mean_squares["rest"]
    total = sum(terms.values())
    if total <= 0:
        return Gain(value, value, value, float(value == 0))
    freedom = total**2 / sum(term**2 / max(free[name], 1) for name, term in terms.items())
    error = (total / (seeds * people)) ** 0.5
    reach = float(stats.t.ppf(0.5 + LEVEL / 2, freedom)) * error
    p = float(2 * stats.t.sf(abs(value) / error, freedom))
    return Gain(value, value - reach, value + reach, p)


def _hits(run: Predictions) -> Float[np.ndarray, "seeds people"]:
    right = pd.Series((run.predicted == run.truth).astype(float))
    return right.groupby([run.seeds, run.subjects.astype(str)]).sum().unstack().to_numpy()
