"""Measures which shortcuts solve a pretext task, and which countermeasures prevent them.

    python -m benchmarks shortcuts  # a table, in minutes on two cores
    python -m benchmarks shortcuts --size=299 --permutations=100 --gap 3 15 24 --count=600
    python -m benchmarks shortcuts --network=1500  # and the small network itself
    python -m benchmarks shortcuts --faces WORK/photographs WORK/refine

The images are random textures with the same statistics everywhere, so the content of a tile does
not reveal its place. Some images get a trace that real pictures have: light from one side, a tint
that changes over the image, colours that the lens magnifies differently (chromatic aberration).

A probe is a conditional logit (McFadden 1974). For every possible answer it reverses the operation
of the task, and measures only one kind of property of the result: how well the borders of
neighbouring tiles match; mean, standard deviation and slope of each tile's channels; how far a
tile's channels are shifted against each other; the outermost pixels. The weights of the
measurements are fitted on one half of the images, and accuracy is measured on the other.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.optimize import minimize

from configs import emotion
from fer_jax.data import iterators, sources
from fer_jax.schemas import validated
from fer_jax.tasks import jigsaw
from fer_jax.tasks.augment import MODERATE, Augment, placed
from fer_jax.tasks.jigsaw import Jigsaw
from fer_jax.tasks.permutations import distant_permutations
from fer_jax.tasks.rotation import TURNS, Rotation, turned
from fer_jax.training.learner import Learner

CHUNK = 200  # images at a time
# The measurements of each possible answer, float [images, answers, measurements], and the correct
# answers.
Problems = tuple[np.ndarray, np.ndarray]
Probe = Callable[[np.ndarray, Jigsaw], np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=4000, help="images, half of them for fitting")
    parser.add_argument("--size", type=int, default=48, help="side of the images in pixels")
    parser.add_argument("--permutations", type=int, default=24)
    parser.add_argument("--gap", type=int, nargs="+", default=[3, 4, 5])
    parser.add_argument("--detail", type=float, nargs="+", default=[0.7, 1.0, 2.0])
    parser.add_argument(
        "--faces", type=Path, nargs="*", default=[], help="workdirs with face crops"
    )
    parser.add_argument(
        "--network",
        type=int,
        default=0,
        help="also train the small network on the puzzles, for this number of steps; 0: do not",
    )
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(f"| images | what the probe sees | task | accuracy | chance |\n|{'---|' * 5}")
    for line in rows(options):
        print("| " + " | ".join(line) + " |", flush=True)


def rows(options: argparse.Namespace) -> Iterator[list[str]]:
    task = Jigsaw(permutations=options.permutations, mode="tiles", gap=options.gap[-1])
    bare = dataclasses.replace(task, gap=0)
    names = {bare: "no gap, no jitter"}
    names |= {dataclasses.replace(task, gap=gap): f"gap {gap} with jitter" for gap in options.gap}

    def measured(images: np.ndarray, name: str, probe: Probe, tasks: dict) -> Iterator[list[str]]:
        for one, described in tasks.items():
            value = solved(puzzles(images, one, probe, seed=options.seed))
            yield [name, SEES[probe], described, f"{value:.1%}", f"{1 / one.permutations:.1%}"]

    def colours(images: np.ndarray, name: str) -> Iterator[list[str]]:
        coloured = dataclasses.replace(task, grey=0.0)
        yield from measured(images, name, tints, {coloured: "each channel normalised"})
        with joint_normalisation():
            yield from measured(images, name, tints, {coloured: "channels together"})
        without = dataclasses.replace(coloured, normalise_tiles=False)
        yield from measured(images, name, tints, {without: "not normalised"})

    def greys(images: np.ndarray, name: str) -> Iterator[list[str]]:
        tasks = {dataclasses.replace(task, grey=g): f"{g:.0%} grey" for g in (1.0, 0.3, 0.0)}
        yield from measured(images, name, shifts, tasks)

    def make(**how: Any) -> np.ndarray:
        return textures(options.count, options.size, seed=options.seed, **how)

    for detail in options.detail:
        images = make(detail=detail)
        yield from measured(images, f"texture, detail {detail:g} px", borders, names)
    for name, trace in {"lit from a corner": lit, "tinted": tinted}.items():
        yield from colours(make(trace=trace), name)
    yield from greys(make(trace=aberrated), "aberrated")
    yield from turns(make(), "texture", options.seed)
    yield from list(turns(make(trace=lit), "lit from a corner", options.seed))[:1]
    if options.network:
        yield from network_rows(make(), names, options)
    for folder in options.faces:
        images = crops(folder, options.size, options.count)
        name = f"{len(images)} faces"
        images = repeated(images, options.count)
        yield from measured(images, name, borders, names)
        yield from colours(images, name)
        yield from greys(images, name)
        yield from turns(images, name, options.seed)


def network_rows(
    images: np.ndarray, tasks: dict[Jigsaw, str], options: argparse.Namespace
) -> Iterator[list[str]]:
    """Yields a row for each task, with the accuracy of the small network.

    The network sees the whole puzzle. It is trained for `options.network` steps on three quarters
    of the images, and tested on the last quarter.
    """
    network = emotion.get_config("small").unlock()
    held_out = len(images) // 4
    for task, described in tasks.items():
        config = network.copy_and_resolve_references()
        config.optimizer.learning_rate = 4e-3
        whole = dataclasses.replace(task, mode="image")
        record = validated(config)
        learner = Learner(
            record.backbone, record.optimizer, {"jigsaw": whole}, {"jigsaw": 1.0}, record,
            steps=options.network,
        )  # fmt: skip
        state, size = learner.init(options.seed), config.batch_size
        training = sources.ArraySource(images[:-held_out])
        with iterators.TrainIterator(training, batch_size=size, seed=options.seed) as batches:
            for _ in range(options.network):
                state, _ = learner.train(state, next(batches))
        testing = sources.ArraySource(images[-held_out:])
        figures = learner.evaluate(state, iterators.eval_batches(testing, batch_size=size))
        value, chance = figures["jigsaw/accuracy"], 1 / task.permutations
        sees = f"everything: the network, {options.network} steps"
        yield ["texture, detail 1 px", sees, described, f"{value:.1%}", f"{chance:.1%}"]


def turns(images: np.ndarray, name: str, seed: int) -> Iterator[list[str]]:
    """Yields rows of a probe on images that are rotated before or after the augmentation."""
    for augment, traces in ((MODERATE, "default augmentation"), (Sideways(), "moved to one side")):
        for kind, order in ((Rotation, "turned first"), (TurnedLast, "turned last")):
            value = solved(rotations(images, kind(views=1, augment=augment), seed))
            yield [name, "outermost pixels", f"{order}, {traces}", f"{value:.1%}", "25.0%"]


# Images


def textures(
    count: int,
    side: int,
    *,
    detail: float = 1.0,
    trace: Callable[[np.ndarray, np.random.Generator], np.ndarray] | None = None,
    seed: int = 0,
) -> np.ndarray:
    """Images of blurred noise, uint8 [count, side, side, 3].

    `detail` is the standard deviation of the Gaussian blur in pixels; `trace` adds a trace.
    """
    rng = np.random.default_rng(seed)
    margin = round(4 * detail) + 1
    parts = []
    for start in range(0, count, CHUNK):
        shape = (min(CHUNK, count - start), side + margin, side + margin)
        grey, colour = (rng.standard_normal((*shape, n), np.float32) for n in (1, 3))
        smooth = gaussian_filter(grey + 0.4 * colour, (0, detail, detail, 0), mode="wrap")
        images = 128 + 30 * (smooth / smooth.std())[:, :side, :side]
        images = images if trace is None else trace(images, rng)
        parts.append(np.clip(images, 0, 255).round().astype(np.uint8))
    return np.concatenate(parts)


def lit(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Brightens the top left corner by 10 to 40 %, and darkens the opposite one equally."""
    return images * (1 + _slope(images, rng))


