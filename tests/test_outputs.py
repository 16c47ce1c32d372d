"""Files that a stage did not write are never replaced or deleted."""

import json
from pathlib import Path

import pytest

from fer_jax import outputs
from fer_jax.errors import UserError
from fer_jax.workdir import atomic_file, atomic_folder, log_metrics


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A workdir in which a stage has written a.txt, sub/b.txt and checkpoints/1/c."""
    outputs.begin(tmp_path)
    for name in ("a.txt", "sub/b.txt"):
        write(tmp_path / name, "written")
    outputs.claim(tmp_path / "checkpoints", "folder")
    (tmp_path / "checkpoints/1").mkdir(parents=True)
    (tmp_path / "checkpoints/1/c").touch()
    return tmp_path


def write(path: Path, text: str) -> None:
    with atomic_file(path) as temporary:
        temporary.write_text(text)


def test_written_files_are_recorded(folder):
    assert outputs.written(folder) == {"a.txt", "sub/b.txt", "checkpoints/1/c"}
    outputs.delete(folder / "a.txt")
    (folder / "sub/b.txt").unlink()
    assert outputs.written(folder) == {"checkpoints/1/c"}
    assert outputs.written(folder / "sub") == frozenset()


def test_leftovers_of_killed_processes_are_deleted_in_one_folder(folder):
    kept = [folder / "sub/.mine.partial", folder / ".other.1.partial"]
    for path in (folder / "sub/.left.1.partial", kept[1]):
        with pytest.raises(KeyboardInterrupt), pytest.MonkeyPatch.context() as killed:
            killed.setattr(outputs, "_delete_any", lambda path: None)
            with outputs.partial(path):
                path.mkdir()
                (path / "crop.jpg").touch()
                raise KeyboardInterrupt
    kept[0].touch()  # the record does not contain it
    outputs.delete_leftovers(folder / "sub")
    assert {*folder.rglob(".*")} == {*kept}


def test_a_file_of_a_stage_may_be_replaced_and_one_of_the_user_may_not(folder):
    write(folder / "a.txt", "again")
    assert (folder / "a.txt").read_text() == "again"
    (folder / "mine.txt").write_text("original")
    (folder / "link.txt").symlink_to("nowhere")
    for name in ("mine.txt", "link.txt"):
        with pytest.raises(UserError, match=f"{name} is not a file that a stage wrote"):
            write(folder / name, "x")
        with pytest.raises(UserError, match=f"{name} is not a file that a stage wrote"):
            outputs.delete(folder / name)
    assert (folder / "mine.txt").read_text() == "original"


def test_a_file_that_the_user_puts_in_the_place_of_a_deleted_one_is_kept(folder):
    outputs.delete(folder / "a.txt")
    outputs.delete_folder(folder / "checkpoints")
    (folder / "a.txt").write_text("original")
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints/mine").touch()
    with pytest.raises(UserError):
        write(folder / "a.txt", "x")
    with pytest.raises(UserError):
        outputs.claim(folder / "checkpoints", "folder")


def test_a_folder_in_the_place_of_a_file_is_kept(folder):
    (folder / "a.txt").unlink()
    (folder / "a.txt").mkdir()
    with pytest.raises(UserError, match=r"a\.txt is not a file that a stage wrote"):
        write(folder / "a.txt", "x")
    with pytest.raises(UserError, match=r"a\.txt is not a file that a stage wrote"):
        outputs.claim(folder / "a.txt")
    with pytest.raises(UserError, match=r"a\.txt is not a file that a stage wrote"):
        outputs.delete(folder / "a.txt")


def test_a_link_in_the_place_of_a_file_is_kept(folder, tmp_path_factory):
    original = tmp_path_factory.mktemp("originals") / "notes.txt"
    original.write_text("original")
    log_metrics(folder, step=1)
    (folder / "metrics.jsonl").unlink()
    (folder / "metrics.jsonl").symlink_to(original)
    with pytest.raises(UserError, match=r"metrics\.jsonl is not a file that a stage wrote"):
        log_metrics(folder, step=2)
    assert original.read_text() == "original"


def test_deleting_a_folder_keeps_files_of_the_user(folder):
    (folder / "sub/mine.txt").write_text("original")
    outputs.delete_folder(folder / "sub")
    assert [path.name for path in (folder / "sub").iterdir()] == ["mine.txt"]
    (folder / "sub/mine.txt").unlink()
    write(folder / "sub/deep/d.txt", "written")
    outputs.delete_folder(folder / "sub")
    assert not (folder / "sub").exists()


def test_replacing_a_folder_refuses_before_anything_is_deleted(folder):
    def replace() -> None:
        with atomic_folder(folder / "shard") as temporary:
            (temporary / "new").touch()

    replace()
    replace()
    (folder / "shard/mine").write_text("original")
    with pytest.raises(UserError, match="shard/mine is not a file that a stage wrote"):
        replace()
    assert {path.name for path in (folder / "shard").iterdir()} == {"new", "mine"}


def test_a_linked_folder_is_not_written_to_and_not_followed(folder, tmp_path_factory):
    """The link could lead to the user's originals."""
    originals = tmp_path_factory.mktemp("originals")
    (originals / "b.txt").write_text("original")
    (folder / "sub/b.txt").unlink()
    (folder / "sub").rmdir()
    (folder / "sub").symlink_to(originals)
    outputs.delete_folder(folder / "sub")
    for name in ("b.txt", "new.txt"):
        with pytest.raises(UserError, match="a symbolic link that leads out of"):
            write(folder / "sub" / name, "x")
    with pytest.raises(UserError, match="a symbolic link that leads out of"):
        outputs.claim(folder / "sub/checkpoints", "folder")
    with pytest.raises(UserError, match="a symbolic link that leads out of"):
        outputs.delete(folder / "sub/b.txt")
    assert {path.name: path.read_text() for path in originals.iterdir()} == {"b.txt": "original"}


