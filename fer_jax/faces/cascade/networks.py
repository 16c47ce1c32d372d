"""The three networks of MTCNN (Zhang et al. 2016, arXiv:1604.02878) with the layers of mtcnn 1.0.0.

Inputs are RGB scaled to (x - 127.5) / 128. Each network is a pure function of weights and inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from einops import rearrange
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Shaped

Weights = Mapping[str, Array]
Network = Callable[[Weights, Array], tuple[Array, ...]]

_BELOW_ALL = -1e6  # below any activation; finite, so that it cannot cause NaN
_AFTER_ROWS = ((0, 0), (0, 1), (0, 0), (0, 0), (0, 0))
_AFTER_COLUMNS = ((0, 0), (0, 0), (0, 1), (0, 0))


def proposal_network(
    weights: Weights,
    image: Float[Array, "h w 3"],
    height: Int[Array, ""],
    width: Int[Array, ""],
) -> tuple[Float[Array, "oh ow"], Float[Array, "oh ow 4"]]:
    """Applies P-Net to the top left `height` × `width` pixels of `image`.

    Cell (i, j) sees the 12 × 12 pixels whose top left corner is (2i, 2j). Cells that extend beyond
    height or width have the score 0, so that images of several sizes share a compiled program.

    Returns:
        The face scores [oh, ow] in 0..1, and box regressions [oh, ow, 4].
    """
    inside_y = jnp.arange(image.shape[0] - 2) < height - 2
    inside_x = jnp.arange(image.shape[1] - 2) < width - 2
    scores, offsets = proposals(weights, image, inside_y[:, None] & inside_x)
    valid_y = jnp.arange(scores.shape[0]) < (height - 1) // 2 - 4
    valid_x = jnp.arange(scores.shape[1]) < (width - 1) // 2 - 4
    return jnp.where(valid_y[:, None] & valid_x, scores, 0.0), offsets


def proposals(
    weights: Weights,
    image: Float[Array, "h w 3"],
    inside: Bool[Array, "h-2 w-2"],
) -> tuple[Float[Array, "oh ow"], Float[Array, "oh ow 4"]]:
    """Applies P-Net to a plane with one or more pictures, which start in even rows and columns.

    Args:
        weights: the weights of P-Net.
        image: the plane.
        inside: which outputs of the first convolution depend on pixels of a single picture; the
            pooling ignores the others.

    Returns:
        The face scores [oh, ow] in 0..1, and box regressions [oh, ow, 4]. Those of cells that
        extend beyond a picture are meaningless.
    """
    rows, columns = (-(-(length - 2) // 2) for length in image.shape[:2])
    x = _first_layer(weights, _blocks_of_two(image[None], rows + 1, columns + 1))[0]
    inside = _blocks_of_two(inside[None, :, :, None], rows, columns)[0]
    inside = rearrange(inside, "r c (a b) -> r c a b 1", a=2)
    x = jnp.where(inside, x, _BELOW_ALL).max((2, 3))[None]
    x = _blocks_of_two(x, -(-rows // 2), -(-columns // 2))
    x = _block_over_blocks(weights, 3, _block_over_blocks(weights, 2, x))
    heads = jnp.concatenate([weights["score/kernel"], weights["box/kernel"]], -1)[0, 0]
    biases = jnp.concatenate([weights["score/bias"], weights["box/bias"]])
    x = rearrange(x[0], "r c (a b f) -> r c a b f", a=2, b=2) @ heads + biases
    x = rearrange(x, "r c a b f -> (r a) (c b) f")
    x = x[: rows - 4, : columns - 4]
    return _face_score(x[..., :2]), x[..., 2:]


def refinement_network(
    weights: Weights, patches: Float[Array, "n 24 24 3"]
) -> tuple[Float[Array, " n"], Float[Array, "n 4"]]:
    """R-Net: face scores [n] in 0..1 and box regressions [n, 4] of patches [n, 24, 24, 3]."""
    x = _pool_over_blocks(_first_layer(weights, _blocks_of_two(patches, 12, 12)))
    x = _block(weights, 2, x)
    x = _pool(x, 3, "VALID")
    x = _flatten(_block(weights, 3, x))
    x = _prelu(_dense(weights, "dense", x), weights["prelu4"])
    return _face_score(_dense(weights, "score", x)), _dense(weights, "box", x)


def output_network(
    weights: Weights, patches: Float[Array, "n 48 48 3"]
) -> tuple[Float[Array, " n"], Float[Array, "n 4"], Float[Array, "n 5 2"]]:
    """O-Net: face scores [n] in 0..1, box regressions [n, 4] and landmarks [n, 5, 2] of patches.

    Patches are [n, 48, 48, 3]. Landmarks are (x, y) as fractions of the patch's width and height.
    """
    x = _pool_over_blocks(_first_layer(weights, _blocks_of_two(patches, 24, 24)))
    x = _block(weights, 2, x)
    x = _pool(x, 3, "VALID")
    x = _block(weights, 3, x)
    x = _pool(x, 2, "SAME")
    x = _flatten(_block(weights, 4, x))
    x = _prelu(_dense(weights, "dense", x), weights["prelu5"])
    # Keras lists the five x first, then the five y.
    landmarks = _dense(weights, "landmarks", x).reshape(-1, 2, 5).transpose(0, 2, 1)
    return _face_score(_dense(weights, "score", x)), _dense(weights, "box", x), landmarks


def _block(weights: Weights, number: int, x: Array) -> Array:
    x = _convolve(x, weights[f"conv{number}/kernel"]) + weights[f"conv{number}/bias"]
    return _prelu(x, weights[f"prelu{number}"])


def _convolve(x: Array, kernel: Array) -> Array:
    dimensions = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=dimensions)


# XLA's CPU backend is slow for few channels, since it gathers the inputs of each output one by one.
# Over blocks of 2×2 pixels, with four times as many input and output channels, a 3×3 convolution
# becomes a 2×2 one, which does 1.8 times the work in a third to two thirds of the time.


def _blocks_of_two(
    x: Shaped[Array, "n h w c"], rows: int, columns: int
) -> Shaped[Array, "n rows columns 4*c"]:
    """Moves blocks of 2×2 pixels to the channels; `x` is zero-padded or cropped to fit."""
    height, width = x.shape[1:3]
    x = x[:, : 2 * rows, : 2 * columns]
    x = jnp.pad(
        x, ((0, 0), (0, max(2 * rows - height, 0)), (0, max(2 * columns - width, 0)), (0, 0))
    )
    return rearrange(x, "n (r a) (c b) f -> n r c (a b f)", a=2, b=2)


def _first_layer(
    weights: Weights, blocks: Float[Array, "n r c 12"]
) -> Float[Array, "n r-1 c-1 2 2 f"]:
    """Applies the first 3×3 convolution and PReLU: from blocks of pixels to blocks of cells."""
    x = _convolve(blocks, _over_blocks(weights["conv1/kernel"]))
    x = rearrange(x, "n r c (a b f) -> n r c a b f", a=2, b=2)
    return _prelu(x + weights["conv1/bias"], weights["prelu1"].reshape(-1))


def _block_over_blocks(
    weights: Weights, number: int, x: Float[Array, "n r c f"]
) -> Float[Array, "n r-1 c-1 g"]:
    """Applies `_block` to cells in blocks of 2×2; the result has the same arrangement."""
    bias, slope = (
        jnp.tile(weights[name].reshape(-1), 4) for name in (f"conv{number}/bias", f"prelu{number}")
    )
    return _prelu(_convolve(x, _over_blocks(weights[f"conv{number}/kernel"])) + bias, slope)


def _pool_over_blocks(x: Float[Array, "n r c 2 2 f"]) -> Float[Array, "n r c f"]:
    """3×3 max-pooling, stride 2, "SAME": over each block and the cells right of and below it."""
    next_row = jnp.pad(x[:, 1:, :, 0], _AFTER_ROWS, constant_values=_BELOW_ALL)
    x = jnp.maximum(x.max(3), next_row)
    next_column = jnp.pad(x[:, :, 1:, 0], _AFTER_COLUMNS, constant_values=_BELOW_ALL)
    return jnp.maximum(x.max(3), next_column)


def _over_blocks(kernel: Array) -> Array:
    """A kernel [2, 2, 4c, 4d] for blocks of 2×2 pixels, equivalent to `kernel` [3, 3, c, d]."""
    shifted = [
        jnp.pad(kernel, ((y, 1 - y), (x, 1 - x), (0, 0), (0, 0))) for y in (0, 1) for x in (0, 1)
    ]
    return rearrange(jnp.stack(shifted), "p (i a) (j b) c d -> i j (a b c) (p d)", i=2, j=2)


def _dense(weights: Weights, layer: str, x: Array) -> Array:
    return x @ weights[f"{layer}/kernel"] + weights[f"{layer}/bias"]


def _prelu(x: Array, slope: Array) -> Array:
    return jnp.where(x > 0, x, slope * x)


def _pool(x: Array, size: int, padding: str) -> Array:
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, size, size, 1), (1, 2, 2, 1), padding)


def _flatten(x: Array) -> Array:
    """Flattens with x before y, since the weights come from Caffe."""
    return rearrange(x, "n h w c -> n (w h c)")


def _face_score(logits: Array) -> Array:
    """The second probability of a softmax over two classes."""
    return jax.nn.sigmoid(logits[..., 1] - logits[..., 0])
