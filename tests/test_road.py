"""The whole pipeline on a few generated people, with the smallest network."""

import io
import json
import re
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import cv2
import pandas as pd
import pytest

from configs import demo
from configs import pipeline as pipeline_config
from fer_jax import console
from fer_jax.data import lineage
from fer_jax.errors import NotApplicableError, UserError
from fer_jax.languages.language import speaking
from fer_jax.schemas import validated
from fer_jax.stages import crossval, find_stage, pipeline
from fer_jax.workdir import read_json

STEPS = (
    "render", "extract", "verify", "refine", "pretrain", "photographs", "emotion", "scratch",
    "evaluate", "predict",
)  # fmt: skip


def tiny_config():
    config = demo.get_config("small").unlock()
    steps = config.steps
    steps.render.clips.update({"people": 4, "per_emotion": 1, "frames": 4, "scenes": 2})
    steps.render.photographs.update({"people": 4, "per_emotion": 1})
    steps.render.newcomers.people = 1
    for name in ("verify", "pretrain", "emotion", "scratch"):
        steps[name].backbone.depth = (0, 0, 0)
        steps[name].batch_size = 8
        steps[name].epochs = 1.0
    for name in ("emotion", "scratch"):
        steps[name].folds = 2
        steps[name].epochs = 4.0
        steps[name].min_steps = 0
    steps.evaluate.bootstrap.samples = 200
    return config.lock()


@pytest.fixture(scope="module")
def printed():
    """A stream for the output of the pipeline's first run, which is not a terminal."""
    return io.StringIO()


@pytest.fixture(scope="module")
def road(tmp_path_factory, printed):
    workdir = tmp_path_factory.mktemp("road") / "w"
    with redirect_stdout(printed), redirect_stderr(printed), console.signs_of_life():
        return workdir, pipeline.run(tiny_config(), workdir)


def test_every_step_finishes_and_reports_its_speed(road):
    workdir, _ = road
    for name in STEPS:
        summary = read_json(workdir / name / "done.json")["summary"]
        assert summary["wall_s"] > 0
        lines = (workdir / name / "metrics.jsonl").read_text().splitlines()
        assert any("wall_s" in key for key in json.loads(lines[-1]))
        speeds = {"frames_per_s", "images_per_s", "faces_per_s", "accuracy"}
        assert speeds & summary.keys(), name


def test_the_summary_has_the_figures_of_the_report(road):
    workdir, summary = road
    measured = read_json(workdir / "evaluate" / "metrics.json")
    accuracy = measured["runs"]["pretrained"]["accuracy"]
    assert summary["accuracy"] == accuracy["value"]
    assert accuracy["low"] <= accuracy["value"] <= accuracy["high"]
    (comparison,) = measured["comparisons"]
    assert (comparison["first"], comparison["second"]) == ("pretrained", "scratch")
    assert comparison["comparable"]
    assert (workdir / "evaluate" / "report.html").stat().st_size > 20_000


def test_train_and_test_people_are_disjoint(road):
    workdir, _ = road
    predictions = pd.read_parquet(workdir / "emotion" / "predictions.parquet")
    assert len(predictions) == 16
    assert predictions["photo"].is_unique
    assert (predictions.groupby("subject")["fold"].nunique() == 1).all()
    assert predictions["fold"].nunique() == 2
    found = predictions[predictions["status"] == "ok"]
    assert found.filter(like="prob_").sum(axis=1).between(0.999, 1.001).all()


def test_refinement_keeps_every_row(road):
    workdir, _ = road
    before = pd.read_parquet(workdir / "extract" / "manifest.parquet")
    after = pd.read_parquet(workdir / "refine" / "manifest.parquet")
    assert before["face_id"].tolist() == after["face_id"].tolist()
    assert after["verifier_score"].between(0, 1).all()
    assert set(after["status"]) <= {"kept", "removed"}


