"""The stage `refine`: its threshold, its verdicts, and when a verifier is not trusted."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pandas as pd
import pytest

from configs import refine as refine_config
from configs import verify as verify_config
from fer_jax.crossval.labelled_faces import crop_margins
from fer_jax.data import sources
from fer_jax.data.manifest import read_manifest, write_manifest, write_negatives
from fer_jax.data.sources import ArraySource
from fer_jax.errors import UserError
from fer_jax.faces.images import read_image
from fer_jax.faces.verdicts import Scored, few_faces_note, rate
from fer_jax.records import FacePipeline, ModelRecord
from fer_jax.schemas.training import Backbone
from fer_jax.stages import refine
from fer_jax.training import model_directory, trained_model

SIZE = 32


class BrightnessVerifier(trained_model.Model):
    """A verifier whose probability of a face is a crop's mean brightness / 255."""

    def __init__(self, task: str = "verification") -> None:
        self.record = ModelRecord(
            image_size=SIZE, backbone={}, tasks={task: {}}, labels={task: ("nonface", "face")}
        )

    def probabilities(self, task, crops):
        assert task == "verification" and crops.dtype == np.uint8
        face = crops.mean(axis=(1, 2, 3)).astype(np.float32) / 255
        return np.stack([1 - face, face], axis=1)


def flat_crops(levels) -> np.ndarray:
    return np.stack([np.full((SIZE, SIZE, 3), level, np.uint8) for level in levels])


def write_extract(folder, faces, videos=6):
    """Writes an extract workdir with one crop for each (brightness, detector_score) in `faces`."""
    rows = []
    for i, (level, score) in enumerate(faces):
        crop = f"shards/clip ü {i % videos}/crops/{i:03d}.png"
        path = folder / crop
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.full((SIZE + 8, SIZE + 8, 3), level, np.uint8))
        rows.append(
            {
                "face_id": f"clip_{i:06d}", "video": f"clip {i % videos}.mp4", "frame": i,
                "time_s": i / 5, "box": [1.0, 2.0, 30.0, 40.0], "landmarks": [0.5] * 10,
                "detector_score": score, "verifier_score": None, "sharpness": 10.0,
                "brightness": float(level), "yaw": 0.0, "phash": i, "track": 0,
                "status": "kept", "reason": "", "crop": crop,
            }
        )  # fmt: skip
    write_manifest(folder / "manifest.parquet", pd.DataFrame(rows))
    return folder


