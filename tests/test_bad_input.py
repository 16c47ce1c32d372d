"""Each mistake of a user leads to one clear line, or to one file that is skipped and counted."""

import errno
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file, save_file

from configs import emotion, evaluate, extract, photographs, pipeline, predict, refine, verify
from fer_jax import stages
from fer_jax.data import manifest
from fer_jax.errors import UserError
from fer_jax.faces.drawing import write_image
from fer_jax.faces.mtcnn import Detector, Faces
from fer_jax.schemas import validated
from fer_jax.stages import crossval, train
from fer_jax.stages.render import write_clip, write_photograph
from fer_jax.training import model_directory
from fer_jax.training.learner import make_tasks
from fer_jax.workdir import read_json
from tests.privileges import nobody
from tests.training.tiny import make_learner

ROOT = Path(__file__).parents[1]
SIZE = (96, 128)  # of pictures
LANDMARKS = np.array([[54, 38], [74, 38], [64, 50], [56, 62], [72, 62]], np.float32)


@pytest.fixture(scope="module", autouse=True)
def a_quick_detector():
    """Replaces the detector: one face in the middle of each picture, none in plain ones."""

    def detect(self, images, *, floor=None):
        counts = [int(image.std() > 5) for image in images]
        box = np.array([[40, 20, 88, 76]], np.float32)
        score = np.array([0.99], np.float32)
        return [Faces(box[:n], score[:n], LANDMARKS[None][:n]) for n in counts]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Detector, "detect", detect)
        yield


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """One good clip, a text file, a file with sound only, an empty file, two truncated clips."""
    folder = tmp_path_factory.mktemp("videos")
    write_clip(folder / "good.mp4", 105, "happy", 0, 6, 6, SIZE)
    (folder / "words.mp4").write_text("no video at all\n" * 50)
    (folder / "empty.avi").touch()
    whole = (folder / "good.mp4").read_bytes()
    (folder / "headless.mp4").write_bytes(whole[: len(whole) // 2])
    write_clip(folder / "long.mp4", 106, "sad", 0, 18, 6, SIZE)
    with (
        av.open(str(folder / "long.mp4")) as source,
        av.open(str(folder / "cut.mkv"), "w") as copy,
    ):
        stream = copy.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                copy.mux(packet)
    (folder / "long.mp4").unlink()
    whole = (folder / "cut.mkv").read_bytes()
    (folder / "cut.mkv").write_bytes(whole[: len(whole) * 6 // 10])
    with av.open(str(folder / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), "fltp", "mono")
        silence.sample_rate, silence.pts = 16000, 0
        for packet in (*stream.encode(silence), *stream.encode(None)):
            container.mux(packet)
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Two people with two emotions, one with a single emotion, and a picture of a wall."""
    folder = tmp_path_factory.mktemp("photos")
    people = [("ann", "happy"), ("ann", "sad"), ("bob", "happy"), ("bob", "sad"), ("cem", "angry")]
    for number, (person, feeling) in enumerate(people):
        (folder / person / feeling).mkdir(parents=True)
        write_photograph(folder / person / feeling / "1.jpg", number, feeling, 0, SIZE)
    wall = np.full((*SIZE, 3), 120, np.uint8)
    write_image(folder / "ann" / "sad" / "wall.png", wall)
    return folder


@pytest.fixture(scope="module")
def faces(photos, tmp_path_factory):
    """A finished workdir of the stage `photographs`."""
    workdir = tmp_path_factory.mktemp("work") / "photographs"
    run("photographs", asked(photographs, photos=photos), workdir)
    return workdir


@pytest.fixture(scope="module")
def model(tmp_path_factory, faces):
    """A small emotion model with random weights."""
    folder, config = tmp_path_factory.mktemp("model"), small_network(asked(emotion))
    config = validated(config)
    learner = make_learner(
        config, *make_tasks(config.tasks.fields(), emotion={"classes": ("happy", "sad")}), 1
    )
    spec = model_directory.describe(
        config.backbone,
        config.image_size,
        learner.tasks,
        faces=model_directory.read_faces(faces),
    )
    model_directory.save(folder / "model", model_directory.arrays_of(learner.init(0)), spec)
    return folder


def small_network(config):
    config.backbone.depth = (0, 0, 0)
    return config


def asked(module, **fields):
    """The config of a stage with changed fields; paths are converted to text."""
    config = module.get_config()
    config.update({k: str(v) if isinstance(v, Path) else v for k, v in fields.items()})
    return config


def run(stage, config, workdir):
    __import__(f"fer_jax.stages.{stage}")
    return getattr(stages, stage).run(config, workdir)


def refused(stage, config, workdir, *words):
    """Checks that the error is one line with all the words, and that no workdir is created."""
    with pytest.raises(UserError) as caught:
        run(stage, config, workdir)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 600
    for word in map(str, words):
        assert word in message, (word, message)
    assert not workdir.exists()


def launch(*arguments):
    command = [sys.executable, "launch.py", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_bad_videos_are_counted_and_the_good_ones_extracted(videos, tmp_path, capsys):
    summary = run("extract", asked(extract, videos=videos), tmp_path / "w")
    assert (summary["videos"], summary["skipped"], summary["damaged"]) == (6, 4, 1)
    assert summary["frames"] == summary["with_faces"] + summary["failed"] == 8
    skipped = pd.read_csv(tmp_path / "w" / "skipped.csv").set_index("video")["reason"].to_dict()
    assert skipped == {
        "cut.mkv": "damaged", "empty.avi": "not_a_video", "headless.mp4": "not_a_video",
        "sound.mp4": "no_video_stream", "words.mp4": "not_a_video",
    }  # fmt: skip
    reported = capsys.readouterr().out
    assert all(f"  skipped {name}: " in reported for name in set(skipped) - {"cut.mkv"})
    assert re.search(r"  kept \d+ frames of cut\.mkv: ", reported)
    kept = pd.read_parquet(tmp_path / "w" / "manifest.parquet").groupby("video").size()
    assert kept["good.mp4"] == 2 and kept["cut.mkv"] >= 2


def test_missing_videos_are_an_error(tmp_path, videos):
    (tmp_path / "empty").mkdir()
    refused("extract", asked(extract), tmp_path / "w", "set --config.videos to a video")
    nowhere, empty = tmp_path / "nowhere", tmp_path / "empty"
    refused("extract", asked(extract, videos=nowhere), tmp_path / "w", "there is no", nowhere)
    refused(
        "extract", asked(extract, videos=empty), tmp_path / "w", "there are no videos below", ".mp4"
    )


def test_only_bad_videos_are_an_error_until_a_good_one_is_added(tmp_path, videos):
    folder = tmp_path / "videos"
    folder.mkdir()
    (folder / "words.mp4").write_text("no video")
    with pytest.raises(UserError, match=r"no video .*skipped\.csv; set --config\.videos"):
        run("extract", asked(extract, videos=folder), tmp_path / "w")
    assert "words.mp4,not_a_video" in (tmp_path / "w" / "skipped.csv").read_text()
    (folder / "good.mp4").write_bytes((videos / "good.mp4").read_bytes())
    summary = run("extract", asked(extract, videos=folder), tmp_path / "w")
    assert (summary["videos"], summary["skipped"], summary["with_faces"]) == (2, 1, 2)


def test_a_photograph_without_a_face_and_a_subject_with_one_emotion_are_named(
    photos, tmp_path, capsys
):
    summary = run("photographs", asked(photographs, photos=photos), tmp_path / "w")
    assert (summary["photographs"], summary["with_face"], summary["without_face"]) == (6, 5, 1)
    reported, warnings = capsys.readouterr()
    assert "no face was found in 1 photograph: ann/sad/wall.png" in reported
    assert "warning: photographs: subject 'cem' has photographs of one emotion only" in warnings
    table = pd.read_parquet(tmp_path / "w" / "photographs.parquet").set_index("photo")["status"]
    assert table["ann/sad/wall.png"] == "no_face" and table.eq("ok").sum() == 5


def test_missing_photographs_and_unknown_emotions_are_errors(tmp_path):
    (tmp_path / "empty").mkdir()
    wrong = tmp_path / "photos" / "ann" / "smug"
    wrong.mkdir(parents=True)
    write_photograph(wrong / "1.jpg", 1, "happy", 0, SIZE)
    empty = asked(photographs, photos=tmp_path / "empty")
    refused("photographs", empty, tmp_path / "w", "contains no photographs", "<subject>/<emotion>")
    with pytest.raises(
        UserError, match=r"ann/smug/1\.jpg: unknown emotion 'smug'; known emotions are angry"
    ):
        run("photographs", asked(photographs, photos=tmp_path / "photos"), tmp_path / "w")
    assert not (tmp_path / "w").exists()
    wrong.rename(wrong.with_name("happy"))  # fixed: the same command, the same workdir
    fixed = asked(photographs, photos=tmp_path / "photos")
    assert run("photographs", fixed, tmp_path / "w")["with_face"] == 1


def test_every_problem_of_a_table_is_reported_in_one_line(photos, tmp_path):
    lines = [
        "path,subject,emotion", "ann/happy/1.jpg,ann,happy", "ann/gone.jpg,ann,sad",
        "bob/sad/1.jpg,bob,sad", "ann/happy/1.jpg,ann,happy", "bob/happy/1.jpg,bob,furious",
        "words.jpg,bob,happy",
    ]  # fmt: skip
    folder = tmp_path / "two  blanks"
    folder.symlink_to(photos)
    (photos / "words.jpg").write_text("no picture")
    (photos / "labels.csv").write_text("\n".join(lines))
    try:
        options = ("--config=configs/photographs.py", f"--workdir={tmp_path}/w")
        result = launch(*options, f"--config.photos={folder}/labels.csv")
    finally:
        (photos / "words.jpg").unlink()
        (photos / "labels.csv").unlink()
    assert result.returncode == 2
    assert result.stdout == "[photographs] finding the faces in the labelled photographs\n"
    marks = "  "  # begins progress marks, which appear on a slow machine
    (line,) = [line for line in result.stderr.splitlines() if not line.startswith(marks)]
    reported = line.split("; ")
    table = f"{folder}/labels.csv"
    assert reported[0] == f"error: {table}: 4 problems"
    for problem in (
        f"{table}, line 3: there is no file {folder}/ann/gone.jpg",
        f"{table}, line 5: ann/happy/1.jpg occurs twice, also at {table}, line 2",
        f"{table}, line 6: unknown emotion 'furious'",
    ):
        assert problem in reported
    assert any(part.startswith(f"{table}, line 7: cannot read") for part in reported)
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize("field", ["steps.pretrain.epoch", "epochs"])
def test_the_error_for_an_unknown_field_names_similar_ones(tmp_path, field):
    options = ("--config=configs/pipeline.py", f"--workdir={tmp_path}/w")
    result = launch(*options, f"--config.{field}=3")
    assert result.returncode == 2 and len(result.stderr.splitlines()) == 1
    assert f"no field --config.{field}; the nearest are" in result.stderr
    assert "--config.steps.pretrain.epochs" in result.stderr


def test_fewer_people_than_folds_are_an_error(faces, tmp_path):
    config = asked(emotion, photographs=faces, folds=99)
    refused("crossval", config, tmp_path / "w", "grouped_kfold needs at least 99 people", "show 3")


def test_the_error_for_weights_of_another_network_lists_the_tensors(faces, model, tmp_path):
    other = tmp_path / "theirs.safetensors"
    weights = load_file(model / "model" / "weights.safetensors")
    lost, wide = [name for name in weights if name.startswith("parameters/backbone/")][:2]
    del weights[lost]
    weights[wide] = np.zeros((*weights[wide].shape, 2), np.float32)
    save_file(weights, other)
    config = small_network(asked(emotion, photographs=faces, init=other, folds=3, epochs=1.0))
    with pytest.raises(
        UserError, match=r"theirs.safetensors does not fit --config\.backbone"
    ) as caught:
        crossval.run(config, tmp_path / "w")
    assert f"1 missing ({lost}); 1 of another shape ({wide} " in str(caught.value)
    nowhere = tmp_path / "nowhere"
    refused("crossval", asked(emotion, photographs=faces, init=nowhere), tmp_path / "x", nowhere)


def test_a_folder_without_a_model_is_an_error(faces, photos, tmp_path):
    config = asked(predict, model=faces, input=photos)
    refused("predict", config, tmp_path / "w", "no model in", faces, "model.json")
    refused("predict", asked(predict, input=photos, model=""), tmp_path / "w", "--config.model")


def test_predict_skips_other_files_and_keeps_pictures_without_a_face(
    model, photos, tmp_path, capsys
):
    folder = tmp_path / "in"
    folder.mkdir()
    for source in ("ann/happy/1.jpg", "ann/sad/wall.png"):
        (folder / Path(source).name).write_bytes((photos / source).read_bytes())
    (folder / "words.jpg").write_text("no picture")
    (folder / "notes.txt").write_text("about them")
    summary = run("predict", asked(predict, model=model, input=folder), tmp_path / "w")
    assert (summary["faces"], summary["without_face"], summary["skipped"]) == (1, 1, 2)
    reported = capsys.readouterr().out
    assert "  skipped words.jpg: " in reported and "  skipped notes.txt: " in reported
    rows = pd.read_csv(tmp_path / "w" / "predictions.csv").set_index("source")["emotion"]
    assert rows["1.jpg"] in ("happy", "sad") and pd.isna(rows["wall.png"])
    assert set(pd.read_csv(tmp_path / "w" / "skipped.csv")["source"]) == {"words.jpg", "notes.txt"}
    config = asked(predict, model=model, input=folder / "words.jpg")
    refused("predict", config, tmp_path / "x", "can be read", "words.jpg", "set --config.input")


def test_stages_in_the_wrong_order_are_errors(tmp_path, videos):
    work = tmp_path / "work"
    config = asked(refine, faces=work / "extract", verifier=work / "verify")
    refused(
        "refine",
        config,
        tmp_path / "w",
        "there is no",
        "extract",
        "run the stage that writes it first",
    )
    run("extract", asked(extract, videos=videos / "good.mp4"), work / "extract")
    refused(
        "refine",
        config,
        tmp_path / "w",
        "there is no",
        "verify",
        "run the stage that writes it first",
    )
    (work / "verify").mkdir()  # begun, but not finished
    refused("refine", config, tmp_path / "w", "no model in", "verify")
    config = verify.get_config()
    config.data.root = str(work / "verify")
    refused(
        "train", config, tmp_path / "w", "contains no manifest.parquet", "set --config.data.root"
    )
    config = evaluate.get_config()
    config.runs.model = str(work / "verify")
    refused(
        "evaluate", config, tmp_path / "w", "no predictions.parquet", "finished cross-validation"
    )


def test_the_pipeline_names_missing_inputs(tmp_path, videos):
    refused("pipeline", asked(pipeline, videos=videos), tmp_path / "w", "--config.photos")
    nowhere = tmp_path / "nowhere"
    config = asked(pipeline, videos=nowhere, photos=videos)
    refused("pipeline", config, tmp_path / "w", "there is no", nowhere)
    empty = tmp_path / "empty"
    empty.mkdir()
    config = asked(pipeline, videos=videos, photos=empty)  # before hours are spent on the videos
    refused("pipeline", config, tmp_path / "w", "contains no photographs", empty)
    braces = empty.rename(tmp_path / "{of} {videos}")
    config = asked(pipeline, videos=videos, photos=braces)
    refused("pipeline", config, tmp_path / "w", "contains no photographs", braces)


def test_a_workdir_of_another_config_is_refused(faces, photos):
    config = asked(photographs, photos=photos, crop={"size": 64}, max_side=640)
    with pytest.raises(UserError, match=r"crop\.size: 80 there, 64 here; max_side: 1280 there"):
        run("photographs", config, faces)
    assert read_json(faces / "done.json")["summary"]["photographs"] == 6


def test_a_workdir_inside_its_own_input_is_refused(photos):
    config = asked(photographs, photos=photos)
    refused("photographs", config, photos / "work", "is inside the input", photos)


def test_a_workdir_that_is_a_file_or_below_one_is_refused(photos, tmp_path):
    (tmp_path / "file").write_text("mine")
    for workdir in (tmp_path / "file", tmp_path / "file" / "w"):
        with pytest.raises(UserError, match=r"cannot write to .*file.*another --workdir"):
            run("photographs", asked(photographs, photos=photos), workdir)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    ("mode", "words"), [(0o555, "cannot write to"), (0o000, "cannot read or write .*mine/w ")]
)
def test_a_workdir_without_write_permission_is_refused(mode, words):
    with tempfile.TemporaryDirectory() as name:  # other users cannot enter pytest's own folder
        folder, photos = Path(name) / "mine", Path(name) / "photos"
        Path(name).chmod(0o755)
        (photos / "ann" / "sad").mkdir(parents=True)
        write_photograph(photos / "ann" / "sad" / "1.jpg", 1, "sad", 0, SIZE)
        folder.mkdir(mode=mode)
        with nobody(), pytest.raises(UserError, match=words) as caught:
            run("photographs", asked(photographs, photos=photos), folder / "w")
        assert "Permission denied" in str(caught.value)
        folder.chmod(0o755)


def test_a_full_disk_is_reported_and_finished_work_is_kept(videos, tmp_path, monkeypatch):
    config, write = asked(extract, videos=videos / "good.mp4"), manifest.write_negatives
    with monkeypatch.context() as patch:

        def full(path, frame):
            if path.parent == tmp_path / "w":  # after the shards
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            write(path, frame)

        patch.setattr(manifest, "write_negatives", full)
        with pytest.raises(
            UserError,
            match=r"negatives\.parquet \(No space left .*; free some disk space .* continues",
        ):
            run("extract", config, tmp_path / "w")
    assert run("extract", config, tmp_path / "w")["frames_per_s"] == 0  # nothing is extracted again


def test_fewer_images_than_a_batch_are_an_error(tmp_path, videos):
    run("extract", asked(extract, videos=videos / "good.mp4"), tmp_path / "extract")
    config = small_network(verify.get_config())
    config.data.root = str(tmp_path / "extract")
    with pytest.raises(UserError, match=r"fewer than --config\.batch_size=64"):
        train.run(config, tmp_path / "w")
    assert not (tmp_path / "w").exists()
