import errno
import json
import subprocess
import sys
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from fer_jax import locking, workdir
from fer_jax.errors import UserError


def make_stage(calls, **options):
    @workdir.stage(inputs=lambda config: [config.source], **options)
    def run(config, folder):
        calls.append(config.size)
        if config.size < 0:
            raise RuntimeError("killed")
        return {"size": config.size}

    return run


def make_config(source="", **fields):
    return ConfigDict({"stage": "example", "size": 3, "source": str(source), **fields}).lock()


def test_second_run_returns_at_once_with_the_same_summary(tmp_path):
    calls = []
    run = make_stage(calls)
    first = run(make_config(), tmp_path / "w")
    second = run(make_config(), tmp_path / "w")
    assert calls == [3]
    assert second == first == json.loads((tmp_path / "w/done.json").read_text())["summary"]


def test_another_config_stops_and_names_the_field(tmp_path):
    run = make_stage([])
    run(make_config(), tmp_path)
    with pytest.raises(UserError, match="size: 3 there, 4 here"):
        run(make_config(size=4), tmp_path)


def test_a_run_that_failed_is_not_done(tmp_path):
    calls = []
    run = make_stage(calls)
    with pytest.raises(RuntimeError):
        run(make_config(size=-1), tmp_path)
    assert not (tmp_path / "done.json").exists()
    with pytest.raises(RuntimeError):
        run(make_config(size=-1), tmp_path)
    assert calls == [-1, -1]


AT_WORK = """
import sys, time
from fer_jax import locking, workdir
from tests.test_workdir import make_config

@workdir.stage(inputs=lambda config: [])
def run(config, folder):
    print("at work", flush=True)
    time.sleep(60)

run(make_config(), sys.argv[1])
"""


def test_a_second_process_is_refused_until_the_first_has_ended(tmp_path):
    folder = tmp_path / "work"
    command = [sys.executable, "-c", AT_WORK, str(folder)]
    root = Path(__file__).parents[1]
    calls = []
    run = make_stage(calls)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as first:
        try:
            assert first.stdout.readline() == "at work\n"
            (folder / ".a.1.partial").touch()  # what the first is writing
            with pytest.raises(UserError, match=f"another process is at work in {folder}"):
                run(make_config(), folder)
            assert not calls
            assert {path.name for path in folder.iterdir()} >= {"config.json", ".a.1.partial"}
        finally:
            first.kill()
    run(make_config(), folder)
    assert calls == [3]
    assert not (folder / ".a.1.partial").exists()


def test_what_another_stage_within_is_writing_is_left_alone(tmp_path):
    calls = []
    child = tmp_path / "work" / "child"
    make_stage(calls)(make_config(), child)
    for folder in (child, tmp_path / "work", tmp_path / "work" / "plain"):
        folder.mkdir(exist_ok=True)
        (folder / ".a.1.partial").touch()
    make_stage(calls)(make_config(), tmp_path / "work")
    assert [path.parent for path in tmp_path.rglob("*.partial")] == [child]


def test_where_there_are_no_locks_the_stage_runs_all_the_same(tmp_path, monkeypatch):
    def no_locks(descriptor, how):
        raise OSError(errno.ENOLCK, "no locks available")

    calls = []
    monkeypatch.setattr(locking.fcntl, "flock", no_locks)
    make_stage(calls)(make_config(), tmp_path / "nfs")
    monkeypatch.setattr(locking, "fcntl", None)
    make_stage(calls)(make_config(), tmp_path / "windows")
    assert len(calls) == 2


@pytest.mark.parametrize("grows", [True, False])
def test_changed_inputs(tmp_path, grows):
    source = tmp_path / "videos"
    source.mkdir()
    (source / "a.mp4").write_bytes(b"1")
    calls = []
    run = make_stage(calls, grows=grows)
    run(make_config(source), tmp_path / "w")
    (source / "b.mp4").write_bytes(b"2")
    if grows:
        run(make_config(source), tmp_path / "w")
        assert calls == [3, 3]
    else:
        with pytest.raises(UserError, match="changed since"):
            run(make_config(source), tmp_path / "w")


def test_a_stage_that_revisits_runs_again(tmp_path):
    calls = []
    run = make_stage(calls, revisits=True)
    run(make_config(), tmp_path)
    run(make_config(), tmp_path)
    assert calls == [3, 3]


def test_a_path_that_is_a_file_is_a_user_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        make_stage([])(make_config(), tmp_path / "file" / "w")


def test_atomic_file_leaves_nothing_behind_when_it_fails(tmp_path):
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(RuntimeError), workdir.atomic_file(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert (tmp_path / "a.txt").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_atomic_folder_replaces_the_older_one(tmp_path):
    for content in ("old", "new"):
        with workdir.atomic_folder(tmp_path / "f") as temporary:
            (temporary / content).write_text(content)
    assert [p.name for p in (tmp_path / "f").iterdir()] == ["new"]


def test_fingerprint_of_a_stage_is_that_of_its_result(tmp_path):
    workdir.write_json(tmp_path / "done.json", {"summary": 1})
    before = workdir.fingerprint(tmp_path)
    (tmp_path / "metrics.jsonl").write_text("{}\n")
    assert workdir.fingerprint(tmp_path) == before
    workdir.write_json(tmp_path / "done.json", {"summary": 2})
    assert workdir.fingerprint(tmp_path) != before
    assert workdir.fingerprint(tmp_path / "nowhere") == "absent"
