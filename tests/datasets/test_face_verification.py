"""The data set of faces and non-faces: labels, and splits by source."""

import itertools
import shutil

import cv2
import numpy as np
import pytest

from fer_jax.data import builders
from fer_jax.data.sources import open_source
from fer_jax.errors import UserError

FACE, NONFACE = 1, 0


def read(root, split):
    source = open_source("face_verification", None, split, root, 16, cache=True)
    return source, dict(zip(source.ids, source.labels.tolist(), strict=True))


def test_faces_and_nonfaces_have_their_labels(extracted):
    source, labels = read(extracted, "train+validation+test")
    for image, (name, label) in zip(source.images, labels.items(), strict=True):
        assert label == (FACE if name.startswith("crops/") else NONFACE)
        if not name.startswith("texture/"):
            assert np.abs(image.astype(int) - (200 if label else 40)).max() <= 2
    kinds = [name.split("/")[0] for name in labels]
    # Removed faces are in neither class.
    assert [kinds.count(kind) for kind in ("crops", "negatives", "texture")] == [30, 20, 32]
    assert not any(name.endswith("-3.jpg") for name in labels)


def test_class_numbers_agree_with_the_verification_task(extracted):
    builder = builders.build("face_verification", None, extracted, extracted / "records")
    assert builder.info.features["label"].names == ["nonface", "face"]


def test_no_source_is_in_two_splits(extracted):
    sources = [
        {name.rpartition("-")[0].split("/")[-1] or name for name in read(extracted, split)[1]}
        for split in ("train", "validation", "test")
    ]
    assert not any(a & b for a, b in itertools.combinations(sources, 2))
    videos = [{name for name in names if name.startswith("video")} for names in sources]
    assert [len(names) for names in videos] == [6, 2, 2]
    # A video is held out with its faces and its non-faces.
    for split in ("validation", "test"):
        _, held = read(extracted, split)
        assert list(held.values()).count(FACE) == 6
        assert sum(name.startswith("negatives/") for name in held) == 4
        assert sum(name.startswith("texture/") for name in held) == 7


@pytest.fixture
def folders(tmp_path):
    """Faces of six people in two formats, and non-faces without subfolders."""
    for person in range(6):
        for number in range(3):
            file = (
                tmp_path
                / "my faces"
                / f"person {person}"
                / f"{number}.{'tiff' if number else 'png'}"
            )
            file.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(file), np.full((30, 50, 3), 180 + person, np.uint8))
    (tmp_path / "other").mkdir()
    for number in range(9):
        cv2.imwrite(str(tmp_path / "other" / f"{number}.png"), np.full((40, 24, 3), 20 + number))
    return {"faces": str(tmp_path / "my faces"), "nonfaces": str(tmp_path / "other")}


def read_with(root, split, data_dir, **folders):
    variant = builders.config_with("face_verification", **folders)
    return open_source("face_verification", variant, split, root, 16, data_dir=data_dir, cache=True)


def test_folders_suffice_without_extract(folders, tmp_path):
    people = []
    for split in ("train", "validation", "test"):
        source = read_with(folders["faces"], split, tmp_path / "records", **folders)
        labels = dict(zip(source.ids, source.labels.tolist(), strict=True))
        people.append({n.split("/")[1] for n in labels if n.startswith("faces/")})
        others = [name for name in labels if name.startswith("nonfaces/")]
        assert others and all(labels[name] == NONFACE for name in others)
        for name, image in zip(source.ids, source.images, strict=True):
            if name.startswith("faces/"):
                assert labels[name] == FACE and image.mean() > 170
    assert [len(names) for names in people] == [4, 1, 1]
    assert len(set.union(*people)) == 6


def test_folders_are_added_to_the_crops_of_extract(extracted, folders, tmp_path):
    source = read_with(
        extracted, "train+validation+test", tmp_path / "records", nonfaces=folders["nonfaces"]
    )
    kinds = [name.split("/")[0] for name in source.ids]
    assert [kinds.count(k) for k in ("crops", "negatives", "nonfaces")] == [30, 20, 9]


def test_missing_empty_and_too_small_folders_are_user_errors(extracted, folders, tmp_path):
    (tmp_path / "empty").mkdir()
    cases = [("nowhere", "there is no folder"), ("empty", "there are no pictures below")]
    for name, words in cases:
        with pytest.raises(UserError, match=words):
            read_with(extracted, "train", tmp_path / "r", faces=str(tmp_path / name))
    one = tmp_path / "one" / "album"
    one.mkdir(parents=True)
    shutil.copy(tmp_path / "my faces" / "person 0" / "0.png", one)
    one = one.parent
    with pytest.raises(UserError, match="too few sources"):
        read_with(one, "train", tmp_path / "r", faces=str(one), nonfaces=folders["nonfaces"])


def test_a_missing_table_is_a_user_error(extracted):
    (extracted / "negatives.parquet").unlink()
    with pytest.raises(UserError, match=r"contains no negatives\.parquet"):
        read(extracted, "train")
