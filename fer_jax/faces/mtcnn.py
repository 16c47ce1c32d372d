"""Face detection: MTCNN (Zhang et al. 2016, arXiv:1604.02878) with the weights of mtcnn 1.0.0.

    faces = Detector(min_face=40).detect([image, another])  # uint8 [H, W, 3] RGB, of any sizes
    faces[0].boxes, faces[0].scores, faces[0].landmarks

With `min_face` below 40, the results agree with those of the package `mtcnn`, except where two of
its bugs are fixed: it can miss all faces if its minimum size is large, and it can shift boxes if
images of several sizes are passed in one call. From 40 pixels on, boxes differ slightly, since the
image is halved first.
"""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt8

from fer_jax import workers
from fer_jax.faces.cascade import boxes as box_rules
from fer_jax.faces.cascade import networks, on_device, patches, pyramid
from fer_jax.faces.cascade.weights import load_weights
from fer_jax.faces.images import halve
from fer_jax.padding import in_batches, pad, power_of_two
from fer_jax.schemas import faces as settings

Image = UInt8[np.ndarray, "_ _ 3"]

_IMAGES_AT_ONCE = 16
_IMAGES_ON_DEVICE, _PIXELS_ON_DEVICE = 64, 1 << 25  # per batch, which takes about 3 GB at most
# One search hardly keeps more than one core busy, so several images are searched in parallel.
_THREADS = min(os.cpu_count() or 1, 8)
# All batches of candidates for a network have the same size. The rounding of sums depends on the
# batch size, so with varying sizes the last digits of a face would depend on the other images.
# O-Net costs five times as much per candidate as R-Net, and few candidates reach it.
_CANDIDATES_AT_ONCE = {"rnet": 16, "onet": 8}
_IMAGE_OVERLAP = 0.7


@dataclass(frozen=True)
class Faces:
    """The faces of one image, best first.

    Attributes:
        boxes: (x0, y0, x1, y1) in pixels, within the image.
        scores: O-Net's face probability, 0..1.
        landmarks: (x, y) in pixels of the left eye, right eye, nose, and left and right corner of
            the mouth, as seen by the viewer. They may be outside the image.
    """

    boxes: Float[np.ndarray, "n 4"]
    scores: Float[np.ndarray, " n"]
    landmarks: Float[np.ndarray, "n 5 2"]

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, rows: Any) -> Faces:
        """The faces at `rows`: indices, a slice or a boolean mask."""
        return Faces(self.boxes[rows], self.scores[rows], self.landmarks[rows])


class _Candidates(NamedTuple):
    """Candidate faces: the index of the image of each, its box (float64) and its score."""

    image: Int[np.ndarray, " n"]
    boxes: Float[np.ndarray, "n 4"]
    scores: Float[np.ndarray, " n"]

    def take(self, rows: np.ndarray) -> _Candidates:
        return _Candidates(*(column[rows] for column in self))