@pytest.fixture(autouse=True)
def somewhere(tmp_path, monkeypatch):
    """Creates the folder that the configs name as the verifier; tests load stand-ins for it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "somewhere").mkdir()


@pytest.fixture
def validation(monkeypatch):
    """Replaces the data and the verifier.

    The data are 100 faces of brightness 101 to 200, and 50 non-faces of brightness 1 to 50.
    """
    source = ArraySource(
        flat_crops([*range(101, 201), *range(1, 51)]), np.array([1] * 100 + [0] * 50, np.int32)
    )
    monkeypatch.setattr(sources, "open_source", lambda *args, **kwargs: source)
    monkeypatch.setattr(trained_model, "load", lambda path: BrightnessVerifier())
    return source


def config_for(folder, **fields):
    config = refine_config.get_config()
    fixed = {"verifier": "somewhere", "batch": 3, "min_detector_score": 0.9}
    fixed["use_verifier"] = "own"
    config.update({"faces": str(folder)} | fixed | fields)
    return config


@pytest.mark.parametrize(
    ("count", "share", "lost"),
    [(200, 0.01, 2), (199, 0.01, 1), (100, 0.01, 1), (99, 0.01, 0), (5, 0.01, 0), (10, 0.3, 3)],
)
def test_the_threshold_loses_the_allowed_share_of_faces(count, share, lost):
    scores = np.random.default_rng([count]).permutation(np.linspace(0.1, 0.9, count))
    threshold = refine.operating_threshold(scores, share)
    assert (scores < threshold).sum() == lost
    assert (scores < threshold + 2e-6).sum() == lost + 1  # the largest such threshold


def test_the_threshold_does_not_depend_on_the_last_bits_of_scores():
    scores = np.full(300, 0.9999999, np.float32)
    threshold = refine.operating_threshold(scores, 0.01)
    assert (scores - np.float32(6e-8) >= threshold).all()


def test_a_threshold_without_faces_is_a_user_error():
    with pytest.raises(UserError, match="validation split contains no faces"):
        refine.operating_threshold(np.zeros(0), 0.01)


def test_quality_counts_and_wilson_intervals():
    scores = np.array([0.9] * 99 + [0.1] + [0.95] + [0.2] * 9, np.float32)
    is_face = np.array([True] * 100 + [False] * 10)
    measured = refine.quality(Scored(scores, is_face, [str(i) for i in range(110)]), 0.5)
    assert (measured["faces_kept"], measured["nonfaces_kept"]) == (99, 1)
    # Wilson 1927 for 99 of 100, by hand: (p + z²/2n ± z sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n)
    z, n, p = 1.959964, 100, 0.99
    half = z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    low, high = ((p + z**2 / (2 * n) + sign * half) / (1 + z**2 / n) for sign in (-1, 1))
    by_source = measured["recall"].pop("by_source")
    assert measured["recall"] == pytest.approx({"value": 0.99, "low": low, "high": high}, abs=1e-6)
    assert 0.96 <= by_source["low"] <= 0.98 and by_source["high"] == 1.0
    assert measured["precision"]["value"] == 0.99
    assert measured["nonfaces_removed"]["value"] == 0.9
    pairs = (99 * 9 + 1 * 0) / 1000  # face above non-face: the wins of 0.9 over 0.2
    assert measured["roc_auc"] == pytest.approx(pairs)


def test_crops_of_one_video_are_not_counted_as_independent():
    """All crops of one of ten videos are lost, so Wilson's interval of the crops is too narrow."""
    kept = np.repeat(np.arange(10) != 3, 20)
    ones = np.ones(200, bool)
    found = rate(kept, ones, [f"v{i // 20}" for i in range(200)])
    assert found["value"] == 0.9
    # Each of ten draws is the lost video with probability 0.1. By the binomial distribution, 97.5 %
    # of the samples contain it at most 3 times, and 35 % never.
    assert found["by_source"] == pytest.approx({"low": 0.7, "high": 1.0})
    assert found["high"] - found["low"] < 0.1
    assert rate(kept, ones, ["one"] * 200)["by_source"] == {"low": None, "high": None}
    nothing = rate(kept, ~ones, ["one"] * 200)
    assert nothing["value"] is None and nothing["by_source"]["low"] is None


def test_quality_notes_if_there_are_few_faces():
    scored = Scored(np.full(20, 0.9, np.float32), np.ones(20, bool), ["a"] * 20)
    found = refine.quality(scored, 0.9)
    note = few_faces_note(found, "test", 0.01)
    assert "only 20 test faces" in note and "83.9%" in note
    assert few_faces_note(found, "test", 0.05) == ""
    assert found["roc_auc"] is None
    assert found["nonfaces_removed"]["value"] is None
    json.dumps(found, allow_nan=False)


def test_the_reason_names_detector_and_verifier():
    manifest = pd.DataFrame(
        {
            "detector_score": [0.99, 0.85, 0.99, 0.85, 0.99, 0.85],
            "status": ["kept"] * 4 + ["removed"] * 2,
            "reason": ["", "", "", "", "blurred", "blurred"],
        }
    )
    scores = np.array([0.7, 0.7, 0.2, 0.2, 0.7, 0.2], np.float32)
    judged = refine.judge(manifest, scores, 0.7 - 1e-6, 0.9)
    assert judged["reason"].tolist() == [
        "", "detector", "verifier", "detector+verifier", "blurred", "blurred+detector+verifier",
    ]  # fmt: skip
    assert judged["status"].tolist() == ["kept"] + ["removed"] * 5
    # The input is not modified.
    assert manifest["status"].tolist() == ["kept"] * 4 + ["removed"] * 2


