"""The tables of headline results agree with the files of docs/results/."""

import json
import re
import subprocess

import pytest

from benchmarks import headlines
from fer_jax.errors import UserError


def measured(value: float) -> dict:
    return {"value": value, "low": value - 0.1, "high": value + 0.1}


def found(**accuracies: float) -> dict:
    """The part of a data set's results that `headlines` reads, for methods of these accuracies."""
    main, *others = accuracies
    protocol = {"seeds": [0], "folds": 5}
    facts = {"people": 15, "photographs": 90, "choices": {}, "protocol": protocol, "no_face": 0.0}
    gain = {"accuracy": measured(0.05)}
    return {
        "main": main,
        "labels": ["happy", "neutral", "sad"],
        "runs": {name: facts | {"accuracy": measured(value)} for name, value in accuracies.items()},
        "comparisons": [
            {"second": name, "comparable": True, "difference": gain} for name in others
        ],
        "folders": {name: "../fer" if name == "fer" else f"yale/{name}" for name in accuracies},
    }


JAX = {"devices": ["cpu:cpu", "cpu:cpu"], "packages": {"jax": "0.10.2", "numpy": "2.4.1"}}
FER = {"packages": {"fer": "25.10.3", "tensorflow-cpu": "2.21.0"}}


def write_environment(folder, revision="0123456789ab", more=JAX):
    folder.mkdir(parents=True, exist_ok=True)
    environment = {"git_revision": revision, "python": "3.11.7", "cpu_count": 2}
    (folder / "environment.json").write_text(json.dumps(environment | more))


