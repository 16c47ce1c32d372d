"""Compares the answers and the speed of exported files with those of the model, on face crops.

    python launch.py --config=configs/export.py --workdir=WORK/export
    python -m benchmarks export_parity --export=WORK/export --photographs=WORK/photographs

Needs ONNX Runtime (requirements-export.txt). `--photographs` is a workdir of the stage
`photographs`, whose crops are read; `--model` is the exported model. Prints the largest difference
of a probability from the model's over all crops, the number of changed answers, and the
milliseconds per face for one face and for 16, with --threads threads: the median and the fastest of
--rounds rounds, each of which runs the model and both files in turn on the same faces. The row
"JAX" is `Model.probabilities`, as `predict` calls it. Its time includes resizing and making views
with OpenCV; the exported files contain these steps too.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--export", type=Path, required=True)
    parser.add_argument("--photographs", type=Path, required=True)
    parser.add_argument("--model", default="starter")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=40)
    options = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.threads])

    import onnxruntime  # after the processors are chosen, since it counts them

    from fer_jax.export.formats import open_stablehlo
    from fer_jax.faces.images import read_image
    from fer_jax.training import trained_model

    files = sorted((options.photographs / "faces").rglob("*.png"))
    crops = np.stack([read_image(file) for file in files])
    model = trained_model.load(options.model)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.threads
    session = onnxruntime.InferenceSession(options.export / "model.onnx", settings)
    stablehlo = open_stablehlo(options.export / "model.stablehlo")
    runs: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "JAX": lambda faces: model.probabilities("emotion", faces),
        "StableHLO": lambda faces: stablehlo(faces).probabilities,
        "ONNX Runtime": lambda faces: session.run(["probabilities"], {"faces": faces})[0],
    }
    expected = answers(runs["JAX"], crops)
    found = {name: answers(run, crops) for name, run in runs.items() if name != "JAX"}
    timed = {count: times(runs, crops, count, options.rounds) for count in (1, 16)}
    print(f"{len(crops)} faces, {options.threads} threads, {options.rounds} rounds\n")
    print(
        "| | worst difference | changed answers | ms per face, single (fastest) | batches of 16 |"
    )
    print("|---|---|---|---|---|")
    for name in runs:
        compared = "| | "
        if name in found:
            worst = np.abs(found[name] - expected).max()
            other = (found[name].argmax(1) != expected.argmax(1)).sum()
            compared = f"| {worst:.1e} | {other} "
        alone, together = (f"{each[name][0]:.1f} ({each[name][1]:.1f})" for each in timed.values())
        print(f"| {name} {compared}| {alone} | {together} |")


def answers(run: Callable[[np.ndarray], np.ndarray], crops: np.ndarray) -> np.ndarray:
    """The probabilities [N, C] of all crops, computed in batches of 16."""
    return np.concatenate([run(crops[start : start + 16]) for start in range(0, len(crops), 16)])


def times(
    runs: dict[str, Callable[[np.ndarray], np.ndarray]], crops: np.ndarray, count: int, rounds: int
) -> dict[str, tuple[float, float]]:
    """The median and the lowest ms per face of each function; each call is for `count` faces."""
    spent: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run(crops[:count])
    for number in range(rounds):
        faces = np.take(crops, range(number * count, (number + 1) * count), axis=0, mode="wrap")
        for name, run in runs.items():
            started = time.perf_counter()
            run(faces)
            spent[name].append(time.perf_counter() - started)
    each = {name: np.array(seconds) / count * 1e3 for name, seconds in spent.items()}
    return {name: (float(np.median(ms)), float(ms.min())) for name, ms in each.items()}


if __name__ == "__main__":
    main()
