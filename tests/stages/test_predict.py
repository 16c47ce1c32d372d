"""The stage `predict`: rows, pictures and videos, and files that cannot be read."""

from __future__ import annotations

import csv
import errno
import json
import os
import signal

import av
import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from configs import photographs as photographs_config
from configs import predict as predict_config
from fer_jax import reading, records
from fer_jax.errors import TerminatedError, UserError
from fer_jax.faces import search
from fer_jax.faces.alignment import align
from fer_jax.faces.drawing import write_image
from fer_jax.faces.images import read_image
from fer_jax.faces.mtcnn import Detector, Faces
from fer_jax.faces.skips import Skips
from fer_jax.faces.video import Frame, VideoError, sample_frames
from fer_jax.people import photograph, texture
from fer_jax.records import ModelRecord, Search
from fer_jax.schemas import validated
from fer_jax.stages import photographs, predict
from fer_jax.stages.render import write_clip
from fer_jax.training import trained_model

LABELS = ["angry", "happy", "neutral", "sad"]
PROBABILITIES = [f"prob_{label}" for label in LABELS]
DETECTOR = {"min_face": 40, "factor": 0.709, "thresholds": [0.6, 0.7, 0.8]}


def record(task="emotion", labels=LABELS, **fields):
    """The record of a model whose training pictures were searched in their original size."""
    pipeline = {"detector": DETECTOR, "search": {}, "crop": {"size": 72, "margin": 0.1}}
    whole = {
        "image_size": 32,
        "backbone": {},
        "tasks": {task: {}},
        "labels": {task: labels},
        "faces": pipeline,
    }
    return records.parse(ModelRecord, json.dumps(whole | fields), "the stand-in")


