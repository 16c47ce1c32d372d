"""After consent is withdrawn at any point of a pipeline, a repeat leaves no trace of the person."""

import functools
import shlex

import cv2
import numpy as np
import pandas as pd
import pytest
from ml_collections import ConfigDict

from configs import pipeline as pipeline_config
from configs import remove as remove_config
from fer_jax import workdir
from fer_jax.crossval.method import Facts
from fer_jax.crossval.methods import probe
from fer_jax.errors import UserError
from fer_jax.report import page, plots
from fer_jax.stages import crossval, photographs, pipeline, remove
from fer_jax.workdir import read_json, write_json

GONE, STAY = "zelda77", ("yorick", "xenia", "wanda")
EMOTIONS = ("happy", "sad")
ORDER = ("photographs", "emotion", "evaluate")


environment = functools.cache(workdir.environment)
template = functools.cache(page.template)


class StubModel:
    """A model without a network, which saves the people that it was trained on."""

    temperature, chosen = None, ""

    def __init__(self, faces):
        self.people = sorted(set(faces.people))

    def probabilities(self, faces):
        return np.full((len(faces), 2), 0.5, np.float32)

    def heat(self, faces, classes):
        return None

    def save(self, folder):
        write_json(folder / "model.json", {"people": self.people})


class Stub:
    """A method of cross-validation whose models are stubs."""

    facts = Facts()

    def __init__(self, *_):
        pass

    def fit(self, train, inner, *, seed, folder):
        return StubModel(train)

    def fit_everyone(self, faces, *, seed, workdir):
        return StubModel(faces)

    def speed(self):
        return {}


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setattr(probe, "METHOD", Stub)
    monkeypatch.setattr(crossval.leakage, "audit", lambda *_: [])
    # Replaces what takes longest and writes nothing about people.
    monkeypatch.setattr(plots, "_svg", lambda *_: "<svg/>")
    monkeypatch.setattr(workdir, "environment", environment)
    monkeypatch.setattr(page, "template", template)
    rng = np.random.default_rng(0)
    for person in (GONE, *STAY):
        for emotion in EMOTIONS:
            file = tmp_path / "photos" / person / emotion / "1.png"
            file.parent.mkdir(parents=True)
            cv2.imwrite(str(file), rng.integers(0, 256, (24, 24, 3)).astype(np.uint8))
    write_ledger(tmp_path)
    return tmp_path


def write_ledger(place, revoked=""):
    people = [(GONE, revoked), *((name, "") for name in STAY)]
    rows = [f"{name},no,yes,no,{day}" for name, day in people]
    text = "\n".join(["subject,share,train,demo,revoked", *rows, ""])
    (place / "photos" / "consent.csv").write_text(text)


def run(place, order=ORDER, **fields):
    config = pipeline_config.get_config("small").unlock()
    config.needs, config.photos, config.order = ("photos",), str(place / "photos"), order
    steps = config.steps
    steps.photographs.update({"aligned": True, "emotions": EMOTIONS, **fields})
    steps.photographs.crop.size = 24
    steps.emotion.unlock().update({"method": "probe", "init": "", "image_size": 24})
    steps.emotion.update({"protocol": "leave_one_subject_out", "explain": False})
    steps.evaluate.unlock().runs = ConfigDict({"pretrained": "{workdir}/emotion"})
    steps.evaluate.context = ("{workdir}/photographs",)
    steps.evaluate.bootstrap.samples = 40
    return pipeline.run(config.lock(), place / "w")


def run_to_its_end(place, **fields):
    """Runs the pipeline; after an error, runs the command in the error and the pipeline again."""
    try:
        return run(place, **fields)
    except UserError as error:
        command = shlex.split(str(error).split("`")[1])
    config = remove_config.get_config()
    for flag in command[3:-1]:
        name, _, value = flag.removeprefix("--config.").partition("=")
        config[name] = value
    remove.run(config, place / "removals")
    return run(place, **fields)


def everything(*roots):
    return {path: path.read_bytes() for root in roots for path in root.rglob("*") if path.is_file()}


