"""Probes during training: their accuracies, and the people that they train and test on."""

import numpy as np
import pandas as pd
import pytest

from fer_jax.crossval import protocols
from fer_jax.errors import UserError
from fer_jax.faces.drawing import write_image
from fer_jax.probes import watching
from fer_jax.schemas import Probe


def study(people=12, per_emotion=4, emotions=4):
    """Labels of photographs, and the person in each."""
    labels = np.tile(np.repeat(np.arange(emotions), per_emotion), people)
    return labels, [f"p{p:02}" for p in range(people) for _ in range(emotions * per_emotion)]


def folds(labels, people, protocol="grouped_kfold"):
    return protocols.make_folds(
        people, [str(label) for label in labels], protocol=protocol, folds=5, seed=0
    )


def probed(features, labels, people, protocol="grouped_kfold", neighbours=5):
    split = folds(labels, people, protocol)
    found = watching.probe({"deep": features}, labels, split, neighbours=neighbours)
    assert found.keys() == {"probe/knn/deep", "probe/linear/deep"}
    return found["probe/knn/deep"], found["probe/linear/deep"]


def test_separable_features_have_accuracy_1_and_noise_has_chance():
    labels, people = study()
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(len(labels), 16))
    assert probed(5 * np.eye(16)[labels] + 0.3 * noise, labels, people) == (1, 1)
    for accuracy in probed(noise, labels, people):
        assert 0.1 < accuracy < 0.4  # 192 photographs: 0.25 plus or minus four standard deviations


def test_features_of_identity_help_only_if_train_and_test_share_people():
    """Each pair of person and emotion has its own direction: nothing generalises to new people."""
    labels, people = study()
    rng = np.random.default_rng(1)
    own = np.repeat(rng.normal(size=(48, 256)), 4, axis=0) + 0.01 * rng.normal(size=(192, 256))
    assert max(probed(own, labels, people)) < 0.45
    assert min(probed(own, labels, people, "random")) > 0.95


def test_votes_of_neighbours_are_weighted_by_similarity():
    """The nearest of three neighbours outvotes the others; the cosine matters, not the length."""
    known = np.array([[10.0, 0], [0, 0.1], [0, 0.1], [10, 0], [0, 1], [0, 1]])
    labels = np.array([0, 1, 1, 0, 1, 1])
    asked = np.array([[0.1, 0.0], [0.0, 30.0]])
    answer = watching._neighbours(3)(known[:3], labels[:3], asked)
    np.testing.assert_array_equal(answer, [0, 1])
    assert watching._votes(np.array([[0.0, 0.07]]))[0] == pytest.approx([1, np.exp(-1)])


def test_features_that_are_not_finite_give_nan():
    labels, people = study()
    assert np.isnan(probed(np.full((len(labels), 3), np.nan), labels, people)).all()


def test_whole_people_are_drawn_with_the_seed():
    people = [f"p{p}" for p in range(30) for _ in range(1 + p % 3)]
    drawn = watching.draw_people(people, 20, seed=3)
    counts = {name: people.count(name) for name in set(people)}
    taken = sum(counts[name] for name in drawn)
    assert taken <= 20 < taken + min(counts[name] for name in counts.keys() - drawn)
    assert drawn == watching.draw_people(people, 20, seed=3) != watching.draw_people(people, 20, 4)
    assert watching.draw_people(people, 60, seed=3) == set(people)
    assert len(watching.draw_people(people, 1, seed=3)) == 2


@pytest.fixture
def photographs(tmp_path):
    """Five people, one of whom is in the test split; one photograph has no face."""
    rows = [
        {
            "photo": f"{p}/{e}.png",
            "subject": p,
            "emotion": e,
            "split": s,
            "status": "ok",
            "crop": f"{p}{e}.png",
        }
        for p, s in (("a", "train"), ("b", "train"), ("c", "validation"), ("d", ""), ("t", "test"))
        for e in ("happy", "sad")
    ]
    rows[0]["status"] = "no_face"
    for number, row in enumerate(rows):
        write_image(tmp_path / row["crop"], np.full((16, 16, 3), 20 * number, np.uint8))
    pd.DataFrame(rows).to_parquet(tmp_path / "photographs.parquet")
    return tmp_path


def read(root, records):
    return watching.read_watched(config(root), 16, 0, records / "records")


def config(root, **fields):
    return Probe(photographs=str(root), neighbours=20, folds=5, most=2000, **fields)


def test_test_people_are_excluded_and_folds_are_person_disjoint(photographs, tmp_path):
    watched = read(photographs, tmp_path)
    assert watched.faces.photos == [
        "a/sad.png",
        *(f"{p}/{e}.png" for p in "bcd" for e in ("happy", "sad")),
    ]
    assert watched.faces.labels.tolist() == [1, 0, 1, 0, 1, 0, 1]
    assert watched.faces.images[:, 0, 0, 0].tolist() == [20, 40, 60, 80, 100, 120, 140]
    assert len(watched.folds) == 4  # as many as people
    people = np.array(watched.faces.people)
    for fold in watched.folds:
        assert not set(people[fold.train]) & set(people[fold.test])
    (photographs / "metrics.jsonl").write_text(
        '{"step": 0, "validation/probe/chance": 0.6, "validation/probe/knn/features": 0.5}\n'
        '{"step": 2, "validation/probe/knn/features": 0.7}\n{"train/steps": 2}\n'
    )
    assert watched.summary(photographs) == {
        "probe_photographs": 7, "probe_people": 4, "start/probe/knn/features": 0.5,
    }  # fmt: skip


def test_invalid_photographs_are_user_errors(photographs, tmp_path):
    assert read("", tmp_path) is None
    with pytest.raises(UserError, match="elsewhere is not a workdir of `photographs`"):
        watching.read_watched(
            config(tmp_path / "elsewhere"), 16, seed=0, records=tmp_path / "records"
        )
    table = pd.read_parquet(photographs / "photographs.parquet")
    table.assign(emotion="sad").to_parquet(photographs / "photographs.parquet")
    with pytest.raises(UserError, match=r"emotions, but .* show 4 people and 1 emotion;"):
        read(photographs, tmp_path)
