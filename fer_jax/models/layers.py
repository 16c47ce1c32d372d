"""Layers that Inception-ResNet-v2 is made of, in the form that trains fastest on CPU and GPU alike.

All images are `[N, H, W, C]`. Parameters are float32; with `dtype=None` the computation runs in the
type that input and parameters promote to, so float64 inputs stay float64.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.custom_derivatives import CustomVJPPrimal, SymbolicZero
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray

Kernel = int | tuple[int, int]
Padding = tuple[tuple[int, int], ...]  # before and after, of height and of width


class Conv(nnx.Module):
    """2-D convolution, kernel `[kh, kw, in, out]`; padding "SAME" means k//2 zeros on every side.

    A 1x1 convolution is a matrix product, which XLA:CPU runs faster than its convolution. The
    kernel is zero until `draw_kernels` draws those of the whole network at once. `stacked` are
    axes that the arrays have before their own (see `fer_jax.models.repeated`).
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
        stacked: tuple[int, ...] = (),
    ) -> None:
        height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
        self.kernel = nnx.Param(_constant(0.0, (*stacked, height, width, inputs, outputs)))
        self.bias = nnx.Param(_constant(0.0, (*stacked, outputs))) if bias else None
        self.stride = stride
        self.padding: Padding = (
            ((height // 2, height // 2), (width // 2, width // 2))
            if padding == "SAME"
            else ((0, 0), (0, 0))
        )
        self.dtype = dtype

    def __call__(self, x: Float[Array, "n h w inputs"]) -> Float[Array, "n h2 w2 outputs"]:
        kernel = self.kernel[...]
        dtype = self.dtype or jnp.promote_types(x.dtype, kernel.dtype)
        x, kernel = x.astype(dtype), kernel.astype(dtype)
        if kernel.shape[:2] == (1, 1) and self.stride == 1:
            y = jax.lax.dot_general(x, kernel[0, 0], (((3,), (0,)), ((), ())))
        elif self.stride == 1 and jax.default_backend() == "cpu":
            y = convolve(x, kernel, self.padding)
        else:
            y = _convolve(x, kernel, self.padding, self.stride)
        return y if self.bias is None else y + self.bias[...].astype(dtype)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolve(
    x: Float[Array, "n h w inputs"], kernel: Float[Array, "kh kw inputs outputs"], padding: Padding
) -> Float[Array, "n h2 w2 outputs"]:
    """Convolution with stride 1 whose gradients are convolutions of the same layout, for CPU.

    They are what JAX's own gradients compute; but within a loop XLA:CPU runs those from other
    layouts, and a training step takes twice as long (docs/results.md). Only what is asked for is
    computed: nothing for a kernel that is frozen. There is no forward-mode derivative.
    """
    return _convolve(x, kernel, padding)


def _convolve(x: Array, kernel: Array, padding: Padding, stride: int = 1) -> Array:
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _convolve_forward(
    x: CustomVJPPrimal, kernel: CustomVJPPrimal, padding: Padding
) -> tuple[Array, tuple[Array | None, Array | None]]:
    # The gradient of either needs the other.
    kept = x.value if kernel.perturbed else None, kernel.value if x.perturbed else None
    return _convolve(x.value, kernel.value, padding), kept


def _convolve_backward(
    padding: Padding, kept: tuple[Array | None, Array | None], of_y: Array | SymbolicZero
) -> tuple[Array | None, Array | None]:
    if isinstance(of_y, SymbolicZero):
        return None, None
    x, kernel = kept
    of_x = of_kernel = None
    if kernel is not None:
        turned = kernel[::-1, ::-1].swapaxes(2, 3)
        (top, bottom), (left, right) = padding
        height, width = (size - 1 for size in kernel.shape[:2])
        rest = (height - top, height - bottom), (width - left, width - right)
        of_x = _convolve(of_y, turned, rest)
    if x is not None:  # examples take the place of channels, channels that of examples
        swapped = _convolve(x.transpose(3, 1, 2, 0), of_y.transpose(1, 2, 0, 3), padding)
        of_kernel = swapped.transpose(1, 2, 0, 3)
    return of_x, of_kernel


convolve.defvjp(_convolve_forward, _convolve_backward, symbolic_zeros=True)


class BatchNorm(nnx.Module):
    """Batch normalisation (Ioffe & Szegedy 2015) over all axes but the last.

    Statistics are taken in float32 or better whatever the input's type. They are written with
    `set_value`: nnx.BatchNorm's indexed update costs seconds of tracing in a network this deep.
    A frozen one normalises with its running statistics in training, too, and keeps them. `stacked`
    is as of `Conv`.
    """

    def __init__(
        self,
        channels: int,
        *,
        momentum: float,
        epsilon: float = 1e-3,
        frozen: bool = False,
        stacked: tuple[int, ...] = (),
    ) -> None:
        shape = (*stacked, channels)
        self.scale = nnx.Param(_constant(1.0, shape))
        self.bias = nnx.Param(_constant(0.0, shape))
        self.mean = nnx.BatchStat(_constant(0.0, shape))
        self.var = nnx.BatchStat(_constant(1.0, shape))
        self.momentum = momentum
        self.epsilon = epsilon
        self.frozen = frozen

    def __call__(
        self, x: Float[Array, "n h w c"], *, train: bool, relu: bool = False
    ) -> Float[Array, "n h w c"]:
        exact = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        if not train or self.frozen:
            y = self._normalised(exact, self.mean[...], self.var[...])
        elif jax.default_backend() == "cpu":
            y, mean, var = normalise(exact, self.scale[...], self.bias[...], self.epsilon, relu)
            self._remember(mean, var)
            return y.astype(x.dtype)
        else:
            mean = exact.mean((0, 1, 2))
            if x.dtype == exact.dtype:
                var = jnp.square(exact - mean).mean((0, 1, 2))
            else:  # in one pass: it loses less than the rounding of x has lost already
                var = jnp.maximum((exact * exact).mean((0, 1, 2)) - mean * mean, 0)
            self._remember(mean, var)
            y = self._normalised(exact, mean, var)
        return (jax.nn.relu(y) if relu else y).astype(x.dtype)

    def _normalised(
        self, x: Float[Array, "n h w c"], mean: Float[Array, " c"], var: Float[Array, " c"]
    ) -> Float[Array, "n h w c"]:
        factor = jax.lax.rsqrt(var + self.epsilon) * self.scale[...]
        return (x - mean) * factor + self.bias[...]

    def _remember(self, mean: Float[Array, " c"], var: Float[Array, " c"]) -> None:
        for statistic, value in ((self.mean, mean), (self.var, var)):
            old = statistic[...]
            new = self.momentum * old + (1 - self.momentum) * jax.lax.stop_gradient(value)
            statistic.set_value(new.astype(old.dtype))


@partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def normalise(
    x: Float[Array, "n h w c"],
    scale: Float[Array, " c"],
    bias: Float[Array, " c"],
    epsilon: float,
    relu: bool,
) -> tuple[Float[Array, "n h w c"], Float[Array, " c"], Float[Array, " c"]]:
    """Batch normalisation over all axes but the last, and ReLU if asked for, for CPU.

    Sums over pixels are matrix products with ones, and the gradient is that of Ioffe & Szegedy
    2015, section 3, written out: a quarter of the time of what XLA:CPU makes of the definition.

    Returns:
        The result, and the mean and the variance (divided by n) of the batch; no gradient flows
        through the last two.
    """
    return _normalise_forward(x, scale, bias, epsilon, relu)[0]


def _normalise_forward(
    x: Array, scale: Array, bias: Array, epsilon: float, relu: bool
) -> tuple[tuple[Array, Array, Array], tuple[Array, ...]]:
    count = x.size // x.shape[-1]
    mean = _sum_of_pixels(x) / count
    var = _sum_of_pixels(jnp.square(x - mean)) / count
    deviation = jax.lax.rsqrt(var + epsilon)
    y = (x - mean) * (deviation * scale) + bias
    y = jax.nn.relu(y) if relu else y
    return (y, mean, var), (x, y, mean, deviation, scale)


def _normalise_backward(
    _epsilon: float, relu: bool, kept: tuple[Array, ...], gradients: tuple[Array, Array, Array]
) -> tuple[Array, Array, Array]:
    x, y, mean, deviation, scale = kept
    count = x.size // x.shape[-1]
    of_y = jnp.where(y > 0, gradients[0], 0) if relu else gradients[0]
    normal = (x - mean) * deviation
    of_bias, of_scale = _sum_of_pixels(of_y), _sum_of_pixels(of_y * normal)
    of_x = (scale * deviation) * (of_y - of_bias / count - normal * (of_scale / count))
    return of_x, of_scale, of_bias


normalise.defvjp(_normalise_forward, _normalise_backward)


def _sum_of_pixels(x: Float[Array, "n h w c"]) -> Float[Array, " c"]:
    rows = x.reshape(-1, x.shape[-1])
    return (jnp.ones((1, len(rows)), x.dtype) @ rows)[0]


class ConvBN(nnx.Module):
    """Convolution without bias, batch normalisation, ReLU."""

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
        stacked: tuple[int, ...] = (),
    ) -> None:
        self.conv = Conv(
            inputs, outputs, kernel, stride=stride, padding=padding, dtype=dtype, stacked=stacked
        )
        self.bn = BatchNorm(outputs, momentum=momentum, frozen=frozen, stacked=stacked)

    def __call__(
        self, x: Float[Array, "n h w inputs"], *, train: bool
    ) -> Float[Array, "n h2 w2 outputs"]:
        return self.bn(self.conv(x), train=train, relu=True)


def draw_kernels(convs: Sequence[Conv], key: PRNGKeyArray) -> None:
    """Gives every kernel normal values of deviation sqrt(2 / fan-in) (He et al. 2015).

    All are cut from one draw: a draw for each shape would compile for longer than the network. A
    kernel may have an axis more, before its own four, for the blocks that it is repeated in.
    """
    shapes = tuple(conv.kernel.shape for conv in convs)
    for conv, kernel in zip(convs, _draw(key, shapes), strict=True):
        conv.kernel.set_value(kernel)


@partial(jax.jit, static_argnums=1)
def _draw(
    key: PRNGKeyArray, shapes: tuple[tuple[int, ...], ...]
) -> list[Float[Array, "*blocks kh kw inputs outputs"]]:
    sizes = [math.prod(shape) for shape in shapes]
    drawn = jax.random.normal(key, (sum(sizes),), jnp.float32)
    parts = jnp.split(drawn, list(itertools.accumulate(sizes))[:-1])
    return [
        part.reshape(shape) * math.sqrt(2 / math.prod(shape[-4:-1]))
        for part, shape in zip(parts, shapes, strict=True)
    ]


def _constant(value: float, shape: tuple[int, ...]) -> Float[Array, ...]:
    return jnp.asarray(np.full(shape, value, np.float32))  # by numpy: nothing to compile


def max_pool(x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 c"]:
    """3x3 maximum with stride 2, no padding.

    A maximum of shifted slices, along one axis and then the other: on CPU its gradient takes an
    eighth of the time of XLA's select-and-scatter (and is shared where pixels tie).
    """
    return _max_of_three(_max_of_three(x, axis=1), axis=2)


def _max_of_three(x: Float[Array, "n h w c"], axis: int) -> Float[Array, "n h2 w2 c"]:
    span = 2 * ((x.shape[axis] - 3) // 2) + 1
    a, b, c = (jax.lax.slice_in_dim(x, i, i + span, 2, axis) for i in range(3))
    return jnp.maximum(jnp.maximum(a, b), c)


def average_pool(x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
    """3x3 mean with stride 1 over the pixels that exist (padding is not counted)."""
    height, width = x.shape[1:3]
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    rows = padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]
    total = rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]
    count = np.outer(_window_sizes(height), _window_sizes(width))
    return total * jnp.asarray(1 / count[None, :, :, None], x.dtype)


def _window_sizes(length: int) -> np.ndarray:
    return np.array([min(i + 1, length - 1) - max(i - 1, 0) + 1 for i in range(length)])
