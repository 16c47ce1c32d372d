"""Data sets are found by path, written once, and rewritten when the input changes."""

import functools
import hashlib
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import tensorflow_datasets as tfds

from fer_jax.data import builders
from fer_jax.data.sources import RecordSource, open_source
from fer_jax.errors import UserError

EMOTIONS = ("angry", "happy", "neutral", "sad")


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    root = tmp_path / "photographs"
    write_faces(root, [(subject, level) for subject in ("ann", "bob", "cid") for level in range(4)])
    return root


def write_faces(root: Path, faces: list[tuple[str, int]]) -> None:
    """Writes the crops and the table of a workdir of `photographs`.

    `faces` contains, for each face, a person and the number of an emotion. The crop is grey, with
    60 times that number as its value.
    """
    rows = []
    for number, (subject, level) in enumerate(faces):
        crop = f"faces/{subject}/{EMOTIONS[level]}/{number}.png"
        (root / crop).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / crop), np.full((12, 12, 3), 60 * level, np.uint8))
        photo = f"{subject}/{EMOTIONS[level]}/{number}.jpg"
        rows.append((photo, subject, EMOTIONS[level], "ok", crop))
    columns = ["photo", "subject", "emotion", "status", "crop"]
    pd.DataFrame(rows, columns=columns).to_parquet(root / "photographs.parquet")


def stamps(folder: Path) -> dict[str, int]:
    return {str(f): f.stat().st_mtime_ns for f in folder.rglob("*") if f.is_file()}


def test_every_folder_of_datasets_is_a_data_set():
    for name in ("face_frames", "face_verification", "persian_emotion", "starter_faces"):
        assert builders.builder_class(name).name == name
    with pytest.raises(
        UserError, match="face_frames, face_verification, persian_emotion, starter_faces"
    ):
        builders.builder_class("imagenet")


def test_records_contain_the_faces_and_labels_of_the_workdir(photographs, tmp_path):
    source = open_source("persian_emotion", None, "all", photographs, 6, data_dir=tmp_path)
    examples = [source[i] for i in range(len(source))]
    assert len(examples) == 12
    for example in examples:
        emotion = example["id"].split("/")[1]
        level = EMOTIONS.index(emotion)
        assert example["label"] == level
        assert example["image"].shape == (6, 6, 3) and (example["image"] == 60 * level).all()


def test_cached_and_uncached_sources_are_equal(photographs, tmp_path):
    where = {"root": photographs, "image_size": 6, "data_dir": tmp_path}
    read = open_source("persian_emotion", None, "all", **where, cache=False)
    kept = open_source("persian_emotion", None, "all", **where, cache=True)
    assert isinstance(read, RecordSource) and not isinstance(kept, RecordSource)
    rows = [7, 0, 7, 3]
    for name in ("image", "label"):
        assert (read.batch(rows)[name] == kept.batch(rows)[name]).all()
    assert [read[i]["id"] for i in range(12)] == kept.ids
    assert read.batch([])["image"].shape == (0, 6, 6, 3)


def test_records_are_rewritten_only_when_the_input_changes(photographs, tmp_path):
    records = tmp_path / "records"
    first = builders.build("persian_emotion", None, photographs, records).data_path
    before = stamps(records)
    assert builders.build("persian_emotion", None, photographs, records).data_path == first
    assert stamps(records) == before

    write_faces(photographs, [("ann", 0), ("bob", 1), ("cid", 2)])
    builder = builders.build("persian_emotion", None, photographs, records)
    assert builder.data_path != first and not Path(first).exists()
    assert builder.info.splits.total_num_examples == 3


def test_records_inside_the_input_do_not_change_its_digest(tmp_path, monkeypatch):
    for name in ("input/a.txt", "input/records/b.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path / "input" / "records")
    one = builders._digest_of("..", without=tmp_path / "input" / "records")
    (tmp_path / "input" / "records" / "c.txt").touch()
    assert builders._digest_of("..", without=tmp_path / "input" / "records") == one
    (tmp_path / "input" / "d.txt").touch()
    assert builders._digest_of("..", without=tmp_path / "input" / "records") != one


def test_records_of_several_configs_coexist(monkeypatch, tmp_path):
    for number in range(2):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "my_configs.py").write_text(
        STANDARD % "str(file)" + "    BUILDER_CONFIGS = [\n"
        "        tfds.core.BuilderConfig(name=name, description='') for name in ('one', 'two')\n"
        "    ]\n    name = 'with_configs'\n"
    )
    (tmp_path / "my_pictures").mkdir()
    (tmp_path / "my_configs.py").rename(tmp_path / "my_pictures" / "my_configs.py")
    monkeypatch.syspath_prepend(tmp_path)
    built = [
        builders.build("my_pictures.my_configs", config, tmp_path, tmp_path / "records")
        for config in ("one", "two")
    ]
    assert all(Path(one.data_path).exists() for one in built)


