"""Keys and initial weights are those of `nnx.Rngs`; `structure` has the shapes of the network."""

import jax
import numpy as np
import pytest
from flax import nnx

from fer_jax.models.keys import keys, structure
from fer_jax.models.network import Network
from fer_jax.schemas.training import Backbone
from fer_jax.training.learner import make_tasks
from fer_jax.training.state import flatten, random_state, split_network

SMALL = Backbone(width=0.125, depth=(1, 1, 1), stem="tiny", grey=True)
TASKS, _ = make_tasks({"rotation": {}})


def make(rngs):
    return Network(SMALL, TASKS, rngs=rngs)


@pytest.mark.parametrize("seed", [0, 7])
def test_keys_are_those_of_nnx(seed):
    ours, theirs = keys(seed), nnx.Rngs(seed)
    for name in ("params", "params", "dropout", "params"):
        mine, other = (getattr(rngs, name)() for rngs in (ours, theirs))
        np.testing.assert_array_equal(jax.random.key_data(mine), jax.random.key_data(other))
    assert jax.random.key_data(keys(jax.random.key(seed)).params()).tolist() == (
        jax.random.key_data(nnx.Rngs(seed).params()).tolist()
    )


@pytest.mark.parametrize("derive", [lambda rngs: rngs.fork(), lambda rngs: rngs.split(3)])
def test_derived_keys_are_those_of_nnx(derive):
    mine, other = (derive(rngs).default.key[...] for rngs in (keys(2), nnx.Rngs(2)))
    np.testing.assert_array_equal(jax.random.key_data(mine), jax.random.key_data(other))


def test_a_structure_is_that_of_the_network():
    graphdef, *trees = split_network(structure(make))
    expected, *drawn = split_network(nnx.eval_shape(lambda: make(nnx.Rngs(0))))
    assert graphdef == expected
    for tree, other in zip(trees, drawn, strict=True):
        assert flatten(tree) == flatten(other)


def test_initial_weights_are_those_of_nnx():
    ours, theirs = (
        flatten(random_state(lambda key, draw=draw: make(draw(key)), 3))
        for draw in (keys, nnx.Rngs)
    )
    assert ours.keys() == theirs.keys()
    for name, weights in ours.items():
        np.testing.assert_array_equal(weights, theirs[name], err_msg=name)