def test_leftovers_of_a_killed_run_are_deleted_and_other_files_are_kept(folder):
    with (folder / outputs.RECORD).open("a") as record:
        record.write('{"partial": ".x.1.partial.png"}\n{"partial": "sub/.y.1.partial"}\n{"fi')
    (folder / ".x.1.partial.png").touch()
    (folder / "sub/.y.1.partial/deep").mkdir(parents=True)
    (folder / ".mine.partial").touch()
    outputs.begin(folder)
    assert {path.name for path in folder.iterdir()} == {
        ".mine.partial", "a.txt", "checkpoints", "sub", outputs.RECORD,
    }  # fmt: skip
    assert [path.name for path in (folder / "sub").iterdir()] == ["b.txt"]
    write(folder / "later.txt", "after half a line")
    assert "later.txt" in outputs.written(folder)


@pytest.mark.parametrize(
    "name", [".", "./a", "/etc/passwd", "../outside", "a/../../b", "", "a\0", 3, ["a"]]
)
def test_recorded_names_that_lead_out_of_the_folder_are_ignored(tmp_path, name):
    lines = [json.dumps({"partial": name}), json.dumps({"file": "a"})]
    (tmp_path / outputs.RECORD).write_text("\n".join(lines) + "\n")
    (tmp_path / "a").touch()
    assert outputs.written(tmp_path) == {"a"}
    outputs.begin(tmp_path)
    assert (tmp_path / "a").is_file()


def test_a_foreign_file_with_the_name_of_the_record_is_kept(tmp_path):
    (tmp_path / outputs.RECORD).write_text("my notes\n")
    with pytest.raises(UserError, match="is not a record of what a stage wrote"):
        outputs.begin(tmp_path)
    outputs.abandon(tmp_path, [outputs.RECORD])
    assert (tmp_path / outputs.RECORD).read_text() == "my notes\n"


def test_a_replaced_record_is_read_again(tmp_path):
    """The folder may have been deleted and created again, with the same inode for its record."""
    outputs.begin(tmp_path)
    for name in ("a", "b"):
        write(tmp_path / name, "written")
    before = (tmp_path / outputs.RECORD).read_bytes()
    outputs.delete(tmp_path / "b")
    assert outputs.written(tmp_path) == {"a"}
    (tmp_path / "b").touch()
    with (tmp_path / outputs.RECORD).open("r+b") as record:  # the same inode, and longer
        record.truncate()
        record.write(before + b"\n" * 1000)
    assert outputs.written(tmp_path) == {"a", "b"}