FACES = [(180, 0.99), (150, 0.95), (90, 0.99), (170, 0.86), (20, 0.81), (160, 0.9), (102, 0.97)]


def test_refine_keeps_every_row_and_gives_reasons(tmp_path, validation):
    extract, workdir = write_extract(tmp_path / "extract", FACES), tmp_path / "deep" / "refine"
    summary = refine.run(config_for(extract), workdir)
    assert summary | {"faces_per_s": 0, "wall_s": 0} == {
        "faces": 7, "kept": 4, "removed": 3, "removed_by_detector": 1, "removed_by_verifier": 1,
        "removed_by_both": 1, "threshold": pytest.approx(102 / 255, abs=1e-6),
        "verifier": "own", "confident": 0, "confident_removed": 0,
        "not_trusted": "there are no confident detections in sources that it has not seen",
        "validation_recall": 0.99, "validation_precision": 1.0,
        "test_recall": 0.99, "test_nonfaces_removed": 1.0, "faces_per_s": 0, "wall_s": 0,
    }  # fmt: skip

    before = read_manifest(extract / "manifest.parquet")
    after = read_manifest(workdir / "manifest.parquet")
    assert after["face_id"].tolist() == before["face_id"].tolist()
    assert after["verifier_score"].to_numpy() == pytest.approx([b / 255 for b, _ in FACES])
    reasons = ["", "", "verifier", "detector", "detector+verifier", "", ""]
    assert after["reason"].tolist() == reasons
    unchanged = ["video", "frame", "time_s", "detector_score", "sharpness", "phash", "track"]
    pd.testing.assert_frame_equal(after[unchanged], before[unchanged])
    for crop, (level, _) in zip(after["crop"], FACES, strict=True):
        assert not crop.startswith("/")
        assert (read_image(workdir / crop) == level).all()
    assert before["status"].eq("kept").all() and len(list(extract.rglob("*.png"))) == len(FACES)

    point = json.loads((workdir / "threshold.json").read_text())
    assert point["threshold"] == summary["threshold"]
    assert point["validation"]["faces"] == 100 and point["validation"]["nonfaces"] == 50
    sheet = read_image(workdir / "removed.png")
    for level in (90, 170, 20):
        assert (sheet == level).all(axis=-1).sum() > 128 * 120
    assert read_image(workdir / "scores.png").std() > 10


@pytest.mark.parametrize(
    ("faces", "workdir"),
    [
        ("extract", "near/link"),
        ("near/link", "refine"),
        ("near/link/../extract", "refine"),
        ("extract", "near/link/../refine"),
        ("near/../extract", "./near/../refine"),
    ],
)
def test_the_paths_of_crops_are_right_in_linked_folders(tmp_path, validation, faces, workdir):
    far = tmp_path / "far" / "from" / "here"
    far.mkdir(parents=True)
    (tmp_path / "near").mkdir()
    (tmp_path / "near" / "link").symlink_to(far)
    write_extract(tmp_path / faces, FACES)
    refine.run(config_for(faces), workdir)
    crops = read_manifest(tmp_path / workdir / "manifest.parquet")["crop"]
    for crop, (level, _) in zip(crops, FACES, strict=True):
        assert (read_image(tmp_path / workdir / crop) == level).all()


def test_a_second_refine_returns_at_once_and_a_killed_one_gives_the_same(tmp_path, validation):
    extract, workdir = write_extract(tmp_path / "extract", FACES), tmp_path / "refine"
    config = config_for(extract)
    first = refine.run(config, workdir)
    written = (workdir / "manifest.parquet").stat().st_mtime_ns
    assert refine.run(config, workdir) == first
    assert (workdir / "manifest.parquet").stat().st_mtime_ns == written

    manifest = read_manifest(workdir / "manifest.parquet")
    (workdir / "done.json").unlink()  # as after a kill just before the end
    (workdir / "manifest.parquet").write_bytes(b"half")
    refine.run(config, workdir)
    pd.testing.assert_frame_equal(read_manifest(workdir / "manifest.parquet"), manifest)


