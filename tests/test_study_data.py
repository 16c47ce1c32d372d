"""study_data samples labelled faces, test faces and the pool; copies between them are left out."""

import shutil
import sys

import cv2
import pandas as pd
import pytest

from benchmarks import study_data
from fer_jax.data import manifest
from fer_jax.people import photograph

SPLITS = {761: "train", 762: "train", 763: "validation", 764: "validation", 765: "test"}
LOOK = {"fear": "angry"}  # generated people have no fear, so these faces are drawn angry
COPY = "test_copy"  # in the split test, of a face in the split train


@pytest.fixture(scope="module")
def fer2013(tmp_path_factory):
    """A workdir of `photographs`: five generated people; one face occurs in two splits."""
    root = tmp_path_factory.mktemp("fer2013")
    rows = []

    def add(subject, emotion, split, source=None):
        crop = f"faces/{subject}.png"
        if source:
            shutil.copy(root / source, root / crop)
        else:
            picture = photograph(int(subject.split("_")[1]), LOOK.get(emotion, emotion), 0)
            cv2.imwrite(str(root / crop), cv2.resize(picture, (80, 80))[..., ::-1])
        rows.append(
            {"photo": f"{subject}.png", "subject": subject, "emotion": emotion,
             "split": split, "status": "ok", "detector_score": 1.0, "crop": crop}
        )  # fmt: skip
        return crop

    (root / "faces").mkdir()
    for person, split in SPLITS.items():
        for emotion in ("happy", "sad", "fear"):
            crop = add(f"{split}_{person}_{emotion}", emotion, split)
            if person == 761 and emotion == "happy":
                add(COPY, "happy", "test", crop)
    pd.DataFrame(rows).to_parquet(root / "photographs.parquet")
    return root


def made(fer2013, folder, monkeypatch, *flags):
    words = ["study_data", f"--fer2013={fer2013}", f"--out={folder}", *flags]
    monkeypatch.setattr(sys, "argv", words)
    study_data.main()
    return pd.read_csv(folder / "low_shot.csv"), manifest.read_manifest(
        folder / "pool" / "manifest.parquet"
    )


def test_for_the_starter_labelled_faces_are_drawn_from_validation(fer2013, tmp_path, monkeypatch):
    table, pool = made(fer2013, tmp_path, monkeypatch, "--labelled-from=validation")
    labelled, measured = (table[table["split"] == split] for split in ("train", "test"))
    assert set(labelled["subject"]) == {
        f"validation_{person}_{emotion}" for person in (763, 764) for emotion in ("happy", "sad")
    }
    # The copy of a face of `train` is left out, and fear is none of the four emotions.
    assert set(measured["subject"]) == {"test_765_happy", "test_765_sad"}
    assert all(pool["face_id"].str.startswith("train_")) and len(pool) == 6
    assert all((tmp_path / "pool" / crop).is_file() for crop in pool["crop"])


def test_copies_of_test_faces_are_left_out_of_the_pool(fer2013, tmp_path, monkeypatch):
    table, pool = made(fer2013, tmp_path, monkeypatch)
    labelled, measured = (table[table["split"] == split] for split in ("train", "test"))
    assert set(measured["subject"]) == {"test_765_happy", "test_765_sad", COPY}
    assert "train_761_happy" not in set(pool["face_id"]) and len(pool) == 5
    assert len(labelled) == 3 and all(labelled["subject"].str.startswith("train_"))


def test_a_pool_of_the_requested_size_is_drawn(fer2013, tmp_path, monkeypatch):
    _, pool = made(fer2013, tmp_path, monkeypatch, "--pool=4")
    assert len(pool) == 4
