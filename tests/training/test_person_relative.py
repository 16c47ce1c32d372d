"""Person-relative answers on synthetic responses."""

import numpy as np
import pytest

from fer_jax.training.person_relative import class_balanced_mean, relative_answers

CLASSES = 3


def made(seed, counts=(4, 4, 4), shift=3.0, people=1):
    """Responses [n, 2, 3] of people who differ by an offset, and the label and person of each."""
    rng = np.random.default_rng(seed)
    labels = np.tile(np.repeat(np.arange(CLASSES), counts), people)
    names = [f"p{number}" for number in range(people) for _ in range(sum(counts))]
    shifts = shift * rng.normal(size=(people, 2, CLASSES))
    expressions = 4 * np.eye(CLASSES)[labels][:, None] + 0.3 * rng.normal(size=(len(labels), 2, 3))
    return expressions + np.repeat(shifts, sum(counts), axis=0), labels, names


def answers(responses, people, reference, known=None, population=None):
    if reference != "neutral" or known is None:
        known = np.full(len(responses), reference != "neutral")
    return relative_answers(
        responses,
        people,
        known,
        reference=reference,
        bias=np.zeros(CLASSES),
        population=np.full((2, CLASSES), 4 / CLASSES) if population is None else population,
    )


@pytest.mark.parametrize("reference", ["mean", "balanced", "neutral"])
@pytest.mark.parametrize("seed", range(4))
def test_answers_are_invariant_to_an_offset_of_person_and_population(seed, reference):
    responses, labels, people = made(seed)
    known = labels == 1
    constant = np.random.default_rng(seed).normal(size=(2, CLASSES))
    population = np.zeros((2, CLASSES))
    found = answers(responses, people, reference, known, population)
    moved = answers(responses + constant, people, reference, known, population + constant)
    np.testing.assert_allclose(found, moved, atol=1e-9)


@pytest.mark.parametrize("reference", ["mean", "balanced", "neutral"])
def test_the_population_hardly_matters_with_many_photographs(reference):
    """The population has the weight of half a photograph, and an offset from it hardly matters."""
    responses, labels, people = made(0, counts=(1000, 1000, 1000))
    known = labels == 1
    found = answers(responses, people, reference, known)
    moved = answers(responses + np.array([1.0, -2.0, 0.5]), people, reference, known)
    np.testing.assert_allclose(found, moved, atol=2e-3)


def test_people_do_not_influence_each_other():
    responses, _, people = made(1, people=3)
    together = answers(responses, people, "balanced")
    alone = np.concatenate(
        [answers(responses[rows], people[:12], "balanced") for rows in np.split(np.arange(36), 3)]
    )
    np.testing.assert_allclose(together, alone, atol=1e-12)


def test_the_balanced_reference_is_robust_to_mostly_neutral_photographs():
    right = {"mean": [], "balanced": []}
    for seed in range(20):
        responses, labels, people = made(seed, counts=(2, 56, 2), shift=0.5)
        for reference, found in right.items():
            found.append((answers(responses, people, reference).argmax(1) == labels).mean())
    assert np.mean(right["balanced"]) > 0.98 > np.mean(right["mean"])


def test_the_population_is_the_reference_of_a_person_with_too_few_faces():
    responses, _, people = made(2)
    population = np.random.default_rng(0).normal(size=(2, CLASSES))
    found = answers(responses, people, "neutral", None, population)
    for reference in ("mean", "balanced"):
        one = answers(responses[:1], people[:1], reference, None, population)
        np.testing.assert_allclose(one, found[:1], atol=1e-9)
    logits = np.exp(responses - population)
    np.testing.assert_allclose(found, (logits / logits.sum(-1, keepdims=True)).mean(1), atol=1e-9)


def test_the_class_balanced_mean_weights_classes_equally():
    features = np.array([0.0, 0, 0, 0, 3])[:, None, None]
    assert class_balanced_mean(features, np.array([0, 0, 0, 0, 1])).item() == 1.5