class Detector(settings.Detector):
    """MTCNN with fixed settings. It has no state; equal settings share compiled programs."""

    def detect(
        self,
        images: Sequence[Image],
        *,
        floor: float | None = None,
        whole_on_device: bool | None = None,
    ) -> list[Faces]:
        """The faces in each image, best first; they do not depend on the other images.

        Args:
            images: uint8 [H, W, 3] RGB each, upright, of any sizes.
            floor: also return O-Net's candidates with scores between `floor` and the third
                threshold; None: only faces above this threshold, which are the same in both cases.
            whole_on_device: True runs everything up to the last suppression in one program with
                fixed shapes, which is fast on accelerators; False filters boxes on the host between
                the networks; None: True if there is an accelerator. Both find the same faces.

        Raises:
            UserError: the package `mtcnn`, which contains the weights, is missing.
        """
        least = self.thresholds[2] if floor is None else min(floor, self.thresholds[2])
        if whole_on_device is None:
            whole_on_device = jax.default_backend() != "cpu"
        method, at_once = self._on_host, _IMAGES_AT_ONCE
        if whole_on_device and images:
            largest = max(image.shape[0] * image.shape[1] for image in images)
            at_once = int(np.clip(_PIXELS_ON_DEVICE // max(largest, 1), 1, _IMAGES_ON_DEVICE))
            method = self._on_device
        found: list[Faces] = []
        for start in range(0, len(images), at_once):
            found += method(images[start : start + at_once], least)
        return [self._best(faces) for faces in found]

    def _best(self, faces: Faces) -> Faces:
        """The best `max_faces` faces (0: all), and all candidates not above the third threshold."""
        if not self.max_faces:
            return faces
        is_face = faces.scores > self.thresholds[2]
        return faces.take(~is_face | (np.cumsum(is_face) <= self.max_faces))

    def _on_host(self, images: Sequence[Image], least: float) -> list[Faces]:
        """Searches groups of images in parallel threads."""
        share = -(-len(images) // _THREADS)
        groups = [images[start : start + share] for start in range(0, len(images), share)]
        threads = workers.threads("search", _THREADS)
        found = threads.map(self._search, groups, itertools.repeat(least))
        return list(itertools.chain.from_iterable(found))

    def _search(self, images: Sequence[Image], least: float) -> list[Faces]:
        """Finds faces with scores above `least` in some images.

        The boxes are filtered between the networks.
        """
        columns = zip(*map(self._propose, images, itertools.count()), strict=True)
        squares = _Candidates(*(np.concatenate(column) for column in columns))
        pixels = patches.join_images(images)
        scores, offsets = _apply("rnet", networks.refinement_network, 24, pixels, squares)
        boxes = box_rules.regress(squares.boxes, offsets)
        refined = _Candidates(squares.image, boxes, scores).take(scores > self.thresholds[1])
        refined = refined.take(box_rules.suppress_in_groups(*refined, threshold=_IMAGE_OVERLAP))
        squares = refined._replace(boxes=box_rules.to_square(refined.boxes))
        answers = _apply("onet", networks.output_network, 48, pixels, squares)
        return _final_faces(squares, answers, images, least)

    def _propose(self, image: Image, number: int) -> _Candidates:
        """The squares that P-Net proposes in image `number`, in pixels of the image."""
        times = pyramid.halvings(self.min_face)
        base = halve(image, times)
        layout = pyramid.mosaic(*base.shape[:2], self.min_face / 2**times, self.factor)
        if layout is None:
            return _Candidates(np.zeros(0, int), np.zeros((0, 4)), np.zeros(0, np.float32))
        plane = pyramid.draw(base, layout)
        outputs = [
            _propose_cells(
                _weights("pnet"),
                plane[top : top + pyramid.TILE, left : left + pyramid.TILE],
                inside,
            )
            for (top, left), inside in zip(layout.tiles, layout.inside, strict=True)
        ]
        scores, offsets = (
            np.concatenate([np.asarray(part) for part in parts])[layout.positions]
            for parts in zip(*outputs, strict=True)
        )
        cells = layout.cells
        chosen = np.flatnonzero(scores > self.thresholds[0])
        scores = scores[chosen]
        corner = np.stack([cells.x[chosen], cells.y[chosen]], 1).astype(np.float64)
        # The first cell has the box 1 to 12, with a size of 11: mtcnn counts pixels from one, like
        # the Matlab original.
        boxes = np.concatenate([corner + 1, corner + pyramid.CELL], 1)
        boxes = boxes + offsets[chosen] * (pyramid.CELL - 1)
        boxes *= 2**times / cells.scale[chosen, None]
        kept = box_rules.suppress_in_groups(cells.level[chosen], boxes, scores, threshold=0.5)
        kept = kept[box_rules.suppress(boxes[kept], scores[kept], _IMAGE_OVERLAP)]
        squares = box_rules.to_square(boxes[kept])
        return _Candidates(np.full(len(kept), number), squares, scores[kept])

    def _on_device(self, images: Sequence[Image], least: float) -> list[Faces]:
        """Like `_on_host`, but on the device, with one padded batch per size of images.

        Images with too many candidates for the device are searched on the host.
        """
        by_size: dict[tuple[int, ...], list[int]] = {}
        for number, image in enumerate(images):
            by_size.setdefault(image.shape[:2], []).append(number)
        running = [(rows, self._start([images[i] for i in rows])) for rows in by_size.values()]
        found = [_no_faces() for _ in images]
        for rows, outputs in running:
            if outputs is None:
                continue
            *parts, overflow = (np.asarray(output) for output in outputs)
            for place, number in enumerate(rows):
                if overflow[place]:
                    (found[number],) = self._on_host([images[number]], least)
                    continue
                used = parts[1][place] > 0
                boxes, *answers = (part[place][used] for part in parts)
                squares = _Candidates(np.zeros(len(boxes), int), boxes.astype(float), answers[0])
                (found[number],) = _final_faces(squares, answers, [images[number]], least)
        return found

    def _start(self, images: list[Image]) -> on_device.Found | None:
        """Starts a search on the device in images of the same size, and returns its outputs.

        The result is None if the images are too small.
        """
        height, width = images[0].shape[:2]
        times = pyramid.halvings(self.min_face)
        shrinking = self.min_face / 2**times, self.factor
        levels = pyramid.levels(height >> times, width >> times, *shrinking)
        if not levels:
            return None
        room = power_of_two(len(images), most=_IMAGES_ON_DEVICE)

        def canvases(images: list[Image]) -> np.ndarray:
            return pad(np.stack([pyramid.on_canvas(image) for image in images]), room)

        batch = jax.device_put(canvases(images))
        bases = canvases([halve(image, times) for image in images]) if times else batch
        cells = pyramid.cells(*bases.shape[1:3], *shrinking)
        cells = cells._replace(scale=cells.scale / 2**times)
        weights = {name: _weights(name) for name in ("pnet", "rnet", "onet")}
        sizes = np.array([height, width], np.int32)
        return on_device.candidates(
            weights, batch, bases, sizes, levels, cells, self.thresholds[:2]
        )


@jax.jit
def _propose_cells(
    weights: networks.Weights, plane: Float[Array, "h w 3"], inside: Bool[Array, "h-2 w-2"]
) -> tuple[Float[Array, " cells"], Float[Array, "cells 4"]]:
    """P-Net's scores and box offsets for all cells of a tile."""
    scores, offsets = networks.proposals(weights, (plane - 127.5) / 128, inside)
    return scores.reshape(-1), offsets.reshape(-1, 4)


@functools.partial(jax.jit, static_argnames=("network", "size"))
def _cut_and_apply(
    weights: networks.Weights, *cut: Any, network: networks.Network, size: int
) -> tuple[Array, ...]:
    return network(weights, patches.cut(*cut, size=size))


def _apply(
    name: str, network: networks.Network, size: int, pixels: patches.Pixels, candidates: _Candidates
) -> tuple[np.ndarray, ...]:
    """The outputs of the network `name` for crops of all candidates (`size` × `size` pixels)."""
    apply = functools.partial(
        _cut_and_apply, _weights(name), pixels.values, network=network, size=size
    )
    answers: tuple[np.ndarray, ...] = in_batches(
        apply,
        pixels.start[candidates.image],
        pixels.height[candidates.image],
        pixels.width[candidates.image],
        candidates.boxes.astype(np.float32),
        size=lambda left: _CANDIDATES_AT_ONCE[name],
    )
    return answers


def _final_faces(
    squares: _Candidates, answers: Sequence[np.ndarray], images: Sequence[Image], least: float
) -> list[Faces]:
    """The faces in each image with scores above `least`.

    `answers` are O-Net's scores, offsets and landmarks for `squares`.
    """
    scores, offsets, parts = answers
    size = squares.boxes[:, None, 2:] - squares.boxes[:, None, :2] + 1
    landmarks = squares.boxes[:, None, :2] + parts * size - 1
    chosen = np.flatnonzero(scores > least)
    boxes = box_rules.regress(squares.boxes, offsets)
    final = _Candidates(squares.image, boxes, scores).take(chosen)
    rows = box_rules.suppress_in_groups(*final, threshold=0.7, over="smaller")
    final, landmarks = final.take(rows), landmarks[chosen][rows].astype(np.float32)
    sizes = np.array([image.shape[1::-1] * 2 for image in images])
    inside = np.clip(final.boxes, 0, sizes[final.image] - 1).astype(np.float32)
    every = Faces(inside, final.scores, landmarks)
    return [every.take(final.image == number) for number in range(len(images))]


@functools.cache
def _weights(name: str) -> networks.Weights:
    weights: networks.Weights = jax.device_put(load_weights()[name])
    return weights


def _no_faces() -> Faces:
    empty = (np.zeros(shape, np.float32) for shape in ((0, 4), (0,), (0, 5, 2)))
    return Faces(*empty)
