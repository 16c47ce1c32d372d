"""The data set of faces from videos, all or only the kept ones, split by video."""

from pathlib import Path

import pytest

from fer_jax.data import builders
from fer_jax.data.manifest import read_manifest, write_manifest
from fer_jax.data.sources import open_source
from fer_jax.errors import UserError


def ids(root: Path, config: str, split: str) -> set[str]:
    return set(open_source("face_frames", config, split, root, 16, cache=True).ids)


@pytest.mark.parametrize(("config", "frames"), [("all", range(4)), ("refined", range(3))])
def test_the_faces_of_a_video_are_all_in_one_split(extracted, config, frames):
    train, validation = (ids(extracted, config, split) for split in ("train", "validation"))
    assert train | validation == {f"video{v}-{f}" for v in range(10) for f in frames}
    assert {name.split("-")[0] for name in train}.isdisjoint(n.split("-")[0] for n in validation)
    assert len(validation) == len(frames)  # one of ten videos
    assert ids(extracted, config, "train+validation") == train | validation


def test_crops_are_stored_byte_for_byte(extracted):
    builder = builders.build("face_frames", "all", extracted, extracted / "records")
    for record in builder.as_data_source("train", decoders={"image": _undecoded()}):
        crop = extracted / "crops" / f"{record['id'].decode()}.jpg"
        assert record["image"] == crop.read_bytes()
        assert Path(record["video"].decode()).stem in crop.name


def test_examples_have_no_label(extracted):
    assert set(open_source("face_frames", "all", "train", extracted, 8, cache=True).labels) == {-1}


def test_crops_may_be_in_another_folder(extracted, tmp_path):
    """The manifest of `refine` points to the crops of `extract`."""
    manifest = read_manifest(extracted / "manifest.parquet")
    manifest["crop"] = "../extract/" + manifest["crop"]
    write_manifest(tmp_path / "refine" / "manifest.parquet", manifest)
    assert len(ids(tmp_path / "refine", "refined", "train+validation")) == 30


def test_a_single_video_is_split_in_time(extracted):
    manifest = read_manifest(extracted / "manifest.parquet")
    write_manifest(extracted / "manifest.parquet", manifest[manifest["video"] == "video0.mp4"])
    assert ids(extracted, "all", "validation") == {"video0-3"}
    assert ids(extracted, "all", "train") == {"video0-0", "video0-1", "video0-2"}


def test_records_are_rewritten_after_refinement(extracted):
    before = ids(extracted, "refined", "train+validation")
    manifest = read_manifest(extracted / "manifest.parquet")
    manifest.loc[manifest["face_id"] == "video5-0", ["status", "reason"]] = "removed", "verifier"
    write_manifest(extracted / "manifest.parquet", manifest)
    assert before - ids(extracted, "refined", "train+validation") == {"video5-0"}


def test_a_manifest_without_faces_or_no_manifest_is_a_user_error(extracted, tmp_path):
    manifest = read_manifest(extracted / "manifest.parquet")
    write_manifest(extracted / "manifest.parquet", manifest.iloc[:0])
    with pytest.raises(UserError, match="contains no faces"):
        ids(extracted, "all", "train")
    (tmp_path / "other").mkdir()
    with pytest.raises(UserError, match=r"contains no manifest\.parquet; set --config\.data\.root"):
        ids(tmp_path / "other", "all", "train")


def _undecoded():
    import tensorflow_datasets as tfds

    return tfds.decode.SkipDecoding()
