import functools
import json
import shutil
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from fer_jax import outputs
from fer_jax.data.manifest import read_manifest, read_negatives
from fer_jax.errors import UserError
from fer_jax.faces import shards
from fer_jax.faces.cascade.boxes import intersection_over_union
from fer_jax.faces.images import read_image
from fer_jax.faces.mtcnn import Detector
from fer_jax.stages import extract
from fer_jax.stages.render import write_clip, write_scene
from tests.stages import extraction

config_for = functools.partial(extraction.config_for, every_s=0.25)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Two people in clips of the same file name, a scene without people, three faulty files."""
    folder = tmp_path_factory.mktemp("videos")
    (folder / "علی 1").mkdir()
    shape = 6, 6, (240, 320)
    write_clip(folder / "person.mp4", 103, "happy", 0, *shape)
    write_clip(folder / "علی 1" / "person.mp4", 102, "sad", 0, *shape)
    write_scene(folder / "scene.mp4", 0, *shape)
    (folder / "text.mp4").write_text("not a video")
    (folder / "empty.avi").touch()
    whole = (folder / "person.mp4").read_bytes()
    (folder / "headless.mp4").write_bytes(whole[: len(whole) // 2])
    return folder


@pytest.fixture(scope="module")
def extracted(videos, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("work") / "extract"
    return workdir, extract.run(config_for(videos), workdir)


def contents(workdir):
    """The content of the tables, skipped.csv and all files of the shards, by relative path."""
    names = ("shards", "manifest.parquet", "negatives.parquet", "skipped.csv")
    files = [p for name in names for p in [workdir / name, *(workdir / name).rglob("*")]]
    return {p.relative_to(workdir).as_posix(): p.read_bytes() for p in files if p.is_file()}


def test_the_counts_of_frames_add_up(extracted):
    _, summary = extracted
    assert summary["videos"] == 6 and summary["skipped"] == 3 and summary["damaged"] == 0
    assert summary["frames"] == 12  # 1 s of each of three clips, at 4 frames/s
    assert summary["with_faces"] + summary["without_faces"] + summary["failed"] == 12
    assert summary["with_faces"] >= 7 and summary["without_faces"] >= 4
    assert summary["frames_per_s"] > 0 and summary["time_to_first_frame_s"] > 0


def test_rows_and_crops_agree(extracted, videos):
    workdir, summary = extracted
    faces = read_manifest(workdir / "manifest.parquet")
    assert len(faces) == summary["faces"] and faces["face_id"].is_unique
    assert set(faces["video"]) == {"person.mp4", "علی 1/person.mp4"}
    assert faces["status"].eq("kept").all() and faces["verifier_score"].isna().all()
    assert all(name.isascii() for name in faces["face_id"])
    for row in faces.itertuples():
        crop = read_image(workdir / row.crop)
        assert crop.shape == (80, 80, 3)
        again = Detector().detect([cv2.resize(crop, (192, 192))])[0]
        assert len(again) == 1 and again.scores[0] > 0.9
    for _, track in faces.groupby("video"):
        assert (np.diff(track["time_s"]) > 0).all() and track["track"].nunique() == 1


def test_a_sheet_shows_the_kept_faces(extracted):
    workdir, summary = extracted
    rows = -(-summary["kept"] // 8)  # of eight faces each
    sheet = read_image(workdir / "kept.png")
    assert 172 * rows < sheet.shape[0] < 172 * rows + 60
    assert "kept.png" in outputs.written(workdir)  # so that `remove` deletes it


def test_negatives_show_no_face(extracted, videos):
    workdir, summary = extracted
    negatives = read_negatives(workdir / "negatives.parquet")
    assert len(negatives) == summary["negatives"] >= 8
    assert set(negatives["video"]) >= {"scene.mp4", "person.mp4"}
    assert set(negatives["kind"]) <= {"background", "hard"}
    background = negatives[negatives["kind"] == "background"]
    crops = [read_image(workdir / crop) for crop in background["crop"]]
    assert {crop.shape for crop in crops} == {(80, 80, 3)}
    assert sum(len(faces) for faces in Detector().detect(crops)) == 0


def test_bad_videos_are_listed_with_their_reasons(extracted):
    workdir, _ = extracted
    lines = (workdir / "skipped.csv").read_text().splitlines()
    assert lines[0] == "video,reason,detail,frames_kept,frames_failed"
    assert sorted(line.split(",")[0] for line in lines[1:]) == [
        *("empty.avi", "headless.mp4", "text.mp4")
    ]
    assert all(",not_a_video," in line for line in lines[1:])


def test_worker_processes_write_the_same_files(extracted, videos, tmp_path):
    extract.run(config_for(videos, workers=1), tmp_path / "work")
    assert contents(tmp_path / "work") == contents(extracted[0])


def test_a_killed_run_continues_to_the_same_result(extracted, videos, tmp_path, monkeypatch):
    workdir, config = tmp_path / "work", config_for(videos)
    done = []

    def dies(job, progress):
        if len(done) == 4:
            (job.shard.parent / f".{job.shard.name}.1.partial").mkdir(parents=True)
            raise KeyboardInterrupt
        done.append(job)
        return real(job, progress)

    real = shards.extract
    monkeypatch.setattr(shards, "extract", dies)
    with pytest.raises(KeyboardInterrupt):
        extract.run(config, workdir)
    assert not (workdir / "done.json").exists() and len(list((workdir / "shards").iterdir())) == 5
    again = []
    monkeypatch.setattr(
        shards, "extract", lambda job, *rest: (again.append(job), real(job, *rest))[1]
    )
    summary = extract.run(config, workdir)
    assert len(again) == 2
    assert contents(workdir) == contents(extracted[0])
    counts = {name: extracted[1][name] for name in ("videos", "skipped", "frames", "faces")}
    assert counts.items() <= summary.items()
    assert (
        extract.run(config, workdir) == json.loads((workdir / "done.json").read_text())["summary"]
    )
    assert len(again) == 2


def test_only_new_and_changed_videos_are_extracted_again(videos, tmp_path, monkeypatch):
    folder, workdir = tmp_path / "videos", tmp_path / "work"
    folder.mkdir()
    shutil.copy(videos / "scene.mp4", folder / "a.mp4")
    config = config_for(folder)
    assert extract.run(config, workdir)["videos"] == 1
    ran = []
    real = shards.extract
    monkeypatch.setattr(
        shards, "extract", lambda job, *rest: (ran.append(job.video), real(job, *rest))[1]
    )
    shutil.copy(videos / "person.mp4", folder / "b.mp4")
    summary = extract.run(config, workdir)
    assert ran == ["b.mp4"] and summary["videos"] == 2 and summary["frames"] == 8
    shutil.copy(videos / "person.mp4", folder / "a.mp4")
    assert extract.run(config, workdir)["with_faces"] >= 7
    assert ran == ["b.mp4", "a.mp4"]


def test_the_frames_of_a_truncated_video_are_kept(videos, tmp_path):
    write_scene(tmp_path / "a.mp4", 3, 18, 6, (240, 320))
    with av.open(str(tmp_path / "a.mp4")) as source, av.open(str(tmp_path / "a.mkv"), "w") as copy:
        stream = copy.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                copy.mux(packet)
    content = (tmp_path / "a.mkv").read_bytes()
    (tmp_path / "a.mkv").write_bytes(content[: len(content) * 7 // 10])
    summary = extract.run(config_for(tmp_path / "a.mkv", every_s=0.5), tmp_path / "work")
    assert summary["damaged"] == 1 and summary["skipped"] == 0 and summary["failed"] >= 1
    found = summary["with_faces"] + summary["without_faces"]
    assert summary["frames"] == 6 == found + summary["failed"] and found >= 3
    assert "a.mkv,damaged," in (tmp_path / "work/skipped.csv").read_text()


def test_names_of_shards_are_short_ascii_and_unique():
    ids = ["a/x.mp4", "b/x.mp4", "a/x.avi", "a_x.mp4", "ب.mp4", "😀.mp4", "n" * 250 + ".mp4"]
    names = [shards.shard_name(video) for video in ids]
    assert len(set(names)) == len(ids)
    assert all(name.isascii() and len(name) < 64 and "/" not in name for name in names)
    root = Path("/videos")
    assert shards.video_id(root / "a" / "x.mp4", root) == "a/x.mp4"
    assert shards.video_id(root, root) == "videos"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"videos": ""}, "--config.videos"),
        ({"batch": 0}, "--config.batch=0"),
        ({"detector": {"factor": 1.5}}, "--config.detector"),
    ],
)
def test_invalid_extract_configs_are_refused(videos, tmp_path, fields, message):
    with pytest.raises(UserError, match=message):
        extract.run(config_for(videos, **fields), tmp_path / "work")


def test_a_folder_without_videos_is_an_error(tmp_path):
    (tmp_path / "videos").mkdir()
    with pytest.raises(UserError, match="there are no videos below"):
        extract.run(config_for(tmp_path / "videos"), tmp_path / "work")
    (tmp_path / "videos" / "a.mp4").write_text("text")
    with pytest.raises(UserError, match="no video in"):
        extract.run(config_for(tmp_path / "videos"), tmp_path / "work")


def test_hard_negatives_do_not_overlap_detections(videos, tmp_path):
    config = config_for(videos / "person.mp4", negatives={"per_frame": 0, "floor": 0.01})
    extract.run(config, tmp_path / "work")
    hard = read_negatives(tmp_path / "work/negatives.parquet")
    assert hard["kind"].eq("hard").all() and (hard["detector_score"] < 0.8).all()
    boxes = np.stack(read_manifest(tmp_path / "work/manifest.parquet")["box"])
    assert (intersection_over_union(boxes, boxes) > 0.3).all()


def test_a_missing_package_ends_the_run_and_skips_no_video(videos, tmp_path, monkeypatch):
    def missing(self, images, **options):
        raise UserError("the package mtcnn is missing; install it")

    monkeypatch.setattr(Detector, "detect", missing)
    with pytest.raises(UserError, match="mtcnn is missing"):
        extract.run(config_for(videos), tmp_path / "work")
    assert not list((tmp_path / "work" / "shards").glob("person-*"))