def test_an_interrupted_build_leaves_no_records(photographs, tmp_path, monkeypatch):
    builder = builders.builder_class("persian_emotion")

    def interrupted(self, labels):
        yield from list(whole(self, labels))[:3]
        raise KeyboardInterrupt

    whole = builder._generate_examples
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(builder, "_generate_examples", interrupted)
        builders.build("persian_emotion", None, photographs, tmp_path / "records")
    assert not list((tmp_path / "records").iterdir())
    where = {"root": photographs, "image_size": 6, "data_dir": tmp_path / "records"}
    assert len(open_source("persian_emotion", None, "all", **where)) == 12


def test_concurrent_builds_write_the_same_records_once(photographs, tmp_path, monkeypatch):
    builder = builders.builder_class("persian_emotion")
    began = []

    def slow(self, labels):
        began.append(1)
        time.sleep(0.3)
        yield from whole(self, labels)

    whole = builder._generate_examples
    monkeypatch.setattr(builder, "_generate_examples", slow)
    with ThreadPoolExecutor(2) as pool:
        build = functools.partial(
            builders.build, "persian_emotion", None, photographs, tmp_path / "records"
        )
        built = [future.result() for future in [pool.submit(build), pool.submit(build)]]
    assert [one.info.splits.total_num_examples for one in built] == [12, 12]
    assert len(began) == 2  # splits of one build
    assert [path.name for path in (tmp_path / "records").iterdir()] == [
        Path(built[0].data_path).parents[1].name
    ]


def test_the_same_input_gives_the_same_bytes(photographs, tmp_path):
    digests = []
    for name in ("a", "b"):
        folder = Path(
            builders.build("persian_emotion", None, photographs, tmp_path / name).data_path
        )
        records = sorted(folder.glob("*.array_record*"))
        assert records
        digests.append([hashlib.sha256(file.read_bytes()).hexdigest() for file in records])
    assert digests[0] == digests[1]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "faces"}, "there is no data set 'faces'"),
        ({"config": "five"}, r"\(available configs: none\)"),
        ({"split": "test"}, "no split 'test'; it has train, validation"),
        ({"root": "absent"}, "no folder"),
    ],
)
def test_an_invalid_request_is_a_user_error(photographs, tmp_path, change, words):
    request = {
        "name": "persian_emotion", "config": None, "split": "train", "root": photographs,
        "image_size": 6, "data_dir": tmp_path / "records",
    } | change  # fmt: skip
    with pytest.raises(UserError, match=words):
        open_source(**request)


def test_whole_videos_are_held_out_always_the_same():
    videos = [f"video{i:02d}.mp4" for i in range(20) for _ in range(5)]
    frames = [frame for _ in range(20) for frame in range(5)]
    held = builders.held_out(videos, frames, 0.2)
    names = {video for video, is_held in zip(videos, held, strict=True) if is_held}
    assert len(names) == 4
    assert held.tolist() == [video in names for video in videos]
    again = builders.held_out(videos[::-1], frames[::-1], 0.2)
    assert (again[::-1] == held).all()


def test_the_last_frames_of_a_single_video_are_held_out():
    held = builders.held_out(["a.mp4"] * 10, list(range(10)), 0.2)
    assert held.tolist() == [False] * 8 + [True] * 2
    assert not builders.held_out(["a.mp4"], [0], 0.2).any()
    frames = [0, 1, 1, 1, 1]  # four faces in the last frame
    short = builders.held_out(["a.mp4"] * 5, frames, 0.1)
    assert short.tolist() == [False] + [True] * 4


