import json
import re
from pathlib import Path

import pandas as pd
import pytest

from configs.evaluate import get_config, of_runs
from fer_jax.errors import UserError
from fer_jax.stages import evaluate
from tests.metrics.simulation import simulate, write_run, write_stage


@pytest.fixture
def config(tmp_path):
    config = of_runs({"pretrained": "", "scratch": ""})
    config.bootstrap.samples = 200
    config.runs.pretrained = str(write_run(tmp_path / "p", *simulate(seed=1, no_face=0.05)))
    config.runs.scratch = str(write_run(tmp_path / "s", *simulate(seed=2, skill=0.6)))
    config.context = (str(write_stage(tmp_path / "x", "extract", {"faces": 950})),)
    return config


def test_evaluate_writes_measures_people_and_report(config, tmp_path, capsys):
    summary = evaluate.run(config, tmp_path / "out")
    measured = json.loads((tmp_path / "out" / "metrics.json").read_text())
    table = pd.read_parquet(tmp_path / "p" / "predictions.parquet")
    scores = table[[c for c in table if c.startswith("prob_")]].fillna(0).to_numpy()
    labels = measured["labels"]
    answers = pd.Series([labels[i] for i in scores.argmax(axis=1)])
    right = (answers == table["emotion"]) & (table["status"] == "ok")
    assert summary["accuracy"] == pytest.approx(right.mean())
    assert summary["accuracy"] == measured["runs"]["pretrained"]["accuracy"]["value"]
    assert summary["low"] < summary["accuracy"] < summary["high"]
    assert summary["no_face"] == (table["status"] == "no_face").sum() > 0
    people = pd.read_csv(tmp_path / "out" / "per_person.csv")
    assert people.groupby("run")["subject"].nunique().to_dict() == {"pretrained": 15, "scratch": 15}
    assert Path(summary["report"]).read_text().startswith("<!doctype html>")
    first, header, *runs, chance, place = capsys.readouterr().out.splitlines()
    assert first == "[evaluate] measuring the accuracy, and writing the report"
    assert re.fullmatch(r"  run +accuracy +95 % interval +difference", header)
    pretrained, scratch = runs
    assert re.fullmatch(r"  pretrained +\d\d\.\d % +\d\d\.\d to \d\d\.\d", pretrained)
    assert re.search(r"  -\d+\.\d \(-\d+\.\d to -\d+\.\d\)$", scratch)  # significantly worse
    assert re.fullmatch(r"  chance +25\.0 %", chance) and place == f"results: {tmp_path}/out"


def test_a_difference_that_is_not_significant_is_marked(config, tmp_path, capsys):
    config.runs.scratch = config.runs.pretrained
    evaluate.run(config, tmp_path / "out")
    (scratch,) = [line for line in capsys.readouterr().out.splitlines() if "scratch" in line]
    assert scratch.endswith("+0.0 (+0.0 to +0.0)  not significant")


def test_a_second_run_returns_at_once_and_a_repetition_gives_the_same_figures(config, tmp_path):
    first = evaluate.run(config, tmp_path / "out")
    written = (tmp_path / "out" / "metrics.json").stat().st_mtime_ns
    assert evaluate.run(config, tmp_path / "out") == first
    assert (tmp_path / "out" / "metrics.json").stat().st_mtime_ns == written
    evaluate.run(config, tmp_path / "again")
    for name in ("metrics.json", "per_person.csv"):
        first_bytes = (tmp_path / "out" / name).read_bytes()
        assert first_bytes == (tmp_path / "again" / name).read_bytes()


def test_a_random_split_is_reported_on_the_terminal(tmp_path):
    config = get_config()
    config.bootstrap.samples = 50
    config.runs.model = str(write_run(tmp_path / "r", *simulate(protocol="random")))
    assert evaluate.run(config, tmp_path / "out")["warnings"] == "Random split"


def test_an_unset_or_unknown_run_names_the_flag(config, tmp_path):
    with pytest.raises(UserError, match=r"--config\.runs\.model"):
        evaluate.run(get_config(), tmp_path / "a")
    config.main = "best"
    with pytest.raises(UserError, match="main='best' must be one of the runs"):
        evaluate.run(config, tmp_path / "b")


def test_with_language_fa_the_report_and_the_messages_are_persian(config, tmp_path, capsys):
    config.language = "fa"
    summary = evaluate.run(config, tmp_path / "out")
    html = Path(summary["report"]).read_text("utf-8")
    assert '<html lang="fa" dir="rtl">' in html and "واحد درصد از" in html
    messages = capsys.readouterr().out
    assert "[evaluate] سنجش دقت و نوشتن گزارش" in messages
    assert "بازهٔ ۹۵٪" in messages and "نتیجه‌ها: " in messages
    assert "\\u20" not in messages and "accuracy" not in messages
    english = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert english["labels"] == ["angry", "happy", "neutral", "sad"]
