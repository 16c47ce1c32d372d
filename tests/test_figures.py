"""Names are drawn literally, even if matplotlib could read them as a formula."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from fer_jax.figures import save_figure, svg_text
from fer_jax.report import plots

NAMES = ("a$\\frac$", "$x^2$", "costs 5$ or 6$", r"\$")


def figure_with(names):
    figure = Figure(figsize=(3, 3))
    axes = figure.add_subplot()
    axes.barh(range(len(names)), range(len(names)), label=names[0])
    axes.set_yticks(range(len(names)), names)
    axes.set(title=names[0], xlabel=names[1])
    axes.legend()
    figure.suptitle(names[2])
    return figure


def test_dollar_signs_are_not_parsed_as_formulas(tmp_path, monkeypatch):
    monkeypatch.setitem(plots.mpl.rcParams, "svg.fonttype", "none")
    text = svg_text(figure_with(NAMES))
    for name in NAMES:
        assert f">{name}</text>" in text
    save_figure(figure_with(NAMES), tmp_path / "a.png", dpi=20)
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", NAMES)
def test_subjects_with_dollar_signs_are_in_the_plots_of_a_report(name):
    people = plots.people([name, "b"], np.array([0.5, 1.0]), 0.25)
    confusion = plots.confusion(np.array([[1.0, 0, 0], [0, 1, 0]]), [name, "happy"])
    assert f">{name}</text>" in people and f">{name}</text>" in confusion


def test_others_may_still_draw_formulas(tmp_path):
    """Drawing in this package does not change matplotlib's settings for the process."""
    save_figure(figure_with(NAMES), tmp_path / "a.png", dpi=20)
    assert Figure().suptitle("$x^2$").get_parse_math()