def test_predict_reads_newcomers(road):
    workdir, _ = road
    table = pd.read_csv(workdir / "predict" / "predictions.csv")
    assert set(table["source"]) == {"p201_angry.jpg", "p201_angry.mp4"}
    assert cv2.imread(str(workdir / "predict" / "overview.jpg")).shape[0] == 360
    probabilities = [f"prob_{emotion}" for emotion in ("angry", "happy", "neutral", "sad")]
    smoothed = [f"smoothed_{name}" for name in probabilities]
    assert table.filter(like="prob_").columns.tolist() == [*probabilities, *smoothed]
    in_video = table[table["source"].str.endswith(".mp4") & table["emotion"].notna()]
    assert in_video["smoothed_emotion"].notna().all()


def test_the_output_is_short_and_its_end_fits_on_a_screen(road, printed):
    workdir, summary = road
    lines = printed.getvalue().splitlines()
    starts = [line for line in lines if line.startswith("[")]
    order = tiny_config().order
    assert [line.split("]")[0] for line in starts] == [
        f"[{number}/{len(order)} {name}" for number, name in enumerate(order, start=1)
    ]
    assert len(lines) <= 60
    assert max(len(line.replace(str(workdir), "")) for line in lines) <= 120
    assert "\r" not in printed.getvalue() and "=" not in printed.getvalue()
    end = "\n".join(lines[-20:])
    accuracy = f"{100 * summary['accuracy']:.1f} %"
    for shown in (
        "run         accuracy  95 % interval  ",
        "  difference",
        f"accuracy on held-out people: {accuracy} (95 % interval",
        f"picture: {workdir}/predict/overview.jpg",
        f"report: {workdir}/evaluate/report.html",
    ):
        assert shown in end


def test_a_second_run_returns_at_once(road, capsys):
    workdir, first = road
    times = {name: (workdir / name / "done.json").stat().st_mtime_ns for name in STEPS}
    again = pipeline.run(tiny_config(), workdir)
    assert again["accuracy"] == first["accuracy"]
    assert times == {n: (workdir / n / "done.json").stat().st_mtime_ns for n in STEPS}
    accuracy, report = capsys.readouterr().out.splitlines()
    shown = f"accuracy on held-out people: {100 * first['accuracy']:.1f} % (95 % interval"
    assert accuracy.startswith(f"[pipeline] finished already; {shown}")
    assert report == f"report: {workdir}/evaluate/report.html"


FIGURES = {
    "accuracy": 0.75, "low": 0.5, "high": 0.9, "warnings": "none", "report": "report.html",
}  # fmt: skip


class Stages:
    """Replaces the stages of a pipeline, and records the config of each step."""

    def __init__(self, applicable):
        self.applicable, self.ran = applicable, {}

    def run(self, step, workdir, label):
        self.ran[workdir.name] = step
        if step.stage == "crossval" and step.method == "as_is" and not self.applicable:
            raise NotApplicableError("crossval: the starter does not know contempt")
        return FIGURES if step.stage in ("crossval", "evaluate") else {}


@pytest.fixture
def stand_ins(monkeypatch, tmp_path):
    for name in ("videos", "photos"):
        (tmp_path / name).mkdir()

    def run(applicable, optional=("as_is",)):
        config = pipeline_config.get_config().unlock()
        config.update({"videos": str(tmp_path / "videos"), "photos": str(tmp_path / "photos")})
        config.optional = optional
        stages = Stages(applicable)
        monkeypatch.setattr(pipeline, "find_stage", lambda name: stages)
        return pipeline.run(config.lock(), tmp_path / f"w{applicable}"), stages.ran

    return run


def test_the_default_pipeline_reports_the_accuracy_of_the_unchanged_starter(stand_ins, capsys):
    summary, ran = stand_ins(applicable=True)
    assert summary["as_is"] == 0.75
    assert "accuracy on held-out people: 75.0 %" in capsys.readouterr().out
    assert "starter_as_is" in ran["evaluate"].runs


def test_the_last_line_says_if_the_report_warns(stand_ins, capsys, monkeypatch):
    """The line does not call people held-out if they may not be."""
    monkeypatch.setitem(FIGURES, "warnings", "people in both train and test")
    stand_ins(applicable=True)
    printed = capsys.readouterr().out
    assert "accuracy, subject to the warnings in the report: 75.0 %" in printed
    assert "held-out" not in printed


