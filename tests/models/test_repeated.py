"""Blocks in a loop: the same numbers as laid out one by one, forward, backward and remembered."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fer_jax.models.inception_resnet_v2 import BLOCK_8, Maker, repeated
from fer_jax.training import flops
from fer_jax.training.state import flatten, merge_network, replace_leaves, shapes, split_network
from tests.models.pseudo_weights import pseudo_random

CHANNELS = 16


def make(looped=True, remat=False):
    """Three residual blocks, of which the last keeps the sign, in float64."""

    def stage():
        maker = Maker(0.05, momentum=0.9, frozen_batchnorm=False, dtype=None)
        factors = (0.2, 0.3, 1.0)
        how = {"looped": looped, "remat": remat}
        return repeated(CHANNELS, BLOCK_8, factors, maker, **how, last_keeps_sign=True)

    graphdef, *trees = split_network(nnx.eval_shape(stage))

    def fill(tree):
        values = {path: pseudo_random(path, shape) for path, shape in shapes(tree).items()}
        return jax.tree.map(jnp.float64, replace_leaves(tree, values))

    return graphdef, *map(fill, trees)


def images():
    return jnp.asarray(np.random.default_rng(0).normal(size=(4, 5, 5, CHANNELS)))


def training(looped=True, remat=False):
    """Gradients, outputs and new statistics of one pass, as a function, and its argument."""
    graphdef, parameters, statistics = make(looped, remat)

    def loss(parameters, x):
        stage = merge_network(graphdef, parameters, statistics)
        outputs = stage(x, train=True)
        weights = jnp.sin(jnp.arange(outputs.size)).reshape(outputs.shape)
        return (outputs * weights).sum(), (outputs, split_network(stage)[2])

    return jax.jit(jax.grad(loss, (0, 1), has_aux=True)), parameters


def train(**how):
    function, parameters = training(**how)
    gradients, (outputs, new) = function(parameters, images())
    leaves = {**flatten(gradients[0]), "x": gradients[1], "outputs": outputs, **flatten(new)}
    return {name: np.asarray(leaf) for name, leaf in leaves.items()}


@pytest.fixture(scope="module")
def laid_out():
    with jax.enable_x64(True), pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax.lax, "scan", None)  # whoever calls it fails
        patch.setattr(jax, "default_backend", lambda: "an accelerator")  # the plain layers
        return train(looped=False)


@pytest.mark.parametrize("remat", [False, True])
def test_a_loop_computes_what_blocks_one_by_one_do(laid_out, remat):
    with jax.enable_x64(True):
        looped = train(remat=remat)
    assert looped.keys() == laid_out.keys()
    for name, values in laid_out.items():
        assert values.dtype == np.float64
        scale = np.abs(values).max()
        assert scale > 1e-3, name
        np.testing.assert_allclose(looped[name], values, atol=1e-10 * scale, err_msg=name)


def test_remat_computes_the_blocks_again():
    with jax.enable_x64(True):
        plain, again = (flops.count(*training(remat=remat), images()) for remat in (False, True))
    assert again / plain == pytest.approx(4 / 3, rel=0.1)  # forward, backward by x and by weights


def test_each_block_alone_is_a_round_of_the_loop():
    with jax.enable_x64(True):
        stage = merge_network(*make())
        x = images()
        before_last = stage.block(1)(stage.block(0)(x))
        one_by_one = stage.block(2)(before_last)
        np.testing.assert_allclose(stage(x, train=False), one_by_one, rtol=1e-12)
        assert one_by_one.min() < 0 <= before_last.min()  # only the last one keeps the sign


def test_names_are_of_single_blocks():
    with jax.enable_x64(True):
        parameters = jax.tree.map(np.asarray, make()[1])
    stacked = parameters["stacked_blocks"]["projection"]["bias"]
    assert stacked.shape == (3, CHANNELS)
    leaves = flatten(parameters)
    np.testing.assert_array_equal(leaves["1/projection/bias"], stacked[1])
    assert shapes(parameters) == {name: leaf.shape for name, leaf in leaves.items()}
    replaced = replace_leaves(parameters, {"1/projection/bias": np.zeros(CHANNELS)})
    changed = replaced["stacked_blocks"]["projection"]["bias"]
    np.testing.assert_array_equal(changed, [stacked[0], np.zeros(CHANNELS), stacked[2]])
    same = parameters["stacked_blocks"]["projection"]["kernel"]
    np.testing.assert_array_equal(replaced["stacked_blocks"]["projection"]["kernel"], same)