def test_the_sheet_names_video_and_time_of_each_crop(monkeypatch, tmp_path):
    reported = []

    def sheet(crops, captions, title):
        reported.extend(captions)
        return crops[0]

    monkeypatch.setattr(refine.drawing, "contact_sheet", sheet)
    write_extract(tmp_path, [(90, 0.99)])
    (crop,) = tmp_path.rglob("*.png")
    rows = read_manifest(tmp_path / "manifest.parquet").assign(
        status="removed", reason="verifier", verifier_score=0.25, video="a/b.mp4", time_s=61.5,
        path=str(crop),
    )  # fmt: skip
    refine.removed_sheet(rows, 4)
    assert reported == ["verifier\nb.mp4\n1:01.5\nMTCNN 0.990\nverifier 0.250"]


def test_the_sheet_is_written_even_if_nothing_is_removed(tmp_path, validation):
    extract = write_extract(tmp_path / "extract", [(180, 0.99), (190, 0.95)])
    summary = refine.run(config_for(extract), tmp_path / "refine")
    assert (summary["kept"], summary["removed"]) == (2, 0)
    assert read_image(tmp_path / "refine" / "removed.png").shape[0] < 80


def test_the_sheet_shows_at_most_its_limit_spread_over_all_scores(tmp_path, validation):
    extract = write_extract(tmp_path / "extract", [(level, 0.99) for level in range(1, 31)])
    refine.run(config_for(extract, sheet=4), tmp_path / "refine")
    sheet = read_image(tmp_path / "refine" / "removed.png")
    shown = [level for level in range(1, 31) if (sheet == level).all(axis=-1).sum() > 128 * 120]
    assert len(shown) == 4 and shown[0] == 1 and shown[-1] == 30


def test_bad_input_gets_one_line(tmp_path, validation, monkeypatch):
    extract = write_extract(tmp_path / "extract", FACES)
    empty = write_extract(tmp_path / "full", FACES[:1])
    write_manifest(empty / "manifest.parquet", read_manifest(empty / "manifest.parquet").iloc[:0])
    cases = [
        (config_for(""), "--config.faces"),
        (config_for(tmp_path / "nowhere"), "there is no .*nowhere"),
        (config_for(tmp_path / "somewhere"), "no manifest.parquet"),
        (config_for(empty), "contains no faces; extract other videos"),
        (config_for(extract, verifier=""), "--config.verifier"),
    ]
    for number, (config, message) in enumerate(cases):
        with pytest.raises(UserError, match=message):
            refine.run(config, tmp_path / str(number))
    monkeypatch.setattr(trained_model, "load", lambda path: BrightnessVerifier("rotation"))
    with pytest.raises(UserError, match=r"the task verification .*class names: rotation"):
        refine.run(config_for(extract), tmp_path / "other")


def test_a_missing_crop_is_named(tmp_path, validation):
    extract = write_extract(tmp_path / "extract", FACES)
    (extract / "shards/clip ü 2/crops/002.png").unlink()
    with pytest.raises(UserError, match=r"002\.png"):
        refine.run(config_for(extract), tmp_path / "refine")


def write_negative_crops(extract, videos):
    rows = []
    for i in range(24):
        crop = f"negative {i}.png"
        cv2.imwrite(str(extract / crop), np.full((40, 40, 3), i, np.uint8))
        kind = ["background", "hard"][i % 2]
        place = {"video": f"clip {i % videos}.mp4", "frame": i}
        score = 0.5 if kind == "hard" else None
        rows.append({"crop": crop, **place, "kind": kind, "detector_score": score})
    write_negatives(extract / "negatives.parquet", pd.DataFrame(rows))


