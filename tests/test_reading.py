"""Reading faces as a library: sources, one record per face, the order of frames, progress."""

from __future__ import annotations

import dataclasses
import io
import itertools
import math
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from fer_jax import console, reading
from fer_jax.errors import UserError
from fer_jax.faces.alignment import LANDMARKS
from fer_jax.faces.drawing import write_image
from fer_jax.faces.mtcnn import Faces
from fer_jax.faces.video import Frame, expected_samples, sample_frames
from fer_jax.reading import Picture, Reader, find_sources, schema, sources_of
from fer_jax.recogniser import Analysis, Recogniser, Sighting
from fer_jax.stages.render import write_clip

ROOT = Path(__file__).parents[1]
LABELS = ("angry", "happy")


class Stub(Recogniser):
    """Finds as many faces as the value of the first pixel; the first label has probability 3/4."""

    def __init__(self):
        self.reference, self.labels, self.where = "", LABELS, "nowhere"

    def __call__(self, pictures):
        return [analysis(int(picture[0, 0, 0])) for picture in pictures]


def analysis(count):
    boxes = np.tile(np.array([1, 2, 30, 40], np.float32), (count, 1))
    points = np.arange(10, dtype=np.float32).reshape(1, 5, 2).repeat(count, 0)
    faces = Faces(boxes, np.linspace(1, 0.5, count, dtype=np.float32), points)
    return Analysis(faces, np.tile(np.array([0.75, 0.25], np.float32), (count, 1)))


def grey(level, side=8):
    return np.full((side, side, 3), level, np.uint8)


def test_there_is_one_record_per_face():
    (frame,) = Reader(Stub(), [Picture("mine", grey(2))])
    first, second = frame.readings(LABELS)
    assert (first.source, first.frame, first.time_s, first.person) == ("mine", 0, 0.0, 0)
    assert first.box == (1, 2, 30, 40) and first.landmarks[1] == (2, 3)
    assert (first.detector_score, second.detector_score) == (1.0, 0.5)
    assert first.emotion == "angry" and first.probabilities == {"angry": 0.75, "happy": 0.25}
    assert first.reference_faces is None
    with pytest.raises(dataclasses.FrozenInstanceError):
        first.person = 1


def test_the_cells_of_a_record_are_the_columns_of_the_table():
    (frame,) = Reader(Stub(), [Picture("mine", grey(1))])
    frame = dataclasses.replace(frame, smoothed=frame.analysis.probabilities)
    (row,) = frame.rows(LABELS, relative=True)
    columns = schema(LABELS, smoothed=True, relative=True, abstains=True)
    assert list(row) == columns.names
    assert [row[f"{name}_x"] for name in LANDMARKS] == [0, 2, 4, 6, 8]
    table = reading.table([row], columns)
    assert table.loc[0, ["x1", "nose_y", "prob_happy"]].tolist() == [30, 5, 0.25]
    assert "reference_faces" not in schema(LABELS).names


def test_a_frame_without_a_face_has_one_row_with_its_place():
    (frame,) = Reader(Stub(), [Picture("mine", grey(0))])
    assert frame.readings(LABELS) == []
    (row,) = frame.rows(LABELS)
    place = {"source": "mine", "frame": 0, "time_s": 0.0, "person": 0}
    assert row == place | {"reference_faces": 0, "answered": False}


def test_frames_without_a_face_keep_the_types_of_the_columns():
    frames = Reader(Stub(), [Picture("some", grey(2)), Picture("none", grey(0))])
    rows = [row for frame in frames for row in frame.rows(LABELS, relative=True, least=0.5)]
    table = reading.table(rows, schema(LABELS, relative=True, abstains=True))
    assert table["answered"].dtype == bool and table["reference_faces"].dtype == np.int64
    assert table[table["answered"]]["source"].tolist() == ["some", "some"]


def test_batches_of_large_pictures_are_smaller():
    sides = [100, 4200, *[10] * 5]
    shots = [(Picture(str(side), grey(0)), Frame(0, 0.0, grey(0, side))) for side in sides]
    assert [len(batch) for batch in reading._batches(iter(shots), 3)] == [2, 3, 2]


