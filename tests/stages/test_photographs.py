"""The stage `photographs`: one aligned face per photograph; photographs without one are counted."""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from ml_collections import ConfigDict

from configs import photographs as photographs_config
from fer_jax.data.names import key
from fer_jax.errors import UserError
from fer_jax.faces import search
from fer_jax.faces.alignment import align, template_points
from fer_jax.people import photograph, texture
from fer_jax.records import Search
from fer_jax.schemas import validated
from fer_jax.stages import photographs
from fer_jax.stages.photographs import run

PERSON = 901


def largest_face(image: np.ndarray, max_side: int = 1280) -> np.ndarray:
    """The landmarks [5, 2] of the largest face in an image."""
    pipeline = photographs.pipeline_of(validated(config(Path(), max_side=max_side)))
    (faces,) = search.find_faces([image], pipeline)
    return search.largest(faces).landmarks[0]


def config(photos: Path | str, **fields: object) -> ConfigDict:
    config = photographs_config.get_config()
    config.update({"photos": str(photos), **fields})
    return config


def write(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image[..., ::-1])


def small(image: np.ndarray, factor: float) -> np.ndarray:
    return cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)


@pytest.fixture(scope="module")
def portrait() -> np.ndarray:
    """A generated photograph, uint8 [240, 320, 3]."""
    return photograph(PERSON, "happy", 0)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, portrait) -> tuple[Path, dict, ConfigDict]:
    """The workdir, summary and config of a finished run.

    The photographs: one face under two similar names, two faces of unequal size, and a texture.
    """
    root = tmp_path_factory.mktemp("stage")
    photos = root / "photos"
    sad = photograph(PERSON, "sad", 0)
    write(photos / "ann" / "Happy" / "1.png", portrait)
    write(photos / "ann" / "happy" / "1.jpg", portrait)
    group = np.full((240, 320, 3), 128, np.uint8)
    group[:180, 80:] = small(sad, 0.75)
    group[140:, 10:143] = small(portrait, 100 / 240)
    write(photos / "ann" / "sad" / "group.png", group)
    write(photos / "bob" / "angry" / "wall.png", texture(3, (240, 320)))
    asked = config(photos)
    return root / "work", run(asked, root / "work"), asked


def table(workdir: Path) -> pd.DataFrame:
    return pd.read_parquet(workdir / "photographs.parquet").set_index("photo")


def test_every_photograph_is_a_row_and_the_counts_add_up(finished):
    workdir, summary, _ = finished
    rows = table(workdir)
    assert sorted(rows.index) == [
        "ann/Happy/1.png", "ann/happy/1.jpg", "ann/sad/group.png", "bob/angry/wall.png",
    ]  # fmt: skip
    assert summary["photographs"] == summary["with_face"] + summary["without_face"] == 4
    assert summary["people"] == 2 and summary["without_face"] == 1
    assert summary["photographs_happy"] == 2 and summary["photographs_neutral"] == 0
    assert rows["emotion"].tolist().count("happy") == 2


def test_a_photograph_without_a_face_is_kept(finished):
    wall = table(finished[0]).loc["bob/angry/wall.png"]
    assert wall["status"] == "no_face" and wall["crop"] == "" and wall["faces_found"] == 0
    assert np.isnan(wall["detector_score"])


def test_crops_do_not_overwrite_each_other(finished):
    crops = table(finished[0]).query("status == 'ok'")["crop"]
    assert crops.is_unique and crops.str.startswith("faces/ann/").all()
    for crop in crops:
        assert cv2.imread(str(finished[0] / crop)).shape == (80, 80, 3)


def test_the_largest_face_is_taken(finished):
    group = table(finished[0]).loc["ann/sad/group.png"]
    assert group["faces_found"] == 2 and group["detector_score"] > 0.8
    crop = cv2.imread(str(finished[0] / group["crop"]))[..., ::-1].astype(float)
    alone, _ = _aligned(photograph(PERSON, "sad", 0))
    assert np.abs(crop - alone).mean() < 12


def test_a_crop_shows_the_face_at_its_place(finished):
    """The landmarks that are found in a crop match the template of the alignment."""
    row = table(finished[0]).loc["ann/Happy/1.png"]
    crop = cv2.imread(str(finished[0] / row["crop"]))[..., ::-1]
    landmarks = largest_face(np.ascontiguousarray(crop))
    asked = finished[2].crop
    assert np.abs(landmarks - template_points(asked.size, asked.margin)).mean() < 3


