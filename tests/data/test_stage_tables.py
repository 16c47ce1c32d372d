"""A wrong folder or a damaged table is reported in one line that says what to do."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from configs import audit, emotion
from fer_jax.data import stage_tables
from fer_jax.errors import UserError
from fer_jax.stages import audit as audit_stage
from fer_jax.stages import crossval
from fer_jax.workdir import write_json


def table(**changed):
    columns = {
        "photo": ["ann/happy/1.jpg", "bob/sad/2.jpg"],
        "subject": ["ann", "bob"],
        "emotion": ["happy", "sad"],
        "status": ["ok", "no_face"],
        "crop": ["faces/ann/happy/1.png", ""],
    }
    return pd.DataFrame(columns | changed)


@pytest.fixture
def photos(tmp_path):
    """A user's folder of photographs."""
    folder = tmp_path / "photos"
    (folder / "ann" / "happy").mkdir(parents=True)
    (folder / "ann" / "happy" / "1.JPG").write_bytes(b"x")
    return folder


@pytest.mark.parametrize(("run", "config"), [(crossval.run, emotion), (audit_stage.run, audit)])
def test_a_folder_of_photographs_is_not_a_workdir(photos, tmp_path, run, config):
    config = config.get_config()
    config.photographs = str(photos)
    with pytest.raises(UserError) as caught:
        run(config, tmp_path / "w")
    assert str(caught.value) == (
        f"{photos} is a folder of photographs, not a workdir of `photographs`; run `python "
        f"launch.py --config=configs/photographs.py --config.photos={photos} --workdir=W` first "
        "and pass W"
    )
    assert not (tmp_path / "w").exists()


def test_the_error_for_another_folder_says_what_it_is(photos, tmp_path):
    labels = photos / "labels.csv"
    labels.write_text("path,subject,emotion\n")
    empty = tmp_path / "empty"
    empty.mkdir()
    extract = tmp_path / "extract"
    write_json(extract / "config.json", {"stage": "extract"})
    begun = tmp_path / "begun"
    write_json(begun / "config.json", {"stage": "photographs"})
    again = tmp_path / "again"
    write_json(again / "config.json", {"stage": "photographs"})
    table().to_parquet(again / "photographs.parquet")
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "config.json").write_text("[")
    pipeline = tmp_path / "pipeline"
    (pipeline / "photographs").mkdir(parents=True)
    table().to_parquet(pipeline / "photographs" / "photographs.parquet")
    for root, reason in (
        (labels, f"{labels} is a file, not a workdir of `photographs`; run `python"),
        (empty, "(no photographs.parquet)"),
        (extract, "is a workdir of `extract`, not a workdir of `photographs`"),
        (begun, "the stage `photographs` has not finished in"),
        (again, "the stage `photographs` has not finished in"),
        (damaged, "is a workdir of `another stage`"),
        (pipeline, f"contains one; pass {pipeline}/photographs"),
    ):
        with pytest.raises(UserError) as caught:
            stage_tables.read_photographs(root)
        assert reason in str(caught.value)


def test_read_photographs_keeps_types_and_other_columns(tmp_path):
    categories = table(subject=pd.Categorical(["ann", "bob"]), more=[1, 2])
    categories.to_parquet(tmp_path / "photographs.parquet")
    found = stage_tables.read_photographs(tmp_path)
    crops = [str(tmp_path / crop) for crop in table()["crop"]]
    wanted = table(more=[1, 2], split="", root=str(tmp_path), file=crops)
    pd.testing.assert_frame_equal(found, wanted, check_dtype=False)


def broken_at(share):
    def damage(content):
        place = int(share * len(content))
        return content[:place] + bytes(byte ^ 0xFF for byte in content[place : place + 40])

    return damage


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: b"PAR1",
        lambda content: b"photo,subject\n",
        lambda content: content[: len(content) // 2],
        lambda content: content[::-1],
        broken_at(0.3),
        broken_at(0.9),
    ],
)
def test_a_damaged_table_is_reported_in_one_line(tmp_path, damage):
    file = tmp_path / "photographs.parquet"
    table().to_parquet(file)
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(UserError, match=r"cannot read the table .*photographs\.parquet") as caught:
        stage_tables.read_photographs(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("foreign", "reason"),
    [
        (table().drop(columns=["crop", "status"]), "it lacks the columns status, crop"),
        (table(subject=["ann", None]), "the column subject has 1 empty cells"),
        (table(subject=[["a"], ["b"]]), "list"),
    ],
)
def test_another_table_is_reported_in_one_line(tmp_path, foreign, reason):
    foreign.to_parquet(tmp_path / "photographs.parquet")
    with pytest.raises(UserError, match=reason):
        stage_tables.read_photographs(tmp_path)


def test_flipped_bytes_never_cause_a_traceback(tmp_path):
    """Parquet has no checksum by default, so a change within a value may go unnoticed."""
    file = tmp_path / "t.parquet"
    table().to_parquet(file)
    whole, random = file.read_bytes(), np.random.default_rng(0)
    refused = 0
    for _ in range(200):
        content = bytearray(whole)
        for place in random.integers(0, len(content), 3):
            content[place] = random.integers(256)
        file.write_bytes(content)
        try:
            found = stage_tables.read_table(file, stage_tables.PHOTOGRAPHS)
            assert set(stage_tables.PHOTOGRAPHS.names) <= set(found.columns)
        except UserError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > 20


def test_nullable_columns_may_have_empty_cells(tmp_path):
    schema = pa.schema([pa.field("a", pa.int64())])
    pd.DataFrame({"a": [1.0, np.nan]}).to_parquet(tmp_path / "t.parquet")
    assert stage_tables.read_table(tmp_path / "t.parquet", schema)["a"].isna().tolist() == [
        *(False, True)
    ]