def test_the_threshold_is_chosen_on_validation_and_measured_on_test_videos(tmp_path, monkeypatch):
    extract = write_extract(tmp_path / "extract", [(80 + i, 0.99) for i in range(48)])
    write_negative_crops(extract, 6)
    monkeypatch.setattr(trained_model, "load", lambda path: BrightnessVerifier())
    summary = refine.run(config_for(extract), tmp_path / "refine")

    def levels(split):
        source = sources.open_source("face_verification", None, split, extract, SIZE)
        examples = [source[i] for i in range(len(source))]
        return [e["image"].mean() for e in examples if e["label"] == refine.FACE], len(examples)

    (validation, _), (test, count) = levels("validation"), levels("test")
    assert 0 < len(validation) < 48 and len(test) > 0 and not set(validation) & set(test)
    assert summary["threshold"] == pytest.approx(min(validation) / 255, abs=2e-6)
    point = json.loads((tmp_path / "refine" / "threshold.json").read_text())
    assert point["validation"]["faces"] == len(validation)
    assert point["test"]["faces"] == len(test) and point["test"]["nonfaces"] == count - len(test)
    assert point["test"]["faces_kept"] == sum(level >= min(validation) for level in test)
    assert f"only {len(test)} test faces" in point["note"]


def test_the_threshold_is_never_above_one_half(tmp_path, monkeypatch):
    """Validation faces have scores of 0.7 or more, but a face of another video may have less."""
    extract = write_extract(tmp_path / "extract", [(180 + i, 0.99) for i in range(48)] + [(140, 1)])
    write_negative_crops(extract, 6)
    monkeypatch.setattr(trained_model, "load", lambda path: BrightnessVerifier())
    summary = refine.run(config_for(extract), tmp_path / "refine")
    assert (summary["threshold"], summary["removed"]) == (0.5, 0)


def test_a_missing_test_split_is_noted_in_the_figures(tmp_path, monkeypatch):
    faces = [(180 + i, 0.99) for i in range(48)]
    extract = write_extract(tmp_path / "extract", faces)
    manifest = read_manifest(extract / "manifest.parquet")
    manifest["video"] = [f"clip {i % 2}.mp4" for i in range(48)]
    write_manifest(extract / "manifest.parquet", manifest)
    write_negative_crops(extract, 2)
    monkeypatch.setattr(trained_model, "load", lambda path: BrightnessVerifier())
    summary = refine.run(config_for(extract), tmp_path / "refine")
    point = json.loads((tmp_path / "refine" / "threshold.json").read_text())
    assert point["test"] is None and "test_recall" not in summary
    assert "chosen on the faces that it is measured on" in point["note"]


def test_the_sheet_shows_both_kinds_of_disagreements(tmp_path, monkeypatch):
    faces = [(180 + i, 0.99) for i in range(48)] + [(60, 0.99)]
    extract = write_extract(tmp_path / "extract", faces)
    write_negative_crops(extract, 6)
    negatives = extract / "negatives.parquet"
    cv2.imwrite(str(extract / "negative 1.png"), np.full((40, 40, 3), 250, np.uint8))
    monkeypatch.setattr(trained_model, "load", lambda path: BrightnessVerifier())
    refine.run(config_for(extract, max_faces_lost=0.2), tmp_path / "refine")
    sheet = read_image(tmp_path / "refine" / "disagreements.png")
    for level in (60, 250):  # a face that the verifier rejects, a doubted one that it accepts
        assert (sheet == level).all(axis=-1).sum() > 128 * 120
    assert negatives.exists()


def cut_with(margin):
    search = {"max_side": 0, "enlarge_below": 0, "enlarge_to": 0, "border": 0.0}
    detector = {"min_face": 20, "factor": 0.709, "thresholds": [0.6, 0.7, 0.8], "max_faces": 0}
    crop = {"size": 80, "margin": margin}
    return {"detector": detector, "search": search, "crop": crop, "aligned": False}


@pytest.mark.parametrize("margin", [0.0, 0.1])
def test_a_verifier_trained_on_other_margins_is_noted(margin, tmp_path, monkeypatch, capsys):
    """Here the user's verifier is not trusted, and the starter's was trained without a margin."""
    extract = write_extract(tmp_path / "extract", [(150, 0.995)] * 56, videos=14)
    write_negative_crops(extract, 14)
    (extract / "faces.json").write_text(json.dumps(cut_with(margin)))
    starter = RefusesVerifier()
    starter.record = starter.record.model_copy(
        update={"faces": FacePipeline.model_validate_json(json.dumps(cut_with(margin=0.0)))}
    )
    config = config_for(extract, use_verifier="auto", min_test_sources=100)
    summary, point, _ = refined_by(
        monkeypatch, RefusesVerifier(), starter, config, tmp_path / "refine"
    )
    assert summary["verifier"] == "starter"
    noted = "trained on faces with a margin of 0 and scores faces with a margin of 0.1"
    for reported in (point["note"], capsys.readouterr().out):
        assert (noted in reported) == (margin != 0)


