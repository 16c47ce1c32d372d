"""The inputs of a head, from zooms, earlier stages and gradients, and their order."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import emotion as emotion_config
from fer_jax.models.backbone import global_mean
from fer_jax.records import Inference, ModelRecord
from fer_jax.schemas import validated
from fer_jax.training import gradients, inference, trained_model
from fer_jax.training.state import merge_network

CLASSES = ("happy", "sad")


def model(image_size=48, **how):
    config = emotion_config.get_config("small")
    config.backbone.update({"depth": (0, 0, 0)})
    record = ModelRecord(
        image_size=image_size,
        backbone=validated(config).backbone,
        tasks={"emotion": {"classes": CLASSES}},
        labels={"emotion": CLASSES},
        inference={"emotion": Inference(**how)},
    )
    return trained_model.begin("", record)


@pytest.fixture(scope="module")
def crops():
    return np.random.default_rng(0).integers(0, 255, (2, 80, 80, 3), np.uint8)


def test_features_are_the_mean_over_the_zooms(crops):
    plain, near, both = (model(zooms=zooms) for zooms in ((1.0,), (1.3,), (1.0, 1.3)))
    found = [one.features_of_crops("emotion", crops) for one in (plain, near, both)]
    assert np.abs(found[0] - found[1]).max() > 0.01
    np.testing.assert_allclose(found[2], (found[0] + found[1]) / 2, rtol=1e-4, atol=1e-5)


def test_a_zoom_shows_the_centre_from_the_sharper_picture(crops):
    near = model(zooms=(1.3,))
    fine = trained_model.resized(crops, gradients.SIDE)
    shown = inference.zoomed(fine, 1.3, 48)
    assert shown.shape == (2, 48, 48, 3)
    found = near.features_of_crops("emotion", crops)[:, 0]
    np.testing.assert_allclose(found, near.pooled("emotion", shown), rtol=1e-4, atol=1e-5)
    blank = np.array(fine)
    blank[:, 7:-7, 7:-7] = 0  # the central 1 / 1.3 of 64 pixels
    assert not inference.zoomed(blank, 1.3, 48).any()


def test_only_a_network_with_smaller_pictures_needs_sharper_ones_for_its_zooms(crops):
    small, equal = model(48, zooms=(1.3,)), model(gradients.SIDE, zooms=(1.3,))
    assert small.reads_fine("emotion") and not equal.reads_fine("emotion")
    images = trained_model.resized(crops, gradients.SIDE)
    found = equal.features("emotion", images)[:, 0]
    shown = inference.zoomed(images, 1.3, gradients.SIDE)
    np.testing.assert_allclose(found, equal.pooled("emotion", shown), rtol=1e-4, atol=1e-5)
    assert model(gradients.SIDE, gradients=True).reads_fine("emotion")


@pytest.mark.parametrize("batch", [None, 16])
def test_the_views_of_a_face_are_read_in_one_call_of_bounded_size(batch):
    read = model(crops=5, zooms=(1.0, 1.3))
    read = trained_model.Model(read.record, read.weights, batch=batch)
    faces = np.random.default_rng(1).integers(0, 255, (5, 48, 48, 3), np.uint8)
    fine = trained_model.resized(faces, gradients.SIDE)
    step, shapes = read._step("features", "emotion"), []

    def counted(state, shown):
        shapes.append(shown.shape[:3])
        return step(state, shown)

    read._compiled["features", "emotion"] = counted
    found = read.features("emotion", faces, fine)
    assert shapes == ([(2, 10, 2), (2, 10, 2), (1, 10, 2)] if batch is None else [(1, 10, 2)] * 5)
    views = zip(inference.views(faces, 5), inference.views(fine, 5), strict=True)
    for place, (view, fine_view) in enumerate(views):
        near = inference.zoomed(fine_view, 1.3, 48)
        expected = (read.pooled("emotion", view) + read.pooled("emotion", near)) / 2
        np.testing.assert_allclose(found[:, place], expected, rtol=1e-4, atol=1e-5)


def test_outputs_of_earlier_stages_follow_the_features_and_gradients_come_last(crops):
    deep = model(depths=True, gradients=True)
    found = deep.features_of_crops("emotion", crops)
    network = merge_network(deep._graphdef, **jax.tree.map(jnp.asarray, deep._state))
    images = trained_model.resized(crops, 48)
    outputs = network.stage_outputs(jnp.asarray(images), network.backbone.depths)
    earlier = np.concatenate([global_mean(outputs[n]) for n in network.backbone.depths], axis=-1)
    fine = trained_model.resized(crops, gradients.SIDE)
    wanted = [deep.pooled("emotion", images), earlier, gradients.descriptors(fine)]
    np.testing.assert_allclose(found[:, 0], np.concatenate(wanted, -1), rtol=1e-4, atol=1e-5)


def test_the_head_reads_each_kind_of_feature_with_its_own_kernel(crops):
    deep = model(depths=True, gradients=True)
    drawn = {
        path: np.asarray(jax.random.normal(jax.random.key(len(path)), array.shape), np.float32)
        for path, array in deep.weights.items()
        if path.endswith("emotion/kernel") or "heads/emotion" in path
    }
    deep = deep.replaced(deep.record, deep.weights | drawn)
    features = deep.features_of_crops("emotion", crops)
    linear = "parameters/heads/emotion/linear"
    kernels = [f"{linear}/kernel", "depths/emotion/kernel", "gradients/emotion/kernel"]
    kernel = np.concatenate([deep.weights[path] for path in kernels])
    np.testing.assert_allclose(
        deep.logits("emotion", features),
        features @ kernel + deep.weights[f"{linear}/bias"],
        rtol=1e-3,
        atol=1e-3,
    )
