"""Confidence intervals for the gain in accuracy of one run over another, over people and seeds.

Every seed must test the same people. A seed may determine the initial weights, the order of
examples, the pretraining, and the labelled faces of a low-shot run. An interval from resampling
people alone shows only how the gain varies between people for these seeds. It is too narrow if the
gain also varies much between seeds.
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
    """A mean difference with its 95 % confidence interval.

    `p` is the two-sided p-value of the null hypothesis that the mean is 0.
    """

    p: float


def gains(first: Predictions, second: Predictions) -> Float[np.ndarray, "seeds people"]:
    """The number of correct answers of `first` minus that of `second`, by seed and person.

    This difference is divided by the mean number of photographs per person, so that the mean of the
    table is the difference in accuracy. Both runs must test the same photographs with the same
    seeds.
    """
    hits = [_hits(run) for run in (first, second)]
    return (hits[0] - hits[1]) * len(first.people) / first.photographs


def gain(differences: Float[np.ndarray, "seeds people"]) -> Gain:
    """The mean of a table of seeds × people, with an interval for both as random effects.

    In this crossed random-effects model the variance of the mean has components for seeds, people
    and the residual, estimated from the mean squares of a two-way analysis of variance. The
    interval is Student's t with the degrees of freedom of Satterthwaite 1946 (doi:10.2307/3002019),
    as for several readers of the same cases in Hillis 2007 (doi:10.1002/sim.2532). Negative
    components are set to zero. With a single seed the interval does not include the variation
    between seeds. If the estimated variance is 0, both limits are the mean, and p is 1 if the mean
    is 0, else 0.
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
