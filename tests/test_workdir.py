import errno
import json
import os
import shutil
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


def test_a_second_run_returns_at_once_with_the_same_summary(tmp_path):
    calls = []
    run = make_stage(calls)
    first = run(make_config(), tmp_path / "w")
    second = run(make_config(), tmp_path / "w")
    assert calls == [3]
    assert second == first == json.loads((tmp_path / "w/done.json").read_text())["summary"]


def test_another_config_in_the_same_workdir_is_an_error_that_names_the_field(tmp_path):
    run = make_stage([])
    run(make_config(), tmp_path)
    with pytest.raises(UserError, match="size: 3 there, 4 here"):
        run(make_config(size=4), tmp_path)


def test_own_or_free_gives_each_config_its_own_folder(tmp_path):
    run, first = make_stage([]), tmp_path / "w"

    def used(config):
        folder = workdir.own_or_free(config, first)
        run(config, folder)
        return folder.name

    given = [make_config(), make_config(size=4), make_config(), make_config(size=5)]
    assert [used(config) for config in given] == ["w", "w-2", "w", "w-3"]
    (tmp_path / "w-2" / "config.json").write_text("damaged")
    assert used(make_config(size=4)) == "w-4"


def test_a_failed_run_is_not_finished(tmp_path):
    calls = []
    run = make_stage(calls)
    with pytest.raises(RuntimeError):
        run(make_config(size=-1), tmp_path)
    assert not (tmp_path / "done.json").exists()
    with pytest.raises(RuntimeError):
        run(make_config(size=-1), tmp_path)
    assert calls == [-1, -1]


def test_the_findings_of_a_refused_run_are_replaced_by_the_corrected_run(tmp_path):
    @workdir.stage(inputs=lambda config: [])
    def run(config, folder):
        with workdir.atomic_file(folder / "leaks" / "leaks.csv") as temporary:
            temporary.write_text(str(config.size))
        if config.size < 0:
            raise UserError("a leak")
        return {}

    with pytest.raises(UserError, match="a leak"):
        run(make_config(size=-1), tmp_path / "w")
    assert {path.name for path in (tmp_path / "w").iterdir()} == {"leaks", "written.jsonl"}
    run(make_config(), tmp_path / "w")
    assert (tmp_path / "w" / "leaks" / "leaks.csv").read_text() == "3"


