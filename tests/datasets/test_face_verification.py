"""Faces and non-faces as records: labelled, and split by where they come from."""

import numpy as np
import pytest

from fer_jax.data import builders
from fer_jax.data.sources import open_source
from fer_jax.errors import UserError

FACE, NONFACE = 1, 0


def read(root, split):
    source = open_source("face_verification", None, split, root, 16, cache=True)
    return source, dict(zip(source.ids, source.labels.tolist(), strict=True))


def test_labels_say_what_the_picture_is(extracted):
    source, labels = read(extracted, "train+validation")
    for image, (name, label) in zip(source.images, labels.items(), strict=True):
        assert label == (FACE if name.startswith("crops/") else NONFACE)
        if not name.startswith("texture/"):
            assert np.abs(image.astype(int) - (200 if label else 40)).max() <= 2
    kinds = [name.split("/")[0] for name in labels]
    # Removed faces are none to learn from, in either class.
    assert [kinds.count(kind) for kind in ("crops", "negatives", "texture")] == [30, 20, 32]
    assert not any(name.endswith("-3.jpg") for name in labels)


def test_the_class_numbers_are_those_of_the_verification_task(extracted):
    builder = builders.build("face_verification", None, extracted, extracted / "records")
    assert builder.info.features["label"].names == ["nonface", "face"]


def test_no_source_stands_in_both_splits(extracted):
    sources = [
        {name.rpartition("-")[0].split("/")[-1] or name for name in read(extracted, split)[1]}
        for split in ("train", "validation")
    ]
    assert sources[0].isdisjoint(sources[1])
    videos = [{name for name in names if name.startswith("video")} for names in sources]
    assert [len(names) for names in videos] == [8, 2]
    # A video is held out with its faces and its non-faces.
    _, validation = read(extracted, "validation")
    assert list(validation.values()).count(FACE) == 6
    assert sum(name.startswith("negatives/") for name in validation) == 4
    assert sum(name.startswith("texture/") for name in validation) == 7


def test_a_missing_table_is_told(extracted):
    (extracted / "negatives.parquet").unlink()
    with pytest.raises(UserError, match=r"holds no negatives\.parquet"):
        read(extracted, "train")
