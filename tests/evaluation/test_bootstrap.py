import numpy as np
import pytest
from scipy.stats import binom

from fer_jax.evaluation import bootstrap, metrics


def persons(right, photographs=1):
    """Confusion matrices of people with one emotion: so many right of so many photographs."""
    right = np.asarray(right, float)
    matrices = np.zeros((len(right), 2, 3))
    matrices[:, 0, 0] = right
    matrices[:, 0, 1] = photographs - right
    return matrices


def test_interval_of_a_known_case():
    # 40 people, one photograph each, 30 right: the bootstrap distribution is Binomial(40, 0.75)/40.
    found = bootstrap.estimate(persons([1] * 30 + [0] * 10), samples=40_000, seed=0)["accuracy"]
    assert found.value == 0.75
    low, high = binom.ppf([0.025, 0.975], 40, 0.75) / 40
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-9)


def test_people_are_drawn_and_not_photographs():
    # Ten people, all right or all wrong: a hundred photographs each add no information.
    few = bootstrap.estimate(persons([1] * 7 + [0] * 3), samples=5000, seed=1)["accuracy"]
    many = bootstrap.estimate(persons([100] * 7 + [0] * 3, 100), samples=5000, seed=1)["accuracy"]
    assert (few.low, few.high) == (many.low, many.high)
    assert few.high - few.low > 0.5


def test_replicates_equal_resampling_people_one_by_one():
    rng = np.random.default_rng(0)
    by_person = rng.integers(0, 4, (6, 3, 4)).astype(float)
    draws = bootstrap.draw_people(6, samples=20, seed=3)
    assert (draws.sum(axis=1) == 6).all()
    replicates = bootstrap.replicate(by_person, draws)
    for sample, draw in enumerate(draws):
        pooled = np.concatenate([by_person[[p] * int(n)] for p, n in enumerate(draw)]).sum(axis=0)
        for name, value in metrics.measures(pooled).items():
            assert replicates[name][sample] == pytest.approx(float(value))


def test_interval_follows_the_seed_only():
    by_person = persons([3, 4, 1, 2, 4, 4, 0], 4)
    first = bootstrap.estimate(by_person, samples=500, seed=5)
    assert first == bootstrap.estimate(by_person, samples=500, seed=5)
    assert first != bootstrap.estimate(by_person, samples=500, seed=6)


def test_paired_difference_cancels_what_is_hard_for_both():
    # The second run gets exactly one photograph of ten less with each person.
    right = np.array([2, 4, 6, 8, 10, 3, 5, 7, 9, 10])
    difference = bootstrap.estimate_difference(
        persons(right, 10), persons(right - 1, 10), samples=2000, seed=0
    )["accuracy"]
    assert difference.value == pytest.approx(0.1)
    assert (difference.low, difference.high) == pytest.approx((0.1, 0.1))
    alone = bootstrap.estimate(persons(right, 10), samples=2000, seed=0)["accuracy"]
    assert alone.high - alone.low > 0.2


def test_interval_covers_the_truth_about_as_often_as_it_says():
    # 300 studies of 15 people × 8 photographs; abilities Beta(8, 2), so the truth is 0.8.
    rng = np.random.default_rng(7)
    covered = 0
    for study in range(300):
        right = rng.binomial(8, rng.beta(8, 2, 15))
        found = bootstrap.estimate(persons(right, 8), samples=600, seed=study)["accuracy"]
        covered += found.low <= 0.8 <= found.high
    assert 0.88 <= covered / 300 <= 0.98
