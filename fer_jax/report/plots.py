"""Figures of the report as SVG with the colours and the font of the page.

matplotlib draws with placeholder colours, which are replaced by CSS variables, so that a figure
suits light, dark and printed pages.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

import matplotlib as mpl
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from fer_jax.figures import svg_text
from fer_jax.languages.language import ENGLISH, Language

# Placeholders, and the variables of report.css that replace them.
_INK, _MUTED, _LINE, _ACCENT, _ON_ACCENT, _OTHER, _PAPER = (f"#0{i}0{i}0{i}" for i in range(1, 8))
_COLOURS = (_INK, _MUTED, _LINE, _ACCENT, _ON_ACCENT, _OTHER, _PAPER)
_VARIABLES = ("ink", "muted", "line", "accent", "on-accent", "other", "paper")
_STYLE: Any = {
    "svg.fonttype": "none",
    "font.size": 10.0,
    "text.color": _INK,
    "axes.labelcolor": _MUTED,
    "axes.edgecolor": _LINE,
    "xtick.color": _LINE,
    "ytick.color": _LINE,
    "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
_NAMED_PEOPLE = 60
# Okabe and Ito 2008: distinct for colour-blind readers, and legible on light and dark pages.
CATEGORIES = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#999999")


def confusion(
    matrix: Float[np.ndarray, "C C+1"], labels: Sequence[str], words: Language = ENGLISH
) -> str:
    """Heat map of the confusion matrix.

    A cell shows which share of the photographs of its true emotion got its answer and, below, how
    many did.

    The last column, for photographs without a face, is shown only if there are any.
    """
    classes, names = len(labels), [words.emotion(label) for label in labels]
    columns = classes + 1 if matrix[:, classes].any() else classes
    support = matrix.sum(axis=1, keepdims=True)
    shares = np.divide(matrix, support, out=np.zeros_like(matrix), where=support > 0)

    def draw(axes: Axes) -> None:
        for row, column in itertools.product(range(classes), range(columns)):
            share, count = float(shares[row, column]), float(matrix[row, column])
            _cell(axes, row, column, share, count, words)
        axes.set_xlim(-0.5, columns - 0.5)
        axes.set_ylim(classes - 0.5, -0.5)
        axes.set_xticks(range(columns), [*names, words.text("plot.no_face")][:columns])
        axes.set_yticks(range(classes), names)
        axes.tick_params(length=0)
        axes.xaxis.tick_top()
        axes.xaxis.set_label_position("top")
        axes.set_xlabel(words.text("plot.answer"), labelpad=8)
        axes.set_ylabel(words.text("plot.truth"), labelpad=8)
        axes.spines[:].set_visible(False)

    size = (1.3 + 0.82 * columns, 0.75 + 0.72 * classes)
    return _plot("confusion", words.text("plot.description.confusion"), size, draw)


def people(
    names: Sequence[str],
    accuracy: Float[np.ndarray, " P"],
    chance: float,
    other: Float[np.ndarray, " P"] | None = None,
    words: Language = ENGLISH,
) -> str:
    """Accuracy by person, with the chance level as a dashed line.

    There is one bar per person, in the given order from the top, and a marker for the second run,
    `other`. For more than 60 people it is a histogram of accuracies without names.
    """
    count, many = len(names), len(names) > _NAMED_PEOPLE

    def draw(axes: Axes) -> None:
        if many:
            edges = np.linspace(0, 1, 11)
            axes.hist(accuracy, edges.tolist(), rwidth=0.9, color=_ACCENT, linewidth=0)
            if other is not None:
                counts, _ = np.histogram(other, edges)
                middles = (edges[:-1] + edges[1:]) / 2
                axes.plot(middles, counts, "D", ms=6, mfc=_OTHER, mec=_PAPER, mew=1, clip_on=False)
            axes.set_ylabel(words.text("plot.people"))
        else:
            places = np.arange(count)
            axes.barh(places, accuracy, height=0.62, color=_ACCENT, linewidth=0)
            if other is not None:
                axes.plot(other, places, "D", ms=5.5, mfc=_OTHER, mec=_PAPER, mew=1, clip_on=False)
            axes.set_ylim(count - 0.4, -0.6)
            axes.set_yticks(places, names)
        axes.tick_params(axis="y", length=0)
        axes.axvline(chance, color=_MUTED, linewidth=1, linestyle=(0, (3, 3)))
        axes.annotate(
            words.text("plot.chance"), (chance, 1), xycoords=("data", "axes fraction"),
            xytext=(0, 3), textcoords="offset points", ha="center", color=_MUTED, fontsize=9,
        )  # fmt: skip
        axes.set_xlim(0, 1)
        axes.set_xticks(
            np.linspace(0, 1, 5),
            [*map(words.number, (0, 25, 50, 75)), words.text("plot.percent", number=100)],
        )
        axes.spines["left"].set_visible(False)

    if many:
        return _plot("people", words.text("plot.description.histogram"), (5.2, 3.4), draw)
    size = (5.2, 0.9 + 0.26 * count)
    return _plot("people", words.text("plot.description.people"), size, draw)


def reliability(bins: Sequence[Mapping[str, float]], words: Language = ENGLISH) -> str:
    """Accuracy against confidence: one bar per bin, and the diagonal of perfect calibration."""
    most = max(row["count"] for row in bins)

    def draw(axes: Axes) -> None:
        for row in bins:
            width = row["high"] - row["low"]
            middle, shade = row["low"] + width / 2, 0.25 + 0.75 * row["count"] / most
            axes.bar(middle, row["accuracy"], width * 0.9, color=_ACCENT, alpha=shade, linewidth=0)
            axes.text(
                middle, row["accuracy"] + 0.02, words.number(row["count"]),
                ha="center", color=_MUTED, fontsize=8,
            )  # fmt: skip
        axes.plot([0, 1], [0, 1], "--", color=_MUTED, linewidth=1)
        axes.set(xlim=(0, 1), ylim=(0, 1.08), xlabel=words.text("plot.confidence"))
        axes.set_ylabel(words.text("plot.accuracy"))
        _number_ticks(axes, 1, words)

    return _plot("reliability", words.text("plot.description.reliability"), (4.4, 3.7), draw)


def coverage(rows: Sequence[Mapping[str, float]], chance: float, words: Language = ENGLISH) -> str:
    """Accuracy on the photographs that are answered, against their share."""
    share = [100 * row["coverage"] for row in rows]
    accuracy = [100 * row["accuracy"] for row in rows]

    def draw(axes: Axes) -> None:
        axes.plot(share, accuracy, color=_ACCENT, linewidth=1.8, drawstyle="steps-post")
        axes.plot(share[:1], accuracy[:1], "o", color=_ACCENT, ms=6, clip_on=False)
        axes.axhline(100 * chance, color=_MUTED, linewidth=1, linestyle="--")
        axes.set(xlim=(0, 100), ylim=(0, 102))
        axes.set_xlabel(words.text("plot.answered"))
        axes.set_ylabel(words.text("plot.accuracy_answered"))
        _number_ticks(axes, 0, words)

    return _plot("coverage", words.text("plot.description.coverage"), (4.4, 3.7), draw)


def embedding(
    places: Float[np.ndarray, "n 2"], groups: Sequence[str], name: str, words: Language = ENGLISH
) -> str:
    """Faces as points, coloured by group; markers differ too for more than seven groups.

    `name` is "by_emotion" or "by_person".
    """

    def draw(axes: Axes) -> None:
        known = points(axes, places, groups)
        if len(known) <= _NAMED_PEOPLE:
            assert isinstance(axes.figure, Figure)
            axes.figure.legend(
                loc="outside lower center", ncols=min(4, len(known)), frameon=False, fontsize=8,
                handletextpad=0.2, columnspacing=1.0,
            )  # fmt: skip

    description = words.text(f"plot.description.{name}")
    return _plot(name.replace("_", "-"), description, (4.6, 4.4), draw)


def points(axes: Axes, places: Float[np.ndarray, "n 2"], groups: Sequence[str]) -> list[str]:
    """Draws a marker per face, coloured by group; returns the groups, sorted."""
    known = sorted(set(groups))
    for number, group in enumerate(known):
        rows = [i for i, other in enumerate(groups) if other == group]
        sign = "os^DvPX*<>"[(number // len(CATEGORIES)) % 10]
        colour = CATEGORIES[number % len(CATEGORIES)]
        axes.plot(*places[rows].T, sign, color=colour, ms=5, mew=0, label=group, alpha=0.9)
    axes.set_axis_off()
    return known


def _number_ticks(axes: Axes, decimals: int, words: Language) -> None:
    """Formats the tick labels of both axes in the language."""
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: words.number(value, decimals))


def _cell(axes: Axes, row: int, column: int, share: float, count: float, words: Language) -> None:
    axes.add_patch(
        FancyBboxPatch(
            (column - 0.46, row - 0.46),
            0.92,
            0.92,
            boxstyle="round,pad=0,rounding_size=0.08",
            facecolor=_ACCENT if count else _LINE,
            alpha=0.12 + 0.88 * share if count else 0.35,
            linewidth=0,
        )
    )
    ink = _ON_ACCENT if share > 0.5 else (_INK if count else _MUTED)
    if not count:
        axes.text(column, row, "–", ha="center", va="center", color=_MUTED)
        return
    axes.text(
        column, row - 0.08, words.text("plot.percent", number=words.number(100 * share)),
        ha="center", va="center", color=ink, fontsize=11,
    )  # fmt: skip
    axes.text(
        column, row + 0.25, words.number(count, 0 if count.is_integer() else 1),
        ha="center", va="center", color=ink, fontsize=8, alpha=0.8,
    )  # fmt: skip


def _plot(
    name: str, description: str, size: tuple[float, float], draw: Callable[[Axes], None]
) -> str:
    """A figure of `size` inches, with axes that `draw` fills, as an `<svg>` element of the page."""
    with mpl.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure.add_subplot())
        return _svg(figure, name, description)


def _svg(figure: Figure, name: str, description: str) -> str:
    """The figure as an `<svg>` element of the page, without prolog and namespaces.

    The ids begin with `name`, and CSS variables replace the placeholder colours.
    """
    text = svg_text(figure)
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    text = re.sub(r"<style[^>]*>.*?</style>", "", text, flags=re.S)
    text = re.sub(r'\s(xmlns(:\w+)?|version)="[^"]*"', "", text)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'(url\(#|href="#)', rf"\1{name}-", text)
    for colour, variable in zip(_COLOURS, _VARIABLES, strict=True):
        text = text.replace(colour, f"var(--{variable})")
    width = figure.get_figwidth() * 96
    opening = (
        f'<svg class="plot" role="img" aria-label="{escape(description)}" '
        f'style="max-width:{width:.0f}px" '
    )
    head, rest = text.split(">", 1)
    head = re.sub(r'\s(width|height)="[^"]*"', "", head).replace("<svg", opening, 1)
    return f"{head}>{rest}"