@pytest.fixture
def workdir(tmp_path, monkeypatch):
    """A workdir of `real_people` with one data set; results are stored in a separate folder."""
    monkeypatch.setattr(headlines, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(headlines, "commit", lambda revision, _: revision[:7])
    (tmp_path / "results").mkdir()
    folder = tmp_path / "real_people"
    for method in ("default", "hog"):
        write_environment(folder / "yale" / method)
    write_environment(tmp_path / "fer", "fedcba987654", FER)
    (folder / "yale.json").write_text(json.dumps(found(default=0.8, hog=0.7)))
    return folder


def test_the_documents_contain_the_stored_results():
    """If this fails, run `python -m benchmarks headlines`."""
    assert headlines.render_documents(write=False) == []
    for name in ("README.md", "docs/results.md"):
        assert headlines.BLOCK.search((headlines.ROOT / name).read_text())


def test_every_stored_result_has_command_seed_revision_and_machine():
    for file in headlines.RESULTS.glob("*.json"):
        for one in headlines.read(file.stem).methods.values():
            assert one.command and one.seeds
            assert one.revision != "not recorded"
            assert one.machine != "a machine that was not recorded"


def test_a_workdir_becomes_a_record_with_revision_and_machine(workdir):
    headlines.update_real(workdir)
    stored = headlines.read("yale")
    assert (stored.people, stored.photographs, stored.folds) == (15, 90, 5)
    assert stored.methods["default"].difference is None
    assert stored.methods["hog"].difference.value == 0.05
    for one in stored.methods.values():
        assert one.revision == "0123456"
        assert one.machine == "2 CPU cores, device cpu, Python 3.11.7, jax 0.10.2"
        assert "yale=WORK/yale" in one.command
    headlines.update_real(workdir, "abcdef0")
    assert headlines.read("yale").methods["hog"].revision == "abcdef0"


def test_each_method_has_the_machine_and_revision_of_its_own_folder(workdir):
    results = found(default=0.8, fer=0.6)
    results["runs"]["fer"]["no_face"] = 2.0
    (workdir / "yale.json").write_text(json.dumps(results))
    headlines.update_real(workdir)
    stored = headlines.read("yale").methods
    assert (stored["default"].revision, stored["fer"].revision) == ("0123456", "fedcba9")
    assert stored["fer"].machine == "2 CPU cores, Python 3.11.7, fer 25.10.3, tensorflow-cpu 2.21.0"
    assert stored["default"].note == ""
    assert stored["fer"].note == "it finds no face in 2 photographs, which count as errors"
    (workdir.parent / "fer" / "environment.json").unlink()
    with pytest.raises(UserError, match=r"fer/environment\.json .*does not exist"):
        headlines.update_real(workdir)
    del results["folders"]
    (workdir / "yale.json").write_text(json.dumps(results))
    with pytest.raises(
        UserError, match=r"yale\.json does not name the folders of its runs; repeat"
    ):
        headlines.update_real(workdir)


def test_a_figure_has_the_revision_of_a_commit(tmp_path, monkeypatch):
    monkeypatch.setattr(headlines, "ROOT", tmp_path)
    author = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    for words in (["init", "-q"], [*author, "commit", "-q", "--allow-empty", "-m", "first"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    short = headlines.commit("HEAD", tmp_path)
    assert re.fullmatch(r"[0-9a-f]{7,}", short)
    assert headlines.commit(short, tmp_path) == short
    with pytest.raises(UserError, match=f"'{short}-dirty': the working tree had uncommitted"):
        headlines.commit(f"{short}-dirty", tmp_path)
    for unknown in ("no git checkout", "0" * 12):
        with pytest.raises(UserError, match=f"'{unknown}': it is not a commit of this"):
            headlines.commit(unknown, tmp_path)


def test_a_method_that_was_not_measured_again_keeps_its_figures_without_the_difference(workdir):
    (workdir / "yale.json").write_text(json.dumps(found(default=0.8, hog=0.7, fer=0.6)))
    headlines.update_real(workdir, "first")
    (workdir / "yale.json").write_text(json.dumps(found(default=0.9, hog=0.7)))
    headlines.update_real(workdir, "second")
    stored = headlines.read("yale").methods
    assert list(stored) == ["default", "hog", "fer"]
    assert "real_people" in stored["hog"].command and "floors --method=fer" in stored["fer"].command
    assert (stored["default"].accuracy.value, stored["default"].revision) == (0.9, "second")
    assert (stored["fer"].accuracy.value, stored["fer"].revision) == (0.6, "first")
    assert stored["fer"].difference is None


def test_a_changed_result_is_reported_and_written(workdir, tmp_path, monkeypatch):
    monkeypatch.setattr(headlines, "ROOT", tmp_path)
    monkeypatch.setattr(headlines, "REAL", {"yale": headlines.REAL["yale"]})
    page = tmp_path / "README.md"
    page.write_text("a\n<!-- headlines real-people -->\n<!-- end of headlines -->\nb\n")
    headlines.update_real(workdir)
    assert headlines.render_documents(write=False) == ["README.md"]
    assert headlines.render_documents(write=True) == ["README.md"]
    assert headlines.render_documents(write=True) == []
    text = page.read_text()
    assert text.startswith("a\n<!--") and text.endswith("-->\nb\n")
    assert "| **80.0** (70.0 to 90.0) | not measured | 70.0 |" in text


def test_the_text_states_the_measured_differences_only(workdir, monkeypatch):
    monkeypatch.setattr(headlines, "REAL", {"yale": headlines.REAL["yale"]})
    headlines.update_real(workdir)
    over_hog = "The default minus HOG: +5.0 points (−5.0 to +15.0) on yale.\n"
    assert headlines.real_people().endswith(f"|\n\n{over_hog}")
    assert "`fer`، به" not in headlines.real_people_fa()
    (workdir / "yale.json").write_text(json.dumps(found(default=0.8, hog=0.7, fer=0.6)))
    headlines.update_real(workdir)
    over_fer = over_hog.replace("HOG", "`fer`")
    assert headlines.real_people().endswith(f"|\n\n{over_hog}\n{over_fer}")
    assert "پیش‌فرض منهای `fer`، به درصد: +۵٫۰ (−۵٫۰ تا +۱۵٫۰) در yale.\n" in (
        headlines.real_people_fa()
    )


def test_an_unknown_block_and_an_empty_workdir_are_errors(tmp_path, monkeypatch):
    monkeypatch.setattr(headlines, "ROOT", tmp_path)
    (tmp_path / "README.md").write_text("<!-- headlines real -->\n<!-- end of headlines -->\n")
    with pytest.raises(UserError, match=r"README\.md: there is no block real; use one of real-peo"):
        headlines.render_documents(write=True)
    with pytest.raises(UserError, match=r"contains none of kdef55\.json"):
        headlines.update_real(tmp_path)


def test_persian_tables_have_persian_digits():
    shown = headlines.real_people_fa()
    assert "۵۵" in shown and "٫" in shown
    numbers = shown.replace("kdef55", "").replace("ikfdb15", "")
    assert not any(digit in numbers for digit in "0123456789")