class ColourModel(trained_model.Model):
    """Derives an "emotion" from a crop's mean colour, and stores the crops that it is given."""

    def __init__(self, made=None) -> None:
        self.record = made or record()
        self.seen: list[np.ndarray] = []

    def probabilities(self, task, crops):
        assert task == "emotion" and len(crops)
        self.seen.append(crops)
        means = crops.reshape(len(crops), -1, 3).mean(axis=1)
        logits = np.concatenate([means, means.mean(axis=1, keepdims=True) + 5], axis=1) / 20
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        return (exponentials / exponentials.sum(axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def model(tmp_path, monkeypatch):
    """A stand-in for the model in the folder that the configs name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "somewhere").mkdir()
    loaded = ColourModel()
    monkeypatch.setattr(trained_model, "load", lambda path: loaded)
    return loaded


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    """Pictures of two people and a texture, a clip, three unreadable files, and a hidden file."""
    folder = tmp_path_factory.mktemp("media")
    write_image(folder / "b one.jpg", photograph(3, "happy", 0))
    write_image(folder / "deep" / "عکس.png", photograph(4, "sad", 0))
    write_image(folder / "a texture.tiff", texture(1, (240, 320)))
    (folder / "broken.jpg").write_bytes((folder / "b one.jpg").read_bytes()[:60])
    write_clip(folder / "clip.mp4", 5, "neutral", 0, 12, 6, (240, 320))
    (folder / "words.mp4").write_text("no video at all")
    (folder / "notes.txt").write_text("about these files")
    (folder / ".hidden.jpg").write_text("")
    return folder


def config_for(path, **fields):
    config = predict_config.get_config()
    config.update({"model": "somewhere", "input": str(path)} | fields)
    return config


def rows_of(workdir) -> pd.DataFrame:
    return pd.read_csv(workdir / "predictions.csv")


def test_a_folder_of_pictures_videos_and_other_files_is_predicted(tmp_path, media, model):
    summary = predict.run(config_for(media, every_s=0.5), tmp_path / "out")
    table = rows_of(tmp_path / "out")
    assert list(table.columns) == [
        "source", "frame", "time_s", "person", "x0", "y0", "x1", "y1", "detector_score",
        "left_eye_x", "left_eye_y", "right_eye_x", "right_eye_y", "nose_x", "nose_y",
        "mouth_left_x", "mouth_left_y", "mouth_right_x", "mouth_right_y", "emotion", *PROBABILITIES,
        "smoothed_emotion", *(f"smoothed_{name}" for name in PROBABILITIES),
    ]  # fmt: skip
    assert table.groupby("source").size().to_dict() == {
        "a texture.tiff": 1, "b one.jpg": 1, "clip.mp4": 4, "deep/عکس.png": 1,
    }  # fmt: skip
    with (tmp_path / "out" / "skipped.csv").open() as file:
        skipped = {row["source"]: row["reason"] for row in csv.DictReader(file)}
    assert sorted(skipped) == ["broken.jpg", "notes.txt", "words.mp4"]
    assert skipped["words.mp4"].startswith("not a video")

    without = table[table["emotion"].isna()]
    assert "a texture.tiff" in set(without["source"])
    assert without[["x0", "y1", "detector_score", *PROBABILITIES]].isna().all(axis=None)
    found = table.dropna(subset="emotion")
    assert summary["sources"] == 7 and summary["skipped"] == 3
    assert summary["frames"] == 7 == len(found) + summary["without_face"]
    assert summary["faces"] == len(found) >= 5 and summary["without_face"] == len(without)
    assert found[PROBABILITIES].sum(axis=1).to_numpy() == pytest.approx(1, abs=3e-4)
    likeliest = found[PROBABILITIES].idxmax(axis=1).str.removeprefix("prob_")
    assert (found["emotion"] == likeliest).all()
    assert json.loads((tmp_path / "out" / "done.json").read_text())["summary"] == summary

    precise = pd.read_parquet(tmp_path / "out" / "predictions.parquet")
    pd.testing.assert_frame_equal(precise, table, check_dtype=False, atol=0.006, rtol=0)

    annotated = tmp_path / "out" / "annotated"
    names = sorted(p.relative_to(annotated).as_posix() for p in annotated.rglob("*") if p.is_file())
    assert names == ["a texture.tiff.png", "b one.jpg", "clip.mp4", "deep/عکس.png"]
    assert read_image(annotated / "b one.jpg").shape == (480, 640, 3)


def test_a_face_is_cropped_like_the_training_faces_of_the_model(tmp_path, media, model):
    predict.run(config_for(media / "b one.jpg"), tmp_path / "out")
    image = read_image(media / "b one.jpg")
    settings = DETECTOR | {"thresholds": tuple(DETECTOR["thresholds"])}
    faces = Detector(**settings).detect([image])[0]
    expected = align(image, faces.landmarks[0], 72, 0.1)
    assert len(model.seen) == 1
    np.testing.assert_array_equal(model.seen[0], expected[None])
    row = rows_of(tmp_path / "out").iloc[0]
    assert row[["x0", "y0", "x1", "y1"]].to_list() == pytest.approx(faces.boxes[0], abs=0.006)
    assert row["detector_score"] == pytest.approx(faces.scores[0], abs=6e-5)
    probabilities = ColourModel().probabilities("emotion", expected[None])[0]
    assert row[PROBABILITIES].to_list() == pytest.approx(probabilities, abs=6e-5)


def test_an_annotated_video_plays_at_the_sampled_rate(tmp_path, media, model):
    for every_s, count in ((0.5, 4), (0.0, 12), (0.1, 12)):
        out = tmp_path / str(every_s)
        predict.run(config_for(media / "clip.mp4", every_s=every_s, batch=5), out)
        table = rows_of(out)
        assert table["frame"].nunique() == count
        played = list(sample_frames(out / "annotated" / "clip.mp4", 0.0))
        assert len(played) == count and played[0].image.shape == (480, 640, 3)
        times = np.array([frame.time_s for frame in played])
        filmed = table.groupby("frame")["time_s"].first().to_numpy()
        assert times == pytest.approx(filmed - filmed[0], abs=0.02)


def test_without_annotate_only_tables_are_written_and_a_second_run_returns_at_once(
    tmp_path, media, model
):
    config = config_for(media, annotate=False)
    first = predict.run(config, tmp_path / "out")
    assert not (tmp_path / "out" / "annotated").exists()
    shown = len(model.seen)
    assert predict.run(config, tmp_path / "out") == first and len(model.seen) == shown


def test_answers_that_are_not_confident_enough_are_withheld(tmp_path, media, model, capfd):
    (tmp_path / "somewhere" / "model.json").touch()  # without abstaining.json next to it
    all_of_them, some = tmp_path / "all", tmp_path / "some"
    predict.run(config_for(media, every_s=0.5), all_of_them)
    everything = pd.read_parquet(all_of_them / "predictions.parquet")
    best = everything[PROBABILITIES].max(axis=1)
    least = float(best.dropna().median())
    summary = predict.run(config_for(media, every_s=0.5, min_confidence=least), some)
    found = pd.read_parquet(some / "predictions.parquet")
    pd.testing.assert_frame_equal(found[PROBABILITIES], everything[PROBABILITIES])
    withheld = best < least
    assert summary["withheld"] == withheld.sum() > 0
    assert (found["emotion"][withheld] == "").all() and not found["answered"][withheld].any()
    answered = best >= least
    assert (found["emotion"][answered] == everything["emotion"][answered]).all()
    assert found["answered"].dtype == bool and found["answered"][answered].all()
    assert best.isna().any() and not found["answered"][best.isna()].any()
    assert f"withheld {withheld.sum()} of {summary['faces']} answers" in capfd.readouterr().out
    csv_rows = rows_of(some)
    assert csv_rows["answered"].dtype == bool and csv_rows["answered"].sum() == answered.sum()
    before, after = (read_image(out / "annotated" / "b one.jpg") for out in (all_of_them, some))
    assert (before != after).any() == bool(withheld[everything["source"] == "b one.jpg"].any())
    with pytest.raises(UserError, match=r"coverage=0\.5 contradicts min_confidence"):
        predict.run(config_for(media, min_confidence=0.5, coverage=0.5), tmp_path / "both")
    with pytest.raises(UserError, match=r"has no abstaining\.json"):
        predict.run(config_for(media, coverage=0.5), tmp_path / "none")


def test_a_large_picture_is_reduced_for_detection_and_cropped_from_the_original(
    tmp_path, media, model
):
    picture = read_image(media / "b one.jpg")
    for name, factor in (("small", 2), ("large", 6)):  # faces of 20 pixels and more are searched
        image = cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
        write_image(tmp_path / f"{name}.png", image)
    predict.run(config_for(tmp_path / "small.png", max_side=320), tmp_path / "small")
    predict.run(config_for(tmp_path / "large.png", max_side=320), tmp_path / "out")
    before, after = rows_of(tmp_path / "small"), rows_of(tmp_path / "out")
    corners = ["x0", "y0", "x1", "y1"]
    assert after[corners].to_numpy() / 3 == pytest.approx(before[corners].to_numpy(), abs=2.5)
    first, second = (crops[0].astype(int) for crops in model.seen)
    assert np.abs(first - second).mean() < 6  # the same face, cut alike


def test_boxes_and_landmarks_are_in_pixels_of_the_original(monkeypatch):
    class Fixed:
        def __init__(self, **settings):
            pass

        def detect(self, images):
            assert [image.shape for image in images] == [(100, 200, 3)]
            boxes = np.array([[0, 0, 50, 25]], np.float32)
            return [Faces(boxes, np.ones(1, np.float32), np.full((1, 5, 2), 9.5, np.float32))]

    picture = np.zeros((400, 800, 3), np.uint8)
    monkeypatch.setattr(search, "Detector", Fixed)
    pipeline = photographs.pipeline_of(validated(photographs_config.get_config()))
    found = search.find_faces(
        [picture], pipeline.model_copy(update={"search": Search(max_side=200)})
    )[0]
    assert found.boxes.tolist() == [[0, 0, 200, 100]]
    assert (found.landmarks == 39.5).all()


def fake_detector(face_of):
    """A detector class that finds a face for each score in `face_of(image)`."""

    class Fake:
        def __init__(self, min_face, thresholds, **_) -> None:
            assert thresholds == (0.6, 0.7, 0.8) and min_face == 40

        def detect(self, images):
            points = np.array([[20, 20], [40, 20], [30, 30], [22, 40], [38, 40]], np.float32)
            found = []
            for image in images:
                scores = np.asarray(face_of(image), np.float32)
                boxes = np.tile(np.array([10, 10, 50, 50], np.float32), (len(scores), 1))
                found.append(Faces(boxes, scores, np.tile(points, (len(scores), 1, 1))))
            return found

    return Fake


def test_a_long_video_keeps_only_a_few_batches_of_frames_in_memory(tmp_path, model, monkeypatch):
    ahead, given, looked_at = [], [0], [0]

    def frames(path, every_s):
        for index in range(50):
            given[0] += 1
            yield Frame(index, index / 10, np.full((64, 64, 3), index, np.uint8))

    def face_of(image):
        ahead.append(given[0] - looked_at[0])
        looked_at[0] += 1
        return [0.99] * ((int(image.max()) + 1) % 3)  # none, one or two faces

    monkeypatch.setattr(reading, "sample_frames", frames)
    monkeypatch.setattr(search, "Detector", fake_detector(face_of))
    (tmp_path / "long.mp4").write_text("")
    config = config_for(tmp_path / "long.mp4", batch=4)
    summary = predict.run(config, tmp_path / "out")
    assert max(ahead) <= 16  # four batches: read, analysed (two at a time) and written
    table = rows_of(tmp_path / "out")
    counts = table.assign(found=table["emotion"].notna()).groupby("frame")["found"].sum()
    assert counts.tolist() == [(index + 1) % 3 for index in range(50)]
    assert summary["faces"] == 51 and summary["without_face"] == 16


@pytest.mark.usefixtures("keys", "model")
def test_a_second_recording_of_a_camera_needs_another_workdir(tmp_path, capture, monkeypatch):
    monkeypatch.setattr(search, "Detector", fake_detector(lambda image: []))
    monkeypatch.setattr(capture, "count", 5)
    config = config_for("", camera="0", every_s=0.0)
    assert predict.run(config, tmp_path / "first")["frames"] == 5
    before = (tmp_path / "first" / "predictions.csv").read_bytes()
    monkeypatch.setattr(capture, "count", 7)
    with pytest.raises(UserError, match=r"first contains a finished recording; .* --workdir"):
        predict.run(config, tmp_path / "first")
    assert (tmp_path / "first" / "predictions.csv").read_bytes() == before
    assert predict.run(config, tmp_path / "second")["frames"] == 7


@pytest.mark.usefixtures("keys", "model")
def test_a_camera_that_is_stopped_before_its_first_frame_is_a_user_error(
    tmp_path, capture, monkeypatch
):
    monkeypatch.setattr(capture, "set", lambda *_: signal.raise_signal(signal.SIGINT))
    config = config_for("", camera="0", every_s=0.0)
    with pytest.raises(UserError, match="camera 0 was stopped before its first frame"):
        predict.run(config, tmp_path / "out")
    assert not (tmp_path / "out" / "config.json").exists()  # the same command can be run again


def test_frames_of_a_damaged_video_are_counted(tmp_path, model, monkeypatch):
    def frames(path, every_s):
        for index in range(7):
            if path.name == "b.mp4" and index == 5:
                raise VideoError(path, "damaged", "truncated; 2 samples are lost")
            yield Frame(index, index * 0.2, np.full((64, 64, 3), 90, np.uint8))

    monkeypatch.setattr(reading, "sample_frames", frames)
    monkeypatch.setattr(search, "Detector", fake_detector(lambda image: [0.9]))
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / name).write_text("")
    summary = predict.run(config_for(tmp_path / "in"), tmp_path / "out")
    rows = rows_of(tmp_path / "out").groupby("source").size().to_dict()
    assert rows == {"a.mp4": 7, "b.mp4": 5, "c.mp4": 7}
    assert summary["skipped"] == 1 and summary["frames"] == 19
    skipped = (tmp_path / "out" / "skipped.csv").read_text().splitlines()
    assert skipped[1:] == ["b.mp4,truncated; 2 samples are lost"]
    assert len(list(sample_frames(tmp_path / "out" / "annotated" / "b.mp4", 0.0))) == 5


@pytest.mark.parametrize(
    ("times", "every_s", "expected"),
    [([0.0, 0.2, 0.4], 0.2, 5), ([1.0, 2.0], 0.1, 1), ([7.0], 0.25, 4), ([7.0], 0.0, 1)],
)
def test_the_frame_rate_follows_from_the_times_of_frames(times, every_s, expected):
    frames = [Frame(i, t, np.zeros((2, 2, 3), np.uint8)) for i, t in enumerate(times)]
    assert predict.frame_rate(frames, every_s) == pytest.approx(expected)


def test_bad_input_gets_one_line(tmp_path, media, model, monkeypatch):
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.jpg").write_text("not a picture")
    cases = [
        (config_for(""), "--config.input"),
        (config_for(tmp_path / "nowhere"), "there is no .*nowhere"),
        (config_for(media, model="nowhere"), "there is no nowhere"),
        (config_for(tmp_path / "empty"), "no image or video"),
        (config_for(tmp_path / "texts"), "no image or video"),
        (config_for(tmp_path / "bad"), "no picture or video of 1 file can be read"),
        (config_for(media / "broken.jpg"), "no picture or video of 1 file can be read"),
        (config_for(media / "words.mp4"), "no picture or video of 1 file can be read"),
        (config_for(media / "notes.txt"), "no picture or video of 1 file can be read"),
        (config_for(media, model=""), "--config.model"),
        (config_for(media, every_s=-1.0), "--config.every_s=-1"),
    ]
    for number, (config, message) in enumerate(cases):
        with pytest.raises(UserError, match=message) as caught:
            predict.run(config, tmp_path / f"out{number}")
        assert "\n" not in str(caught.value)
        assert not (tmp_path / f"out{number}" / "predictions.csv").exists()
    with pytest.raises(UserError, match="is inside the input"):
        predict.run(config_for(tmp_path / "bad"), tmp_path / "bad" / "out")
    other = ColourModel(record("verification", ["nonface", "face"]))
    monkeypatch.setattr(trained_model, "load", lambda path: other)
    with pytest.raises(UserError, match=r"the task emotion .*class names: verification"):
        predict.run(config_for(media), tmp_path / "other")


def test_annotated_picture_shows_the_face(tmp_path, media, model):
    predict.run(config_for(media / "deep" / "عکس.png"), tmp_path / "out")
    shown = read_image(tmp_path / "out" / "annotated" / "عکس.png")
    plain = cv2.resize(read_image(media / "deep" / "عکس.png"), None, fx=2, fy=2)
    changed = (np.abs(shown.astype(int) - plain).max(axis=-1) > 60).mean()
    assert 0.01 < changed < 0.2


def test_a_model_without_a_record_of_its_faces_is_refused(tmp_path, media, model):
    model.record = record(faces=None)
    with pytest.raises(UserError, match="has no record of how its faces were found"):
        predict.run(config_for(media), tmp_path / "out")


def small_video(path, size=(48, 64), codec="mpeg4"):
    """Writes a video of three frames, in the container that the suffix names."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=5)
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p"
        for level in (40, 90, 140):
            image = np.full((*size, 3), level, np.uint8)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.fixture
def no_detector(monkeypatch):
    """Replaces the detector: one face per picture, or none if a side is below 8 pixels."""
    monkeypatch.setattr(
        search, "Detector", fake_detector(lambda image: [0.9] * (min(image.shape[:2]) > 7))
    )


def test_file_names_that_are_not_utf8_have_a_row(tmp_path, model, no_detector):
    (tmp_path / "in").mkdir()
    picture = cv2.imencode(".png", np.full((60, 60, 3), 90, np.uint8))[1].tobytes()
    (tmp_path / "in" / os.fsdecode(b"\xff.png")).write_bytes(picture)
    predict.run(config_for(tmp_path / "in", annotate=False), tmp_path / "out")
    assert rows_of(tmp_path / "out")["source"].tolist() == ["\\udcff.png"]


def test_a_source_that_fails_does_not_affect_others(tmp_path, model, no_detector):
    folder = tmp_path / "in"
    folder.mkdir()
    picture = np.full((60, 60, 3), 90, np.uint8)
    pictures = ["a.tiff", "a.tiff.png", "n" * 245 + ".png", "z.png", "ü" * 120 + ".tiff"]
    for name in pictures:
        (folder / name).write_bytes(cv2.imencode(name[name.rindex(".") :], picture)[1].tobytes())
    write_image(folder / "wide.png", np.full((100, 20000, 3), 90, np.uint8))
    write_image(folder / "wide.jpg", np.full((100, 20000, 3), 90, np.uint8))
    small_video(folder / "v.mov")
    small_video(folder / "v.mov.mp4")
    small_video(folder / "flat.avi", (2, 20000), "ffv1")
    summary = predict.run(config_for(folder, every_s=0.0), tmp_path / "out")

    counts = rows_of(tmp_path / "out").groupby("source").size().to_dict()
    videos = {"v.mov": 3, "v.mov.mp4": 3, "flat.avi": 3}
    assert counts == dict.fromkeys([*pictures, "wide.png", "wide.jpg"], 1) | videos
    assert summary["sources"] == 10
    with (tmp_path / "out" / "skipped.csv").open() as file:
        skipped = {row["source"]: row["reason"] for row in csv.DictReader(file)}
    assert list(skipped) == ["flat.avi"] and summary["skipped"] == 1
    assert skipped["flat.avi"].startswith("analysed, but no annotated copy could be written (")
    annotated = [file for file in (tmp_path / "out" / "annotated").iterdir() if file.is_file()]
    assert len(annotated) == 9  # one for each source; none replaced another
    assert all(file.stat().st_size for file in annotated)
    names = {file.name for file in annotated}
    assert {"a.tiff.png", "v.mov.mp4", "z.png", "wide.png", "wide.jpg"} <= names
    assert read_image(tmp_path / "out" / "overview.jpg").shape[0] == 360


@pytest.mark.timeout(60)
def test_pipes_huge_pictures_and_camera_formats_are_skipped_with_a_reason(
    tmp_path, model, no_detector
):
    folder = tmp_path / "in"
    folder.mkdir()
    write_image(folder / "a.png", np.full((60, 60, 3), 90, np.uint8))
    for name in ("pipe.png", "pipe.mp4", "pipe"):
        os.mkfifo(folder / name)
    (folder / "gone.png").symlink_to("nowhere.png")
    (folder / "IMG_1.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    Image.new("1", (9000, 9000)).save(folder / "huge.png")
    summary = predict.run(config_for(folder), tmp_path / "out")
    assert (summary["frames"], summary["skipped"], summary["sources"]) == (1, 6, 7)
    with (tmp_path / "out" / "skipped.csv").open() as file:
        reasons = {row["source"]: row["reason"] for row in csv.DictReader(file)}
    for name, reported in {
        "pipe.png": "named pipe", "pipe.mp4": "named pipe", "pipe": "not that of an image",
        "gone.png": "No such file", "IMG_1.HEIC": "HEIC pictures are not supported; convert",
        "huge.png": "9000 x 9000 pixels",
    }.items():  # fmt: skip
        assert reported in reasons[name]


@pytest.mark.timeout(60)
def test_the_error_for_an_unreadable_file_says_why(tmp_path, model, no_detector):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "phone").mkdir()
    (tmp_path / "phone" / "1.heic").touch()
    for name, reported in (
        ("pipe.png", "named pipe"),
        ("phone", "HEIC pictures are not supported"),
    ):
        with pytest.raises(UserError, match=reported):
            predict.run(config_for(tmp_path / name), tmp_path / f"out of {name}")


def test_annotated_copies_have_different_paths(tmp_path):
    names = ["a.tiff", "a.tiff.png", "A.TIFF.PNG", "b.tiff", "b.tiff.png/c.png", "x" * 300 + ".bmp"]
    images = [reading.Photograph(name, tmp_path / name) for name in names]
    videos = [reading.Video(name, tmp_path / name, 0.2) for name in ("v.mov", "v.mov.mp4", "v.avi")]
    places = predict.name_copies([*images, *videos], tmp_path)
    assert len({str(place).casefold() for place in places.values()}) == 9
    assert places["A.TIFF.PNG"] == tmp_path / "A.TIFF.PNG"  # the first that keeps its name
    assert places["v.mov.mp4"] == tmp_path / "v.mov.mp4"
    assert places["v.avi"] == tmp_path / "v.avi.mp4"
    assert places["b.tiff"] != tmp_path / "b.tiff.png"  # that is a folder
    assert max(len(place.name.encode()) for place in places.values()) <= 200


def test_a_picture_that_cannot_be_analysed_does_not_affect_its_batch(tmp_path, model, monkeypatch):
    def face_of(image):
        if image.mean() < 10:
            raise cv2.error("no such picture")
        return [0.9]

    monkeypatch.setattr(search, "Detector", fake_detector(face_of))
    for name, level in (("a", 90), ("b", 5), ("c", 120)):
        write_image(tmp_path / "in" / f"{name}.png", np.full((60, 60, 3), level, np.uint8))
    summary = predict.run(config_for(tmp_path / "in", annotate=False), tmp_path / "out")
    assert rows_of(tmp_path / "out")["source"].tolist() == ["a.png", "c.png"]
    assert summary["skipped"] == 1 and summary["faces"] == 2
    skipped = (tmp_path / "out" / "skipped.csv").read_text().splitlines()
    assert skipped[1:] == ["b.png,error: no such picture"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_full_disk_is_not_recorded_as_a_skipped_source(
    tmp_path, model, no_detector, monkeypatch, number
):
    def full(path, image):
        raise OSError(number, os.strerror(number), str(path))

    write_image(tmp_path / "in" / "a.png", np.full((60, 60, 3), 90, np.uint8))
    monkeypatch.setattr(predict.drawing, "write_image", full)
    with pytest.raises(UserError, match=os.strerror(number)):
        predict.run(config_for(tmp_path / "in"), tmp_path / "out")


def test_an_interruption_is_not_recorded_as_a_skipped_source():
    skips = Skips()
    for stop in (TerminatedError("predict: stopped"), KeyboardInterrupt()):
        with pytest.raises(type(stop)), skips.each("a.png"):
            raise stop
    assert not skips.rows


@pytest.mark.parametrize("name", ["=1+1.png", "+1.png", "-1.png", "@a.png", "\tb.png"])
def test_names_are_not_formulas_in_a_spreadsheet(tmp_path, model, no_detector, name):
    (tmp_path / "in").mkdir()
    picture = cv2.imencode(".png", np.full((60, 60, 3), 90, np.uint8))[1].tobytes()
    (tmp_path / "in" / name).write_bytes(picture)
    (tmp_path / "in" / name).with_suffix(".txt").write_text("")
    predict.run(config_for(tmp_path / "in", annotate=False), tmp_path / "out")
    for file in ("predictions.csv", "skipped.csv"):
        cells = [row["source"] for row in csv.DictReader((tmp_path / "out" / file).open())]
        assert [cell[:2] for cell in cells] == [f"'{name[0]}"]


@pytest.mark.parametrize("place", ["annotated/a.jpg", "overview.jpg"])
def test_the_input_is_never_overwritten(tmp_path, model, no_detector, place):
    image = tmp_path / "D" / place
    write_image(image, np.full((60, 60, 3), 90, np.uint8))
    before = image.read_bytes()
    for asked in {image, image.parent}:
        with pytest.raises(UserError):
            predict.run(config_for(asked), tmp_path / "D")
    assert image.read_bytes() == before


def test_small_pictures_are_searched_in_the_same_way_as_photographs(tmp_path, model, media):
    pipeline = photographs.pipeline_of(validated(photographs_config.get_config()))
    model.record = model.record.model_copy(update={"faces": pipeline})
    portrait = read_image(media / "b one.jpg")
    points = Detector().detect([portrait])[0].landmarks[0]
    x, y = points.mean(0)
    half = 1.3 * np.linalg.norm(points[0] - points[1])
    tight = portrait[int(y - half) : int(y + half), int(x - half) : int(x + half)]
    tight = cv2.resize(tight, (48, 48), interpolation=cv2.INTER_AREA)
    write_image(tmp_path / "tight.png", tight)
    assert predict.run(config_for(tmp_path / "tight.png"), tmp_path / "out")["faces"] == 1
    (faces,) = search.find_faces([tight], pipeline)
    landmarks = search.largest(faces).landmarks[0]
    expected = align(tight, landmarks, pipeline.crop.size, pipeline.crop.margin)
    np.testing.assert_array_equal(model.seen[0], expected[None])
