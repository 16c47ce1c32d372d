"""The cascade for accelerators: one compiled program from pixels to O-Net's candidates.

Shapes are fixed: each image has room for `CELLS` cells of P-Net, `SQUARES` squares of R-Net and
`CANDIDATES` squares of O-Net. Images with more are marked in `overflow`; the caller processes them
on the host, so that no face is lost. Suppression in one pass (see `boxes.suppress`) needs no loop,
since all pairs of boxes are compared at once.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt8

from fer_jax.faces.cascade import boxes, networks, patches, pyramid

CELLS, SQUARES, CANDIDATES = 1024, 256, 64


class Found(NamedTuple):
    """O-Net's outputs for up to `CANDIDATES` squares per image; check `overflow` first."""

    squares: Float[Array | np.ndarray, "b k 4"]
    scores: Float[Array | np.ndarray, "b k"]  # 0: no candidate
    offsets: Float[Array | np.ndarray, "b k 4"]
    parts: Float[Array | np.ndarray, "b k 5 2"]  # landmarks, as fractions of the square
    overflow: Bool[Array | np.ndarray, " b"]  # the image has too many candidates


class _Boxes(NamedTuple):
    boxes: Float[Array, "b k 4"]
    scores: Float[Array, "b k"]  # 0: no box


@functools.partial(jax.jit, static_argnames="thresholds")
def candidates(
    weights: dict[str, networks.Weights],
    images: UInt8[Array, "b h w 3"],
    bases: UInt8[Array, "b h2 w2 3"],
    sizes: Int[Array, " 2"],
    levels: list[pyramid.Level],
    cells: pyramid.Cells,
    thresholds: tuple[float, float],
) -> Found:
    """Runs all three networks on images of the same size.

    Args:
        weights: the weights of the networks by name.
        images: images on their canvases, from `pyramid.on_canvas`.
        bases: the images from which the levels are computed, on their canvases: the same images
            after `fer_jax.faces.images.halve`.
        sizes: height and width of the images in pixels, without the canvas.
        levels: the result of `pyramid.levels` for the bases.
        cells: the result of `pyramid.cells` for the canvas of the bases, but with scales relative
            to the images.
        thresholds: the thresholds of P-Net and R-Net.
    """
    proposed, too_many_cells = _proposed(weights["pnet"], bases, levels, cells, thresholds[0])
    squares, too_many_squares = _first(proposed, SQUARES)
    scores, offsets = _apply(networks.refinement_network, weights["rnet"], images, sizes, squares)
    scores = jnp.where((squares.scores > 0) & (scores > thresholds[1]), scores, 0.0)
    refined = _suppress(_Boxes(boxes.regress(squares.boxes, offsets), scores), 0.7)
    final, too_many = _first(refined, CANDIDATES)
    scores, offsets, parts = _apply(
        networks.output_network, weights["onet"], images, sizes, final, side=48
    )
    scores = jnp.where(final.scores > 0, scores, 0.0)
    overflow = too_many_cells | too_many_squares | too_many
    return Found(final.boxes, scores, offsets, parts, overflow)


def _proposed(
    weights: networks.Weights,
    images: UInt8[Array, "b h w 3"],
    levels: list[pyramid.Level],
    cells: pyramid.Cells,
    threshold: float,
) -> tuple[_Boxes, Bool[Array, " b"]]:
    """P-Net's boxes after suppression within and across levels, and which images overflow.

    The score of a suppressed box is 0. An image overflows if it has more than `CELLS` cells with
    scores above the threshold.
    """
    normal = (images.astype(jnp.float32) - 127.5) / 128
    outputs = []
    for level in levels:
        shrunk = jax.vmap(pyramid.shrink, (0, None))(normal, level)
        network = jax.vmap(networks.proposal_network, (None, 0, None, None))
        outputs.append(network(weights, shrunk, level.height, level.width))
    count = len(images)
    scores = jnp.concatenate([score.reshape(count, -1) for score, _ in outputs], 1)
    offsets = jnp.concatenate([offset.reshape(count, -1, 4) for _, offset in outputs], 1)
    scores = jnp.where(scores > threshold, scores, 0.0)
    overflow = (scores > 0).sum(1) > CELLS
    # For equal scores the later box comes first, as in `boxes.suppress`.
    scores, order = jax.lax.top_k(scores[:, ::-1], min(CELLS, scores.shape[1]))
    order = offsets.shape[1] - 1 - order
    corner = jnp.stack([cells.x, cells.y], -1)[order].astype(jnp.float32)
    box = jnp.concatenate([corner + 1, corner + pyramid.CELL], -1)
    box += jnp.take_along_axis(offsets, order[..., None], 1) * (pyramid.CELL - 1)
    box /= jnp.asarray(cells.scale, jnp.float32)[order][..., None]
    owner = jnp.asarray(cells.level)[order]
    kept = _suppress(_Boxes(box, scores), 0.5, owner[:, :, None] == owner[:, None])
    return _suppress(kept, 0.7), overflow


def _apply(
    network: networks.Network,
    weights: networks.Weights,
    images: UInt8[Array, "b h w 3"],
    sizes: Int[Array, " 2"],
    squares: _Boxes,
    side: int = 24,
) -> tuple[Array, ...]:
    """A network's outputs for the squares, each cropped to `side` × `side` pixels."""
    count, height, width = images.shape[:3]
    room = squares.scores.shape[1]
    image = jnp.repeat(jnp.arange(count), room)
    cut = patches.cut(
        images.reshape(-1, 3),
        image * height * width,
        jnp.broadcast_to(sizes[0], image.shape),
        jnp.broadcast_to(sizes[1], image.shape),
        squares.boxes.reshape(-1, 4),
        size=side,
        stride=width,
    )
    outputs = network(weights, cut)
    return tuple(output.reshape(count, room, *output.shape[1:]) for output in outputs)


def _first(found: _Boxes, room: int) -> tuple[_Boxes, Bool[Array, " b"]]:
    """The best `room` boxes of each image as squares, and which images have more boxes."""
    scores, order = jax.lax.top_k(found.scores, min(room, found.scores.shape[1]))
    chosen = jnp.take_along_axis(boxes.to_square(found.boxes), order[..., None], 1)
    return _Boxes(chosen, scores), (found.scores > 0).sum(1) > room


def _suppress(
    found: _Boxes, threshold: float, together: Bool[Array, "b k k"] | None = None
) -> _Boxes:
    """Sets the scores of suppressed boxes to 0; only pairs in `together` suppress each other."""
    order = jnp.argsort(-found.scores, axis=1, stable=True)
    rank = jnp.argsort(order, axis=1)
    better = (rank[:, None] < rank[:, :, None]) & (found.scores > 0)[:, None]
    a, b = found.boxes[:, :, None], found.boxes[:, None]
    side = jnp.maximum(jnp.minimum(a[..., 2:], b[..., 2:]) - jnp.maximum(a[..., :2], b[..., :2]), 0)
    shared = side[..., 0] * side[..., 1]
    area = (found.boxes[..., 2:] - found.boxes[..., :2]).prod(-1)
    covers = shared > threshold * (area[:, :, None] + area[:, None] - shared)
    covers &= better if together is None else better & together
    return found._replace(scores=jnp.where(covers.any(2), 0.0, found.scores))