def test_the_record_of_crops_is_passed_on_to_models_trained_on_them(tmp_path, validation):
    """The record passes from extract through refine and pretrain to crossval."""
    extract = write_extract(tmp_path / "extract", FACES)
    (extract / "faces.json").write_text(json.dumps(cut_with(margin=0.5)))
    refine.run(config_for(extract), tmp_path / "refine")
    faces = model_directory.read_faces(tmp_path / "refine")
    record = model_directory.describe(Backbone(), SIZE, {}, faces=faces)
    model = tmp_path / "pretrain" / "model"
    model.mkdir(parents=True)
    (model / "model.json").write_text(record.model_dump_json())
    assert crop_margins([str(model)], ["", ""]) == {str(model): 0.5}


class RefusesVerifier(BrightnessVerifier):
    """A verifier that accepts crops brighter than 50, except for some values of brightness."""

    def __init__(self, *refused: int) -> None:
        super().__init__()
        self.refused = refused

    def probabilities(self, task, crops):
        level = crops.mean(axis=(1, 2, 3)).round().astype(int)
        face = np.where((level > 50) & ~np.isin(level, self.refused), 0.9, 0.1).astype(np.float32)
        return np.stack([1 - face, face], axis=1)


@pytest.fixture
def videos(tmp_path):
    """An extract workdir of 14 videos with 4 faces each, and the brightness of its test faces."""
    faces = [(150 + i, 0.995) for i in range(56)]
    extract = write_extract(tmp_path / "extract", faces, videos=14)
    write_negative_crops(extract, 14)
    source = sources.open_source("face_verification", None, "test", extract, SIZE)
    examples = [source[i] for i in range(len(source))]
    return extract, [int(e["image"].mean().round()) for e in examples if e["label"] == refine.FACE]


def refined_by(monkeypatch, own, starter, config, workdir):
    """Runs `refine` with two stand-in verifiers; returns summary, threshold.json and manifest."""
    models = {"somewhere": own, "starter": starter}
    monkeypatch.setattr(trained_model, "load", lambda path: models[path])
    summary = refine.run(config, workdir)
    point = json.loads((workdir / "threshold.json").read_text())
    return summary, point, read_manifest(workdir / "manifest.parquet")


def test_a_verifier_that_keeps_the_faces_of_unseen_videos_is_trusted(
    tmp_path, videos, monkeypatch, capsys
):
    extract, tested = videos
    models = RefusesVerifier(), RefusesVerifier(*range(256))
    config = config_for(extract, use_verifier="auto")
    summary, point, _ = refined_by(monkeypatch, *models, config, tmp_path / "refine")
    assert (summary["verifier"], summary["removed"]) == ("own", 0)
    assert "not_trusted" not in summary and point["not_trusted"] == {}
    assert point["confident"] == len(tested) == 12 and point["confident_removed"] == 0
    assert "cannot be trusted" not in capsys.readouterr().err


@pytest.mark.parametrize("lost", [1, 2])
def test_a_verifier_that_rejects_confident_faces_of_unseen_videos_is_replaced(
    lost, tmp_path, videos, monkeypatch, capsys
):
    """One of 12 faces is less than the acceptable share of 0.1, and two are more."""
    extract, tested = videos
    config = config_for(extract, use_verifier="auto", max_removed_of_confident=0.1)
    models = RefusesVerifier(*tested[:lost]), RefusesVerifier()
    summary, point, after = refined_by(monkeypatch, *models, config, tmp_path / "refine")
    reported = [
        line for line in capsys.readouterr().err.splitlines() if "cannot be trusted" in line
    ]
    if lost == 1:
        assert (summary["verifier"], summary["removed"], reported) == ("own", 1, [])
        return
    assert (summary["verifier"], summary["removed"]) == ("starter", 0)
    assert len(reported) == 1 and "replaced by the starter's" in reported[0]
    assert "2 of 12 confident detections (16.7%)" in reported[0]
    assert "2 of 12" in summary["not_trusted"] and "2 of 12" in point["not_trusted"]["own"]
    assert point["threshold"] == 0.5 and point["confident"] == 56  # the starter has seen none
    assert after["status"].eq("kept").all() and len(after) == 56