def tinted(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Tints the top left corner red and the opposite corner blue, by 10 to 40 %."""
    slope = _slope(images, rng)
    return images * np.concatenate([1 + slope, np.ones_like(slope), 1 - slope], -1)


def _slope(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    along = np.linspace(1, -1, images.shape[1])
    strength = rng.uniform(0.1, 0.4, len(images))[:, None, None, None]
    return strength * ((along[:, None] + along) / 2)[..., None]


def aberrated(images: np.ndarray, _: np.random.Generator, strength: float = 0.02) -> np.ndarray:
    """Enlarges red and shrinks blue by `strength` about the centre; 0.02 is 2 %."""
    nothing = jnp.zeros(len(images))
    channels = [
        np.asarray(placed(jnp.asarray(images), nothing + scale, nothing, nothing, nothing))
        for scale in (1 + strength, 1.0, 1 - strength)
    ]
    return np.stack([channel[..., i] for i, channel in enumerate(channels)], -1)


def crops(workdir: Path, side: int, limit: int) -> np.ndarray:
    """Up to `limit` face crops, evenly spaced in a stage's table, uint8 [n, side, side, 3]."""
    table = next(workdir / n for n in TABLES if (workdir / n).exists())
    paths = list(pd.read_parquet(table).query("status in ('ok', 'kept')")["crop"])
    chosen = np.linspace(0, len(paths) - 1, min(limit, len(paths))).astype(int)
    images = []
    for number in chosen:
        with Image.open(workdir / paths[number]) as file:
            images.append(np.asarray(file.convert("RGB").resize((side, side), Image.BILINEAR)))
    return np.stack(images)


TABLES = ("photographs.parquet", "manifest.parquet")


def repeated(images: np.ndarray, count: int) -> np.ndarray:
    """Repeats each image in consecutive rows, so that the halves share at most one image."""
    return np.repeat(images, max(1, count // len(images)), axis=0)


# Inputs of a probe


def puzzles(images: np.ndarray, task: Jigsaw, probe: Probe, *, seed: int) -> Problems:
    """The measurements of training puzzles for each permutation, and the correct permutations."""
    prepare = jax.jit(functools.partial(task.prepare, train=True))
    described, answers = [], []
    for number, start in enumerate(range(0, len(images), CHUNK)):
        part = jnp.asarray(images[start : start + CHUNK])
        key = jax.random.fold_in(jax.random.key(seed), number)
        tiles, targets = prepare(key, part, jnp.zeros(len(part), jnp.int32))
        tiles = np.asarray(tiles).reshape(len(part), task.tiles, *tiles.shape[1:])
        described.append(probe(tiles, task))
        answers.append(np.asarray(targets))
    return np.concatenate(described), np.concatenate(answers)


def borders(tiles: np.ndarray, task: Jigsaw) -> np.ndarray:
    """How well the borders of neighbouring tiles match, for each permutation; less is better."""
    across = _fits(tiles, task.gap)
    down = _fits(tiles.swapaxes(2, 3), task.gap)
    place = np.arange(task.tiles).reshape(task.grid, task.grid)
    inverse = np.argsort(distant_permutations(task.tiles, task.permutations), axis=1)

    def total(fits: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        chosen = fits[:, inverse[:, first.ravel()], inverse[:, second.ravel()]]
        return chosen.mean(2)

    rows = total(across, place[:, :-1], place[:, 1:])
    return np.concatenate([rows, total(down, place[:-1], place[1:])], -1)


def _fits(tiles: np.ndarray, gap: int) -> np.ndarray:
    """How well tile i continues in tile j on its right, [b, i, j, 6]; less is better.

    The values are the difference of the border pixels, that of the borders extrapolated into the
    gap, and the negative correlation, first without a shift and then at the best shift along the
    border.
    """
    last, first = tiles[:, :, None, :, -1], tiles[:, None, :, :, 0]
    last_on = last + (last - tiles[:, :, None, :, -2]) * (gap + 1) / 2
    first_on = first + (first - tiles[:, None, :, :, 1]) * (gap + 1) / 2
    reach, side = gap, tiles.shape[2]
    seen: dict[int, list[np.ndarray]] = {}
    for shift in range(-reach, reach + 1):
        a = slice(max(shift, 0), side + min(shift, 0))
        b = slice(max(-shift, 0), side + min(-shift, 0))
        seen[shift] = [
            np.abs(last[..., a, :] - first[..., b, :]).mean((-2, -1)),
            np.abs(last_on[..., a, :] - first_on[..., b, :]).mean((-2, -1)),
            -_correlation(last[..., a, :], first[..., b, :]),
        ]
    straight, best = np.stack(seen[0]), np.min([np.stack(s) for s in seen.values()], axis=0)
    return np.moveaxis(np.concatenate([straight, best]), 0, -1)


def _correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = (x - x.mean((-2, -1), keepdims=True) for x in (a, b))
    norm = np.sqrt((a * a).sum((-2, -1)) * (b * b).sum((-2, -1)))
    return (a * b).sum((-2, -1)) / np.maximum(norm, 1e-6)


def tints(tiles: np.ndarray, task: Jigsaw) -> np.ndarray:
    """The mean, log deviation and slopes of each channel of each tile, for each permutation."""
    along = np.linspace(-1, 1, tiles.shape[2])
    mean = tiles.mean((2, 3))
    down = (tiles * along[:, None, None]).mean((2, 3))
    right = (tiles * along[:, None]).mean((2, 3))
    return _by_place([mean, np.log(tiles.std((2, 3)) + 1), down, right], task)


def shifts(tiles: np.ndarray, task: Jigsaw) -> np.ndarray:
    """The shifts of red and blue against green in each tile, for each permutation.

    They are in pixels, estimated by least squares.
    """
    green = tiles[..., 1:2]
    found = []
    for axis in (2, 3):
        slope = np.gradient(green, axis=axis)
        power = np.maximum((slope * slope).mean((2, 3)), 1e-6)
        found.append((slope * (tiles[..., ::2] - green)).mean((2, 3)) / power)
    return _by_place(found, task)


def _by_place(measured: list[np.ndarray], task: Jigsaw) -> np.ndarray:
    """Measurements of tiles, rearranged by the inverse of each permutation.

    `measured` contains arrays [b, tiles, m], whose last axes are joined to m' values; the result is
    [b, permutations, tiles * m'].
    """
    inverse = np.argsort(distant_permutations(task.tiles, task.permutations), axis=1)
    together = np.concatenate(measured, -1)
    return together[:, inverse].reshape(len(together), len(inverse), -1)


SEES = {borders: "borders of tiles", tints: "colours of tiles", shifts: "shifts between channels"}


def rotations(images: np.ndarray, task: Rotation, seed: int) -> Problems:
    """The measurements of the outermost pixels for each turn, and the correct turns."""
    described, answers = [], []
    prepare = jax.jit(functools.partial(task.prepare, train=True))
    for number, start in enumerate(range(0, len(images), CHUNK)):
        part = jnp.asarray(images[start : start + CHUNK])
        key = jax.random.fold_in(jax.random.key(seed), number)
        inputs, targets = prepare(key, part, jnp.zeros(len(part), jnp.int32))
        sides = [np.rot90(np.asarray(inputs), turn, axes=(1, 2))[:, :3] for turn in range(TURNS)]
        rows = np.stack(sides, 1)  # top, right, bottom, left: [b, 4, 3 pixels, s, 3]
        steps = np.abs(np.diff(rows, axis=2)).mean((-2, -1))
        seen = np.concatenate([rows.mean((-2, -1)), np.log(steps + 0.1)], -1)
        back = [np.roll(seen, turn, axis=1).reshape(len(part), -1) for turn in range(TURNS)]
        described.append(np.stack(back, 1))
        answers.append(np.asarray(targets))
    return np.concatenate(described), np.concatenate(answers)


# Tasks without countermeasures


class joint_normalisation:  # noqa: N801
    """In a `with` block, jigsaw tiles are normalised over all channels together."""

    def __enter__(self) -> None:
        self._own, jigsaw.normalised = jigsaw.normalised, self.normalised

    def __exit__(self, *_: object) -> None:
        jigsaw.normalised = self._own

    @staticmethod
    def normalised(tiles: jax.Array) -> jax.Array:
        centred = tiles - tiles.mean((2, 3, 4), keepdims=True)
        deviation = tiles.std((2, 3, 4), keepdims=True)
        return jigsaw.TILE_MEAN + centred * (jigsaw.TILE_DEVIATION / jnp.maximum(deviation, 1.0))


class TurnedLast(Rotation):
    """Rotates the images after the augmentation, so that its artefacts are rotated too."""

    def prepare(self, key: Any, images: Any, labels: Any, *, train: bool) -> Any:
        turn_key, augment_key = jax.random.split(key)
        targets = jax.random.randint(turn_key, (len(images),), 0, TURNS)
        return turned(self.augment(augment_key, images), targets), targets


@dataclasses.dataclass(frozen=True)
class Sideways(Augment):
    """Moves every image to the right by up to 5 % of its width, and repeats its left border."""

    def unflipped(self, key: Any, images: Any) -> Any:
        nothing = jnp.zeros(len(images))
        moved = jax.random.uniform(key, (len(images),), maxval=0.05 * images.shape[2])
        return placed(images.astype(jnp.float32), nothing + 1, moved, nothing, nothing)


# The probe


def solved(problems: Problems, penalty: float = 1e-3) -> float:
    """Fits a conditional logit to the first half of the problems; returns its accuracy on the rest.

    It chooses the answer whose weighted sum of measurements is largest. `penalty` is the factor of
    the L2 penalty on the weights.
    """
    described, answers = problems
    half = len(answers) // 2
    inputs = described - described.mean(1, keepdims=True)  # only differences of answers count
    scale = inputs[:half].std((0, 1))
    inputs = (inputs / np.where(scale > 1e-4, scale, np.inf)).astype(np.float32)
    right = np.eye(inputs.shape[1], dtype=np.float32)[answers]

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        logits = inputs[:half] @ weights.astype(np.float32)
        logits -= logits.max(1, keepdims=True)
        total = np.log(np.exp(logits).sum(1, keepdims=True))
        error = np.exp(logits - total) - right[:half]
        gradient = np.einsum("bc,bck->k", error, inputs[:half], optimize=True) / half
        value = -((logits - total) * right[:half]).sum() / half
        return value + penalty * (weights @ weights), gradient + 2 * penalty * weights

    fitted = minimize(loss, np.zeros(inputs.shape[-1]), jac=True, method="L-BFGS-B").x
    # Noise breaks ties: otherwise the first answer would win, and it could be the correct one.
    noise = np.random.default_rng(0).uniform(0, 1e-6, inputs.shape[:2])
    chosen = (inputs[half:] @ fitted + noise[half:]).argmax(1)
    return float((chosen == answers[half:]).mean())


if __name__ == "__main__":
    main()