def make_clips(folder, names=("a.mp4", "b.mp4")):
    for person, name in enumerate(names):
        write_clip(folder / name, person, "happy", 0, 12, 6, (96, 128))


def test_the_frames_of_each_video_are_followed_in_order(tmp_path):
    make_clips(tmp_path)
    write_image(tmp_path / "c.png", grey(1))
    passed = []

    def follow(frames):
        """Numbers every face 7, and delays each frame until the next one."""
        passed.append([])
        held = None
        for frame in frames:
            assert not passed[-1] or frame.source is held.source
            passed[-1].append(frame.frame.index)
            frame = dataclasses.replace(frame, people=np.full(len(frame.people), 7))
            if held:
                yield held
            held = frame
        if held:
            yield held

    class Ones(Stub):
        def __call__(self, pictures):
            return [analysis(1) for _ in pictures]

    sources = find_sources(tmp_path, every_s=0.5).sources
    found = list(Reader(Ones(), sources, batch=3, follow=follow))
    assert passed == [[0, 3, 6, 9]] * 2
    assert [(one.source.name, one.frame.index) for one in found[1:]] == [
        (name, index) for name in ("a.mp4", "b.mp4") for index in (0, 3, 6, 9)
    ]
    people = [face.person for one in found for face in one.readings(LABELS)]
    assert people == [0, *[7] * 8]  # a photograph is no sequence


def test_sources_that_fail_are_counted_and_the_others_are_read(tmp_path):
    write_image(tmp_path / "a.png", grey(1))
    (tmp_path / "b.png").write_bytes(b"nothing")
    (tmp_path / "c.mp4").write_bytes(b"nothing")
    (tmp_path / "d.txt").write_bytes(b"nothing")
    found = find_sources(tmp_path, every_s=0.5)
    assert found.others == [("d.txt", "its suffix is not that of an image or a video")]
    reader = Reader(Stub(), found.sources)
    assert [frame.source.name for frame in reader] == ["a.png"]
    assert [name for name, _ in reader.skips.rows] == ["b.png", "c.mp4"]


def test_a_place_without_sources_is_an_error(tmp_path):
    for place, message in ((tmp_path / "none", "there is no"), (tmp_path, "no image or video in")):
        with pytest.raises(UserError, match=message):
            find_sources(place, every_s=0.5)
    with pytest.raises(UserError, match="people='many' must be"):
        Reader(Stub(), [], people="many")
    with pytest.raises(UserError, match="nowhere is not person-relative; leave out people and"):
        Reader(Stub(), [], people="one")


class RelativeStub(Recogniser):
    """Finds one face in each picture, and stores the people that it is given."""

    def __init__(self):
        self.reference, self.labels, self.where = "mean", LABELS, "nowhere"

    def sightings(self, pictures):
        return [Sighting(analysis(1).faces, np.zeros((1, 1, 2)), 0) for _ in pictures]

    def relative(self, sightings, people, neutral):
        self.people = list(people)
        return [analysis(1)._replace(reference_faces=4) for _ in sightings]


@pytest.mark.parametrize("slash", ["", "/"])
def test_people_are_the_folders_below_each_place_of_a_list(tmp_path, slash, monkeypatch):
    names = ["album/ann/1.png", "album/bob/2.png", "album/3.png", "more/ann/deep/4.png"]
    for name in names:
        write_image(tmp_path / name, grey(1))
    monkeypatch.chdir(tmp_path)
    for root in ("", f"{tmp_path}/"):
        given = [f"{root}album{slash}", f"{root}more{slash}", grey(1)]
        sources = sources_of(given, every_s=0.5).sources
        assert {source.name for source in sources} == {*(root + name for name in names), "0"}
        recogniser = RelativeStub()
        reader = Reader(recogniser, sources, people="folder")
        assert len(list(reader)) == 3 and recogniser.people == ["ann", "bob", "ann"]
        assert [name for name, _ in reader.skips.rows] == [f"{root}album/3.png", "0"]


