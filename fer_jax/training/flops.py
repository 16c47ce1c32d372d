"""The number of floating-point operations of a network, and the peak rates of devices."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import jax

# FLOP/s of dense matrix products from the manufacturers' data sheets, by a part of JAX's
# `device_kind`. The first number is for bfloat16, the second one for float32 in JAX's default
# precision, which is TensorFloat-32 on NVIDIA GPUs and bfloat16 on TPUs.
_PEAKS: dict[str, tuple[float, float]] = {
    "H200": (989e12, 494e12),
    "H100": (989e12, 494e12),
    "A100": (312e12, 156e12),
    "L4": (121e12, 60e12),
    "T4": (65e12, 8e12),  # float16 on its tensor cores; it has neither bfloat16 nor TF32
    "RTX 3090": (71e12, 36e12),
    "RTX 4090": (165e12, 83e12),
    "TPU v4": (275e12, 275e12),
    "TPU v5 lite": (197e12, 197e12),
    "TPU v5": (459e12, 459e12),
    "TPU v6": (918e12, 918e12),
}


def peak(device_kind: str, dtype: str) -> float | None:
    """Published FLOP/s of a device for dense matrix products; None if unknown, as for CPUs.

    Args:
        device_kind: as in JAX, e.g. "NVIDIA H100 80GB HBM3".
        dtype: the type of the matrices; all types except "bfloat16" count as float32.
    """
    for name, (bfloat16, float32) in _PEAKS.items():
        if re.search(rf"\b{name}\b", device_kind):
            return bfloat16 if dtype == "bfloat16" else float32
    return None


def peak_of_all_devices() -> float | None:
    """Published bfloat16 FLOP/s of all devices of all processes; None if unknown.

    All devices must be of the same kind.
    """
    one = peak(jax.devices()[0].device_kind, "bfloat16")
    return None if one is None else one * jax.device_count()


def count(function: Callable[..., Any], *arguments: Any) -> int:
    """Number of floating-point operations of all convolutions and matrix products in `function`.

    A multiplication and an addition count as two. All other operations are ignored, as is usual.
    The function is traced with the arguments' shapes, without computing anything.
    """
    return count_program(jax.make_jaxpr(function)(*arguments).jaxpr)


def count_program(jaxpr: Any) -> int:
    """Like `count`, for a traced program.

    The body of a `scan` counts once per iteration, the body of a `while_loop` once, and all
    branches of a `cond` count.
    """
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "conv_general_dilated":
            total += _convolution(equation)
        elif equation.primitive.name == "dot_general":
            total += _product(equation)
        else:
            inner = [v for value in equation.params.values() for v in _jaxprs(value)]
            repeats = equation.params["length"] if equation.primitive.name == "scan" else 1
            total += repeats * sum(count_program(j) for j in inner)
    return total


def _convolution(equation: Any) -> int:
    kernel = equation.invars[1].aval.shape
    output = math.prod(equation.outvars[0].aval.shape)
    outputs_of_kernel = kernel[equation.params["dimension_numbers"].rhs_spec[0]]
    # The gradient of a strided convolution is a convolution of an input with inserted zeros.
    inserted_zeros = math.prod(equation.params["lhs_dilation"])
    return 2 * output * math.prod(kernel) // (outputs_of_kernel * inserted_zeros)


def _product(equation: Any) -> int:
    (contracted, _), _ = equation.params["dimension_numbers"]
    left = equation.invars[0].aval.shape
    output = math.prod(equation.outvars[0].aval.shape)
    return 2 * output * math.prod(left[axis] for axis in contracted)


def _jaxprs(value: Any) -> list[Any]:
    """The jaxprs in a parameter of an equation, e.g. of jit, scan, cond or custom derivatives."""
    if isinstance(value, (tuple, list)):
        return [j for v in value for j in _jaxprs(v)]
    if hasattr(value, "jaxpr"):
        return [value.jaxpr]
    return [value] if hasattr(value, "eqns") else []