AT_WORK = """
import sys, time
from fer_jax import locking, workdir
from tests.test_workdir import make_config

@workdir.stage(inputs=lambda config: [])
def run(config, folder):
    with workdir.atomic_file(folder / "a.txt") as temporary:
        temporary.touch()
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
            (writing,) = folder.glob(".a.*.partial.txt")
            with pytest.raises(UserError, match=f"another process is working in {folder}"):
                run(make_config(), folder)
            assert not calls
            assert {path.name for path in folder.iterdir()} >= {"config.json", writing.name}
        finally:
            first.kill()
    run(make_config(), folder)
    assert calls == [3]
    assert not writing.exists()


def test_two_writers_of_one_process_id_do_not_share_a_temporary_folder(tmp_path):
    """Processes on two hosts or in two containers may have the same id."""
    for write in (workdir.atomic_folder, workdir.atomic_file):
        with write(tmp_path / "a") as one, write(tmp_path / "a") as other:
            assert one != other
            for path in (one, other):
                if write is workdir.atomic_file:
                    path.touch()
        shutil.rmtree(tmp_path / "a", ignore_errors=True)


def test_temporary_files_that_the_stage_did_not_write_are_kept(tmp_path):
    calls = []
    child = tmp_path / "work" / "child"
    make_stage(calls)(make_config(), child)
    for folder in (child, tmp_path / "work"):
        (folder / ".a.1.partial").touch()
    make_stage(calls)(make_config(), tmp_path / "work")
    assert len(list(tmp_path.rglob("*.partial"))) == 2


@pytest.mark.parametrize(
    "name", ["config.json", "inputs.json", "written.jsonl", "environment.json"]
)
def test_a_file_of_the_user_with_the_name_of_a_record_is_kept(tmp_path, name):
    (tmp_path / name).write_text('{"my": "own"}\n')
    with pytest.raises(UserError):
        make_stage([])(make_config(), tmp_path)
    assert (tmp_path / name).read_text() == '{"my": "own"}\n'
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("layout", ["inside", "outside", "linked", "identical", "above"])
def test_an_input_that_overlaps_with_the_workdir_is_refused(tmp_path, layout):
    folder = tmp_path / "work"
    photos = {"inside": folder / "faces", "identical": folder, "outside": tmp_path / "photos"}.get(
        layout, folder / "faces"
    )
    photos.mkdir(parents=True)
    (photos / "1.png").write_bytes(b"original")
    given = photos
    if layout == "linked":
        given = tmp_path / "link"
        given.symlink_to(photos)
    elif layout == "above":
        given = tmp_path
    calls = []
    if layout == "outside":
        make_stage(calls)(make_config(given), folder)
    else:
        with pytest.raises(UserError, match="is inside"):
            make_stage(calls)(make_config(given), folder)
    assert calls == ([3] if layout == "outside" else [])
    assert (photos / "1.png").read_bytes() == b"original"


def test_an_input_in_another_stages_workdir_within_this_one_is_allowed(tmp_path):
    calls = []
    make_stage(calls)(make_config(), tmp_path / "work" / "first")
    (tmp_path / "work/first/faces").mkdir()
    for source in ("first", "first/faces"):
        make_stage(calls)(make_config(tmp_path / "work" / source), tmp_path / "work")
        shutil.rmtree(tmp_path / "work/config.json", ignore_errors=True)
        (tmp_path / "work/config.json").unlink()
    assert len(calls) == 3


def test_the_stage_runs_without_locks_if_the_system_has_none(tmp_path, monkeypatch):
    def no_locks(descriptor, how):
        raise OSError(errno.ENOLCK, "no locks available")

    calls = []
    monkeypatch.setattr(locking.fcntl, "flock", no_locks)
    make_stage(calls)(make_config(), tmp_path / "nfs")
    monkeypatch.setattr(locking, "fcntl", None)
    make_stage(calls)(make_config(), tmp_path / "windows")
    assert len(calls) == 2


@pytest.mark.parametrize("grows", [True, False])
def test_changed_and_missing_inputs_are_found(tmp_path, grows):
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


DAMAGED_JSON = {
    "nothing": b"",
    "cut short": b'{"summary": {"a": 1',
    "a list": b"[1, 2]",
    "a number": b"3",
    "not a number": b"NaN",
    "null": b"null",
    "text": b"hello",
    "a key twice": b'{"summary": {}, "summary": {}}',
    "nested too deeply": b'{"summary": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "a number too long": b'{"summary": ' + b"9" * 5_000 + b"}",
    "another encoding": '{"summary": {"a": "é"}}'.encode("latin-1"),
    "UTF-16": '{"summary": {}}'.encode("utf-16"),
    "binary": bytes(range(256)),
}


@pytest.mark.parametrize("content", DAMAGED_JSON.values(), ids=DAMAGED_JSON)
def test_the_error_for_a_damaged_json_file_is_one_line(tmp_path, content):
    (tmp_path / "done.json").write_bytes(content)
    with pytest.raises(UserError, match=r"cannot read .*done\.json") as caught:
        workdir.read_json(tmp_path / "done.json", summary=dict)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


@pytest.mark.parametrize("name", ["config.json", "inputs.json", "done.json"])
def test_a_stage_with_a_damaged_file_does_not_run(tmp_path, name):
    calls = []
    run = make_stage(calls)
    run(make_config(), tmp_path)
    (tmp_path / name).write_text("[]")
    with pytest.raises(UserError, match=f"cannot read .*{name}"):
        run(make_config(), tmp_path)
    assert calls == [3]


def test_the_error_for_a_missing_json_field_is_one_line(tmp_path):
    workdir.write_json(tmp_path / "done.json", {"summary": [1]})
    with pytest.raises(UserError, match="no field 'summary' of the type dict"):
        workdir.read_json(tmp_path / "done.json", summary=dict)
    os.mkfifo(tmp_path / "pipe.json")
    for name, reason in (("pipe.json", "is not a file"), ("absent.json", "does not exist")):
        with pytest.raises(UserError, match=reason):
            workdir.read_json(tmp_path / name)


def test_damaged_lines_of_the_metrics_are_counted(tmp_path, capsys):
    (tmp_path / "metrics.jsonl").write_bytes(
        b'{"time": 1, "step": 1, "a": 2}\n\xff\xfe\n[1]\n{"step": "x"}\n{"time": null}\n'
        b'{"step": 2}\n{"ti'
    )
    assert workdir.read_metrics(tmp_path) == [{"time": 1, "step": 1, "a": 2}, {"step": 2}]
    assert "metrics.jsonl: skipped 4 damaged lines" in capsys.readouterr().err
    assert workdir.read_metrics(tmp_path / "nowhere") == []


@pytest.mark.parametrize("revisits", [True, False])
def test_a_workdir_of_another_stage_is_refused_and_unchanged(tmp_path, revisits):
    make_stage([])(make_config(), tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    other = ConfigDict({**make_config().to_dict(), "stage": "other"}).lock()
    with pytest.raises(UserError, match="is a workdir of the stage example"):
        make_stage([], revisits=revisits)(other, tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


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


def test_the_fingerprint_changes_with_every_change_of_a_folder(tmp_path):
    root, elsewhere = tmp_path / "photos", tmp_path / "elsewhere"
    for folder in (root, elsewhere):
        folder.mkdir()
    (root / "1.png").write_bytes(b"one")
    (root / "linked").symlink_to(elsewhere)
    (root / "circle").symlink_to(root)
    (root / "broken").symlink_to(tmp_path / "nowhere")
    seen = [workdir.fingerprint(root)]
    status = (root / "1.png").stat()
    os.utime(root / "1.png", (1, 1))
    assert workdir.fingerprint(root) == seen[0]  # a copy with another date has the same fingerprint
    (root / "1.png").write_bytes(b"two")  # the same length and date
    os.utime(root / "1.png", ns=(status.st_atime_ns, status.st_mtime_ns))
    seen.append(workdir.fingerprint(root))
    (elsewhere / "2.png").write_bytes(b"new")
    seen.append(workdir.fingerprint(root))
    (tmp_path / "nowhere").write_bytes(b"")
    seen.append(workdir.fingerprint(root))
    assert len(set(seen)) == len(seen)


def test_files_that_an_input_names_count_as_inputs(tmp_path):
    ledger = tmp_path / "consent.csv"
    calls = []

    @workdir.stage(inputs=lambda config: [], reads=lambda config: [ledger], grows=True)
    def run(config, folder):
        calls.append(ledger.exists())
        return {}

    run(make_config(), tmp_path / "w")
    ledger.write_text("subject,share,train,demo,revoked\n")
    run(make_config(), tmp_path / "w")
    run(make_config(), tmp_path / "w")
    assert calls == [False, True]


def test_the_fingerprint_of_a_finished_stage_is_that_of_done_json(tmp_path):
    workdir.write_json(tmp_path / "config.json", {"stage": "example"})
    workdir.write_json(tmp_path / "done.json", {"summary": 1})
    before = workdir.fingerprint(tmp_path)
    (tmp_path / "metrics.jsonl").write_text("{}\n")
    assert workdir.fingerprint(tmp_path) == before
    workdir.write_json(tmp_path / "done.json", {"summary": 2})
    assert workdir.fingerprint(tmp_path) != before
    assert workdir.fingerprint(tmp_path / "nowhere") == "absent"


def test_the_fingerprint_of_another_folder_with_a_done_json_covers_all_files(tmp_path):
    workdir.write_json(tmp_path / "done.json", {"summary": 1})
    before = workdir.fingerprint(tmp_path)
    (tmp_path / "consent.csv").write_text("subject,share,train,demo,revoked\n")
    assert workdir.fingerprint(tmp_path) != before
