"""Labels are read from folders and tables; all problems are reported at once, with their places."""

import os
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from fer_jax.data import tables
from fer_jax.data.labels import files_read, read_labels
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


def test_a_folder_of_subjects_and_emotions_is_read(root):
    (root / ".hidden").mkdir()
    (root / ".hidden" / "x.jpg").write_bytes(b"")
    (root / "ann" / "sad" / "Thumbs.db").write_bytes(b"")
    frame = read_labels(root, FOUR)
    assert list(frame.columns) == [
        "path",
        "photo",
        "subject",
        "emotion",
        "split",
        "share",
        "ledger_line",
    ]
    assert frame["photo"].tolist() == [
        "ann/Happy/1.JPG", "ann/sad/1.JPG", "بهار/Happy/1.JPG", "بهار/sad/1.JPG",
    ]  # fmt: skip
    assert frame["emotion"].tolist() == ["happy", "sad", "happy", "sad"]
    assert all(Path(path).is_absolute() and Path(path).is_file() for path in frame["path"])
    counts = ("merged", "ignored", "not_photographs", "withheld", "people_without_consent")
    ledger = {"consent_ledger": "none, so no consent is on record"}
    assert frame.attrs == {"warnings": [], "aliases": {}, **dict.fromkeys(counts, 0), **ledger}


def test_a_table_and_its_folder_give_the_same_labels(tmp_path):
    for name in ("a.png", "b c.png"):
        picture(tmp_path / "in" / name)
    file = table(tmp_path, "in/a.png,ann, SAD ,", '"./in/b c.png",ann,happy,')
    frame = read_labels(file, FOUR)
    assert frame["photo"].tolist() == ["in/a.png", "in/b c.png"]
    assert frame["emotion"].tolist() == ["sad", "happy"]
    assert frame.equals(read_labels(tmp_path, FOUR))


def test_a_table_exported_from_a_spreadsheet_is_read(tmp_path):
    picture(tmp_path / "a.png")
    text = "\ufeffPath,Subject,Emotion,age\r\na.png,ann,happy,30\r\n"
    (tmp_path / "labels.csv").write_bytes(text.encode())
    assert read_labels(tmp_path, FOUR)["subject"].tolist() == ["ann"]


def test_all_problems_of_a_table_are_reported_with_their_lines(tmp_path):
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
        5: "occurs twice, also at",
        6: "unknown emotion 'smug'; known emotions are angry, happy, neutral, sad",
        7: "the subject is empty",
        8: "cannot read",
        9: "it is empty",
        10: "truncated",
        11: "occurs twice, also at",
        12: "contains a slash",
        13: "more fields",
        14: "the path is empty",
        15: "the split is empty",
    }.items():
        assert any(
            f"labels.csv, line {line}: " in row and words in row for row in message.split("\n  ")
        ), (line, words, message)
    assert "line 5: again.png occurs twice, also at" in message and "another label" in message
    assert "subject 'ann' is in several splits (test, train)" in message
    assert "line 2:" not in message
    assert message.startswith(f"{file}: 13 problems")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("{outside}/a.png", "is absolute"),
        ("C:\\a.png", "is absolute"),
        ("../outside/a.png", "leads out of the table's folder"),
        ("in/../../outside/a.png", "leads out of the table's folder"),
    ],
)
def test_a_path_that_leaves_the_tables_folder_is_refused(tmp_path, path, words):
    picture(tmp_path / "outside" / "a.png")
    (tmp_path / "photos" / "in").mkdir(parents=True)
    table(tmp_path / "photos", f"{path.format(outside=tmp_path / 'outside')},ann,happy,")
    with pytest.raises(UserError, match=words):
        read_labels(tmp_path / "photos", FOUR)


@pytest.mark.parametrize("row", ["a.png,ann,happy", "a.png,ann,happy,train,"])
def test_a_row_with_too_few_or_too_many_fields_is_refused(tmp_path, row):
    picture(tmp_path / "a.png")
    table(tmp_path, row)
    with pytest.raises(UserError, match=r"line 2: (more|fewer) fields than the header has columns"):
        read_labels(tmp_path, FOUR)


def test_a_named_pipe_in_place_of_a_table_is_refused(tmp_path):
    os.mkfifo(tmp_path / "labels.csv")
    with pytest.raises(UserError, match="is not a regular file"):
        tables.read_rows(tmp_path / "labels.csv", ("path",))


