"""Gains of methods over a reference in each setting: a table and a picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from fer_jax.errors import UserError
from fer_jax.figures import save_figure
from fer_jax.metrics import bootstrap, crossed_effects, measures, results
from fer_jax.metrics.predictions import Predictions
from fer_jax.report.page import template

GAINS = ("gain", "gain_low", "gain_high", "p", "q", "gain_by_seed")
_COLOUR, _SIGNIFICANT = "#444444", "#c8553d"


def table(
    setting: str, runs: Mapping[str, Predictions], reference: str, *, samples: int, seed: int
) -> pd.DataFrame:
    """One row per method: accuracy with its interval, macro-F1, and the gain over `reference`.

    `low` and `high` are the limits of the accuracy's 95 % confidence interval over people, after
    averaging over seeds. `gain`, `gain_low`, `gain_high` and `p` are the paired difference in
    accuracy with its 95 % confidence interval and p-value over both people and seeds (see
    `crossed_effects`). `q` is p adjusted for the number of methods in the setting (Benjamini &
    Hochberg 1995). `gain_by_seed` lists the difference for each seed in percentage points.
    The columns about gains are empty in the row of the reference.

    Raises:
        UserError: a run differs from the reference in photographs, people, emotions,
            person-relative references, folds or seeds.
    """
    rows = []
    base = runs[reference]
    for name in (reference, *(name for name in runs if name != reference)):
        run = runs[name]
        estimates = bootstrap.estimate(
            measures.confusion_by_person(run), samples=samples, seed=seed
        )
        accuracy, f1 = estimates["accuracy"], estimates["macro_f1"]
        row = {
            "setting": setting,
            "method": name,
            "seeds": len(run.seed_values),
            "people": len(run.people),
            "accuracy": accuracy.value,
            "low": accuracy.low,
            "high": accuracy.high,
            "macro_f1": f1.value,
        }
        rows.append(row if name == reference else row | _gain(run, base))
    found = pd.DataFrame(rows).reindex(columns=[*rows[0], *GAINS])
    others = found["method"] != reference
    if others.any():
        found.loc[others, "q"] = stats.false_discovery_control(found.loc[others, "p"])
    return found


def _gain(run: Predictions, base: Predictions) -> dict[str, Any]:
    if reason := results.incomparable(run, base):
        raise UserError(
            f"{run.name} cannot be compared with {base.name}: {reason}; repeat one of "
            "them with the data and settings of the other"
        )
    differences = crossed_effects.gains(run, base)
    found = crossed_effects.gain(differences)
    return {
        "gain": found.value,
        "gain_low": found.low,
        "gain_high": found.high,
        "p": found.p,
        "gain_by_seed": " ".join(f"{100 * value:+.1f}" for value in differences.mean(axis=1)),
    }


def best(rows: pd.DataFrame, reference: str) -> dict[str, Any]:
    """For each setting, the method with the largest gain, and that gain with its interval.

    The keys begin with the setting: "<setting>_best", "<setting>_gain", "<setting>_gain_low" and
    "<setting>_gain_high". Gains are fractions, rounded to four decimals.
    """
    summary: dict[str, Any] = {}
    others = rows[rows["method"] != reference]
    for setting, part in others.groupby("setting", sort=False):
        row = part.sort_values("gain").iloc[-1]
        summary[f"{setting}_best"] = str(row["method"])
        for column in ("gain", "gain_low", "gain_high"):
            summary[f"{setting}_{column}"] = round(float(row[column]), 4)
    return summary


def markdown(rows: pd.DataFrame, reference: str) -> str:
    """A Markdown table; gains in percentage points, in bold if their interval excludes 0.

    The intervals of gains are over people and seeds, those of accuracies over people only.
    """
    settings = {
        setting: results.records(part) for setting, part in rows.groupby("setting", sort=False)
    }
    return template("study.md.jinja").render(settings=settings, reference=reference)


def _is_significant(row: Mapping[Any, Any]) -> bool:
    return bool(row["gain_low"] > 0 or row["gain_high"] < 0)


def draw(rows: pd.DataFrame, reference: str, file: Path) -> None:
    """Draws a panel per setting: gains with intervals, in red if the interval excludes 0."""
    settings = list(rows["setting"].unique())
    tallest = int(rows.groupby("setting").size().max())
    size = (3.4 * len(settings) + 1.2, 0.36 * tallest + 1.2)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(1, len(settings), squeeze=False, sharex=True, sharey=True)[0]
    for axes, setting in zip(panels, settings, strict=True):
        part = rows[(rows["setting"] == setting) & (rows["method"] != reference)]
        base = rows[(rows["setting"] == setting) & (rows["method"] == reference)].iloc[0]
        _panel(axes, part)
        axes.set_title(
            f"{setting.replace('_', ' ')}\n{reference}: {100 * base['accuracy']:.1f} %",
            loc="left", fontsize=10,
        )  # fmt: skip
    panels[0].invert_yaxis()
    figure.supxlabel(
        f"gain over {reference} in points, 95 % interval over people and seeds", fontsize=9
    )
    save_figure(figure, file, dpi=130)


def _panel(axes: Axes, part: pd.DataFrame) -> None:
    axes.axvline(0, color="#999999", linewidth=1)
    for place, row in enumerate(part.to_dict("records")):
        colour = _SIGNIFICANT if _is_significant(row) else _COLOUR
        axes.plot(
            [100 * row["gain_low"], 100 * row["gain_high"]], [place, place], color=colour, lw=2
        )
        axes.plot(100 * row["gain"], place, "o", color=colour, markersize=5)
    axes.set_yticks(range(len(part)), part["method"].tolist(), fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", alpha=0.25)
