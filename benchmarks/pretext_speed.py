"""Compares the time of a step of each pretext task with that of an emotion step on as many pixels.

    python -m benchmarks pretext_speed
    python -m benchmarks pretext_speed --network=full --batch=2 --rounds=5  # hours without a GPU
    python -m benchmarks pretext_speed --network=full --batch=32 --steps=5  # on a GPU

For each task two steps are compiled, as in training: that of the task, and that of `emotion` with
as many images, of the same size, as the task passes through the backbone. They run in turn in
one process, so that other work on the machine affects both. Prints the medians over the rounds, the
median of the rounds' ratios, and their quartiles.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from configs import argument, emotion
from fer_jax.schemas.training import Backbone, Batches, Optimizer
from fer_jax.training import sharding
from fer_jax.training.learner import Learner, make_tasks

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "rotation, one view": ("rotation", {"views": 1}),
    "rotation, four views": ("rotation", {"views": 4}),
    "jigsaw, image": ("jigsaw", {"mode": "image"}),
    "jigsaw, tiles": ("jigsaw", {"mode": "tiles"}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--network", choices=argument.SIZES, default="small")
    parser.add_argument("--batch", type=int, default=32, help="images per pretext step")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=2, help="successive steps per round")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    options = parser.parse_args()
    network = emotion.get_config(options.network)
    full = options.network == "full"

    print(f"# {options.network} network on {jax.devices()[0].device_kind}, batch {options.batch}")
    print("| task | through the backbone | ms per step | supervised | ratio | quartiles |")
    print("|---|---|---|---|---|---|")
    for name in options.cases:
        task, fields = CASES[name]
        side = network["image_size"]
        if task == "jigsaw":
            fields = {**fields, "permutations": 100, "gap": 24 if full else 5}
        if not full and name.endswith("tiles"):
            side = 96  # the stem "tiny" needs tiles with a side of at least 25 pixels
        shape = inputs_of(task, fields, options.batch, side)
        pretext = step_of(task, fields, network, options.batch, side)
        supervised = step_of("emotion", {}, network, shape[0], shape[1])
        times = interleaved(pretext, supervised, options.rounds, options.steps)
        ratios = [own / other for own, other in times]
        low, middle, high = statistics.quantiles(ratios, n=4)
        own, other = (1e3 * statistics.median(column) for column in zip(*times, strict=True))
        print(f"| {name} | {shape[0]} of {shape[1]}×{shape[2]} | {own:.0f} | {other:.0f} "
              f"| {middle:.2f} | {low:.2f} to {high:.2f} |", flush=True)  # fmt: skip


def inputs_of(task: str, fields: dict[str, Any], batch: int, side: int) -> tuple[int, ...]:
    """The shape of the images that the task passes through the backbone."""
    tasks, _ = make_tasks({task: fields})
    images = jax.ShapeDtypeStruct((batch, side, side, 3), np.uint8)
    labels = jax.ShapeDtypeStruct((batch,), np.int32)
    inputs, _ = jax.eval_shape(
        lambda x, y: tasks[task].prepare(jax.random.key(0), x, y, train=True), images, labels
    )
    return inputs.shape


def step_of(
    task: str, fields: dict[str, Any], network: dict[str, Any], batch: int, side: int
) -> Callable[[int], None]:
    """A function that runs a number of training steps of one task, and waits for them."""
    learner = Learner(
        Backbone(**network["backbone"]),
        Optimizer(**{**network["optimizer"], "learning_rate": 1e-3}),
        *make_tasks({task: fields}),
        Batches(batch_size=batch),
        steps=1000,
    )
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (batch, side, side, 3)).astype(np.uint8)
    labels = rng.integers(0, 4, batch).astype(np.int32)
    given = {"image": images, "label": labels, "mask": np.ones(batch, bool)}
    resident = sharding.put_batch(given, learner.mesh)
    held = {"state": learner.init(0)}

    def run(steps: int) -> None:
        for _ in range(steps):
            held["state"], figures = learner.train(held["state"], resident)
        jax.block_until_ready((held["state"], figures))

    return run


def interleaved(
    first: Callable[[int], None], second: Callable[[int], None], rounds: int, steps: int
) -> list[tuple[float, float]]:
    """The seconds per step of both functions in each round; their order alternates."""
    first(1), second(1)  # compiles
    times = []
    for number in range(rounds):
        order = (first, second) if number % 2 else (second, first)
        taken = {function: _seconds(function, steps) for function in order}
        times.append((taken[first], taken[second]))
    return times


def _seconds(function: Callable[[int], None], steps: int) -> float:
    started = time.perf_counter()
    function(steps)
    return (time.perf_counter() - started) / steps


if __name__ == "__main__":
    main()