def test_20_000_rows_with_unknown_emotions_are_reported_quickly(tmp_path):
    picture(tmp_path / "a.png")
    table(tmp_path, *(f"a.png,ann,emotion {number % 1000}," for number in range(20_000)))
    started = time.process_time()
    with pytest.raises(UserError) as caught:
        read_labels(tmp_path, FOUR)
    assert time.process_time() - started < 2  # a quadratic algorithm takes 4 s
    lines = str(caught.value).splitlines()
    assert len(lines) == 202 and "1000 problems" in lines[0]
    assert "line 2: unknown emotion 'emotion 0' (of" in lines[1]
    assert "(of 20 photographs)" in lines[1]
    assert "--config.emotions or --config.ignore" in lines[1]
    assert str(caught.value).count("known emotions are") == 1  # once for all problems


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("علي", "علی"),
        ("كاوه", "کاوه"),
        ("p۱", "p1"),
        ("p٣", "p3"),
        ("علی\u200cرضا", "علیرضا"),
        ("\u200fsara", "sara"),
        ("مُحَمَّد", "محمد"),
        ("سـارا", "سارا"),
        ("رؤیا", "رویا"),
        ("P01", "p01"),
        ("e\u0301va", "éva"),
        ("ann  b", "ann b"),
    ],
)
def test_all_spellings_of_a_name_are_one_subject(tmp_path, one, other):
    for number, subject in enumerate((one, other)):
        picture(tmp_path / subject / "happy" / f"{number}.png")
        picture(tmp_path / subject / "sad" / f"{number}.png")
    frame = read_labels(tmp_path, FOUR)
    assert len(frame) == 4 and frame["subject"].nunique() == 1
    assert frame["subject"].iloc[0] in (one, other)
    assert any("are read as one subject" in warning for warning in frame.attrs["warnings"])


@pytest.mark.parametrize(
    ("one", "other"), [("علی", "عالی"), ("p1", "p11"), ("آرش", "ارش"), ("eva", "éva")]
)
def test_different_names_stay_apart(tmp_path, one, other):
    for subject in (one, other):
        picture(tmp_path / subject / "happy" / "1.png")
    assert read_labels(tmp_path, FOUR)["subject"].nunique() == 2


def test_two_spellings_of_a_person_may_not_be_in_two_splits(tmp_path):
    for name in ("a", "b"):
        picture(tmp_path / f"{name}.png")
    table(tmp_path, "a.png,علي,happy,train", "b.png,علی,sad,test")
    with pytest.raises(
        UserError, match=r"several splits \(test, train\)(.|\n)*note: the spellings"
    ):
        read_labels(tmp_path, FOUR)


def test_emotions_are_compared_like_names(tmp_path):
    picture(tmp_path / "ann" / "غمگين" / "1.png")
    assert read_labels(tmp_path, ("غمگین", "happy"))["emotion"].tolist() == ["غمگین"]


def test_folders_of_one_emotion_are_merged_and_their_names_counted(tmp_path):
    for emotion in ("happy", "خوشحال", "خوشحال ", "Happiness", "anger"):
        for photo in ("1", "2"):
            picture(tmp_path / "ann" / emotion / f"{photo}.png")
    picture(tmp_path / "ann" / "ترس" / "1.png")
    frame = read_labels(tmp_path, FOUR, ignore=("fear",))
    assert frame["emotion"].value_counts().to_dict() == {"happy": 8, "angry": 2}
    assert frame["photo"].is_unique and frame.attrs["ignored"] == 1
    assert frame.attrs["aliases"] == {
        ("Happiness", "happy"): 2,
        ("anger", "angry"): 2,
        ("خوشحال", "happy"): 2,
        ("خوشحال ", "happy"): 2,
    }
    assert read_labels(tmp_path, ("angry", "happy", "fear"))["emotion"].nunique() == 3


def test_an_unknown_emotion_is_reported_with_the_nearest_name(tmp_path):
    picture(tmp_path / "ann" / "hapiness" / "1.png")
    with pytest.raises(UserError, match=r"'hapiness' \(did you mean 'happiness'\?\); known emot"):
        read_labels(tmp_path, FOUR)


@pytest.mark.parametrize("name", ["\x1b[31mann", "\u200c"])
def test_a_subject_that_cannot_be_an_id_is_refused(tmp_path, name):
    picture(tmp_path / "a.png")
    table(tmp_path, f"a.png,{name},happy,")
    with pytest.raises(UserError, match=r"line 2: the subject .* contains"):
        read_labels(tmp_path, FOUR)


def test_split_names_ignore_letter_case(tmp_path):
    for name in ("a", "b"):
        picture(tmp_path / f"{name}.png")
    table(tmp_path, "a.png,ann,happy,Test", "b.png,bob,sad,TRAIN")
    frame = read_labels(tmp_path, ("happy", "sad"))
    assert frame["split"].tolist() == ["test", "train"]