def test_an_optional_step_that_cannot_be_used_is_left_out_of_the_report(stand_ins, capsys):
    summary, ran = stand_ins(applicable=False)
    assert list(ran) == [*pipeline_config.get_config().order]  # all others ran
    assert set(ran["evaluate"].runs) == {
        "starter_adapted", "starter_and_videos", "small_from_scratch"
    }  # fmt: skip
    reported = capsys.readouterr()
    assert (
        "the step as_is is left out (crossval: the starter does not know contempt" in reported.err
    )
    assert "as it is" not in reported.out and "as_is" not in summary


def test_any_other_step_that_cannot_be_used_ends_the_pipeline(stand_ins):
    with pytest.raises(NotApplicableError):
        stand_ins(applicable=False, optional=())


def test_the_untrained_starter_classifies_the_photographs(road, tmp_path):
    workdir, _ = road
    step = pipeline.filled(validated(demo.get_config()), workdir).steps["as_is"]
    crossval.run(step.model_copy(update={"folds": 2}), tmp_path / "as_is")
    answers = pd.read_parquet(tmp_path / "as_is" / "predictions.parquet")
    photographs = pd.read_parquet(workdir / "photographs" / "photographs.parquet")
    assert set(answers["photo"]) == set(photographs["photo"])
    protocol = read_json(tmp_path / "as_is" / "protocol.json")
    assert protocol["method"] == "as_is" and protocol["frozen"]
    assert (answers["predicted"] == answers["emotion"]).mean() > 0.5  # chance is 0.25


def test_the_lineage_has_every_input_that_a_stage_read(road):
    workdir, _ = road
    for name in STEPS:
        read = {path for path in read_json(workdir / name / "inputs.json") if "/" in path}
        found = lineage.read_workdir(workdir / name)
        assert found.made_from == {Path(path).resolve() for path in read}, name


def test_a_killed_crossval_continues_with_its_fold_and_predicts_the_same(road):
    workdir, _ = road
    folder = workdir / "scratch"
    before = pd.read_parquet(folder / "predictions.parquet")
    untouched = folder / "folds" / "seed0_fold0" / "predictions.parquet"
    written = untouched.stat().st_mtime_ns
    for lost in ("done.json", "predictions.parquet", "folds/seed0_fold1/predictions.parquet"):
        (folder / lost).unlink()
    config = pipeline.filled(validated(tiny_config()), workdir).steps["scratch"]
    crossval.run(config, folder)
    pd.testing.assert_frame_equal(before, pd.read_parquet(folder / "predictions.parquet"))
    assert untouched.stat().st_mtime_ns == written


def test_changed_photographs_stop_a_crossval_that_was_begun(road):
    workdir, _ = road
    photographs = workdir / "photographs" / "done.json"
    before = photographs.read_bytes()
    photographs.write_text(before.decode().replace('"people"', '"persons"'))
    config = pipeline.filled(validated(tiny_config()), workdir).steps["emotion"]
    try:
        with pytest.raises(UserError, match="photographs changed since"):
            crossval.run(config, workdir / "emotion")
    finally:
        photographs.write_bytes(before)


def test_messages_in_persian_have_no_english_words(road, tmp_path, capsys):
    """The exceptions are paths and the names of files, stages and runs."""
    workdir, _ = road
    config = pipeline.filled(validated(tiny_config()), workdir)
    (workdir / "scratch" / "done.json").unlink()  # the folds are kept
    with speaking("fa"):
        for name in STEPS:
            step = config.steps[name]
            if name in ("pretrain", "emotion"):
                continue  # the stages of verify and scratch
            if "language" in type(step).model_fields:
                step = step.model_copy(update={"language": "fa"})
            folder = workdir / name if name == "scratch" else tmp_path / name
            find_stage(step.stage).run(step, folder)
            lines = capsys.readouterr().out.splitlines()
            assert len(lines) >= 3 and lines[0].startswith(f"[{step.stage}] "), name
            names = rf"\[{step.stage}\]|\S*/\S*|removed\.png|pretrained|scratch"
            rest = [re.sub(names, "", line) for line in lines]
            assert not re.search("[A-Za-z0-9]", "".join(rest)), name
            assert name != "photographs" or "خشمگین ۴، شاد ۴، خنثی ۴، غمگین ۴" in lines[1]
