import numpy as np
import pytest
from scipy import stats

from fer_jax.metrics import bootstrap, measures


def matrices_of(right, photographs=1):
    """Confusion matrices of people with one emotion; `right`: correct answers of each person."""
    right = np.asarray(right, float)
    matrices = np.zeros((len(right), 2, 3))
    matrices[:, 0, 0] = right
    matrices[:, 0, 1] = photographs - right
    return matrices


def test_bca_agrees_with_scipy():
    right = np.array([8, 7, 3, 8, 8, 5, 6, 8, 7, 8, 2, 8])
    matrices = matrices_of(right, 8)
    draws = bootstrap.draw_people(12, samples=40_000, seed=0)
    replicates = bootstrap.replicate(matrices, draws)["accuracy"]
    left_out = measures.measures(bootstrap.leave_one_out(matrices))["accuracy"]
    ours = bootstrap.interval(right.mean() / 8, replicates, left_out, expand=False)
    options = {"method": "BCa", "n_resamples": 40_000, "rng": np.random.default_rng(0)}
    theirs = stats.bootstrap((right / 8,), np.mean, **options).confidence_interval
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.004)
    assert ours[0] < np.quantile(replicates, 0.025) - 0.005  # skewed to the left


def test_the_expanded_interval_of_a_symmetric_case_equals_students_t():
    # No skew: half of 40 people have no errors, the other half only errors.
    found = bootstrap.estimate(matrices_of([1] * 20 + [0] * 20), samples=100_000, seed=0)[
        "accuracy"
    ]
    half = stats.t.ppf(0.975, 39) * np.std([0, 1] * 20, ddof=1) / np.sqrt(40)
    assert (found.low, found.high) == pytest.approx((0.5 - half, 0.5 + half), abs=0.013)


def test_without_errors_the_interval_is_clopper_pearson_over_people():
    found = bootstrap.estimate(matrices_of([8] * 15, 8), samples=100, seed=0)["accuracy"]
    assert (found.low, found.high) == pytest.approx((0.025 ** (1 / 15), 1.0))
    found = bootstrap.estimate(matrices_of([0] * 15, 8), samples=100, seed=0)["accuracy"]
    assert (found.low, found.high) == pytest.approx((0.0, 1 - 0.025 ** (1 / 15)))


def test_people_are_resampled_rather_than_photographs():
    # Each person has only correct or only wrong answers, so more photographs add no information.
    few = bootstrap.estimate(matrices_of([1] * 7 + [0] * 3), samples=5000, seed=1)["accuracy"]
    many = bootstrap.estimate(matrices_of([100] * 7 + [0] * 3, 100), samples=5000, seed=1)[
        "accuracy"
    ]
    assert (few.low, few.high) == (many.low, many.high)
    assert few.high - few.low > 0.5


def test_replicates_equal_explicit_resampling():
    rng = np.random.default_rng(0)
    by_person = rng.integers(0, 4, (6, 3, 4)).astype(float)
    draws = bootstrap.draw_people(6, samples=20, seed=3)
    assert (draws.sum(axis=1) == 6).all()
    replicates = bootstrap.replicate(by_person, draws)
    for sample, draw in enumerate(draws):
        pooled = np.concatenate([by_person[[p] * int(n)] for p, n in enumerate(draw)]).sum(axis=0)
        for name, value in measures.measures(pooled).items():
            assert replicates[name][sample] == pytest.approx(float(value))


def test_the_interval_depends_only_on_the_seed():
    by_person = matrices_of([3, 4, 1, 2, 4, 4, 0], 4)
    first = bootstrap.estimate(by_person, samples=500, seed=5)
    assert first == bootstrap.estimate(by_person, samples=500, seed=5)
    assert first != bootstrap.estimate(by_person, samples=500, seed=6)


def test_the_paired_difference_cancels_the_difficulty_of_people():
    # The second run has exactly one more error in ten photographs of each person.
    right = np.array([2, 4, 6, 8, 10, 3, 5, 7, 9, 10])
    difference = bootstrap.estimate_difference(
        matrices_of(right, 10), matrices_of(right - 1, 10), samples=2000, seed=0
    )["accuracy"]
    assert difference.value == pytest.approx(0.1)
    assert (difference.low, difference.high) == pytest.approx((0.1, 0.1))
    alone = bootstrap.estimate(matrices_of(right, 10), samples=2000, seed=0)["accuracy"]
    assert alone.high - alone.low > 0.2


@pytest.mark.parametrize(("a", "b", "photographs"), [(8, 2, 8), (18, 2, 8), (3, 2, 4)])
def test_the_interval_covers_the_truth_in_92_to_98_percent_of_studies(a, b, photographs):
    # 1,000 studies of 15 people with abilities from Beta(a, b); more in benchmarks/coverage.py.
    rng = np.random.default_rng(7)
    covered = 0
    for study in range(1000):
        right = rng.binomial(photographs, rng.beta(a, b, 15))
        found = bootstrap.estimate(matrices_of(right, photographs), samples=600, seed=study)[
            "accuracy"
        ]
        covered += found.low <= a / (a + b) <= found.high
    assert 0.92 <= covered / 1000 <= 0.98