def test_a_person_in_two_splits_is_refused(tmp_path):
    for name in ("a", "b", "c"):
        picture(tmp_path / f"{name}.png")
    table(tmp_path, "a.png,ann,happy,train", "b.png,ann,sad,train", "c.png,bob,sad,test")
    frame = read_labels(tmp_path, FOUR)
    assert frame.groupby("subject")["split"].nunique().max() == 1
    table(tmp_path, "a.png,ann,happy,train", "b.png,ann,sad,test", "c.png,bob,sad,test")
    with pytest.raises(UserError, match="'ann' is in several splits"):
        read_labels(tmp_path, FOUR)


def test_all_problems_of_a_folder_are_reported_at_once(root):
    picture(root / "stray.png")
    picture(root / "ann" / "stray.png")
    picture(root / "ann" / "sad" / "deep" / "stray.png")
    picture(root / "ann" / "smug" / "1.png")
    picture(root / "ann" / "smug" / "2.png")
    (root / "ann" / "sad" / "text.png").write_text("no image")
    with pytest.raises(UserError) as caught:
        read_labels(root, FOUR)
    message = str(caught.value)
    assert message.count("move it to ") == 3
    assert message.count("unknown emotion 'smug'") == 1
    assert f"cannot read {root}/ann/sad/text.png" in message
    assert "5 problems" in message


def test_a_picture_with_too_many_pixels_is_a_problem(root):
    Image.new("1", (9000, 9000)).save(root / "ann" / "sad" / "huge.png")
    with pytest.raises(UserError) as caught:
        read_labels(root, FOUR)
    message = str(caught.value)
    assert f"cannot read {root}/ann/sad/huge.png: it has 9000 x 9000 pixels" in message


def test_the_warning_about_heic_pictures_says_what_to_do(root, tmp_path):
    (root / "ann" / "sad" / "IMG_1.HEIC").touch()
    warnings = read_labels(root, FOUR).attrs["warnings"]
    assert any("IMG_1.HEIC" in warning for warning in warnings)
    assert any(w.startswith("HEIC pictures are not supported; convert them") for w in warnings)
    (tmp_path / "phone" / "ann" / "sad").mkdir(parents=True)
    (tmp_path / "phone" / "ann" / "sad" / "1.heic").touch()
    with pytest.raises(
        UserError, match=r"contains no photographs.*HEIC pictures are not supported"
    ):
        read_labels(tmp_path / "phone", FOUR)


def test_a_cycle_of_symbolic_links_is_read_once(root):
    (root / "ann" / "sad" / "up").symlink_to(root)
    assert len(read_labels(root, FOUR)) == 4


def test_a_broken_link_is_a_problem(root):
    (root / "ann" / "sad" / "2.jpg").symlink_to(root / "absent.jpg")
    with pytest.raises(UserError, match=r"cannot read .*2\.jpg: .*No such file"):
        read_labels(root, FOUR)


def test_a_link_to_a_subjects_folder_is_followed(root, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    picture(elsewhere / "happy" / "1.png")
    (root / "carl").symlink_to(elsewhere)
    assert "carl" in set(read_labels(root, FOUR)["subject"])


def test_ignored_emotions_are_skipped_and_counted(root):
    picture(root / "ann" / "Surprise" / "1.png")
    frame = read_labels(root, FOUR, ignore=("surprise",))
    assert frame.attrs["ignored"] == 1 and len(frame) == 4


def test_it_is_an_error_if_all_emotions_are_ignored(tmp_path):
    picture(tmp_path / "ann" / "surprise" / "1.png")
    with pytest.raises(UserError, match=r"all photographs \(1\) have ignored"):
        read_labels(tmp_path, FOUR, ignore=("surprise",))


def test_subjects_with_one_emotion_and_other_files_cause_warnings(root):
    picture(root / "carl" / "angry" / "1.png")
    (root / "carl" / "angry" / "notes.txt").write_text("tired")
    warnings = read_labels(root, FOUR).attrs["warnings"]
    assert len(warnings) == 2
    assert "'carl' has photographs of one emotion only (angry)" in warnings[0]
    assert ": 1 (" in warnings[1] and "notes.txt" in warnings[1]


def test_an_empty_or_missing_folder_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match="contains no photographs"):
        read_labels(tmp_path, FOUR)
    with pytest.raises(UserError, match="there is no folder or table"):
        read_labels(tmp_path / "absent", FOUR)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"file,person\na.png,ann\n", "line 1: the header lacks path, subject, emotion"),
        (b"", "the header lacks path, subject, emotion"),
        (b"path;subject;emotion\n", "the header lacks .*"),
        (b"path,subject,emotion\n\xff\xfe,a,b\n", "line 2: not in UTF-8; save it as CSV in UTF-8"),
        (
            "path,subject,emotion\n".encode("utf-16"),
            "is UTF-16 or not text; save it as CSV in UTF-8",
        ),
        (b"path,subject,emotion,Subject\na.png,a,happy,b\n", "the header contains subject twice"),
    ],
    ids=["columns", "empty", "semicolons", "encoding", "utf-16", "twice"],
)
def test_an_invalid_table_is_refused(tmp_path, content, words):
    (tmp_path / "labels.csv").write_bytes(content)
    with pytest.raises(UserError, match=words):
        read_labels(tmp_path, FOUR)


