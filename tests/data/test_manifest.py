import numpy as np
import pandas as pd
import pytest

from fer_jax.data import manifest
from fer_jax.errors import UserError


def rows(count=3):
    return pd.DataFrame(
        {
            "face_id": [f"clip/{i}" for i in range(count)],
            "video": "clip.mp4",
            "frame": np.arange(count),
            "time_s": np.arange(count) / 2,
            "box": [np.array([1, 2, 3, 4.5], np.float32)] * count,
            "landmarks": [np.arange(10, dtype=np.float32)] * count,
            "detector_score": 0.9,
            "verifier_score": np.nan,
            "sharpness": 1.0,
            "brightness": 99.0,
            "yaw": -3.0,
            "phash": np.full(count, 2**64 - 1, np.uint64),
            "track": 0,
            "status": manifest.KEPT,
            "reason": "",
            "crop": [f"crops/{i}.jpg" for i in range(count)],
        }
    )


def empty(schema):
    return schema.empty_table().to_pandas()


def test_a_written_manifest_is_read_back(tmp_path):
    path = tmp_path / "manifest.parquet"
    manifest.write_manifest(path, rows())
    back = manifest.read_manifest(path)
    assert list(back.columns) == manifest.SCHEMA.names
    np.testing.assert_array_equal(back["box"][1], [1, 2, 3, 4.5])
    assert back["landmarks"][2].shape == (10,) and back["landmarks"][2].dtype == np.float32
    assert back["phash"].tolist() == [2**64 - 1] * 3
    assert back["verifier_score"].isna().all()
    back["verifier_score"] = [0.5, np.nan, 0.25]
    manifest.write_manifest(path, back)
    assert manifest.read_manifest(path)["verifier_score"].isna().tolist() == [False, True, False]
    assert [file.name for file in tmp_path.iterdir()] == ["manifest.parquet"]


def test_empty_tables_are_written_and_read(tmp_path):
    manifest.write_manifest(tmp_path / "m.parquet", empty(manifest.SCHEMA))
    assert len(manifest.read_manifest(tmp_path / "m.parquet")) == 0
    manifest.write_negatives(tmp_path / "n.parquet", empty(manifest.NEGATIVES_SCHEMA))
    assert manifest.read_negatives(tmp_path / "n.parquet").columns.tolist() == [
        *("crop", "video", "frame", "kind", "detector_score")
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns="yaw"), "yaw"),
        (lambda t: t.assign(colour=1), "colour"),
        (lambda t: t.assign(face_id="a"), "occurs twice"),
        (lambda t: t.assign(status="lost"), "unknown status"),
        (lambda t: t.assign(crop=None), "crop: string not null"),
        (lambda t: t.assign(sharpness=np.nan), "sharpness: float not null"),
        (lambda t: t.assign(box=[np.zeros(3, np.float32)] * 3), "cannot write"),
    ],
)
def test_an_invalid_manifest_is_not_written(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        manifest.write_manifest(tmp_path / "m.parquet", change(rows()))
    assert list(tmp_path.iterdir()) == []


def test_reading_another_file_is_a_user_error(tmp_path):
    (tmp_path / "text.parquet").write_text("hello")
    manifest.write_negatives(tmp_path / "n.parquet", empty(manifest.NEGATIVES_SCHEMA))
    for name, message in (
        ("absent.parquet", "cannot read"),
        ("text.parquet", "cannot read"),
        ("n.parquet", "n.parquet .it lacks the columns face_id"),
    ):
        with pytest.raises(UserError, match=message):
            manifest.read_manifest(tmp_path / name)
