"""Labelled photographs as records: no person in two splits, no metadata, upright."""

import io
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from fer_jax.data import builders
from fer_jax.errors import UserError

EMOTIONS = ("angry", "happy", "neutral", "sad")
SPLITS = {"ann": "train", "bob": "train", "cid": "validation", "dee": "test"}


def records(root: Path, split: str) -> list[dict]:
    builder = builders.build("persian_emotion", "four", root, root.parent / "records")
    return list(builder.as_data_source(split, decoders={"image": tfds.decode.SkipDecoding()}))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Four people, four emotions, a `labels.csv` with splits; JPEGs lying on their side."""
    root = tmp_path / "photographs"
    lines = ["path,subject,emotion,split"]
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turn by 90 degrees to the right
    exif[0x010E] = "SECRET-NAME"
    pixels = np.zeros((20, 32, 3), np.uint8)
    pixels[:, :16] = 255  # the left half is bright: the upper one, once upright
    for subject, split in SPLITS.items():
        for emotion in EMOTIONS:
            file = root / f"{subject}_{emotion}.jpg"
            file.parent.mkdir(exist_ok=True)
            Image.fromarray(pixels).save(file, exif=exif, quality=95)
            lines.append(f"{file.name},{subject},{emotion.title()},{split}")
    (root / "labels.csv").write_text("\n".join(lines))
    return root


def test_no_person_is_in_two_splits(root):
    found = defaultdict(set)
    count = 0
    for split in ("train", "validation", "test"):
        for record in records(root, split):
            found[record["subject"].decode()].add(split)
            count += 1
    assert count == 16
    assert found == {subject: {split} for subject, split in SPLITS.items()}


def test_a_person_given_two_splits_is_refused(root):
    table = root / "labels.csv"
    table.write_text(table.read_text().replace("ann,Sad,train", "ann,Sad,test"))
    with pytest.raises(UserError, match="'ann' is in several splits: test, train"):
        records(root, "train")


def test_pictures_are_upright_and_carry_no_metadata(root):
    for record in records(root, "train"):
        assert b"SECRET" not in record["image"] and b"Exif" not in record["image"]
        image = Image.open(io.BytesIO(record["image"]))
        assert image.size == (20, 32) and not image.getexif()
        pixels = np.asarray(image)
        assert pixels[:12].min() > 230 and pixels[20:].max() < 25


def test_lossless_pictures_stay_so(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype(np.uint8)
    for emotion in EMOTIONS:
        file = tmp_path / "photographs" / "ann" / emotion / "1.png"
        file.parent.mkdir(parents=True)
        Image.fromarray(pixels).save(file)
    for record in records(tmp_path / "photographs", "train"):
        assert (np.asarray(Image.open(io.BytesIO(record["image"]))) == pixels).all()


@pytest.mark.parametrize("name", ["face_frames", "face_verification", "persian_emotion"])
def test_what_tfds_asks_of_a_data_set_is_there(name, tmp_path):
    from tensorflow_datasets.core import dataset_metadata

    builder = builders.builder_module(name).Builder
    metadata = builder.get_metadata()
    assert metadata.description and metadata.citation.startswith("@")
    assert metadata.tags and set(metadata.tags) <= set(dataset_metadata.valid_tags())
    assert str(builder.VERSION) in builder.RELEASE_NOTES
    assert builder(data_dir=str(tmp_path)).info.description == metadata.description.strip()


def test_whoever_does_not_consent_is_in_no_record(root):
    ledger = ["subject,share,train,demo,revoked", "ann,no,yes,no,", "bob,no,no,no,"]
    ledger += ["cid,yes,yes,yes,2026-01-31", "dee,no,yes,no,"]
    (root / "consent.csv").write_text("\n".join(ledger))
    found = {r["subject"].decode() for split in ("train", "test") for r in records(root, split)}
    assert found == {"ann", "dee"}
    (root / "consent.csv").write_text("\n".join(ledger[:-1]))
    with pytest.raises(UserError, match="the subject 'dee' has no row"):
        records(root, "train")
