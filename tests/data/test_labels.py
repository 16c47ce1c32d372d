"""Labels of photographs: both layouts, and every problem told at once with its place."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from fer_jax.data.labels import read_labels
from fer_jax.errors import UserError

FOUR = ("angry", "happy", "neutral", "sad")


def picture(path: Path, value: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((6, 6, 3), value, np.uint8))
    return path


def table(root: Path, *lines: str) -> Path:
    file = root / "labels.csv"
    file.write_text("\n".join(("path,subject,emotion,split", *lines)) + "\n", encoding="utf-8")
    return file


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for subject in ("ann", "بهار"):
        for emotion in ("Happy", "sad"):
            picture(tmp_path / subject / emotion / "1.JPG")
    return tmp_path


def test_a_folder(root):
    (root / ".hidden").mkdir()
    (root / ".hidden" / "x.jpg").write_bytes(b"")
    (root / "ann" / "sad" / "Thumbs.db").write_bytes(b"")
    frame = read_labels(root, FOUR)
    assert list(frame.columns) == ["path", "photo", "subject", "emotion", "split", "share"]
    assert frame["photo"].tolist() == [
        "ann/Happy/1.JPG", "ann/sad/1.JPG", "بهار/Happy/1.JPG", "بهار/sad/1.JPG",
    ]  # fmt: skip
    assert frame["emotion"].tolist() == ["happy", "sad", "happy", "sad"]
    assert all(Path(path).is_absolute() and Path(path).is_file() for path in frame["path"])
    assert frame.attrs == {"warnings": [], "ignored": 0, "withheld": 0}


def test_a_table_given_itself_or_by_its_folder(tmp_path):
    for name in ("a.png", "b c.png"):
        picture(tmp_path / "in" / name)
    file = table(tmp_path, "in/a.png,ann, SAD ,", '"./in/b c.png",ann,happy,')
    frame = read_labels(file, FOUR)
    assert frame["photo"].tolist() == ["in/a.png", "in/b c.png"]
    assert frame["emotion"].tolist() == ["sad", "happy"]
    assert frame.equals(read_labels(tmp_path, FOUR))


def test_a_table_as_spreadsheets_write_it(tmp_path):
    picture(tmp_path / "a.png")
    text = "\ufeffPath,Subject,Emotion,age\r\na.png,ann,happy,30\r\n"
    (tmp_path / "labels.csv").write_bytes(text.encode())
    assert read_labels(tmp_path, FOUR)["subject"].tolist() == ["ann"]


def test_every_problem_of_a_table_at_once_with_its_line(tmp_path):
    for name in ("good", "again", "odd", "nobody", "climber"):
        picture(tmp_path / f"{name}.png")
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "empty.png").write_bytes(b"")
    whole = picture(tmp_path / "whole.jpg").read_bytes()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "whole.jpg"), noise)
    whole = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    file = table(
        tmp_path,
        "good.png,ann,happy,train",
        "missing.png,ann,sad,train",
        "again.png,ann,sad,train",
        "./again.png,ann,happy,train",
        "odd.png,ann,smug,train",
        "nobody.png,,happy,train",
        "text.png,bob,happy,test",
        "empty.png,bob,happy,test",
        "cut.jpg,bob,happy,test",
        "good.png,ann,happy,test",
        "climber.png,../eve,happy,test",
        "climber.png,eve,happy,test,more",
        ",eve,happy,test",
        "climber.png,eve,happy,",
    )
    with pytest.raises(UserError) as caught:
        read_labels(file, FOUR)
    message = str(caught.value)
    for line, words in {
        3: "there is no file",
        5: "stands already in",
        6: "unknown emotion 'smug'; known are angry, happy, neutral, sad",
        7: "no subject",
        8: "cannot read",
        9: "it is empty",
        10: "truncated",
        11: "stands already in",
        12: "holds a slash",
        13: "more fields",
        14: "no path",
        15: "no split, where other rows have one",
    }.items():
        assert any(
            f"labels.csv, line {line}: " in row and words in row for row in message.split("\n  ")
        ), (line, words, message)
    assert "line 5: again.png stands already in" in message and "another label" in message
    assert "subject 'ann' is in several splits: test, train" in message
    assert "line 2:" not in message
    assert message.startswith(f"{file}: 13 problems to mend")


def test_splits_are_known_in_any_case(tmp_path):
    for name in ("a", "b"):
        picture(tmp_path / f"{name}.png")
    table(tmp_path, "a.png,ann,happy,Test", "b.png,bob,sad,TRAIN")
    frame = read_labels(tmp_path, ("happy", "sad"))
    assert frame["split"].tolist() == ["test", "train"]


def test_a_person_in_two_splits_is_refused_and_people_in_one_each_are_not(tmp_path):
    for name in ("a", "b", "c"):
        picture(tmp_path / f"{name}.png")
    table(tmp_path, "a.png,ann,happy,train", "b.png,ann,sad,train", "c.png,bob,sad,test")
    frame = read_labels(tmp_path, FOUR)
    assert frame.groupby("subject")["split"].nunique().max() == 1
    table(tmp_path, "a.png,ann,happy,train", "b.png,ann,sad,test", "c.png,bob,sad,test")
    with pytest.raises(UserError, match="'ann' is in several splits"):
        read_labels(tmp_path, FOUR)


def test_every_problem_of_a_folder_at_once(root):
    picture(root / "stray.png")
    picture(root / "ann" / "stray.png")
    picture(root / "ann" / "sad" / "deep" / "stray.png")
    picture(root / "ann" / "smug" / "1.png")
    picture(root / "ann" / "smug" / "2.png")
    (root / "ann" / "sad" / "text.png").write_text("no image")
    with pytest.raises(UserError) as caught:
        read_labels(root, FOUR)
    message = str(caught.value)
    assert message.count("lies not in") == 3
    assert message.count("unknown emotion 'smug'") == 1
    assert f"cannot read {root}/ann/sad/text.png" in message
    assert "5 problems" in message


def test_a_link_that_leads_back_does_not_go_round(root):
    (root / "ann" / "sad" / "up").symlink_to(root)
    assert len(read_labels(root, FOUR)) == 4


def test_a_link_to_nothing_is_told(root):
    (root / "ann" / "sad" / "2.jpg").symlink_to(root / "absent.jpg")
    with pytest.raises(UserError, match=r"cannot read .*2\.jpg: .*No such file"):
        read_labels(root, FOUR)


def test_a_linked_subject_is_followed(root, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    picture(elsewhere / "happy" / "1.png")
    (root / "carl").symlink_to(elsewhere)
    assert "carl" in set(read_labels(root, FOUR)["subject"])


def test_ignored_emotions_are_left_out_and_counted(root):
    picture(root / "ann" / "Surprise" / "1.png")
    frame = read_labels(root, FOUR, ignore=("surprise",))
    assert frame.attrs["ignored"] == 1 and len(frame) == 4


def test_nothing_but_ignored_emotions(tmp_path):
    picture(tmp_path / "ann" / "surprise" / "1.png")
    with pytest.raises(UserError, match="all 1 photographs are of ignored"):
        read_labels(tmp_path, FOUR, ignore=("surprise",))


def test_a_single_emotion_and_odd_files_are_warnings(root):
    picture(root / "carl" / "angry" / "1.png")
    (root / "carl" / "angry" / "notes.txt").write_text("tired")
    warnings = read_labels(root, FOUR).attrs["warnings"]
    assert len(warnings) == 2
    assert "'carl' has photographs of one emotion only (angry)" in warnings[0]
    assert "1 files" in warnings[1] and "notes.txt" in warnings[1]


def test_nothing_there(tmp_path):
    with pytest.raises(UserError, match="holds no photograph"):
        read_labels(tmp_path, FOUR)
    with pytest.raises(UserError, match="there is no folder or table"):
        read_labels(tmp_path / "absent", FOUR)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"file,person\na.png,ann\n", "line 1: no column path, subject, emotion"),
        (b"", "no column path, subject, emotion"),
        (b"path;subject;emotion\n", "no column"),
        (b"path,subject,emotion\n\xff\xfe,a,b\n", "no table in UTF-8"),
    ],
    ids=["columns", "empty", "semicolons", "encoding"],
)
def test_a_table_that_is_none(tmp_path, content, words):
    (tmp_path / "labels.csv").write_bytes(content)
    with pytest.raises(UserError, match=words):
        read_labels(tmp_path, FOUR)
