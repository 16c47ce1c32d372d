"""Which parameters move, and how far."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fer_jax.errors import UserError
from fer_jax.schemas.training import Optimizer
from fer_jax.training.optimizer import (
    frozen_mask,
    hold,
    make_optimizer,
    pack,
    rate_factors,
    unpack,
)


def tree(value):
    """Two blocks, the last convolution and a head, each a kernel [2, 2] and a bias [2]."""

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
    optimizer = make_optimizer(config(**fields), 1000, frozen)
    state = optimizer.init(parameters)
    _, state = optimizer.update(tree(0.5), state, parameters)  # the first has rate 0
    updates, state = optimizer.update(tree(0.5), state, parameters)
    return updates, state


def test_adam_moves_every_leaf_by_the_learning_rate():
    updates, _ = first_update()
    for leaf in jax.tree.leaves(updates):
        np.testing.assert_allclose(leaf, -0.1, rtol=1e-4)


def test_weight_decay_is_for_kernels_only():
    updates, _ = first_update(weight_decay=0.5)
    np.testing.assert_allclose(updates["heads"]["emotion"]["bias"], -0.1, rtol=1e-4)
    np.testing.assert_allclose(updates["heads"]["emotion"]["kernel"], -0.15, rtol=1e-4)


def test_the_rate_decays_from_the_heads_down():
    updates, _ = first_update(backbone_rate=0.5, layer_decay=0.1)
    expected = {"conv_7b": 5e-2 * 0.1, "stem": 5e-2 * 0.1**4}
    for block, rate in expected.items():
        np.testing.assert_allclose(updates["backbone"][block]["bias"], -rate, rtol=1e-4)
    np.testing.assert_allclose(updates["backbone"]["block17"][1]["bias"], -5e-4, rtol=1e-4)
    np.testing.assert_allclose(updates["backbone"]["block17"][0]["bias"], -5e-5, rtol=1e-4)
    np.testing.assert_allclose(updates["heads"]["emotion"]["bias"], -0.1, rtol=1e-4)


def test_block_numbers_are_ordered_as_numbers():
    backbone = {"stem": jnp.ones(1), "block17": {i: jnp.ones(1) for i in range(12)}}
    frozen = jax.tree.map(lambda _: False, backbone)
    factors = rate_factors({"backbone": backbone}, {"backbone": frozen}, 1.0, 0.5)["backbone"]
    assert [factors["block17"][i] for i in (11, 10, 9, 0)] == [0.5, 0.25, 0.125, 2.0**-12]
    assert factors["stem"] == 2.0**-13


def test_frozen_leaves_stay_and_have_no_moments():
    updates, state = first_update(freeze=("backbone/block17/*", "backbone/stem/bias"))
    assert float(jnp.abs(updates["backbone"]["block17"][1]["kernel"]).max()) == 0
    assert float(jnp.abs(updates["backbone"]["stem"]["bias"]).max()) == 0
    np.testing.assert_allclose(updates["backbone"]["stem"]["kernel"], -0.1, rtol=1e-4)
    moments = sum(leaf.size for leaf in jax.tree.leaves(state) if leaf.ndim)
    assert moments == 2 * (3 * 4 + 2 * 2)  # three kernels and two biases move


def repeated(value):
    """A stage of two blocks whose leaves are stacked, and a head."""
    each = {"kernel": jnp.full((2, 3, 3), value), "bias": jnp.full((2, 3), value)}
    return {
        "backbone": {"block17": {"stacked_blocks": each}},
        "head": {"kernel": jnp.full((3, 2), value)},
    }


def test_a_single_block_of_a_repeated_stage_can_be_frozen():
    parameters, gradients = repeated(1.0), repeated(0.5)
    frozen = frozen_mask(parameters, ("backbone/block17/0/*",))
    optimizer = make_optimizer(config(weight_decay=0.5), 1000, frozen)
    _, state = optimizer.update(gradients, optimizer.init(parameters), parameters)
    updates, _ = optimizer.update(gradients, state, parameters)
    each = updates["backbone"]["block17"]["stacked_blocks"]
    for leaf in each.values():
        np.testing.assert_array_equal(leaf[0], 0)
    np.testing.assert_allclose(each["kernel"][1], -0.15, rtol=1e-4)
    np.testing.assert_allclose(each["bias"][1], -0.1, rtol=1e-4)  # without weight decay
    np.testing.assert_allclose(updates["head"]["kernel"], -0.15, rtol=1e-4)

    def loss(parameters):
        held = jax.tree.map(hold, parameters, frozen)
        return sum(leaf.sum() for leaf in jax.tree.leaves(held))

    gradient = jax.grad(loss)(parameters)["backbone"]["block17"]["stacked_blocks"]["bias"]
    np.testing.assert_array_equal(gradient, [[0, 0, 0], [1, 1, 1]])


def test_the_rate_decays_within_a_repeated_stage():
    parameters = repeated(1.0)
    factors = rate_factors(parameters, frozen_mask(parameters, ()), 0.5, 0.1)
    bias = factors["backbone"]["block17"]["stacked_blocks"]["bias"]
    np.testing.assert_allclose(bias, [[0.5e-2], [0.5e-1]])
    assert factors["head"]["kernel"] == 1


def test_nothing_without_a_number_is_kept():
    parameters = repeated(1.0)
    for pattern in ("*/bias", "*/kernel"):
        frozen = frozen_mask(parameters, (pattern,))
        optimizer = make_optimizer(config(weight_decay=0.5), 1000, frozen)
        state = optimizer.init(parameters)
        assert all(leaf.size for leaf in jax.tree.leaves(state))
        _, state = optimizer.update(repeated(0.5), state, parameters)
        updates, _ = optimizer.update(repeated(0.5), state, parameters)
        stage = updates["backbone"]["block17"]["stacked_blocks"]
        assert (float(stage["bias"][0, 0]) == 0) == (pattern == "*/bias")
        assert (float(stage["kernel"][0, 0, 0]) == 0) == (pattern == "*/kernel")


def test_what_is_packed_comes_back():
    parameters = repeated(1.0)
    parameters["head"]["bias"] = jnp.arange(5.0)
    frozen = frozen_mask(parameters, ("head/kernel",))
    packed = pack(parameters, frozen)
    assert list(packed["kernels"]) == ["backbone/block17/stacked_blocks/kernel"]
    assert packed["vectors"].shape == (6 + 5,)
    back = unpack(packed, parameters, frozen)
    np.testing.assert_array_equal(back["head"]["bias"], np.arange(5))
    np.testing.assert_array_equal(
        back["backbone"]["block17"]["stacked_blocks"]["bias"], np.ones((2, 3))
    )
    np.testing.assert_array_equal(back["head"]["kernel"], np.zeros((3, 2)))


def test_a_pattern_without_a_parameter_is_refused():
    with pytest.raises(UserError, match='no parameter matches "backbone/block99/'):
        frozen_mask(tree(1.0), ("backbone/block99/*",))
