"""The table and the picture of a study: paired gains, and runs that are not comparable."""

import cv2
import numpy as np
import pandas as pd
import pytest

from fer_jax.errors import UserError
from fer_jax.report import comparison
from tests.metrics.simulation import from_table, simulate

SEEDS = (0, 1, 2)


def run(name, **options):
    return from_table(name, *simulate(**{"seeds": SEEDS, "spread": 0.05, **options}), name)


@pytest.fixture(scope="module")
def rows():
    settings = {
        "few": {"scratch": run("scratch", skill=0.4), "good": run("good", skill=0.9, seed=1)},
        "many": {"scratch": run("scratch", skill=0.8), "same": run("same", skill=0.8)},
    }
    return pd.concat(
        [
            comparison.table(name, runs, "scratch", samples=500, seed=0)
            for name, runs in settings.items()
        ],
        ignore_index=True,
    )


def test_a_gain_is_the_difference_in_accuracy_overall_and_by_seed(rows):
    few = rows[rows["setting"] == "few"].set_index("method")
    good, scratch = few.loc["good"], few.loc["scratch"]
    assert good["gain"] == pytest.approx(good["accuracy"] - scratch["accuracy"])
    assert good["gain_low"] < good["gain"] < good["gain_high"] and good["gain_low"] > 0.3
    by_seed = [float(text) for text in good["gain_by_seed"].split()]
    assert np.mean(by_seed) == pytest.approx(100 * good["gain"], abs=0.06)
    assert len(by_seed) == len(SEEDS) == good["seeds"] and good["people"] == 15
    assert good["p"] < 0.001 and pd.isna(scratch["gain"])


def test_an_equal_run_has_no_gain(rows):
    same = rows[rows["method"] == "same"].iloc[0]
    assert same["gain"] == same["gain_low"] == same["gain_high"] == 0 and same["p"] == 1


def test_best_is_the_largest_gain_in_each_setting(rows):
    best = comparison.best(rows, "scratch")
    assert best["few_best"] == "good" and best["many_best"] == "same"
    assert best["few_gain"] == pytest.approx(rows["gain"].max(), abs=1e-4)


def test_only_significant_gains_are_bold(rows):
    text = comparison.markdown(rows, "scratch")
    good, same = (
        next(li for li in text.splitlines() if f"| {n} |" in li) for n in ("good", "same")
    )
    assert "**+" in good and "**" not in same
    assert "**few**: 3 seeds, 15 people tested" in text


def test_the_picture_has_one_panel_per_setting(rows, tmp_path):
    comparison.draw(rows, "scratch", tmp_path / "study.png")
    picture = cv2.imread(str(tmp_path / "study.png"))
    red = (np.abs(picture.astype(int) - [61, 85, 200]).max(axis=2) < 30).any(axis=0)
    half = picture.shape[1] // 2
    assert red[:half].any() and not red[half:].any()  # only the left panel has a significant gain


def test_runs_with_other_folds_are_refused():
    runs = {"scratch": run("scratch"), "other": run("other", protocol="grouped_kfold")}
    with pytest.raises(
        UserError, match=r"other cannot be compared with scratch: \d+ photographs have a different"
    ):
        comparison.table("few", runs, "scratch", samples=10, seed=0)
