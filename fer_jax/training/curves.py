"""Learning curves as a picture, for those who have no TensorBoard open."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fer_jax.workdir import atomic_file

_VALIDATION = "validation/"
_COLOURS = ("#1f6f8b", "#c8553d", "#6a4c93", "#588157", "#b08900", "#444444")

Series = dict[str, tuple[list[int], list[float]]]


def draw(folder: Path) -> None:
    """Draws what `folder/metrics.jsonl` says into `folder/curves.png`, one panel a measure.

    Training is a line, validation a dashed one with points, in the colour of the same figure.
    Nothing is drawn if no step was recorded.
    """
    panels = read(folder / "metrics.jsonl")
    if not panels:
        return
    columns = min(3, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(4.4 * columns, 3.0 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (measure, series) in zip(grid, sorted(panels.items()), strict=False):
        _panel(axes, measure, series)
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    with atomic_file(folder / "curves.png") as temporary:
        figure.savefig(temporary, dpi=120)


def read(file: Path) -> dict[str, Series]:
    """By measure (the last part of a figure's name), then by figure: its steps and values."""
    panels: dict[str, Series] = defaultdict(lambda: defaultdict(lambda: ([], [])))
    for text in file.read_text().splitlines() if file.exists() else ():
        line = json.loads(text)
        for name, value in line.items():
            if "step" in line and name not in ("time", "step"):
                steps, values = panels[name.rsplit("/", 1)[-1]][name]
                steps.append(line["step"])
                values.append(value)
    return {measure: dict(series) for measure, series in panels.items()}


def _panel(axes: Axes, measure: str, series: Series) -> None:
    names = sorted({name.removeprefix(_VALIDATION) for name in series})
    for name, (steps, values) in sorted(series.items()):
        validated = name.startswith(_VALIDATION)
        axes.plot(
            steps,
            values,
            color=_COLOURS[names.index(name.removeprefix(_VALIDATION)) % len(_COLOURS)],
            linestyle="--" if validated else "-",
            marker="o" if validated or len(steps) == 1 else None,
            markersize=4,
            linewidth=1.5,
            label=name,
        )
    axes.set_title(measure.replace("_", " "), loc="left", fontsize=10)
    axes.set_xlabel("step", fontsize=9)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.25)
    if len(series) > 1:
        axes.legend(fontsize=7, frameon=False)