def _aligned(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    landmarks = largest_face(image)
    asked = config(Path()).crop
    return align(image, landmarks, asked.size, asked.margin).astype(float), landmarks


def test_a_second_run_does_nothing_and_another_config_is_refused(finished):
    workdir, summary, asked = finished
    before = {f: f.stat().st_mtime_ns for f in workdir.rglob("*")}
    assert run(asked, workdir) == summary
    assert {f: f.stat().st_mtime_ns for f in workdir.rglob("*")} == before
    with pytest.raises(UserError, match=r"crop\.size"):
        run(config(Path(asked.photos), crop={"size": 64}), workdir)


def test_a_killed_run_continues_to_the_same_result(finished, tmp_path, monkeypatch):
    workdir, _, asked = finished
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(photographs, "_sheet", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        run(asked, tmp_path)
    crops = list((tmp_path / "faces").rglob("*.png"))
    crops[0].write_bytes(b"half")
    crops[1].unlink()
    run(asked, tmp_path)
    assert table(tmp_path).equals(table(workdir))
    for crop in table(workdir).query("status == 'ok'")["crop"]:
        assert (tmp_path / crop).read_bytes() == (workdir / crop).read_bytes()


@pytest.mark.parametrize("factor", [4.0, 0.25])
def test_landmarks_are_those_of_the_photograph_at_any_size(portrait, factor):
    """The width becomes 1280 or 80 pixels, above or below the `max_side` of 320 of the search."""
    place = largest_face(portrait, 320)
    method = cv2.INTER_CUBIC if factor > 1 else cv2.INTER_AREA
    scaled = cv2.resize(portrait, None, fx=factor, fy=factor, interpolation=method)
    found = largest_face(scaled, 320)
    assert np.abs((found + 0.5) / factor - 0.5 - place).max() < 6


def test_landmarks_of_the_second_search_are_those_of_the_photograph(portrait):
    place = largest_face(portrait)
    pipeline = photographs.pipeline_of(validated(config(Path())))
    plain = pipeline.model_copy(update={"search": Search(max_side=1280)})
    found = search._detect([portrait], plain, border=0.25)[0].landmarks[0]
    assert np.abs(found - place).max() < 4


def test_a_face_that_fills_a_small_picture_is_found(portrait):
    """The picture is a tight crop of 48 x 48 pixels, as in FER2013."""
    points = largest_face(portrait)
    x, y = points.mean(0)
    half = 1.3 * np.linalg.norm(points[0] - points[1])
    tight = portrait[int(y - half) : int(y + half), int(x - half) : int(x + half)]
    tight = cv2.resize(tight, (48, 48), interpolation=cv2.INTER_AREA)
    expected = (points - (int(x - half), int(y - half)) + 0.5) * 48 / (2 * half) - 0.5
    assert np.abs(largest_face(tight) - expected).max() < 3


def test_aligned_faces_are_only_resized(tmp_path):
    for emotion, value in (("happy", 50), ("sad", 90)):
        write(tmp_path / "in" / "ann" / emotion / "1.png", np.full((48, 48, 3), value, np.uint8))
    summary = run(config(tmp_path / "in", aligned=True), tmp_path / "out")
    rows = table(tmp_path / "out")
    assert summary["with_face"] == 2 and rows["detector_score"].isna().all()
    crop = cv2.imread(str(tmp_path / "out" / rows.loc["ann/sad/1.png", "crop"]))
    assert crop.shape == (80, 80, 3) and (crop == 90).all()


@pytest.mark.parametrize("workdir", ["../out", "link/../out", "./out"])
def test_crops_are_kept_whatever_the_form_of_the_path_of_the_workdir(
    tmp_path, monkeypatch, workdir
):
    write(tmp_path / "photos" / "p1" / "happy" / "a.png", np.full((40, 40, 3), 90, np.uint8))
    for folder in ("here", "there/folder"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "here" / "link").symlink_to(tmp_path / "there" / "folder")
    monkeypatch.chdir(tmp_path / "here")
    run(config(tmp_path / "photos", aligned=True), workdir)
    table = pd.read_parquet(Path(workdir) / "photographs.parquet")
    assert [Path(workdir, crop).is_file() for crop in table["crop"]] == [True]


def test_added_and_deleted_photographs_are_applied(tmp_path):
    for name in ("happy/1", "sad/1"):
        write(tmp_path / "in" / "ann" / f"{name}.png", np.full((48, 48, 3), 50, np.uint8))
    run(config(tmp_path / "in", aligned=True), tmp_path / "out")
    (tmp_path / "in/ann/sad/1.png").rename(tmp_path / "in/ann/sad/2.png")
    write(tmp_path / "in/bob/sad/1.png", np.full((48, 48, 3), 90, np.uint8))
    assert run(config(tmp_path / "in", aligned=True), tmp_path / "out")["photographs"] == 3
    crops = {p.relative_to(tmp_path / "out").as_posix() for p in tmp_path.glob("out/faces/*/*/*")}
    assert crops == set(table(tmp_path / "out")["crop"]) and len(crops) == 3


@pytest.mark.parametrize("labels", ["folder", "table"])
def test_originals_at_the_paths_of_crops_are_never_changed(tmp_path, labels):
    """The photographs are in `faces`, a folder inside the workdir."""
    originals = {}
    for emotion in ("happy", "sad"):
        file = tmp_path / "faces" / "ann" / emotion / "1.png"
        write(file, np.full((48, 48, 3), 50, np.uint8))
        originals[file] = file.read_bytes()
    photos = tmp_path / "faces"
    if labels == "table":
        photos = tmp_path / "labels.csv"
        rows = [f"{file.relative_to(tmp_path)},ann,{file.parent.name}\n" for file in originals]
        photos.write_text("path,subject,emotion\n" + "".join(rows))
    with pytest.raises(UserError, match="is inside"):
        run(config(photos, aligned=True), tmp_path)
    (tmp_path / "photos").symlink_to(tmp_path / "faces")
    with pytest.raises(UserError, match="is inside"):
        run(config(tmp_path / "photos", aligned=True), tmp_path)
    assert {file: file.read_bytes() for file in originals} == originals


@pytest.mark.parametrize("change", ["revoke", "replace", "ledger"])
def test_files_that_a_table_names_count_as_inputs(tmp_path, change):
    for subject in ("ann", "bob"):
        for emotion in ("happy", "sad"):
            image = np.full((48, 48, 3), 50, np.uint8)
            write(tmp_path / "in" / f"{subject}_{emotion}.png", image)
    rows = [f"{s}_{e}.png,{s},{e}\n" for s in ("ann", "bob") for e in ("happy", "sad")]
    (tmp_path / "in/labels.csv").write_text("path,subject,emotion\n" + "".join(rows))
    asked = config(tmp_path / "in/labels.csv", aligned=True)
    ledger, head = tmp_path / "in/consent.csv", "subject,share,train,demo,revoked\n"
    if change != "ledger":
        ledger.write_text(head + "ann,no,yes,no,\nbob,no,yes,no,\n")
    assert run(asked, tmp_path / "out")["people"] == 2
    before = table(tmp_path / "out")
    if change == "replace":
        write(tmp_path / "in/ann_sad.png", np.full((48, 48, 3), 90, np.uint8))
        run(asked, tmp_path / "out")
        assert table(tmp_path / "out").loc["ann_sad.png", "digest"] != before["digest"].iloc[0]
    else:
        ledger.write_text(head + "ann,no,yes,no,2026-03-01\nbob,no,yes,no,\n")
        assert run(asked, tmp_path / "out")["people"] == 1
        assert not list((tmp_path / "out").rglob("*ann*"))


def test_names_that_a_file_system_may_treat_as_equal_have_different_crops(tmp_path):
    """The names are two spellings of a person, two Unicode forms of a letter, and long names."""
    long = "n" * 240
    photos = [
        "علي/sad/1.png", "علی/sad/1.png", "علی/sad/e\u0301.png", "علی/sad/é.png", "علی/sad/É.jpg",
        f"علی/sad/{long}.png", f"علی/sad/{long}x.png", "علی/sad/ك.png", "علی/sad/ک.png",
    ]  # fmt: skip
    for number, photo in enumerate(photos):
        write(tmp_path / "in" / photo, np.full((48, 48, 3), 10 * number, np.uint8))
    asked = config(tmp_path / "in", aligned=True)
    summary = run(asked, tmp_path / "out")
    assert summary["people"] == summary["subjects_with_several_spellings"] == 1
    crops = table(tmp_path / "out")["crop"]
    assert len(set(crops.map(key))) == len(photos)
    for number, photo in enumerate(photos):
        assert abs(int(cv2.imread(str(tmp_path / "out" / crops[photo])).mean()) - 10 * number) < 3


def test_a_name_like_that_of_another_crop_is_not_overwritten(tmp_path):
    labels = pd.DataFrame({"subject": "ann", "emotion": "sad", "photo": ["1.png", "1.jpg"]})
    first, second = photographs._crop_names(labels)
    third = {"subject": "ann", "emotion": "sad", "photo": Path(first).name}
    made = photographs._crop_names(pd.concat([labels, pd.DataFrame([third])]))
    assert made[:2] == [first, second] and len(set(made)) == 3


def test_invalid_photographs_are_user_errors(tmp_path):
    with pytest.raises(UserError, match=r"--config\.photos"):
        run(config(""), tmp_path / "a")
    write(tmp_path / "in" / "ann" / "smug" / "1.png", np.zeros((9, 9, 3), np.uint8))
    with pytest.raises(UserError, match="unknown emotion 'smug'"):
        run(config(tmp_path / "in"), tmp_path / "b")
    assert not (tmp_path / "b" / "photographs.parquet").exists()
    write(tmp_path / "walls" / "ann" / "sad" / "1.png", texture(3, (240, 320)))
    with pytest.raises(UserError, match=r"no face was found in any of the 1 .*aligned"):
        run(config(tmp_path / "walls"), tmp_path / "c")
