"""Learning rates, weight decay and frozen parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fer_jax.errors import UserError
from fer_jax.schemas.training import Optimizer
from fer_jax.training.optimizer import frozen_mask, make_optimizer, rate_factors

STAGES = ("stem", "block17/0", "block17/1", "conv_7b")


def tree(value):
    """A stem, two blocks, a last convolution and a head, with kernels [2, 2] and biases [2]."""

    def layer():
        return {"kernel": jnp.full((2, 2), value), "bias": jnp.full(2, value)}

    backbone = {"stem": layer(), "block17": {0: layer(), 1: layer()}, "conv_7b": layer()}
    return {"backbone": backbone, "heads": {"emotion": layer()}}


def config(**fields):
    defaults = {
        "learning_rate": 0.1,
        "warmup": 0.0,
        "weight_decay": 0.0,
        "clip": 1e9,
        "backbone_rate": 1.0,
        "layer_decay": 1.0,
        "freeze": (),
        "average": 0.0,
    }
    return Optimizer(**defaults | fields)


def first_update(**fields):
    parameters = tree(1.0)
    frozen = frozen_mask(parameters, fields.pop("freeze", ()))
    optimizer = make_optimizer(config(**fields), 1000, frozen, STAGES)
    state = optimizer.init(parameters)
    _, state = optimizer.update(tree(0.5), state, parameters)  # the first step has rate 0
    updates, state = optimizer.update(tree(0.5), state, parameters)
    return updates, state


def test_adam_changes_every_leaf_by_the_learning_rate():
    updates, _ = first_update()
    for leaf in jax.tree.leaves(updates):
        np.testing.assert_allclose(leaf, -0.1, rtol=1e-4)


def test_weight_decay_applies_only_to_kernels():
    updates, _ = first_update(weight_decay=0.5)
    np.testing.assert_allclose(updates["heads"]["emotion"]["bias"], -0.1, rtol=1e-4)
    np.testing.assert_allclose(updates["heads"]["emotion"]["kernel"], -0.15, rtol=1e-4)


def test_the_learning_rate_decays_from_the_heads_to_the_input():
    updates, _ = first_update(backbone_rate=0.5, layer_decay=0.1)
    expected = {"conv_7b": 5e-2 * 0.1, "stem": 5e-2 * 0.1**4}
    for block, rate in expected.items():
        np.testing.assert_allclose(updates["backbone"][block]["bias"], -rate, rtol=1e-4)
    np.testing.assert_allclose(updates["backbone"]["block17"][1]["bias"], -5e-4, rtol=1e-4)
    np.testing.assert_allclose(updates["backbone"]["block17"][0]["bias"], -5e-5, rtol=1e-4)
    np.testing.assert_allclose(updates["heads"]["emotion"]["bias"], -0.1, rtol=1e-4)


def test_layer_decay_follows_the_order_of_stages():
    backbone = {"stem": jnp.ones(1), "block17": {i: jnp.ones(1) for i in range(12)}}
    stages = ["stem", *(f"block17/{i}" for i in range(12))]
    factors = rate_factors({"backbone": backbone}, 1.0, 0.5, stages)["backbone"]
    assert [factors["block17"][i] for i in (11, 10, 9, 1, 0)] == [
        0.5, 0.25, 0.125, 2.0**-11, 2.0**-12,
    ]  # fmt: skip
    assert factors["stem"] == 2.0**-13


def test_frozen_leaves_do_not_change_and_have_no_moments():
    updates, state = first_update(freeze=("backbone/block17/*", "backbone/stem/bias"))
    assert float(jnp.abs(updates["backbone"]["block17"][1]["kernel"]).max()) == 0
    assert float(jnp.abs(updates["backbone"]["stem"]["bias"]).max()) == 0
    np.testing.assert_allclose(updates["backbone"]["stem"]["kernel"], -0.1, rtol=1e-4)
    moments = sum(leaf.size for leaf in jax.tree.leaves(state) if leaf.ndim)
    assert moments == 2 * (3 * 4 + 2 * 2)  # three kernels and two biases change


def test_a_single_block_can_be_frozen():
    updates, _ = first_update(freeze=("backbone/block17/0/*",), weight_decay=0.5)
    first, second = updates["backbone"]["block17"].values()
    for leaf in first.values():
        np.testing.assert_array_equal(leaf, 0)
    np.testing.assert_allclose(second["kernel"], -0.15, rtol=1e-4)
    np.testing.assert_allclose(second["bias"], -0.1, rtol=1e-4)  # without weight decay


def test_a_pattern_that_matches_nothing_is_refused():
    with pytest.raises(UserError, match='no parameter matches "backbone/block99/'):
        frozen_mask(tree(1.0), ("backbone/block99/*",))
