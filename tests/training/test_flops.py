"""Counts of operations agree with known values, also for the published network."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from fer_jax.models.inception_resnet_v2 import Settings
from fer_jax.training import flops


def test_products_and_convolutions_are_counted():
    assert flops.count(lambda a, b: a @ b, jnp.ones((3, 5)), jnp.ones((5, 7))) == 2 * 3 * 5 * 7

    def convolve(x, kernel):
        dimensions = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            x, kernel, (2, 2), "VALID", dimension_numbers=dimensions
        )

    counted = flops.count(convolve, jnp.ones((2, 9, 9, 4)), jnp.ones((3, 3, 4, 6)))
    assert counted == 2 * (2 * 4 * 4 * 6) * (3 * 3 * 4)


def test_loops_and_inner_functions_are_counted():
    def step(x, _):
        return jax.jit(lambda y: y @ y)(x), None

    counted = flops.count(lambda x: jax.lax.scan(step, x, length=5)[0], jnp.ones((4, 4)))
    assert counted == 5 * 2 * 4**3


def test_a_gradient_costs_twice_as_much_as_its_function():
    def loss(x, kernel):
        dimensions = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            x, kernel, (2, 2), "VALID", dimension_numbers=dimensions
        ).sum()

    arguments = jnp.ones((2, 9, 9, 4)), jnp.ones((3, 3, 4, 6))
    forward = flops.count(loss, *arguments)
    by_kernel = flops.count(jax.grad(loss, 1), *arguments)
    # The count includes the forward pass, but not zeros that are inserted by a stride.
    assert by_kernel == 2 * forward
    by_image = flops.count(jax.grad(loss, 0), *arguments)
    assert by_image - forward == pytest.approx(
        forward, rel=0.3
    )  # positions outside the border are counted


def test_the_count_for_the_published_network_agrees_with_torch():
    network = nnx.eval_shape(lambda: Settings().make(3, dtype=None, rngs=nnx.Rngs(0)))
    graphdef, state = nnx.split(network)

    def forward(state, x):
        return nnx.merge(graphdef, state)(x, train=False)

    counted = flops.count(forward, state, jax.ShapeDtypeStruct((1, 299, 299, 3), jnp.float32))
    assert counted == 26_308_516_032  # torch.utils.flop_counter for timm's network


def test_only_known_devices_have_a_peak():
    assert flops.peak("NVIDIA H100 80GB HBM3", "bfloat16") == 989e12
    assert flops.peak("TPU v5 lite", "bfloat16") == 197e12
    assert flops.peak("cpu", "float32") is None