def check_nothing_shows_the_person(place, crops):
    for path, data in everything(place / "w", place / "removals").items():
        assert GONE not in str(path) and GONE.encode() not in data, path
        assert data not in crops, path
        if path.suffix == ".parquet":
            assert GONE not in pd.read_parquet(path).to_csv(), path
    people = read_json(place / "w" / "emotion" / "model" / "model.json")["people"]
    assert people == sorted(STAY)


def check_the_report_says_so(place):
    summary = read_json(place / "w" / "photographs" / "done.json")["summary"]
    assert summary["people"] == 3 and summary["people_without_consent"] == 1
    assert summary["consent_ledger"].startswith("consent.csv as of 20")
    reported = (place / "w" / "evaluate" / "datasheet.md").read_text()
    words = "people excluded because they do not consent: 1, according to the ledger: "
    assert words + summary["consent_ledger"] in reported
    assert summary["consent_ledger"] in (place / "w" / "evaluate" / "report.html").read_text()
    table = pd.read_parquet(place / "w" / "photographs" / "photographs.parquet")
    lines = (place / "photos" / "consent.csv").read_text().splitlines()
    for row in table.itertuples():
        assert lines[row.ledger_line - 1].startswith(f"{row.subject},")


@pytest.mark.parametrize("done", range(len(ORDER) + 1))
def test_after_a_withdrawal_at_any_step_no_result_shows_the_person(place, done):
    if done:
        run(place, ORDER[:done])
    crops = {p.read_bytes() for p in (place / "w").rglob("*.png") if GONE in p.parts}
    assert len(crops) == (2 if done else 0)
    write_ledger(place, "2026-11-26")
    run_to_its_end(place)
    check_nothing_shows_the_person(place, crops)
    check_the_report_says_so(place)
    assert len(list((place / "photos" / GONE).rglob("*.png"))) == 2  # no --config.photos was given


@pytest.mark.parametrize("point", ["sheet", "fold", "model"])
def test_after_a_withdrawal_and_a_kill_no_result_shows_the_person(place, monkeypatch, point):
    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        if point == "sheet":
            patch.setattr(photographs, "_sheet", killed)
        elif point == "model":
            patch.setattr(Stub, "fit_everyone", killed)
        else:
            # No table has the person yet, but a config leads to it.
            patch.setattr(Stub, "fit", killed)
        run(place)
    crops = {p.read_bytes() for p in (place / "w").rglob("*.png") if GONE in p.parts}
    write_ledger(place, "2026-11-26")
    run_to_its_end(place)
    check_nothing_shows_the_person(place, crops)
    check_the_report_says_so(place)


def test_the_photographs_are_deleted_if_they_are_passed(place):
    run(place)
    config = remove_config.get_config()
    config.update({"remove": GONE, "photos": str(place / "photos"), "work": str(place / "w")})
    remove.run(config, place / "removals")
    run(place)
    check_nothing_shows_the_person(place, set())
    assert not any(GONE.encode() in data for data in everything(place).values())
    assert not [path for path in place.rglob("*") if GONE in path.name]


def test_several_withdrawals_are_all_reported(place):
    run(place)
    ledger = place / "photos" / "consent.csv"
    ledger.write_text(ledger.read_text().replace("no,yes,no,", "no,yes,no,yes", 2))
    with pytest.raises(UserError, match=r"consent of 2 people is withdrawn.*for each of them"):
        run(place)


def test_a_person_under_a_pseudonym_is_found(place):
    run(place, pseudonymise=True)
    table = place / "photos" / "pseudonyms.csv"
    drawn = dict(line.split(",") for line in table.read_text().split())[GONE]
    write_ledger(place, "2026-11-26")
    run_to_its_end(place, pseudonymise=True)
    for path, data in everything(place / "w", place / "removals").items():
        assert drawn not in str(path) and drawn.encode() not in data, path
        if path.suffix == ".parquet":
            assert drawn not in pd.read_parquet(path).to_csv(), path
