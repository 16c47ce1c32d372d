"""Intervals over seeds and people: a worked example, simulated coverage and special cases."""

import numpy as np
import pytest
from scipy import stats

from fer_jax.metrics import crossed_effects
from tests.metrics.simulation import from_table, simulate


def run(name, **options):
    return from_table(name, *simulate(seeds=(0, 1, 2), **options), name)


def simulated(rng, *, seeds, people, of_seeds, of_people, rest):
    return (
        rng.normal(0, of_seeds, (seeds, 1))
        + rng.normal(0, of_people, (1, people))
        + rng.normal(0, rest, (seeds, people))
    )


@pytest.mark.parametrize(
    ("seeds", "people", "of_seeds", "of_people", "rest"),
    [
        (3, 1200, 0.025, 0.4, 0.5),  # a low-shot study with many photographs
        (3, 15, 0.03, 0.1, 0.1),
        (5, 15, 0.03, 0.1, 0.3),
        (3, 200, 0.0, 0.3, 0.3),
    ],
)
def test_the_interval_covers_a_gain_of_zero(seeds, people, of_seeds, of_people, rest):
    rng = np.random.default_rng(0)
    spread = {"of_seeds": of_seeds, "of_people": of_people, "rest": rest}
    found = [
        crossed_effects.gain(simulated(rng, seeds=seeds, people=people, **spread))
        for _ in range(1000)
    ]
    covered = np.mean([g.low <= 0 <= g.high for g in found])
    assert 0.92 <= covered <= 0.99
    assert np.mean([(g.p < 0.05) == (not g.low <= 0 <= g.high) for g in found]) == 1


def test_the_interval_agrees_with_a_worked_example():
    """The mean squares are 12 (seeds), 4 (people) and 1 (residual).

    The variance of the mean is therefore (12 + 4 - 1) / 6.
    """
    effects = np.array([[-1.0], [1.0]]) * 2**0.5 + np.array([[-1.0, 0.0, 1.0]]) * 2**0.5
    rest = np.array([[1.0, -2.0, 1.0], [-1.0, 2.0, -1.0]]) / 6**0.5
    found = crossed_effects.gain(effects + rest + 3.0)
    freedom = 15**2 / (12**2 / 1 + 4**2 / 2 + 1**2 / 2)
    assert found.value == pytest.approx(3.0)
    assert found.high - found.value == pytest.approx(2.5**0.5 * stats.t.ppf(0.975, freedom))


def test_the_mean_gain_is_the_difference_in_accuracy():
    first, second = run("a", skill=0.8, no_face=0.05), run("b", skill=0.6, seed=1)
    table = crossed_effects.gains(first, second)
    accuracies = [(r.predicted == r.truth).mean() for r in (first, second)]
    assert table.shape == (3, 15)
    assert table.mean() == pytest.approx(accuracies[0] - accuracies[1])


def test_with_one_seed_the_interval_is_students_t_over_people():
    drawn = np.random.default_rng(1).normal(0.1, 0.2, (1, 20))
    found = crossed_effects.gain(drawn)
    error = drawn.std(ddof=1) / 20**0.5
    # 2.093 is the 97.5 % quantile of Student's t with 19 degrees of freedom.
    assert found.high - found.value == pytest.approx(2.093 * error, rel=1e-3)


def test_equal_runs_have_no_gain():
    assert crossed_effects.gain(np.zeros((3, 5))) == crossed_effects.Gain(0.0, 0.0, 0.0, 1.0)