def test_a_verifier_tested_on_too_few_videos_is_not_trusted(tmp_path, videos, monkeypatch):
    extract, _ = videos
    config = config_for(extract, use_verifier="auto", min_test_sources=4)
    models = RefusesVerifier(), RefusesVerifier(150)
    summary, point, after = refined_by(monkeypatch, *models, config, tmp_path / "refine")
    assert summary["verifier"] == "starter"
    assert "in its test split is 3, less than min_test_sources=4" in point["not_trusted"]["own"]
    removed = after[after["status"] == "removed"]  # the row and the crop are kept
    assert removed["reason"].tolist() == ["verifier"]
    assert (read_image(tmp_path / "refine" / removed["crop"].iloc[0]) == 150).all()


def test_if_both_verifiers_reject_confident_faces_only_the_detector_decides(
    tmp_path, videos, monkeypatch, capsys
):
    extract, tested = videos
    both = RefusesVerifier(*tested)
    config = config_for(extract, use_verifier="auto", min_detector_score=0.9)
    summary, point, after = refined_by(monkeypatch, both, both, config, tmp_path / "refine")
    assert (summary["verifier"], summary["removed"], summary["threshold"]) == ("none", 0, 0.0)
    assert set(point["not_trusted"]) == {"own", "starter"}
    assert (after["verifier_score"] < 0.5).sum() == len(tested)
    reported = capsys.readouterr().err
    assert "only MTCNN's score decides" in reported and "12 of 56 confident detections" in reported


@pytest.mark.parametrize("name", ["own", "starter"])
def test_a_requested_verifier_is_used_with_a_warning(name, tmp_path, videos, monkeypatch, capsys):
    extract, tested = videos
    models = [RefusesVerifier(), RefusesVerifier()]
    models[name == "starter"] = RefusesVerifier(*tested)
    config = config_for(extract, use_verifier=name)
    summary, _, after = refined_by(monkeypatch, *models, config, tmp_path / "refine")
    assert summary["verifier"] == name and summary["removed_by_verifier"] == len(tested)
    assert f"is used only because of --config.use_verifier={name}" in capsys.readouterr().err
    assert after["reason"].eq("verifier").sum() == len(tested)


def test_the_starter_needs_no_trained_verifier_and_no_labelled_crops(tmp_path, monkeypatch):
    extract = write_extract(tmp_path / "extract", FACES)
    config = config_for(extract, use_verifier="starter", verifier="")
    models = None, RefusesVerifier(90)
    summary, point, after = refined_by(monkeypatch, *models, config, tmp_path / "refine")
    assert (summary["verifier"], summary["removed_by_verifier"]) == ("starter", 1)
    assert "contains no negatives.parquet" in point["note"] and point["test"] is None
    assert len(after) == len(FACES)
    assert read_image(tmp_path / "refine" / "scores.png").std() > 10


def test_for_a_verifier_of_other_videos_all_confident_detections_count(
    tmp_path, videos, monkeypatch
):
    """All confident detections count, also outside the test split of the verifier's training."""
    extract, _ = videos
    other = write_extract(tmp_path / "other", [(60 + i, 0.995) for i in range(30)])
    data = verify_config.get_config().data
    data.root = str(extract)
    (tmp_path / "somewhere" / "data.json").write_text(data.to_json())
    config = config_for(other, use_verifier="auto")
    models = RefusesVerifier(60, 61), RefusesVerifier()
    summary, point, _ = refined_by(monkeypatch, *models, config, tmp_path / "refine")
    assert summary["verifier"] == "starter"
    assert "2 of 30 confident detections" in point["not_trusted"]["own"]
