"""A model as one JAX function from crops of faces to probabilities of the emotions.

`trained_model.Model.probabilities` does the same, but cannot be exported, since it uses OpenCV and
NumPy before, between and after its compiled functions. tests/export/test_answer.py checks that both
agree.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Float32, Int32, UInt8

from fer_jax.export import opencv
from fer_jax.models.layers import Conv, ConvBN
from fer_jax.models.network import Network
from fer_jax.recogniser import TASK
from fer_jax.records import Inference
from fer_jax.training import gradients, inference
from fer_jax.training.state import split_network
from fer_jax.training.step import make_features_step, make_head_step
from fer_jax.training.trained_model import Model, further_kernels


class Answer(NamedTuple):
    """The outputs for some faces.

    Attributes:
        probabilities: calibrated probability of each emotion, in the order of the labels in the
            model's record.
        features: the inputs of the head, averaged over the views of each face.
    """

    probabilities: Float32[Array, "n classes"]
    features: Float32[Array, "n f"]


Function = Callable[[UInt8[Array, "n s s 3"]], Answer]


def make(model: Model) -> Function:
    """The function from face crops with any side length s to answers; includes the model's weights.

    Args:
        model: an emotion model; not person-relative.
    """
    how = model.record.inference.get(TASK, Inference())
    network = in_inference(model.network())
    graphdef, parameters, statistics = split_network(network)
    state = {"parameters": parameters, "statistics": statistics}
    features_step = make_features_step(graphdef, model.task(TASK), depths=how.depths)
    pooled = partial(features_step, state)
    head = partial(make_head_step(graphdef, TASK), state)
    further = [model.weights[path] for path in further_kernels(TASK, how)]
    side, width = model.record.image_size, model.width

    def answer(crops: UInt8[Array, "n s s 3"]) -> Answer:
        shown = views(opencv.resize(crops, side), how.crops)
        fine = shown
        if model.reads_fine(TASK):
            fine = views(opencv.resize(crops, gradients.SIDE), how.crops)
        sharpest = fine if fine[0].shape[1] > side else shown
        magnified = [
            shown if zoom == 1 else [_zoomed(view, zoom, side) for view in sharpest]
            for zoom in how.zooms
        ]
        features = jnp.stack([pooled(_rows(seen)) for seen in magnified]).mean(axis=0)
        logits = head(features[:, :width])
        if how.gradients:
            features = jnp.concatenate([features, descriptors(_rows(fine))], axis=-1)
        if further:
            kernel = np.concatenate(further)
            precision = jax.lax.Precision.HIGHEST
            logits = logits + jnp.matmul(features[:, width:], kernel, precision=precision)
        probabilities = _mean(jax.nn.softmax(logits), len(shown))
        if how.temperature != 1.0:
            least = jnp.clip(probabilities, inference.MIN_PROBABILITY, 1.0)
            probabilities = jax.nn.softmax(jnp.log(least) / how.temperature)
        return Answer(probabilities, _mean(features, len(shown)))

    return answer


def in_inference(network: Network) -> Network:
    """Folds each batch normalisation into the convolution before it, and returns the network.

    The convolutions become those of Flax, which every converter supports; custom layers of a
    backbone are kept. The network is changed in place.
    """
    modules = [module for _, module in nnx.iter_modules(network)]
    for module in modules:
        if isinstance(module, ConvBN):
            norm = module.bn
            factor = norm.scale[...] / jnp.sqrt(norm.var[...] + norm.epsilon)
            bias = norm.bias[...] - norm.mean[...] * factor
            layers = {"conv": _flax_conv(module.conv, factor, bias), "bn": _Relu()}
            for name, layer in layers.items():
                setattr(module, name, layer)
    for module in modules:
        for name, layer in list(vars(module).items()):
            if isinstance(layer, Conv):
                one = jnp.ones(layer.kernel.shape[-1])
                bias = jnp.zeros_like(one) if layer.bias is None else jnp.asarray(layer.bias[...])
                setattr(module, name, _flax_conv(layer, one, bias))
    return network


class _Relu(nnx.Module):
    """Replaces a `BatchNorm` that was folded: only its ReLU remains."""

    def __call__(
        self, x: Float[Array, "n h w c"], *, train: bool, relu: bool = False
    ) -> Float[Array, "n h w c"]:
        return jax.nn.relu(x) if relu else x


def _flax_conv(conv: Conv, factor: Float[Array, " c"], bias: Float[Array, " c"]) -> nnx.Conv:
    """A Flax convolution that computes `factor * conv(x) + bias`, ignoring the bias of `conv`."""
    *size, inputs, outputs = conv.kernel.shape
    made = nnx.Conv(
        inputs,
        outputs,
        kernel_size=tuple(size),
        strides=(conv.stride, conv.stride),
        padding=conv.padding,
        kernel_init=nnx.initializers.zeros_init(),
        rngs=nnx.Rngs(0),
    )
    made.kernel.set_value(jnp.asarray(conv.kernel[...] * factor, jnp.float32))
    made.bias = nnx.Param(jnp.asarray(bias, jnp.float32))
    return made


def views(images: UInt8[Array, "n s s 3"], count: int) -> list[UInt8[Array, "n s s 3"]]:
    """Like `inference.views`: the images, `count` - 1 crops of each, and mirror images of all."""
    side = images.shape[1]
    found = [images]
    for top, left, small in inference.corners(side, count):
        part = images[:, top : top + small, left : left + small]
        found.append(opencv.bilinear(part, side))
    return [*found, *(view[:, :, ::-1] for view in found)]


def _zoomed(images: UInt8[Array, "n t t 3"], zoom: float, side: int) -> UInt8[Array, "n s s 3"]:
    """`inference.zoomed` for JAX: the central part of each image, resized to `side` pixels."""
    first, part = inference.central(images.shape[1], zoom)
    return opencv.resize(images[:, first : first + part, first : first + part], side)


def _rows(seen: list[UInt8[Array, "n s s 3"]]) -> UInt8[Array, "m s s 3"]:
    """All views in one batch, with the views of a face in consecutive rows."""
    return jnp.stack(seen, axis=1).reshape(-1, *seen[0].shape[1:])


def _mean(rows: Float32[Array, "m c"], count: int) -> Float32[Array, "n c"]:
    """The mean over the `count` views of each face."""
    return rows.reshape(-1, count, rows.shape[-1]).mean(axis=1)


def descriptors(crops: UInt8[Array, "n s s 3"]) -> Float32[Array, "n f"]:
    """Like `gradients.descriptors`, for crops with the side `gradients.SIDE`."""
    image = opencv.grey(crops)
    across = jnp.pad(image[:, :, 2:] - image[:, :, :-2], ((0, 0), (0, 0), (1, 1)))
    down = jnp.pad(image[:, 2:] - image[:, :-2], ((0, 0), (1, 1), (0, 0)))
    strength = jnp.sqrt((across * across + down * down).astype(jnp.float32))
    bins = jnp.arange(gradients.BINS) == orientation(across, down)[..., None]
    cells = gradients.CELLS
    size = gradients.SIDE // cells
    votes = (strength[..., None] * bins).reshape(-1, cells, size, cells, size, gradients.BINS)
    counts = votes.sum(axis=(2, 4))
    corners = [counts[:, :-1, :-1], counts[:, :-1, 1:], counts[:, 1:, :-1], counts[:, 1:, 1:]]
    blocks = jnp.concatenate(corners, axis=-1)
    for _ in range(2):
        blocks = jnp.minimum(_unit(blocks), 0.2)
    return _unit(blocks).reshape(-1, gradients.WIDTH)


def orientation(
    across: Int32[Array, "n h w"], down: Int32[Array, "n h w"]
) -> Int32[Array, "n h w"]:
    """The bin, from 0, of the angle modulo 180 degrees of each gradient (`across`, `down`).

    It is the number of borders between bins that the gradient has passed, found by cross products,
    since ONNX has no arctan2.
    """
    sign = jnp.where(down < 0, -1, 1)
    x, y = (across * sign).astype(jnp.float32), (down * sign).astype(jnp.float32)
    x = jnp.where(down == 0, jnp.abs(x), x)
    angles = np.arange(1, gradients.BINS) * np.pi / gradients.BINS
    cosines, sines = np.float32(np.cos(angles)), np.float32(np.sin(angles))
    beyond = y[..., None] * cosines - x[..., None] * sines >= 0
    # A gradient of zero has no weight in its bin.
    return beyond.astype(jnp.int32).sum(axis=-1)


def _unit(blocks: Float32[Array, "n y x f"]) -> Float32[Array, "n y x f"]:
    norm = jnp.sqrt((blocks * blocks).sum(axis=-1, keepdims=True) + 1e-10)
    return blocks / norm
