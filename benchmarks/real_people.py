r"""Measures the default method and others on held-out real people, for docs/results.md.

    python -m benchmarks real_people --photographs kdef55=WORK/kdef55 ikfdb15=WORK/ikfdb15 \
        yale=WORK/yale --workdir=WORK/real_people

Each of --photographs is a name and a workdir of the stage `photographs`. On the same five folds of
people (seed 0), the command measures configs/emotion.py unchanged ("default"), the starter without
training ("as_is"), a small network from scratch ("scratch", configs/emotion.py:small) and HOG with
a linear SVM ("hog", benchmarks/floors.py). --methods selects among them; the default is always
measured. The package `fer` needs a separate environment: --fer NAME=FOLDER adds the results that
benchmarks/floors.py --method=fer --folds-of=WORK/real_people/NAME/default wrote to a folder.

Prints a Markdown table and writes WORKDIR/NAME.json, which names the folder of each method relative
to WORKDIR; `python -m benchmarks headlines --from=WORKDIR` updates the documents from it.
Accuracies have 95 % intervals over people; differences are paired, the default minus the row. The
same command continues a run that was killed.

Cost: 4 minutes for ikfdb15 on 2 idle CPU cores; 34 minutes for these three sets on busy ones.
"""

from __future__ import annotations

import argparse
import logging
import os
from pathlib import Path
from typing import Any

from benchmarks import floors
from configs import emotion
from fer_jax.metrics import results
from fer_jax.metrics.predictions import read_predictions
from fer_jax.stages import crossval
from fer_jax.workdir import write_json

METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "default": ("", {}),
    "as_is": ("", {"method": "as_is"}),
    "scratch": ("small", {}),
}
DRAWN = {"samples": 10_000, "seed": 0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photographs", nargs="+", type=named, required=True)
    known = (*METHODS, "hog")
    parser.add_argument("--methods", nargs="+", choices=known, default=known)
    parser.add_argument("--fer", nargs="*", type=named, default=[])
    parser.add_argument("--workdir", type=Path, required=True)
    flags = parser.parse_args()
    logging.getLogger("fer_jax").setLevel(logging.WARNING)  # only the table is printed
    methods = ["default", *(name for name in flags.methods if name != "default")]
    print("| people | method | accuracy | 95 % interval | default minus this | selected |")
    print("|---|---|---|---|---|---|")
    for name, photographs in flags.photographs:
        folders = {method: run(method, photographs, flags.workdir / name) for method in methods}
        if name in (measured := dict(flags.fer)):
            folders["fer"] = measured[name]
        runs = {method: read_predictions(method, folder) for method, folder in folders.items()}
        found = results.evaluate(runs, "default", **DRAWN)
        places = {method: os.path.relpath(at, flags.workdir) for method, at in folders.items()}
        write_json(flags.workdir / f"{name}.json", found | {"folders": places})
        for line in rows(name, found):
            print(line, flush=True)


def named(text: str) -> tuple[str, Path]:
    """Parses NAME=FOLDER."""
    name, _, folder = text.partition("=")
    return name, Path(folder)


def run(method: str, photographs: Path, workdir: Path) -> Path:
    """Measures a method, unless its workdir is complete; returns the workdir."""
    folder = workdir / method
    if method == "hog":
        if not all((folder / name).exists() for name in ("environment.json", "done.json")):
            options = {"method": "hog", "photographs": photographs, "photos": None}
            options |= {"folds_of": workdir / "default", "workdir": folder}
            floors.measure(argparse.Namespace(**options))
        return folder
    size, fields = METHODS[method]
    config = emotion.get_config(size).unlock()
    config.update({"photographs": str(photographs), "explain": False, **fields})
    config.everyone = False
    crossval.run(config.lock(), folder)
    return folder


def rows(people: str, found: dict[str, Any]) -> list[str]:
    """The lines of the table for one set of people, one per method."""
    gains = {other["second"]: other for other in found["comparisons"]}
    lines = []
    for method, measured in found["runs"].items():
        accuracy, gain = measured["accuracy"], ""
        if gains.get(method, {}).get("comparable"):
            gain = interval(gains[method]["difference"]["accuracy"], "{:+.1f}")
        chosen = measured["choices"] if method == "default" else {}
        selected = ", ".join(f"{what} {count}" for what, count in chosen.items())
        value, _, between = interval(accuracy, "{:.1f}").partition(" ")
        lines.append(f"| {people} | {method} | {value} | {between} | {gain} | {selected} |")
    return lines


def interval(estimate: dict[str, float], shape: str) -> str:
    """A value in percent and its interval, e.g. "75.8 (70.1 to 80.2)"."""
    value, low, high = (shape.format(100 * estimate[key]) for key in ("value", "low", "high"))
    return f"{value} ({low} to {high})"


if __name__ == "__main__":
    main()
