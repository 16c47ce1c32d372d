"""Layers of Inception-ResNet-v2.

All images are `[N, H, W, C]`. Parameters are float32; with `dtype=None` the computation runs in the
type that input and parameters promote to, so float64 inputs stay float64.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from fer_jax.models import cpu, plain
from fer_jax.models.keys import initial

Kernel = int | tuple[int, int]
he_normal = jax.nn.initializers.variance_scaling(2.0, "fan_in", "normal")  # He et al. 2015


def operations() -> Any:
    """The module with the implementations of convolution and normalisation for this backend."""
    return cpu if jax.default_backend() == "cpu" else plain


class Conv(nnx.Module):
    """2-D convolution with a kernel `[kh, kw, in, out]`.

    Padding "SAME" adds kh//2 rows and kw//2 columns of zeros on each side; "VALID" adds none.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: Kernel,
        *,
        stride: int = 1,
        padding: str = "SAME",
        bias: bool = False,
        dtype: DTypeLike | None = None,
        rngs: nnx.Rngs,
    ) -> None:
        height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
        self.kernel = nnx.Param(initial(he_normal, rngs, (height, width, inputs, outputs)))
        self.bias = nnx.Param(jnp.zeros(outputs)) if bias else None
        self.stride = stride
        rows, columns = (height // 2, width // 2) if padding == "SAME" else (0, 0)
        self.padding = ((rows, rows), (columns, columns))
        self.dtype = dtype

    def __call__(self, x: Float[Array, "n h w inputs"]) -> Float[Array, "n h2 w2 outputs"]:
        kernel = self.kernel[...]
        dtype = self.dtype or jnp.promote_types(x.dtype, kernel.dtype)
        y = operations().convolve(x.astype(dtype), kernel.astype(dtype), self.stride, self.padding)
        return y if self.bias is None else y + self.bias[...].astype(dtype)


class BatchNorm(nnx.Module):
    """Batch normalisation (Ioffe & Szegedy 2015) over all axes but the last, optionally with ReLU.

    Statistics are float32 or wider for all input types. They are updated with `set_value`, since
    the indexed update of nnx.BatchNorm costs seconds of tracing in a network of this depth. If
    frozen, the running statistics are used in training too, and not updated.
    """

    def __init__(
        self, channels: int, *, momentum: float, epsilon: float = 1e-3, frozen: bool = False
    ) -> None:
        self.scale = nnx.Param(jnp.ones(channels))
        self.bias = nnx.Param(jnp.zeros(channels))
        self.mean = nnx.BatchStat(jnp.zeros(channels))
        self.var = nnx.BatchStat(jnp.ones(channels))
        self.momentum = momentum
        self.epsilon = epsilon
        self.frozen = frozen

    def __call__(
        self, x: Float[Array, "n h w c"], *, train: bool, relu: bool = False
    ) -> Float[Array, "n h w c"]:
        scale, bias = self.scale[...], self.bias[...]
        if train and not self.frozen:
            y, mean, var = operations().normalise(x, scale, bias, self.epsilon, relu)
            for statistic, value in ((self.mean, mean), (self.var, var)):
                old = statistic[...]
                new = self.momentum * old + (1 - self.momentum) * jax.lax.stop_gradient(value)
                statistic.set_value(new.astype(old.dtype))
            return y
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        factor = jax.lax.rsqrt(self.var[...] + self.epsilon) * scale
        y = (wide - self.mean[...]) * factor + bias
        return (jax.nn.relu(y) if relu else y).astype(x.dtype)


class ConvBN(nnx.Module):
    """A convolution without bias, followed by batch normalisation and ReLU."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: Kernel,
        *,
        stride: int = 1,
        padding: str = "SAME",
        momentum: float,
        frozen: bool = False,
        dtype: DTypeLike | None = None,
        rngs: nnx.Rngs,
    ) -> None:
        self.conv = Conv(
            inputs, outputs, kernel, stride=stride, padding=padding, dtype=dtype, rngs=rngs
        )
        self.bn = BatchNorm(outputs, momentum=momentum, frozen=frozen)

    def __call__(
        self, x: Float[Array, "n h w inputs"], *, train: bool
    ) -> Float[Array, "n h2 w2 outputs"]:
        return self.bn(self.conv(x), train=train, relu=True)


def max_pool(x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 c"]:
    """3x3 max-pooling with stride 2 and no padding.

    It is computed as a maximum of shifted slices, along one axis and then the other. The gradient
    of XLA's pooling operation takes eight times as long on CPU; on GPU, its last bits differ
    between runs, so a resumed run would not end with the same parameters. Here, pixels that
    are all equal to the maximum share the gradient.
    """
    for axis in (1, 2):
        span = 2 * ((x.shape[axis] - 3) // 2) + 1
        a, b, c = (jax.lax.slice_in_dim(x, i, i + span, 2, axis) for i in range(3))
        x = jnp.maximum(jnp.maximum(a, b), c)
    return x


def average_pool(x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
    """3x3 average pooling with stride 1 and padding "SAME"; padded pixels are not counted."""
    return nnx.avg_pool(
        x, window_shape=(3, 3), strides=(1, 1), padding="SAME", count_include_pad=False
    )
