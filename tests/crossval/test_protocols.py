import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fer_jax.crossval import protocols
from fer_jax.crossval.protocols import (
    GIVEN,
    PROTOCOLS,
    Fold,
    inner_split,
    make_folds,
    people_on_both_sides,
    require_disjoint_people,
    require_partition,
)
from fer_jax.data.names import key
from fer_jax.errors import UserError

EMOTIONS = ("angry", "happy", "neutral", "sad")


def study(people=15, per_emotion=2):
    subjects = [f"p{p:02d}" for p in range(people) for _ in range(4 * per_emotion)]
    return subjects, list(EMOTIONS) * (per_emotion * people)


@st.composite
def uneven_studies(draw):
    """The person and emotion of each photograph, in any order, and a possible number of folds."""
    people = draw(st.integers(2, 12))
    extra = draw(st.lists(st.integers(0, people - 1), max_size=40))
    subjects = draw(st.permutations([*range(people), *extra]))
    emotions = draw(
        st.lists(st.sampled_from(EMOTIONS), min_size=len(subjects), max_size=len(subjects))
    )
    return [f"p{s}" for s in subjects], emotions, draw(st.integers(2, people))


@settings(max_examples=120, deadline=None)
@given(
    uneven_studies(), st.sampled_from([p for p in PROTOCOLS if p not in GIVEN]), st.integers(0, 99)
)
def test_every_photograph_is_tested_once_in_person_disjoint_folds(case, protocol, seed):
    subjects, emotions, folds = case
    made = make_folds(subjects, emotions, protocol=protocol, folds=folds, seed=seed)
    people = np.asarray(subjects)
    assert np.sort(np.concatenate([f.test for f in made])).tolist() == list(range(len(people)))
    for fold in made:
        assert fold.train.size and fold.test.size
        assert fold.train.size + fold.test.size == len(people)
        if protocol != "random":
            assert not set(people[fold.train]) & set(people[fold.test])
    expected = len(set(subjects)) if protocol == "leave_one_subject_out" else folds
    assert len(made) == expected


def test_leave_one_subject_out_tests_one_person_per_fold():
    subjects, emotions = study(people=5)
    made = make_folds(subjects, emotions, protocol="leave_one_subject_out", folds=3, seed=0)
    assert [sorted({subjects[i] for i in f.test}) for f in made] == [
        [f"p{i:02d}"] for i in range(5)
    ]


def test_grouped_kfold_balances_emotions_over_folds():
    # Six people show only "happy", six only "sad": each of three folds can have two of each.
    subjects = [f"p{p:02d}" for p in range(12) for _ in range(4)]
    emotions = ["happy" if p < 6 else "sad" for p in range(12) for _ in range(4)]
    for seed in range(5):
        made = make_folds(subjects, emotions, protocol="grouped_kfold", folds=3, seed=seed)
        for fold in made:
            tested = [emotions[i] for i in fold.test]
            assert tested.count("happy") == tested.count("sad") == 8


def test_folds_follow_the_seed_and_not_the_order_of_rows():
    subjects, emotions = study()

    def tested_together(order, seed):
        made = make_folds(
            [subjects[i] for i in order],
            [emotions[i] for i in order],
            protocol="grouped_kfold",
            folds=5,
            seed=seed,
        )
        return [sorted({subjects[order[i]] for i in fold.test}) for fold in made]

    rows = list(range(len(subjects)))
    assert tested_together(rows, 1) == tested_together(rows[::-1], 1)
    assert tested_together(rows, 1) != tested_together(rows, 2)


def test_no_fold_is_empty_even_if_greedy_balancing_leaves_one_empty():
    # scikit-learn's StratifiedGroupKFold (1.9) gives one of these four folds nobody.
    subjects = [f"p{p}" for p in (0, 0, 1, 1, 2, 2, 3, 3, 3)]
    emotions = [("happy", "sad")[e] for e in (1, 1, 0, 0, 0, 0, 0, 0, 1)]
    made = make_folds(subjects, emotions, protocol="grouped_kfold", folds=4, seed=1)
    assert sorted(len(fold.test) for fold in made) == [2, 2, 2, 3]


def test_a_split_with_a_person_in_train_and_test_is_an_error(monkeypatch):
    monkeypatch.setitem(protocols._SPLITTERS, "grouped_kfold", protocols._SPLITTERS["random"])
    subjects, emotions = study()
    with pytest.raises(RuntimeError, match="people in both train and test"):
        make_folds(subjects, emotions, protocol="grouped_kfold", folds=5, seed=0)


@pytest.mark.parametrize("protocol", ["leave_one_subject_out", "grouped_kfold"])
def test_all_spellings_of_a_subject_are_in_the_same_fold(protocol):
    subjects = ["علي", "علی", "p۱", "p1", "P1", "bob"] * 3
    made = make_folds(subjects, ["happy", "sad"] * 9, protocol=protocol, folds=3, seed=0)
    assert len(made) == 3
    for fold in made:
        assert len({key(subjects[row]) for row in fold.test}) == 1
    two = Fold(np.array([0, 5]), np.array([1, 3]))
    assert people_on_both_sides([two], subjects) == [["علی"]]
    with pytest.raises(UserError, match="but a fold has only 1"):
        inner_split(np.array([2, 3, 4]), subjects, ["happy"] * 18, share=0.5, seed=0)


def test_random_has_people_in_both_train_and_test():
    subjects, emotions = study()
    made = make_folds(subjects, emotions, protocol="random", folds=5, seed=0)
    with pytest.raises(RuntimeError, match="people in both train and test"):
        require_disjoint_people(made, subjects)


@pytest.mark.parametrize(
    ("people", "protocol", "folds", "message"),
    [
        (3, "grouped_kfold", 5, "needs at least 5 people, but the photographs show 3.*folds=3"),
        (1, "grouped_kfold", 2, "show 1; add people"),
        (1, "leave_one_subject_out", 2, "at least 2 people"),
        (4, "grouped_kfold", 1, "--config.folds=1 is too small"),
        (4, "leave_one_subject", 2, "did you mean 'leave_one_subject_out'"),
        (2, "random", 99, "at least 99 photographs"),
    ],
)
def test_impossible_splits_are_user_errors_in_one_line(people, protocol, folds, message):
    subjects, emotions = study(people=people)
    with pytest.raises(UserError, match=message) as caught:
        make_folds(subjects, emotions, protocol=protocol, folds=folds, seed=0)
    assert "\n" not in str(caught.value)


def test_a_fold_that_is_not_a_partition_is_an_error():
    whole, half = np.arange(4), np.arange(2)
    with pytest.raises(RuntimeError, match="exactly once"):
        require_partition([Fold(half, half + 2)], 4)
    with pytest.raises(RuntimeError, match="trains on photographs that it tests"):
        require_partition([Fold(whole, half), Fold(half, half + 2)], 4)
