"""Learning curves as a picture, for use without TensorBoard."""

from __future__ import annotations

import math
from collections import defaultdict
from pathlib import Path

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fer_jax.figures import save_figure
from fer_jax.workdir import read_metrics

_VALIDATION = "validation/"
_PROBE = "probe/"
_CHANCE = "probe/chance"
_COLOURS = ("#1f6f8b", "#c8553d", "#6a4c93", "#588157", "#b08900", "#444444")

Series = dict[str, tuple[list[int], list[float]]]


def draw(folder: Path) -> None:
    """Draws the metrics in `folder/metrics.jsonl` to `folder/curves.png`, one panel per measure.

    Training is a solid line and validation a dashed one with markers, in the same colour; probes
    have one line per depth. No file is written if no metrics were recorded.
    """
    panels = read(folder / "metrics.jsonl")
    if not panels:
        return
    chance = panels.pop(_CHANCE, {}).get(_VALIDATION + _CHANCE, ([], []))[1]
    columns = min(3, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(4.4 * columns, 3.0 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (measure, series) in zip(grid, sorted(panels.items()), strict=False):
        if measure.startswith(_PROBE):
            _probe_panel(axes, measure, series, chance)
        else:
            _panel(axes, measure, series)
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    save_figure(figure, folder / "curves.png", dpi=120)


def read(file: Path) -> dict[str, Series]:
    """The recorded metrics as {measure: {name: (steps, values)}}.

    The measure is the last part of a metric's name. For a probe at one depth, such as
    "probe/knn/mixed_6a", it is the kind of probe, "probe/knn", so that all depths share a panel.
    """
    panels: dict[str, Series] = defaultdict(lambda: defaultdict(lambda: ([], [])))
    for line in read_metrics(file.parent):
        for name, value in line.items():
            if "step" in line and name not in ("time", "step") and isinstance(value, int | float):
                steps, values = panels[_measure(name)][name]
                steps.append(line["step"])
                values.append(value)
    return {measure: dict(series) for measure, series in panels.items()}


def _measure(name: str) -> str:
    bare = name.removeprefix(_VALIDATION)
    return "/".join(bare.split("/")[:2]) if bare.startswith(_PROBE) else bare.rsplit("/", 1)[-1]


def _probe_panel(axes: Axes, measure: str, series: Series, chance: list[float]) -> None:
    """Draws one line per depth, from dark (shallow) to light (deep)."""
    shades = colormaps["viridis"].resampled(len(series) + 1)
    for number, (name, (steps, values)) in enumerate(series.items()):
        axes.plot(
            steps,
            values,
            color=shades(number),
            marker="o",
            markersize=3.5,
            linewidth=1.5,
            label=name.rsplit("/", 1)[-1],
        )
    if chance:
        axes.axhline(chance[-1], color="#888888", linestyle=":", linewidth=1.2, label="chance")
    _style(axes, f"{measure.removeprefix(_PROBE)} probe, accuracy")
    axes.legend(fontsize=7, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.02))


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
    _style(axes, measure.replace("_", " "))
    if len(series) > 1:
        axes.legend(fontsize=7, frameon=False)


def _style(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=10)
    axes.set_xlabel("step", fontsize=9)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.25)