@pytest.mark.parametrize("name", ["labels.csv", "Labels.csv"])
def test_a_broken_link_or_misspelled_table_is_refused(root, name):
    (root / name).symlink_to(root / "absent")
    with pytest.raises(UserError, match=r"does not exist|must be called labels\.csv; rename it"):
        read_labels(root, FOUR)


def test_merged_spellings_are_counted_and_named(tmp_path):
    for number, subject in enumerate(("علي", "علی", "p۱", "p1", "P1", "bob")):
        for emotion in ("happy", "sad"):
            picture(tmp_path / subject / emotion / "1.png", number)
    frame = read_labels(tmp_path, FOUR)
    assert frame["subject"].value_counts().to_dict() == {"علی": 4, "p1": 6, "bob": 2}
    assert frame["photo"].is_unique and frame.attrs["merged"] == 2
    assert len(frame.attrs["warnings"]) == 2
    assert "'P1', 'p1', 'p۱' (U+0070 U+06F1) are read as one" in frame.attrs["warnings"][0]


def test_invalid_and_repeated_emotions_in_the_config_are_refused(tmp_path):
    picture(tmp_path / "ann" / "شاد" / "1.png")
    with pytest.raises(UserError, match="lists an emotion twice"):
        read_labels(tmp_path, ("شاد", "شاد\u200d"))
    with pytest.raises(UserError, match=r"--config\.emotions: the emotion '\.\./x' starts with"):
        read_labels(tmp_path, ("شاد", "../x"))


def test_the_length_of_the_message_is_limited(tmp_path):
    table(tmp_path, *(f"{'a' * 9000}{n}.png,ann,{'b' * 9000}{n}," for n in range(300)))
    with pytest.raises(UserError) as caught:
        read_labels(tmp_path, FOUR)
    assert len(str(caught.value)) < 80_000
    assert str(caught.value).endswith("... and 400 more")


def test_a_picture_listed_in_many_rows_is_read_once(tmp_path, monkeypatch):
    picture(tmp_path / "a.png")
    table(tmp_path, *["a.png,ann,happy,"] * 50)
    reads = []
    monkeypatch.setattr("fer_jax.faces.images.fault", lambda path: reads.append(path))
    with pytest.raises(UserError, match="49 problems"):
        read_labels(tmp_path, FOUR)
    assert len(reads) == 1


def test_a_link_in_the_tables_folder_is_followed(tmp_path):
    picture(tmp_path / "outside" / "a.png")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "linked").symlink_to(tmp_path / "outside")
    table(tmp_path / "photos", "linked/a.png,ann,happy,")
    assert read_labels(tmp_path / "photos", FOUR)["photo"].tolist() == ["linked/a.png"]


@pytest.mark.parametrize(
    ("name", "words"),
    [("a\nb", "control character"), ("℀", "slash"), ("．．", "dot"), ("n" * 101, "100 bytes")],
)
def test_a_folder_that_cannot_be_a_subject_is_refused(tmp_path, name, words):
    picture(tmp_path / name / "happy" / "1.png")
    with pytest.raises(UserError, match=f"the subject .* {words}"):
        read_labels(tmp_path, FOUR)


def test_a_named_pipe_in_place_of_a_photograph_is_not_opened(root):
    os.mkfifo(root / "ann" / "sad" / "2.png")
    with pytest.raises(UserError, match=r"cannot read .*2\.png: it is a named pipe"):
        read_labels(root, FOUR)


def test_a_name_that_is_not_utf8_is_refused(root):
    folder = root / "ann" / "sad"
    (folder / "1.JPG").rename(folder / os.fsdecode(b"\xc8\xd0.png"))
    with pytest.raises(UserError, match=r"\\udcc8\\udcd0\.png': the name is not UTF-8"):
        read_labels(root, FOUR)


def test_files_read_lists_the_files_of_a_table_or_folder(tmp_path):
    file = table(tmp_path, "a.png,ann,happy,", "../b.png,ann,happy,", "c.png,ann")
    above = tmp_path.parent / "consent.csv"
    beside = [tmp_path / "consent.csv", above, tmp_path / "pseudonyms.csv"]
    assert files_read(file) == [*beside, tmp_path / "a.png"]
    file.write_bytes(b"\xff\xfe")
    assert files_read(file) == beside
    assert files_read(tmp_path) == beside
