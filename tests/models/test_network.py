"""The network's preprocessing, heads, dropout and variables."""

import jax
import jax.numpy as jnp
import numpy as np
import pydantic
import pytest
from flax import nnx

from fer_jax import tasks
from fer_jax.models.heads import ClassifierHead, JigsawHead, drop
from fer_jax.models.network import Network
from fer_jax.schemas.training import Backbone
from fer_jax.training.state import merge_network, random_state, split_network

TINY = {"width": 0.125, "depth": (0, 1, 0), "stem": "tiny"}


@pytest.fixture(scope="module")
def images():
    return jnp.asarray(np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8))


features = nnx.jit(Network.features, static_argnames="train")


def make(names=("emotion",), **fields):
    backbone, made = Backbone(**TINY | fields), {name: tasks.make(name) for name in names}

    def draw(key):
        return Network(backbone, made, rngs=nnx.Rngs(key))

    graphdef = split_network(nnx.eval_shape(lambda: draw(0)))[0]
    return merge_network(graphdef, **random_state(draw, 0))


def test_the_network_has_only_parameters_and_statistics():
    network = make(("emotion", "rotation"), dropout=0.5)
    kinds = {type(leaf) for _, leaf in nnx.to_flat_state(nnx.state(network))}
    assert kinds == {nnx.Param, nnx.BatchStat}
    nnx.split(network, nnx.Param, nnx.BatchStat)  # raises if there are other variables
    assert sorted(network.heads) == ["emotion", "rotation"]


def test_only_training_updates_statistics(images):
    network = make()
    before = network.backbone.conv_7b.bn.mean[...]
    features(network, images, train=False)
    assert (network.backbone.conv_7b.bn.mean[...] == before).all()
    features(network, images, train=True)
    assert (network.backbone.conv_7b.bn.mean[...] != before).any()


def test_inception_normalisation_scales_to_minus_1_to_1(images):
    x = make().preprocess(images)
    assert x.dtype == jnp.float32 and x.shape == (4, 32, 32, 3)
    np.testing.assert_allclose(x, np.asarray(images, np.float32) / 127.5 - 1, atol=1e-6)


def test_per_image_normalisation_is_invariant_to_exposure(images):
    network = make(grey=True, normalise="per_image")
    x = network.preprocess(images)
    assert x.shape == (4, 32, 32, 1)
    np.testing.assert_allclose(x.mean((1, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(x.std((1, 2, 3)), 1, atol=1e-5)
    darker = network.preprocess(images.astype(jnp.float32) * 0.5 + 20)
    np.testing.assert_allclose(darker, x, atol=1e-4)
    flat = network.preprocess(jnp.full((1, 32, 32, 3), 90, jnp.uint8))
    np.testing.assert_allclose(flat, 0, atol=1e-4)


def test_dropout_depends_on_the_key_and_is_only_used_in_training(images):
    network = make(dropout=0.5)
    pooled = features(network, images, train=False)

    def logits(train, seed=None):
        key = None if seed is None else jax.random.key(seed)
        return np.asarray(network.head("emotion", pooled, train=train, key=key))

    np.testing.assert_array_equal(logits(True, 1), logits(True, 1))
    assert (logits(True, 1) != logits(True, 2)).any()
    np.testing.assert_array_equal(logits(False), logits(False, 1))
    with pytest.raises(ValueError, match="requires a key"):
        logits(True)


def test_dropout_preserves_the_mean():
    dropped = drop(jnp.ones((100, 1000)), 0.25, train=True, key=jax.random.key(0))
    assert set(np.unique(dropped)) == {0, np.float32(1 / 0.75)}
    assert abs(float(dropped.mean()) - 1) < 0.01


def test_stage_outputs_are_selected_by_name(images):
    network = make()
    run = nnx.jit(lambda network, images: network.stage_outputs(images, ["conv_7b", "mixed_6a"]))
    outputs = run(network, images)
    assert set(outputs) == {"mixed_6a", "conv_7b"}
    pooled = outputs["conv_7b"].mean((1, 2))
    np.testing.assert_allclose(pooled, features(network, images, train=False), atol=1e-5)


def test_heads_return_logits():
    assert ClassifierHead(8, 5, rngs=nnx.Rngs(0))(jnp.ones((3, 8)), train=False).shape == (3, 5)
    head = JigsawHead(8, 9, 7, rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(0), (2 * 9, 8))
    logits = head(x, train=False)
    assert logits.shape == (2, 7)
    # The tiles of the second puzzle affect only its own logits, and their order matters.
    other = head(x.at[9:].set(x[9:][::-1]), train=False)
    np.testing.assert_allclose(other[0], logits[0], atol=1e-6)
    assert abs(np.asarray(other[1] - logits[1])).max() > 1e-3


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"widht": 1.0}, "has no field widht .did you mean .width"),
        ({"normalise": "none"}, "normalise"),
        ({"dropout": 1.0}, "dropout"),
        ({"name": "inception"}, "did you mean .inception_resnet_v2"),
    ],
)
def test_invalid_backbone_fields_are_refused(fields, message):
    with pytest.raises(pydantic.ValidationError, match=message):
        make(**fields)
