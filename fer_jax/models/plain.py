"""Convolution and batch normalisation by their definitions, as used on accelerators."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Padding = tuple[tuple[int, int], tuple[int, int]]  # before and after, of height and of width


def convolve(
    x: Float[Array, "n h w inputs"],
    kernel: Float[Array, "kh kw inputs outputs"],
    stride: int,
    padding: Padding,
) -> Float[Array, "n h2 w2 outputs"]:
    """Convolves images with a kernel, with the same stride along both axes."""
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def normalise(
    x: Float[Array, "n h w c"],
    scale: Float[Array, " c"],
    bias: Float[Array, " c"],
    epsilon: float,
    relu: bool,
) -> tuple[Float[Array, "n h w c"], Float[Array, " c"], Float[Array, " c"]]:
    """Normalises each channel over the batch (Ioffe & Szegedy 2015), optionally followed by ReLU.

    Returns:
        The result in the type of `x`, and the batch's mean and variance (divided by n) in float32
        or wider.
    """
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    mean = wide.mean((0, 1, 2))
    if x.dtype == wide.dtype:
        var = jnp.square(wide - mean).mean((0, 1, 2))
    else:  # one pass over x; its error is below the rounding error of the type of x
        var = jnp.maximum((wide * wide).mean((0, 1, 2)) - mean * mean, 0)
    y = (wide - mean) * (jax.lax.rsqrt(var + epsilon) * scale) + bias
    return (jax.nn.relu(y) if relu else y).astype(x.dtype), mean, var
