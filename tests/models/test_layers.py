"""Convolution, pooling and normalisation agree with reference implementations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fer_jax.models import cpu, layers, plain
from fer_jax.models.layers import BatchNorm, Conv, average_pool, max_pool


@pytest.fixture
def x():
    return jnp.asarray(np.random.default_rng(0).normal(3, 2, (2, 7, 6, 3)), jnp.float32)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding"),
    [(1, 1, "SAME"), (1, 1, "VALID"), (3, 1, "SAME"), ((1, 7), 1, "SAME"), (3, 2, "VALID")],
)
def test_convolution_agrees_with_lax(x, kernel, stride, padding):
    conv = Conv(3, 4, kernel, stride=stride, padding=padding, bias=True, rngs=nnx.Rngs(0))
    conv.bias.set_value(jnp.arange(4.0))
    plain = jax.lax.conv_general_dilated(
        x, conv.kernel[...], (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    np.testing.assert_allclose(conv(x), plain + jnp.arange(4.0), atol=1e-5)


def test_pooling_agrees_with_nnx(x):
    largest = nnx.max_pool(x, (3, 3), (2, 2), "VALID")
    np.testing.assert_array_equal(max_pool(x), largest)
    mean = nnx.avg_pool(x, (3, 3), (1, 1), "SAME", count_include_pad=False)
    np.testing.assert_allclose(average_pool(x), mean, atol=1e-6)


def test_the_gradient_of_max_pooling_agrees_with_nnx(x):
    def gradient(pool):
        return jax.grad(lambda x: (pool(x) ** 2).sum())(x)

    plain = gradient(lambda x: nnx.max_pool(x, (3, 3), (2, 2), "VALID"))
    np.testing.assert_allclose(gradient(max_pool), plain, atol=1e-6)


def test_batch_normalisation_in_training_updates_its_statistics(x):
    norm = BatchNorm(3, momentum=0.9)
    norm.scale.set_value(jnp.array([1.0, 2.0, 3.0]))
    norm.bias.set_value(jnp.array([0.0, 1.0, 2.0]))
    y = norm(x, train=True)
    wide = np.asarray(x, np.float64)
    mean, var = wide.mean((0, 1, 2)), wide.var((0, 1, 2))
    wanted = (wide - mean) / np.sqrt(var + 1e-3) * [1, 2, 3] + [0, 1, 2]
    np.testing.assert_allclose(y, wanted, atol=1e-5)
    np.testing.assert_allclose(norm.mean[...], 0.1 * mean, rtol=1e-5)
    np.testing.assert_allclose(norm.var[...], 0.9 + 0.1 * var, rtol=1e-5)


def test_batch_normalisation_in_inference_keeps_its_statistics(x):
    norm = BatchNorm(3, momentum=0.9)
    norm.mean.set_value(jnp.array([1.0, 2.0, 3.0]))
    norm.var.set_value(jnp.array([4.0, 4.0, 4.0]))
    y = norm(x, train=False)
    np.testing.assert_allclose(y, (x - jnp.arange(1.0, 4)) / np.sqrt(4.001), atol=1e-5)
    np.testing.assert_array_equal(norm.mean[...], [1, 2, 3])


def test_statistics_of_bfloat16_inputs_are_float32(x):
    norm = BatchNorm(3, momentum=0.0)
    y = norm((x + 300).astype(jnp.bfloat16), train=True)
    assert y.dtype == jnp.bfloat16
    assert norm.mean[...].dtype == jnp.float32
    exact = np.asarray((x + 300).astype(jnp.bfloat16), np.float64).mean((0, 1, 2))
    np.testing.assert_allclose(norm.mean[...], exact, rtol=1e-6)


def test_float64_stays_float64(x):
    with jax.enable_x64(True):
        wide = jnp.asarray(np.asarray(x), jnp.float64)
        conv, norm = Conv(3, 4, 3, rngs=nnx.Rngs(0)), BatchNorm(4, momentum=0.9)
        y = norm(conv(wide), train=True)
        assert y.dtype == jnp.float64
        assert max_pool(wide).dtype == average_pool(wide).dtype == jnp.float64


def test_initial_kernels_are_scaled_by_their_fan_in():
    rngs = nnx.Rngs(0)
    convs = [Conv(64, 64, 3, rngs=rngs), Conv(64, 128, 1, rngs=rngs)]
    for conv in convs:
        fan_in = np.prod(conv.kernel.shape[:3])
        assert abs(float(conv.kernel[...].std()) / np.sqrt(2 / fan_in) - 1) < 0.03
    first, second = convs[0].kernel[0, 0].ravel(), convs[1].kernel[0, 0, :, :64].ravel()
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.1


@pytest.mark.parametrize("operations", [cpu, plain])
@pytest.mark.parametrize("relu", [True, False])
def test_normalisation_and_its_gradient_agree_with_the_definition(relu, operations):
    rng = np.random.default_rng(3)

    def by_definition(x, scale, bias):
        normal = (x - x.mean((0, 1, 2))) / jnp.sqrt(x.var((0, 1, 2)) + 1e-3)
        y = normal * scale + bias
        return jax.nn.relu(y) if relu else y

    with jax.enable_x64(True):
        x = jnp.asarray(5 + 3 * rng.normal(size=(4, 5, 6, 3)))
        scale, bias = jnp.asarray(rng.normal(size=(2, 3)))
        wanted, pull = jax.vjp(by_definition, x, scale, bias)
        got, own_pull = jax.vjp(lambda *a: operations.normalise(*a, 1e-3, relu)[0], x, scale, bias)
        weights = jnp.asarray(rng.normal(size=x.shape))
        np.testing.assert_allclose(got, wanted, atol=1e-13)
        for own, expected in zip(own_pull(weights), pull(weights), strict=True):
            np.testing.assert_allclose(own, expected, atol=1e-11)
        _, mean, var = operations.normalise(x, scale, bias, 1e-3, relu)
        np.testing.assert_allclose(mean, x.mean((0, 1, 2)), atol=1e-13)
        np.testing.assert_allclose(var, x.var((0, 1, 2)), atol=1e-13)


@pytest.mark.parametrize(("kernel", "stride"), [((1, 1), 1), ((3, 3), 1), ((1, 7), 1), ((3, 3), 2)])
def test_cpu_and_plain_operations_agree(kernel, stride):
    """A loss after convolution, normalisation and pooling is the same, and so are its gradients."""

    rows, columns = (size // 2 for size in kernel)

    def gradients(operations):
        def loss(x, weights, scale):
            y = operations.convolve(x, weights, stride, ((rows, rows), (columns, columns)))
            y = operations.normalise(y, scale, jnp.zeros(4), 1e-3, True)[0]
            return (jnp.sin(max_pool(y)) ** 2).sum()

        return jax.value_and_grad(loss, (0, 1, 2))(x, weights, scale)

    with jax.enable_x64(True):
        rng = np.random.default_rng(1)
        x, weights = jnp.asarray(rng.normal(size=(2, 9, 8, 3))), rng.normal(size=(*kernel, 3, 4))
        scale = jnp.asarray(rng.uniform(0.5, 1.5, 4))
        for one, other in zip(*map(jax.tree.leaves, map(gradients, (cpu, plain))), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-11)


def test_the_backend_determines_the_operations(monkeypatch):
    assert layers.operations() is cpu
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert layers.operations() is plain


@pytest.mark.parametrize("operations", [cpu, plain])
def test_bfloat16_is_normalised_in_float32(x, operations):
    narrow = x.astype(jnp.bfloat16)
    y, mean, var = operations.normalise(narrow, jnp.ones(3), jnp.zeros(3), 1e-3, False)
    assert (y.dtype, mean.dtype, var.dtype) == (jnp.bfloat16, jnp.float32, jnp.float32)
    exact = np.asarray(narrow, np.float64)
    np.testing.assert_allclose(mean, exact.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(var, exact.var((0, 1, 2)), rtol=1e-3)
    of_x = jax.grad(
        lambda x: operations.normalise(x, jnp.ones(3), jnp.zeros(3), 1e-3, False)[0].sum()
    )(narrow)
    assert of_x.dtype == jnp.bfloat16
