import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fer_jax.crossval.logistic_head import fit_head
from fer_jax.crossval.protocols import balanced, few_shots, inner_split, make_folds
from fer_jax.errors import UserError


def features(people=8, per_class=3, classes=3, views=2, noise=0.3, seed=0):
    """Features [photographs, views, 6], which scatter around class centres; labels; and people."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(classes, 6))
    labels = np.tile(np.repeat(np.arange(classes), per_class), people)
    subjects = np.repeat([f"p{p}" for p in range(people)], classes * per_class)
    clean = centres[labels] + noise * rng.normal(size=(len(labels), 6))
    seen = clean[:, None] + 0.02 * rng.normal(size=(len(labels), views, 6))
    return seen, labels, subjects.tolist()


@pytest.mark.parametrize("classes", [2, 3, 4])
def test_the_head_equals_scikit_learns_regression(classes):
    x, y, people = features(classes=classes, views=1)
    head = fit_head(x, y, people, classes=classes + 1, seed=0)
    regression = make_pipeline(StandardScaler(), LogisticRegression(C=head.c, max_iter=200))
    theirs = regression.fit(x[:, 0], y).predict_proba(x[:, 0])
    ours = head.probabilities(x)
    np.testing.assert_allclose(ours[:, :-1], theirs, atol=1e-12)
    assert (ours[:, -1] == 0).all()  # a class that nobody showed


def test_noisier_features_select_a_stronger_penalty():
    strengths = [fit_head(*features(noise=noise), classes=3, seed=0).c for noise in (0.05, 3.0)]
    assert strengths[0] > strengths[1]


def test_given_validation_people_are_used_for_the_selection():
    x, y, people = features()
    wrong = (x, (y + 1) % 3)  # people on whom every confident answer is a mistake
    doubting = fit_head(x, y, people, classes=3, seed=0, validation=wrong)
    assert doubting.temperature > 5 * fit_head(x, y, people, classes=3, seed=0).temperature


def test_a_single_emotion_is_a_user_error():
    x, y, people = features()
    with pytest.raises(UserError, match="only one emotion"):
        fit_head(x[y == 0], y[y == 0], np.array(people)[y == 0].tolist(), classes=3, seed=0)


def study(people=10):
    subjects = [f"p{p}" for p in range(people) for _ in range(4)]
    return subjects, ["a", "a", "a", "b"] * people


def test_inner_splits_are_person_disjoint_and_within_the_training_rows():
    subjects, emotions = study()
    for fold in make_folds(subjects, emotions, protocol="leave_one_subject_out", folds=0, seed=0):
        rows, held = inner_split(fold.train, subjects, emotions, share=0.2, seed=1)
        names = [{subjects[r] for r in part} for part in (rows, held, fold.test)]
        assert not names[0] & names[1] and not (names[0] | names[1]) & names[2]
        assert sorted([*rows, *held]) == fold.train.tolist()
        assert len(names[1]) == 2


def test_balancing_keeps_all_rows_and_repeats_those_of_rarer_emotions():
    _, emotions = study()
    rows = np.arange(12)
    chosen = balanced(rows, emotions, seed=0)
    counts = {e: sum(emotions[r] == e for r in chosen) for e in "ab"}
    assert counts == {"a": 9, "b": 9}
    assert set(chosen) == set(rows)


def test_few_shots_are_drawn_by_the_seed():
    _, emotions = study()
    rows = np.arange(40)
    first = few_shots(rows, emotions, shots=3, seed=0)
    assert [sum(emotions[r] == e for r in first) for e in "ab"] == [3, 3]
    assert first.tolist() == few_shots(rows, emotions, shots=3, seed=0).tolist()
    assert first.tolist() != few_shots(rows, emotions, shots=3, seed=1).tolist()
    assert few_shots(rows, emotions, shots=0, seed=0).tolist() == rows.tolist()


def test_a_given_split_must_have_valid_names():
    subjects, emotions = study(3)

    def folds(splits):
        return make_folds(
            subjects, emotions, protocol="fixed_split", folds=0, seed=0, splits=splits
        )

    (fold,) = folds(["train"] * 4 + ["Validation"] * 4 + ["test"] * 4)
    assert (fold.train.tolist(), fold.test.tolist()) == ([0, 1, 2, 3], [8, 9, 10, 11])
    assert fold.validation.tolist() == [4, 5, 6, 7]
    for splits, words in (
        ([""] * 12, "needs a `split`"),
        (["train"] * 12, "'test'"),
        (["x"] * 12, "labels.csv contains x; use train"),
    ):
        with pytest.raises(UserError, match=words):
            folds(splits)