@pytest.mark.parametrize("every_s", [0.0, 0.25, 0.5, 100.0])
def test_the_expected_number_of_frames_is_right_for_a_whole_video(tmp_path, every_s):
    make_clips(tmp_path, ["a.mp4"])
    frames = list(sample_frames(tmp_path / "a.mp4", every_s))
    assert expected_samples(tmp_path / "a.mp4", every_s) == len(frames)
    (tmp_path / "b.mp4").write_bytes(b"nothing")
    assert expected_samples(tmp_path / "b.mp4", every_s) == 0


def test_the_bar_counts_frames(tmp_path, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    class Notebook(io.StringIO):
        """A stand-in for the output of a notebook, which is not a terminal."""

    make_clips(tmp_path)
    (tmp_path / "c.png").write_bytes(b"nothing")
    write_image(tmp_path / "d.png", grey(0))
    sources = find_sources(tmp_path, every_s=0.5).sources
    bars = []
    count = console.Progress.update
    monkeypatch.setattr(
        console.Progress, "update", lambda bar, units=1: (bars.append(bar), count(bar, units))
    )
    for progress in ("read", ""):
        monkeypatch.setattr(sys, "stderr", Terminal())
        assert len(list(Reader(Stub(), sources, progress=progress))) == 9
        shown = sys.stderr.getvalue()
        assert ("read" in shown and "/10 frames" in shown) if progress else not shown
        assert bars[-1].done == 9  # one of the ten expected ones cannot be read
    for in_notebook in (False, True):
        monkeypatch.setattr(sys, "stderr", Notebook())
        if in_notebook:
            monkeypatch.setitem(sys.modules, "ipykernel", sys)
        list(Reader(Stub(), sources, progress="read"))
        assert ("/10 frames" in sys.stderr.getvalue()) == in_notebook


def test_reading_needs_no_flags_and_leaves_no_files(tmp_path):
    code = (
        "from fer_jax.reading import Picture, Reader\n"
        "from fer_jax.recogniser import Recogniser\n"
        "from fer_jax.people import photograph\n"
        "recogniser = Recogniser.load()\n"
        "(frame,) = Reader(recogniser, [Picture('0', photograph(3, 'happy', 0))])\n"
        "(face,) = frame.readings(recogniser.labels)\n"
        "print(face.emotion, round(sum(face.probabilities.values()), 4))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[1] == "1.0" and not done.stderr
    assert not list(tmp_path.iterdir())


def test_the_batches_after_the_first_are_analysed_at_the_same_time():
    """The first batch is analysed alone, because it compiles the programs for the others."""
    both_started = threading.Barrier(2, timeout=20)
    batches = itertools.count()

    class Together(Stub):
        def __call__(self, pictures):
            if next(batches):
                both_started.wait()
            return super().__call__(pictures)

    pictures = [Picture(str(count), grey(count)) for count in (1, 3, 0, 2, 2, 1)]
    found = list(Reader(Together(), pictures, batch=2))
    assert [len(one.analysis.faces) for one in found] == [1, 3, 0, 2, 2, 1]


def test_large_pictures_are_not_analysed_ahead():
    """The pixels in memory are bounded: here, a batch is one picture."""
    started = []

    class Counting(Stub):
        def __call__(self, pictures):
            started.append(len(pictures))
            return super().__call__(pictures)

    side = math.isqrt(reading._PIXELS_AT_ONCE) + 1
    pictures = [Picture(str(number), grey(1, side)) for number in range(3)]
    frames = iter(Reader(Counting(), pictures, batch=8))
    assert [len(started) for _ in frames] == [1, 2, 3]


def test_batches_of_one_frame_are_answered_before_the_next_frame_is_read():
    shown = []

    class Live:
        name, prefix, moving = "camera", "", True

        def frames(self):
            for index in range(3):
                shown.append(index)
                yield Frame(index, index / 10, grey(1))

        def expected(self):
            return None

    frames = iter(Reader(Stub(), [Live()], batch=1))
    assert [(next(frames).frame.index, len(shown)) for _ in range(3)] == [(0, 1), (1, 2), (2, 3)]
