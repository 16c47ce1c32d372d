"""The exported JAX function gives the answers of the model, for all kinds of features."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fer_jax.export import answer
from fer_jax.records import Inference
from fer_jax.stages.export import generated_faces
from fer_jax.training import gradients, inference, trained_model
from fer_jax.training.trained_model import Model, further_kernels


def changed(model, *, seed=0, **how):
    """`model` with other test-time inference, and random weights for additional features."""
    record = model.record.model_copy(update={"inference": {"emotion": Inference(**how)}})
    weights = model.weights
    rng = np.random.default_rng(seed)
    for path in further_kernels("emotion", record.inference["emotion"]):
        shape = trained_model.begin("starter", record).weights[path].shape
        weights |= {path: rng.normal(0, 0.2, shape).astype(np.float32)}
    return Model(record, weights)


@pytest.fixture(scope="module")
def starter():
    return trained_model.load("starter")


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"crops": 5, "temperature": 0.7},
        {"gradients": True, "temperature": 2.0},
        {"gradients": True, "crops": 5},
        {"zooms": (1.0, 1.1, 1.2), "crops": 5},
        {"zooms": (1.2, 1.0), "depths": True, "gradients": True},
    ],
    ids=str,
)
def test_probabilities_and_features_are_those_of_the_model(starter, how):
    model = changed(starter, **how)
    faces = generated_faces(80)[::5]
    found = jax.jit(answer.make(model))(jnp.asarray(faces))
    expected = model.probabilities("emotion", faces)
    np.testing.assert_allclose(found.probabilities, expected, atol=1e-5)
    features = model.features_of_crops("emotion", faces).mean(axis=1)
    np.testing.assert_allclose(found.features, features, atol=1e-4)
    assert np.ptp(expected, axis=0).max() > 0.2  # so that the comparison says something


@pytest.mark.parametrize("count", [1, 5])
def test_views_equal_those_of_the_model(count):
    faces = generated_faces(48)
    expected = inference.views(faces, count)
    found = answer.views(jnp.asarray(faces), count)
    assert len(found) == len(expected) == 2 * count
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(np.asarray(one), other)


def test_descriptors_equal_those_of_the_model():
    faces = generated_faces(gradients.SIDE)
    found = answer.descriptors(jnp.asarray(faces))
    np.testing.assert_allclose(found, gradients.descriptors(faces), atol=1e-5)


def test_every_gradient_is_counted_in_the_bin_of_its_angle():
    across, down = np.array([*itertools.product(range(-255, 256), repeat=2)]).T
    angle = np.degrees(np.arctan2(np.float32(down), np.float32(across))) % 180.0
    expected = np.minimum((angle / 20.0).astype(int), 8)
    found = answer.orientation(jnp.asarray(across)[None, None], jnp.asarray(down)[None, None])
    some = (across != 0) | (down != 0)
    np.testing.assert_array_equal(np.asarray(found)[0, 0][some], expected[some])
