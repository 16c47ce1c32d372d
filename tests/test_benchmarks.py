"""`python -m benchmarks` lists every measurement; each accepts the flags that documents show."""

import importlib
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.__main__ import summaries
from fer_jax import console
from fer_jax.metrics import bootstrap
from fer_jax.workdir import read_json

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "benchmarks").glob("*.py")),
]
COMMAND = re.compile(r"python3? -m benchmarks (\w+)((?:[^\n`\\#{]|\\\n)*)")


def documented() -> dict[str, set[str]]:
    """The flags that documents show for each measurement."""
    found: dict[str, set[str]] = {}
    for page in PAGES:
        for name, arguments in COMMAND.findall(page.read_text()):
            words = shlex.split(arguments.replace("\\\n", " "))
            flags = {word.partition("=")[0] for word in words if word.startswith("--")}
            found.setdefault(name, set()).update(flags - {"--help"})
    return found


def test_the_list_names_every_measurement():
    shown = subprocess.run(
        [sys.executable, "-m", "benchmarks"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert len(summaries()) >= 19
    for name, summary in summaries().items():
        assert re.search(rf"^  {name} +{re.escape(summary)}$", shown, re.MULTILINE)


def test_an_unknown_name_is_an_error_that_lists_the_known_ones():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "coverag"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "'coverag'" in done.stderr and "coverage" in done.stderr


def test_help_explains_a_measurement_and_names_the_packages_that_it_needs():
    shown = subprocess.run(
        [sys.executable, "-m", "benchmarks", "floors", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for needed in ("benchmarks/requirements-fer.txt", "scikit-image", "--folds-of"):
        assert needed in shown
    assert "usage: python -m benchmarks floors [-h]" in shown


def test_documents_name_only_measurements_that_exist():
    assert set(documented()) - {"NAME"} <= set(summaries())


@pytest.mark.parametrize("name", sorted(summaries()))
def test_help_explains_the_flags_that_documents_show(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])
    with pytest.raises(SystemExit) as end:
        runpy.run_module(f"benchmarks.{name}", run_name="__main__")
    shown = capsys.readouterr().out
    assert end.value.code == 0
    unknown = {
        flag
        for flag in documented().get(name, ())
        if not re.search(rf"{flag}\b", shown) and not flag.startswith("--config.")
    }
    assert not unknown


def test_the_table_of_real_people_stands_alone(tmp_path, monkeypatch, capsys, restored_logging):
    """The output of the stages is not mixed with the lines of the table."""

    real_people = importlib.import_module("benchmarks.real_people")

    def measured(method, photographs, workdir):
        console.say(f"[crossval] {method}")
        return tmp_path

    monkeypatch.setattr(real_people, "run", measured)
    monkeypatch.setattr(real_people, "read_predictions", lambda *_: None)
    monkeypatch.setattr(real_people.results, "evaluate", lambda *_, **__: {})
    monkeypatch.setattr(real_people, "rows", lambda name, _: [f"| {name} |"])
    monkeypatch.setattr(
        sys, "argv", ["real_people", "--photographs", "some=here", f"--workdir={tmp_path}"]
    )
    sys.argv += ["--fer", f"some={tmp_path / 'elsewhere'}"]
    real_people.main()
    assert [line[0] for line in capsys.readouterr().out.splitlines()] == ["|"] * 3
    folders = read_json(tmp_path / "some.json")["folders"]
    assert (folders["default"], folders["fer"]) == (".", "elsewhere")


@pytest.mark.parametrize("method", ["hog", "fer"])
def test_a_floor_records_its_environment(method, tmp_path):
    floors = importlib.import_module("benchmarks.floors")
    rows = pd.DataFrame({"fold": [0], "seed": [0]})
    floors.write(tmp_path, method, rows, ["happy", "sad"], "grouped_kfold")
    found = read_json(tmp_path / "environment.json", python=str, cpu_count=int, git_revision=str)
    assert set(found["packages"]) == set(floors.PACKAGES[method])


def test_person_relative_accuracies_have_the_interval_of_reports():
    person_relative = importlib.import_module("benchmarks.person_relative")
    assert person_relative.accuracy([1.0] * 15) == "100.0 (78.2 to 100.0)"  # Clopper and Pearson
    hits = np.array([1.0, 0.5, 0.5, 0.0, 1.0])
    four_photographs = 4 * np.stack([hits, 1 - hits], axis=-1)[:, None]
    found = bootstrap.estimate(four_photographs, samples=10_000, seed=0)["accuracy"]
    low, high = 100 * found.low, 100 * found.high
    assert person_relative.accuracy(list(hits)) == f"60.0 ({low:.1f} to {high:.1f})"


@pytest.mark.parametrize(
    ("most", "kept"), [(None, list(range(10))), (10, list(range(10))), (4, [0, 4, 8]), (1, [0])]
)
def test_thinned_frames_are_evenly_spaced(most, kept):
    extraction_speed = importlib.import_module("benchmarks.extraction_speed")
    assert extraction_speed.thinned(iter(range(10)), most) == (kept, 10)


def test_the_speed_of_detection_is_compared_with_the_same_work_of_ours():
    extraction_speed = importlib.import_module("benchmarks.extraction_speed")
    detection = extraction_speed.Detection({"ours": lambda _: None, "peer": lambda _: None}, None)
    detection.sampled, detection.searched = 10, 2
    detection.decoding = [np.array([0.1, 0.2])]
    detection.spent = {"ours": [np.array([0.1, 0.2])], "peer": [np.array([0.3, 0.4])]}
    box, other, near = [0, 0, 10, 10], [50, 50, 60, 60], [1, 0, 11, 10]
    detection.found = {
        "ours": [np.array([box, other]), np.zeros((0, 4))],
        "peer": [np.array([near]), np.array([box])],
    }
    extraction = extraction_speed.Variant(
        "now", ROOT, seconds=[9.0, 2.0], processor=[9.0, 3.0], faces=7
    )
    head, _, *lines = extraction_speed.detection_table(detection, extraction)
    assert head.startswith("| 2 of 10 ")
    assert lines == [
        "| ours, extract | 5.0 | 300.0 | 1.00 | 1.00 | 7 |  |  |",
        "| ours, detection | 10.0 | 200.0 | 1.00 | 1.00 | 2 | 2 | 2 |",
        "| peer, detection | 3.3 | 400.0 | 3.00 | 2.00 | 2 | 1 | 1 |",
        "| peer, decoding + detection | 2.5 | 600.0 | 2.00 | 2.00 | 2 | 1 | 1 |",
    ]