def test_a_users_data_set_is_loaded_by_its_module_name(monkeypatch, tmp_path):
    (tmp_path / "my_faces").mkdir()
    (tmp_path / "my_faces" / "empty.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=r"data set.*my_faces.*Builder"):
        builders.builder_class("my_faces.empty")
    with pytest.raises(UserError, match=r"data set.*nowhere\.at_all"):
        builders.builder_class("nowhere.at_all")


def test_data_sets_do_not_import_tensorflow(photographs, tmp_path):
    """Neither building nor reading records imports TensorFlow or torch."""
    program = (
        "import sys\n"
        "from fer_jax.data import iterators, sources\n"
        f"s = sources.open_source('persian_emotion', None, 'train', {str(photographs)!r}, 6,"
        f" data_dir={str(tmp_path)!r})\n"
        "next(iterators.TrainIterator(s, batch_size=4, seed=0))\n"
        "assert not {'tensorflow', 'torch'} & set(sys.modules)\n"
    )
    root = Path(builders.__file__).parents[2]
    subprocess.run([sys.executable, "-c", program], cwd=root, check=True, timeout=120)


STANDARD = '''
import tensorflow_datasets as tfds


class Builder(tfds.core.GeneratorBasedBuilder):
    """A builder as TFDS documents it, without anything of this project."""

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = "A folder of pictures."

    def _info(self):
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {"image": tfds.features.Image(), "label": tfds.features.ClassLabel(num_classes=9)}
            )
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(dl_manager.manual_dir)}

    def _generate_examples(self, folder):
        for number, file in enumerate(sorted(folder.glob("*.png"))):
            yield file.name, {"image": %s, "label": number}
'''


@pytest.fixture
def standard_builder(tmp_path, monkeypatch):
    """A function that writes a builder without code of this project to a folder of data sets."""

    def write(name: str, image: str) -> None:
        file = tmp_path / "datasets" / name / f"{name}_dataset_builder.py"
        file.parent.mkdir(parents=True)
        file.write_text(STANDARD % image)

    monkeypatch.setattr(builders, "_FOLDERS", (*builders._FOLDERS, tmp_path / "datasets"))
    return write


def test_a_standard_tfds_builder_works(standard_builder, tmp_path):
    standard_builder("standard_files", "str(file)")
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((8, 8, 3), 50 * number, np.uint8))
    for cache in (False, True):
        source = open_source("standard_files", None, "train", tmp_path, 8, cache=cache)
        examples = sorted((source[i] for i in range(3)), key=lambda example: example["label"])
        assert [example["image"][0, 0, 0] for example in examples] == [0, 50, 100]
        assert [source[i]["id"] for i in range(3)] == ["0", "1", "2"]  # the builder has no ids
    assert len(list((tmp_path / "records").iterdir())) == 1  # `records` is not part of the input
    cv2.imwrite(str(tmp_path / "3.png"), np.zeros((8, 8, 3), np.uint8))
    assert len(open_source("standard_files", None, "train", tmp_path, 8)) == 4


def test_a_builder_that_needs_tensorflow_is_a_user_error(standard_builder, tmp_path):
    standard_builder("standard_arrays", "__import__('numpy').zeros((8, 8, 3), 'uint8')")
    cv2.imwrite(str(tmp_path / "0.png"), np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(
        UserError, match=r"^standard_arrays: .*TensorFlow.* image files or encoded bytes"
    ):
        builders.build("standard_arrays", None, tmp_path, tmp_path / "records")


def test_tfds_finds_registered_builders_by_name(photographs, tmp_path):
    builders.register()
    builder = tfds.builder("persian_emotion", data_dir=tmp_path / "own")
    builder.download_and_prepare(
        file_format="array_record",
        download_config=tfds.download.DownloadConfig(manual_dir=str(photographs)),
    )
    read = tfds.data_source("persian_emotion", split="all", data_dir=tmp_path / "own")
    assert len(read) == 12 and read[0]["image"].shape == (12, 12, 3)
    for name in ("face_frames", "face_verification"):
        assert tfds.builder(name, data_dir=tmp_path).name == name


def test_the_error_for_a_damaged_record_names_the_example(photographs, tmp_path):
    folder = builders.build("persian_emotion", None, photographs, tmp_path / "records").data_path
    source = RecordSource(folder, "train", 6)
    source._records = [{"image": b"no picture", "label": 0, "id": b"ann/sad/1.png"}]
    with pytest.raises(UserError, match=r"example ann/sad/1\.png: it is not a picture"):
        source[0]
