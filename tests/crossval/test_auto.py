"""The method `auto` selects among other methods, on training people only."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs import emotion as emotion_config
from fer_jax.crossval.labelled_faces import FaceSet
from fer_jax.crossval.method import Facts
from fer_jax.crossval.methods import auto
from fer_jax.crossval.methods.auto import Tried, select
from fer_jax.crossval.models import NetworkModel
from fer_jax.schemas import validated
from fer_jax.workdir import read_json

CLASSES = 3


def faces(people=6, per_class=1, seed=0):
    """Faces whose images are noise, with the label as the first value of the first pixel."""
    labels = np.tile(np.repeat(np.arange(CLASSES), per_class), people).astype(np.int32)
    images = np.random.default_rng(seed).integers(0, 255, (len(labels), 4, 4, 3), np.uint8)
    images[:, 0, 0, 0] = labels
    subjects = np.repeat([f"p{p}" for p in range(people)], CLASSES * per_class).tolist()
    names = [f"{subject}_{n}" for n, subject in enumerate(subjects)]
    return FaceSet(images, labels, names, subjects, names)


class Fake:
    """A method whose answers are `skill` of the true labels and 1 - `skill` of equal probabilities.

    It records the faces that it is given.
    """

    facts = Facts()

    def __init__(self, skill):
        self.skill, self.trained_on, self.asked = skill, [], []

    def fit(self, train, inner, *, seed, folder):
        self.trained_on.append(train)
        return FakeModel(self)

    def speed(self):
        return {}


@dataclass(frozen=True)
class FakeModel(NetworkModel):
    model: Fake

    def probabilities(self, shown):
        self.model.asked.append(shown)
        truth = np.eye(CLASSES)[shown.images[:, 0, 0, 0]]
        return self.model.skill * truth + (1 - self.model.skill) / CLASSES

    def with_temperature(self, temperature):
        return replace(self, temperature=temperature)

    def with_selection(self, selection):
        return replace(self, chosen=selection.method)


@pytest.fixture
def made(monkeypatch):
    """A function that makes an `Auto` whose candidates are fakes with the given skills."""

    def make(**skills):
        candidates = {name: Fake(skill) for name, skill in skills.items()}
        monkeypatch.setattr(auto, "_candidates", lambda *_: candidates)
        config = validated(emotion_config.get_config())
        return auto.Auto(config, ["a", "b", "c"], 9.0)

    return make


def test_the_candidate_that_is_best_on_inner_people_is_selected(made, tmp_path):
    method = made(first=0.2, second=0.9)
    model = method.fit(faces(), None, seed=0, folder=tmp_path)
    assert model.chosen == "second" and model.temperature < 1
    assert len(method.candidates["second"].trained_on[-1]) == 18  # finally on all people
    tried = read_json(tmp_path / "inner" / "choice.json")["tried"]
    assert [one["method"] for one in tried] == ["first", "second"]
    assert tried[0]["log_loss"] > tried[1]["log_loss"] and len(tried[0]["losses"]) == 18


def test_the_first_candidate_is_preferred_if_differences_are_not_significant(made, tmp_path):
    model = made(first=0.5, second=0.5).fit(faces(), None, seed=0, folder=tmp_path)
    assert model.chosen == "first"


@settings(max_examples=25, deadline=None)
@given(people=st.integers(2, 9), per_class=st.integers(1, 3), seed=st.integers(0, 9))
def test_no_candidate_is_trained_on_its_inner_validation_people(people, per_class, seed):
    train = faces(people, per_class)
    folds = auto._inner_folds(train, seed)
    for own, others, rows in folds:
        assert set(own.people).isdisjoint(others.people)
        assert others.photos == [train.photos[row] for row in rows]
    assert sorted(np.concatenate([rows for *_, rows in folds])) == list(range(len(train)))


@settings(max_examples=50, deadline=None)
@given(losses=st.lists(st.lists(st.floats(0, 10), min_size=6, max_size=6), min_size=1, max_size=4))
def test_the_selected_candidate_is_within_one_standard_error_of_the_best(losses):
    tried = [
        Tried(method=str(n), log_loss=float(np.mean(row)), accuracy=0, temperature=1, losses=row)
        for n, row in enumerate(losses)
    ]
    chosen, best = select(tried, list("aabbcc")), min(tried, key=lambda one: one.log_loss)
    difference = np.reshape(np.subtract(chosen.losses, best.losses), (3, 2)).mean(axis=1)
    error = difference.std(ddof=1) / np.sqrt(3)
    assert difference.mean() <= error + 1e-9
    for one in tried[: tried.index(chosen)]:
        difference = np.reshape(np.subtract(one.losses, best.losses), (3, 2)).mean(axis=1)
        assert difference.mean() > difference.std(ddof=1) / np.sqrt(3) - 1e-9


def test_a_killed_selection_continues_with_the_unfinished_candidate(made, tmp_path):
    method = made(first=0.2, second=0.9, third=0.5)
    wanted = method.fit(faces(), None, seed=0, folder=tmp_path / "whole")

    def killed(*_, **__):
        raise KeyboardInterrupt

    method = made(first=0.2, second=0.9, third=0.5)
    method.candidates["third"].fit = killed
    with pytest.raises(KeyboardInterrupt):
        method.fit(faces(), None, seed=0, folder=tmp_path / "killed")
    method = made(first=0.2, second=0.9, third=0.5)
    found = method.fit(faces(), None, seed=0, folder=tmp_path / "killed")
    assert not method.candidates["first"].trained_on
    assert (found.chosen, found.temperature) == (wanted.chosen, wanted.temperature)
    choices = [tmp_path / name / "inner" / "choice.json" for name in ("whole", "killed")]
    assert choices[0].read_text() == choices[1].read_text()


def test_validation_people_of_the_user_replace_inner_cross_validation(made, tmp_path):
    method, train, validation = made(first=0.2, second=0.9), faces(4), faces(3, seed=1)
    method.fit(train, (train, validation), seed=0, folder=tmp_path)
    assert [len(shown) for shown in method.candidates["first"].asked] == [9]
    assert [len(shown) for shown in method.candidates["first"].trained_on] == [12]


def test_with_one_training_person_nothing_is_selected(made, tmp_path):
    model = made(first=0.2, second=0.9).fit(faces(1), None, seed=0, folder=tmp_path)
    assert model.chosen == "first" and model.temperature is None
