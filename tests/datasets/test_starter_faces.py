"""The data set of FER2013 with further faces and non-faces: dropped pictures and labels."""

import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from benchmarks import fer2013 as benchmark
from configs import starter as starter_config
from fer_jax.data import builders, sources
from fer_jax.errors import UserError
from fer_jax.stages import train
from fer_jax.training import model_directory

MODULE = sys.modules[builders.builder_class("starter_faces").__module__]
HAPPY, SAD = MODULE.EMOTIONS.index("happy"), MODULE.EMOTIONS.index("sad")


def write(file: Path, value: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(file), np.full((48, 48), value, np.uint8))


@pytest.fixture
def fer2013(tmp_path):
    """Six valid pictures, one altered copy, one duplicate, and a contradictory pair."""
    root = tmp_path / "fer2013"
    pictures = [
        ("train/happy/a.png", 10), ("train/happy/b.png", 20), ("train/sad/c.png", 30),
        ("train/sad/c.png3.png", 35), ("validation/happy/d.png", 40), ("validation/sad/e.png", 50),
        ("test/sad/f.png", 60), ("train/sad/copy_of_f.png", 60),
        ("train/happy/g.png", 70), ("validation/sad/h.png", 70),
    ]  # fmt: skip
    for path, value in pictures:
        write(root / path, value)
    paths = [path for path, _ in pictures]
    pd.DataFrame(
        {
            "path": paths,
            "emotion": [path.split("/")[1] for path in paths],
            "split": [path.split("/")[0] for path in paths],
        }
    ).to_csv(root / "labels.csv", index=False)
    return root


def opened(root, split, tmp_path, **folders):
    config = builders.config_with("starter_faces", **folders) if folders else None
    return sources.open_source("starter_faces", config, split, root, 48, data_dir=tmp_path / "r")


def labels_by_id(source):
    """The labels (emotion, verification) by id, since the order of records is not defined."""
    labels = zip(
        source.task_labels["label_emotion"], source.task_labels["label_verification"], strict=True
    )
    return {name: tuple(map(int, pair)) for name, pair in zip(source.ids, labels, strict=True)}


def test_copies_duplicates_and_contradictory_labels_are_dropped_and_counted(fer2013):
    table, dropped = MODULE.clean(fer2013)
    assert list(table["path"]) == [
        "test/sad/f.png", "train/happy/a.png", "train/happy/b.png", "train/sad/c.png",
        "validation/happy/d.png", "validation/sad/e.png",
    ]  # fmt: skip
    assert dropped == {"altered copies": 1, "contradictory labels": 2, "duplicates": 1}


def test_emotions_that_are_left_out_contradict_nothing(fer2013):
    table, dropped = MODULE.clean(fer2013, ("happy",))
    assert "train/happy/g.png" in set(table["path"])
    assert set(table["emotion"]) == {"happy"} and dropped["contradictory labels"] == 0


def test_the_benchmark_writes_what_is_kept_as_a_table_of_photographs(fer2013, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["fer2013", str(fer2013)])
    benchmark.main()
    table = pd.read_csv(fer2013 / "four.csv")
    assert list(table.columns) == ["path", "subject", "emotion", "split"]
    kept, _ = MODULE.clean(fer2013)
    assert list(table["path"]) == list(kept["path"])
    assert list(table["subject"]) == ["f", "a", "b", "c", "d", "e"]
    assert "1 altered copies, 2 contradictory labels, 1 duplicates" in capsys.readouterr().out


def test_fer2013_pictures_have_both_labels(fer2013, tmp_path):
    source = opened(fer2013, "train", tmp_path)
    assert labels_by_id(source) == {
        "original/train/happy/a.png": (HAPPY, 1),
        "original/train/happy/b.png": (HAPPY, 1),
        "original/train/sad/c.png": (SAD, 1),
    }
    assert list(source.labels) == [-1, -1, -1]
    first = source.ids.index("original/train/happy/a.png")
    assert (source.images[first] == 10).all()


def test_further_faces_and_nonfaces_have_no_emotion_label(fer2013, tmp_path):
    folders = {name: str(tmp_path / name) for name in ("aligned", "faces", "nonfaces")}
    write(tmp_path / "faces/train/clips/x.png", 80)
    write(tmp_path / "nonfaces/train/street/y.png", 90)
    write(tmp_path / "nonfaces/validation/wood/z.png", 100)
    write(tmp_path / "aligned/faces/a.png", 11)
    pd.DataFrame(
        {
            "photo": ["train/happy/a.png", "train/happy/b.png", "train/sad/c.png"],
            "subject": list("abc"),
            "emotion": ["happy", "happy", "sad"],
            "status": ["ok", "ok", "no_face"],
            "crop": ["faces/a.png", "faces/b.png", ""],
            "detector_score": [0.99, 0.85, np.nan],  # high score, low score, no face
        }
    ).to_parquet(tmp_path / "aligned/photographs.parquet")
    source = opened(fer2013, "train", tmp_path, **folders)
    assert labels_by_id(source) == {
        "original/train/happy/a.png": (HAPPY, 1),
        "original/train/happy/b.png": (HAPPY, 1),
        "original/train/sad/c.png": (SAD, 1),
        "aligned/train/happy/a.png": (HAPPY, 1),
        "face/train/clips/x.png": (-1, 1),
        "nonface/train/street/y.png": (-1, 0),
    }
    held_out = opened(fer2013, "validation", tmp_path, **folders)
    assert "nonface/validation/wood/z.png" in held_out.ids


def test_missing_and_invalid_labels_are_user_errors(fer2013, tmp_path):
    with pytest.raises(UserError, match=r"contains no labels\.csv"):
        MODULE.clean(tmp_path)
    table = pd.read_csv(fer2013 / "labels.csv")
    table.assign(emotion="bored").to_csv(fer2013 / "labels.csv", index=False)
    with pytest.raises(UserError, match="unknown emotion 'bored'"):
        MODULE.clean(fer2013)
    table.drop(columns="split").to_csv(fer2013 / "labels.csv", index=False)
    with pytest.raises(UserError, match="has no column split; expected path"):
        MODULE.clean(fer2013)


def test_the_error_names_a_missing_picture_or_an_empty_folder(fer2013, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty contains no pictures in train/"):
        opened(fer2013, "train", tmp_path, nonfaces=str(tmp_path / "empty"))
    (fer2013 / "train/happy/a.png").unlink()
    with pytest.raises(UserError, match=r"a\.png"):
        opened(fer2013, "train", tmp_path)


def test_the_config_of_the_starter_trains_both_tasks(fer2013, tmp_path):
    for split in ("train", "validation"):
        write(tmp_path / f"nonfaces/{split}/street/y.png", 90)
    config = starter_config.get_config()
    config.data.root, config.nonfaces = str(fer2013), str(tmp_path / "nonfaces")
    config.update({"epochs": 1.0, "batch_size": 4})
    config.backbone.update({"width": 0.125, "depth": (0, 0, 0)})
    train.run(config, tmp_path / "w")
    labels = model_directory.read_record(tmp_path / "w").labels
    assert labels["emotion"] == starter_config.EMOTIONS
    assert labels["verification"] == ("nonface", "face")


@pytest.mark.parametrize("argument", ["full", "small,rotation"])
def test_the_starter_is_trained_in_the_size_base_only(argument):
    with pytest.raises(UserError, match=f"^configs/starter.py:{argument}: .* size base; remove"):
        starter_config.get_config(argument)
    for allowed in (None, "base", "base,rotation"):
        assert starter_config.get_config(allowed).backbone.width == 0.375
