"""How commands end: the line on the terminal, the exit code, and the file with the traceback."""

import tempfile
from pathlib import Path

import pytest
from absl import flags
from ml_collections import config_flags

from fer_jax import failures, outputs
from fer_jax.errors import TerminatedError, UserError


@pytest.fixture(autouse=True)
def temporary_folder(tmp_path, monkeypatch):
    """Replaces the folder of temporary files, for tracebacks if there is no workdir."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def begun(tmp_path):
    """A workdir in which a stage has begun."""
    (tmp_path / "w").mkdir()
    outputs.begin(tmp_path / "w")
    return tmp_path / "w"


def raised(error):
    try:
        raise error
    except BaseException as caught:
        return caught


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UserError("a.csv:\n  line 3\n\n  line 4"), 2, "error: a.csv:; line 3; line 4"),
        (UserError("no \x1b[31m.jpg"), 2, r"error: no \x1b[31m.jpg"),
        (TerminatedError("terminated"), 143, "error: terminated"),
        (KeyboardInterrupt(), 130, "error: interrupted; the same command continues from here"),
    ],
)
def test_expected_errors_are_one_line_and_write_no_file(begun, capsys, error, code, line):
    before = sorted(begun.iterdir())
    assert failures.report(raised(error), begun) == code
    assert capsys.readouterr().err == line + "\n"
    assert sorted(begun.iterdir()) == before


def test_unexpected_errors_are_one_line_and_their_tracebacks_are_appended(begun, capsys):
    for number in (1, 2):
        assert failures.report(raised(KeyError(f"lost {number}")), begun) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line == (
            f"error: unexpected error: KeyError: 'lost {number}'; the traceback is in "
            f"{begun}/error.log; please report it"
        )
    log = (begun / "error.log").read_text()
    assert log.count("Traceback (most recent call last)") == 2
    assert "KeyError: 'lost 1'" in log and "KeyError: 'lost 2'" in log
    assert "fer_jax 0" in log and "jax" in log
    assert "error.log" in outputs.written(begun)  # so that `remove` finds it


def test_a_file_that_is_not_ours_is_not_appended_to(begun, temporary_folder, tmp_path, capsys):
    original = tmp_path / "notes.txt"
    original.write_text("mine")
    for make in (
        lambda log: log.write_text("mine"),
        lambda log: log.symlink_to(original),
        lambda log: log.mkdir(),
    ):
        log = begun / "error.log"
        make(log)
        assert failures.report(raised(ValueError("x")), begun) == 1
        (written,) = temporary_folder.iterdir()
        assert str(written) in capsys.readouterr().err
        assert "ValueError: x" in written.read_text()
        written.unlink()
        log.rmdir() if log.is_dir() else log.unlink()
    assert original.read_text() == "mine"


def test_a_folder_in_which_no_stage_began_is_unchanged(tmp_path, temporary_folder, capsys):
    photos = tmp_path / "photos"
    photos.mkdir()
    for workdir in (photos, tmp_path / "absent", None):
        assert failures.report(raised(ValueError("x")), workdir) == 1
    assert len(list(temporary_folder.iterdir())) == 3
    assert not list(photos.iterdir()) and not (tmp_path / "absent").exists()


def test_if_no_file_can_be_written_the_line_says_how_to_see_the_traceback(monkeypatch, capsys):
    monkeypatch.setattr(tempfile, "tempdir", str(Path("/proc/nowhere")))
    assert failures.report(raised(ValueError("x"))) == 1
    assert "ValueError: x; --verbosity=1 shows the traceback" in capsys.readouterr().err


@pytest.mark.parametrize("given", [["--config.remove=ann"], ["--config.remove", "ann"]])
def test_the_log_does_not_keep_the_id_of_a_person_who_is_removed(begun, monkeypatch, given):
    argv = ["launch.py", "--config=configs/remove.py", *given, "--workdir=w"]
    monkeypatch.setattr(failures.sys, "argv", argv)
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=argv)
    values(argv, known_only=True)
    monkeypatch.setattr(failures.flags, "FLAGS", values)
    failures.report(raised(KeyError("no row of ann")), begun)
    log = (begun / "error.log").read_text()
    assert "ann" not in log and "KeyError: 'no row of [removed]'" in log and "--workdir=w" in log
