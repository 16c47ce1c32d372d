import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score, recall_score

from fer_jax.metrics import measures
from tests.metrics.simulation import from_table, simulate


def worked_example():
    """Ten photographs of two people: five answers are correct, and one face is not found."""
    rows = [
        # subject, emotion, answer
        ("a", "happy", "happy"),
        ("a", "happy", "happy"),
        ("a", "happy", "sad"),
        ("a", "sad", "sad"),
        ("a", "sad", ""),
        ("b", "happy", "happy"),
        ("b", "sad", "sad"),
        ("b", "sad", "happy"),
        ("b", "sad", "happy"),
        ("b", "sad", "happy"),
    ]
    table = pd.DataFrame(rows, columns=["subject", "emotion", "answer"])
    table["photo"] = [f"{i}.jpg" for i in range(len(table))]
    table["fold"] = (table["subject"] == "b").astype(int)
    table["seed"] = 0
    table["status"] = np.where(table["answer"] == "", "no_face", "ok")
    for label in ("happy", "sad"):
        table[f"prob_{label}"] = np.where(table["answer"] == label, 0.9, 0.1)
    protocol = {"labels": ["happy", "sad"], "people_disjoint": True, "protocol": "grouped_kfold"}
    return from_table("worked", table, protocol, "table")


def test_measures_agree_with_a_worked_example():
    run = worked_example()
    by_person = measures.confusion_by_person(run)
    assert by_person.tolist() == [[[2, 1, 0], [0, 1, 1]], [[1, 0, 0], [3, 1, 0]]]
    measured = measures.measures(by_person.sum(axis=0))
    assert measured["accuracy"] == pytest.approx(5 / 10)
    assert measured["balanced_accuracy"] == pytest.approx((3 / 4 + 2 / 6) / 2)
    # happy: 3 of 6 answers and 3 of 4 photographs; sad: 2 of 3 answers and 2 of 6 photographs.
    assert measured["macro_f1"] == pytest.approx((6 / 10 + 4 / 9) / 2)
    people = measures.per_person(run)
    assert people["subject"].tolist() == ["b", "a"]
    assert people["accuracy"].tolist() == pytest.approx([2 / 5, 3 / 5])
    assert people["no_face"].tolist() == [0, 1]
    assert people["recall_sad"].tolist() == pytest.approx([1 / 4, 1 / 2])
    classes = measures.per_class(run)
    assert classes["precision"].tolist() == pytest.approx([3 / 6, 2 / 3])
    assert classes["photographs"].tolist() == [4, 6]
    assert classes["no_face"].tolist() == [0, 1]
    assert measures.chance(run.truth, 2) == {"uniform": 0.5, "commonest": 0.6}


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), min_size=1, max_size=60))
def test_measures_agree_with_scikit_learn(pairs):
    truth, predicted = (np.asarray(column, np.int64) for column in zip(*pairs, strict=True))
    ours = measures.measures(measures.confusion(truth, predicted, 4).astype(float))
    present = np.unique(truth)
    options = {"labels": present, "average": "macro", "zero_division": 0.0}
    assert ours["accuracy"] == pytest.approx(accuracy_score(truth, predicted))
    assert ours["balanced_accuracy"] == pytest.approx(recall_score(truth, predicted, **options))
    assert ours["macro_f1"] == pytest.approx(f1_score(truth, predicted, **options))


def test_confusion_by_person_sums_to_the_confusion_over_all_seeds():
    run = from_table("a", *simulate(no_face=0.1, seeds=(0, 1, 2)), "table")
    total = measures.confusion_by_person(run).sum(axis=0)
    np.testing.assert_allclose(3 * total, measures.confusion(run.truth, run.predicted, 4))
    assert total.sum() == pytest.approx(run.photographs)
    right = (run.predicted == run.truth).reshape(3, -1).mean(axis=1)
    assert list(measures.per_seed(run).values()) == pytest.approx(right.tolist())


@pytest.mark.parametrize(
    ("only_first", "only_second", "p"),
    # Two-sided binomial tails: 2 * (1 + 10) / 2**10, 2 / 2**5, and no discordant pair.
    [(9, 1, 22 / 1024), (0, 5, 2 / 32), (0, 0, 1.0)],
)
def test_exact_mcnemar_agrees_with_the_binomial_test(only_first, only_second, p):
    first = np.array([1.0] * only_first + [0.0] * only_second + [1.0, 0.0])
    second = np.array([0.0] * only_first + [1.0] * only_second + [1.0, 0.0])
    assert measures.exact_mcnemar(first, second) == {
        "only_first": only_first,
        "only_second": only_second,
        "p": pytest.approx(p),
    }


def matrices_of(right):
    """Confusion matrices of people with four photographs; `right`: correct answers of each."""
    matrices = np.zeros((len(right), 1, 2))
    matrices[:, 0, 0] = right
    matrices[:, 0, 1] = 4 - np.asarray(right)
    return matrices


@pytest.mark.parametrize(
    ("first", "second", "p"),
    [
        # Each of three people is better by one: only exchanging all or none is as extreme, 2 / 8.
        ([3, 3, 3], [2, 2, 2], 2 / 8),
        # Differences 2, 2, -1 with sum 3: the sums 5 and 3 are at least as large, 2 * 2 / 8.
        ([4, 4, 2], [2, 2, 3], 4 / 8),
        ([1, 2], [1, 2], 1.0),
    ],
)
def test_the_permutation_test_agrees_with_worked_examples(first, second, p):
    found = measures.permutation_over_people(matrices_of(first), matrices_of(second))
    assert found == {"p": pytest.approx(p), "people": len(first), "exact": True}


def test_the_permutation_test_agrees_with_fisher():
    # Darwin's 15 pairs of Zea mays in Fisher (1935), section 21: of 2**15 sums, 863 are at least
    # the observed 314 on its side, and as many on the other.
    differences = np.array([49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48])
    first = np.zeros((15, 1, 2))
    first[:, 0, 0] = 100 + differences
    second = np.zeros((15, 1, 2))
    second[:, 0, 0] = 100
    found = measures.permutation_over_people(first, second)
    assert found["p"] == pytest.approx(2 * 863 / 2**15)


def test_the_permutation_test_of_many_people_is_sampled_and_reproducible():
    rng = np.random.default_rng(0)
    first, second = (
        matrices_of(rng.integers(2, 5, 30)),
        matrices_of(rng.integers(0, 4, 30)),
    )
    found = measures.permutation_over_people(first, second)
    assert not found["exact"] and found["p"] < 0.01
    assert found == measures.permutation_over_people(first, second)
