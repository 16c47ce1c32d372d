"""The data set of labelled faces: splits, labels, consent and pixels."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from configs import photographs as photographs_config
from configs import pretrain
from fer_jax.data import builders
from fer_jax.data.sources import open_source, read_faces, read_images
from fer_jax.data.stage_tables import read_photographs
from fer_jax.errors import UserError
from fer_jax.stages import photographs, train
from fer_jax.workdir import read_json

EMOTIONS = ("angry", "happy", "neutral", "sad")
SPLITS = {"ann": "train", "bob": "train", "cid": "validation", "dee": "test"}


def run(photos: Path, workdir: Path, **fields) -> Path:
    config = photographs_config.get_config()
    config.update({"photos": str(photos), "aligned": True, **fields})
    config.crop.size = 32
    photographs.run(config, workdir)
    return workdir


def open_split(root: Path, split: str, size: int = 32):
    return open_source("persian_emotion", None, split, root, size, data_dir=root.parent / "r")


def people(root: Path, split: str) -> set[str]:
    return {photo.split("/")[0].split("_")[0] for photo in open_split(root, split).ids}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Four people with four emotions, a `labels.csv` with splits, and JPEGs with metadata."""
    folder = tmp_path / "photos"
    lines = ["path,subject,emotion,split"]
    exif = Image.Exif()
    exif[0x010E] = "SECRET-NAME"
    rng = np.random.default_rng(0)
    for subject, split in SPLITS.items():
        for emotion in EMOTIONS:
            file = folder / f"{subject}_{emotion}.jpg"
            file.parent.mkdir(exist_ok=True)
            pixels = rng.integers(0, 256, (40, 40, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(file, exif=exif)
            lines.append(f"{file.name},{subject},{emotion.title()},{split}")
    (folder / "labels.csv").write_text("\n".join(lines))
    return folder


def test_no_person_is_in_two_splits(photos, tmp_path):
    root = run(photos, tmp_path / "photographs")
    splits = ("train", "validation", "test")
    assert [people(root, split) for split in splits] == [{"ann", "bob"}, {"cid"}, {"dee"}]
    assert len(open_split(root, "all").ids) == 16


def test_without_splits_a_tenth_of_the_people_is_validation(photos, tmp_path):
    table = (photos / "labels.csv").read_text()
    (photos / "labels.csv").write_text(
        "\n".join(line.rpartition(",")[0] for line in table.splitlines())
    )
    root = run(photos, tmp_path / "photographs")
    held = people(root, "validation")
    assert len(held) == 1 and people(root, "train") == set(SPLITS) - held


def test_records_equal_the_crops_and_contain_no_metadata(photos, tmp_path):
    root = run(photos, tmp_path / "photographs")
    table = read_photographs(root)
    other = read_photographs(run(photos, tmp_path / "other", pseudonymise=True))
    both = pd.concat([table, other]).sample(frac=1.0, random_state=0)
    for size in (32, 20):
        read = read_faces(both, size, tmp_path / "r")
        np.testing.assert_array_equal(read, read_images(both["file"], size))
    folder, _ = (tmp_path / "r").glob("*/*")
    assert folder.name.startswith("persian_emotion-")
    assert not any(b"SECRET" in file.read_bytes() for file in folder.rglob("*") if file.is_file())


def test_classes_are_the_emotions_of_the_photographs(photos, tmp_path):
    root = run(photos, tmp_path / "photographs", emotions=("sad", "happy"), ignore=EMOTIONS[::2])
    source = open_split(root, "all")
    assert source.classes == ("happy", "sad") and len(source) == 8
    for photo, label in zip(source.ids, source.labels, strict=True):
        assert source.classes[label] in photo


def test_photographs_without_a_face_are_not_in_the_records(photos, tmp_path):
    root = run(photos, tmp_path / "photographs")
    table = read_photographs(root)
    table.loc[0, ["status", "crop"]] = "no_face", ""
    table.drop(columns=["root", "file"]).to_parquet(root / "photographs.parquet")
    assert len(open_split(root, "all")) == 15


def test_people_without_consent_are_not_in_the_records(photos, tmp_path):
    ledger = ["subject,share,train,demo,revoked", "ann,no,yes,no,", "bob,no,no,no,"]
    ledger += ["cid,yes,yes,yes,2026-01-31", "dee,no,yes,no,"]
    (photos / "consent.csv").write_text("\n".join(ledger))
    assert people(run(photos, tmp_path / "photographs"), "all") == {"ann", "dee"}
    drawn = people(run(photos, tmp_path / "drawn", pseudonymise=True), "all")
    assert len(drawn) == 2 and not drawn & set(SPLITS)


def test_records_are_rewritten_without_a_withdrawn_person(photos, tmp_path):
    header = "subject,share,train,demo,revoked\n"
    rows = [f"{name},no,yes,no,\n" for name in SPLITS]
    (photos / "consent.csv").write_text(header + "".join(rows))
    root = run(photos, tmp_path / "photographs")
    assert people(root, "train") == {"ann", "bob"}
    rows[0] = "ann,no,yes,no,yes\n"
    (photos / "consent.csv").write_text(header + "".join(rows))
    run(photos, root)
    assert people(root, "train") == {"bob"}
    assert len(list((tmp_path / "r").iterdir())) == 1


@pytest.mark.parametrize("kind", ["photos", "refine"])
def test_a_folder_that_is_not_a_workdir_of_photographs_is_refused(photos, tmp_path, kind):
    if kind == "refine":
        photos = tmp_path / "refine"
        photos.mkdir()
        (photos / "config.json").write_text('{"stage": "refine"}')
    with pytest.raises(UserError, match="not a workdir of `photographs`"):
        open_split(photos, "train")


def test_the_error_names_the_damaged_crop(photos, tmp_path):
    root = run(photos, tmp_path / "photographs")
    crop = Path(read_photographs(root)["file"][0])
    crop.write_bytes(b"no picture")
    with pytest.raises(UserError, match=crop.name):
        open_split(root, "all")


def test_the_stage_train_learns_emotions_from_this_data_set(photos, tmp_path):
    root = run(photos, tmp_path / "photographs", emotions=("sad", "happy"), ignore=EMOTIONS[::2])
    config = pretrain.get_config("emotion")
    config.data.update({"dataset": "persian_emotion", "root": str(root), "image_size": 32})
    config.backbone.depth = (0, 0, 0)
    config.batch_size, config.epochs = 4, 1.0
    summary = train.run(config, tmp_path / "w")
    assert (summary["train_images"], summary["validation_images"]) == (4, 2)
    model = read_json(tmp_path / "w" / "model" / "model.json")
    assert model["labels"] == {"emotion": ["happy", "sad"]}
    assert model["faces"]["aligned"] is True
    assert not (root / "records").exists()  # they are in the training workdir


@pytest.mark.parametrize("name", ["face_frames", "face_verification", "persian_emotion"])
def test_data_sets_have_the_metadata_that_tfds_requires(name, tmp_path):
    from tensorflow_datasets.core import dataset_metadata

    builder = builders.builder_class(name)
    metadata = builder.get_metadata()
    assert metadata.description and metadata.citation.startswith("@")
    assert metadata.tags and set(metadata.tags) <= set(dataset_metadata.valid_tags())
    assert str(builder.VERSION) in builder.RELEASE_NOTES
    assert builder(data_dir=str(tmp_path)).info.description == metadata.description.strip()
