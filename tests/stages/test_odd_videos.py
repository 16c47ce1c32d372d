"""A folder of bad and odd videos: each is counted in the right column, and none ends the run."""

import functools
import os
import shutil
import tempfile
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest

from configs import extract as extract_config
from fer_jax.faces.mtcnn import Detector, Faces
from fer_jax.faces.video import VideoError, sample_frames
from fer_jax.stages import extract
from fer_jax.workdir import read_json
from tests.privileges import nobody

SIZE = 96, 128  # height, width
SECONDS, FPS = 3, 10
LENGTH = b"00:00:03.000000000"  # as in Matroska's tag DURATION


def picture(number, size=SIZE):
    image = np.full((*size, 3), 40.0 + 4 * number)
    image[: size[0] // 2] = 200
    image += np.random.default_rng(number).normal(0, 6, (*size, 1))
    return np.clip(image, 0, 255).astype(np.uint8)


def video(path, *, codec="libx264", form="yuv420p", times=range(SECONDS * FPS), fps=FPS,
          size=SIZE, rotation=0, container=None, audio=False, options=None, title=""):  # fmt: skip
    """Writes a clip in which `picture(i)` is shown at `times[i] / fps` seconds."""
    with av.open(str(path), "w", format=container, options=options or {}) as out:
        out.metadata["title"] = title
        stream = out.add_stream(codec, rate=fps)
        stream.height, stream.width, stream.pix_fmt = *size, form
        stream.codec_context.time_base = Fraction(1, fps)
        if rotation:
            stream.set_display_rotation(rotation)
        sound = out.add_stream("aac", rate=16000) if audio else None
        for number, time in enumerate(times):
            image = picture(number, size) if max(size) < 5000 else np.zeros((*size, 3), np.uint8)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=form)
            frame.pts, frame.time_base = time, Fraction(1, fps)
            out.mux(stream.encode(frame))
        out.start_encoding()  # an empty file has a header too
        out.mux(stream.encode(None))
        if sound:
            out.mux([*sound.encode(silence()), *sound.encode(None)])
    return path


def silence():
    frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), "fltp", "mono")
    frame.sample_rate, frame.pts = 16000, 0
    return frame


def sound_alone(path):
    with av.open(str(path), "w") as out:
        stream = out.add_stream("aac", rate=16000)
        out.mux([*stream.encode(silence()), *stream.encode(None)])


def song_with_a_cover(path):
    with av.open(str(path), "w") as out:
        sound, cover = out.add_stream("aac", rate=16000), out.add_stream("mjpeg", rate=1)
        cover.height, cover.width, cover.pix_fmt = 64, 64, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        out.mux([*sound.encode(silence()), *sound.encode(None)])
        frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
        out.mux([*cover.encode(frame), *cover.encode(None)])


def cut(path, share, **options):
    video(path, **options)
    os.truncate(path, int(path.stat().st_size * share))


def without_head(path):
    video(path)
    path.write_bytes(path.read_bytes()[200:])


def scattered(path, count, **options):
    """Writes a clip, and changes `count` random bytes, except near its start and its end."""
    video(path, **options)
    content = bytearray(path.read_bytes())
    rng = np.random.default_rng(0)
    for place in rng.integers(2000, len(content) - 3000, count):
        content[place] ^= int(rng.integers(1, 256))
    path.write_bytes(content)


def zeros_inside(path):
    video(path, codec="mjpeg", form="yuvj420p")
    content = bytearray(path.read_bytes())
    packets = [i for i in range(len(content)) if content[i : i + 4] == b"00dc"][: SECONDS * FPS]
    for packet in packets[11:16]:  # all frames from 1.0 to 1.5 s
        size = int.from_bytes(content[packet + 4 : packet + 8], "little")
        content[packet + 8 : packet + 8 + size] = bytes(size)
    path.write_bytes(content)


def lying_count(path):
    """Writes an AVI whose header states a thousand times as many frames as it has."""
    video(path, codec="mjpeg", form="yuvj420p")
    content = bytearray(path.read_bytes())
    place = content.index(b"avih") + 24
    content[place : place + 4] = (1000 * SECONDS * FPS).to_bytes(4, "little")
    path.write_bytes(content)


def rewritten(path, old, new):
    """Writes a clip, and replaces some bytes of its metadata."""
    video(path, title="TTTT")
    content = path.read_bytes()
    assert content.count(old) == 1
    path.write_bytes(content.replace(old, new.ljust(len(old), b"\0")))


def renamed(path, suffix, **options):
    other = path.with_name(f"{path.name}{suffix}")
    video(other, **options).rename(path)


def loop(path):
    path.symlink_to(path)


def link(path):
    real = path.with_name("linked.data")
    video(real, container="mp4")
    path.symlink_to(real)


def folder_loop(path):
    path.parent.mkdir(exist_ok=True)
    (path.parent / "again").symlink_to(path.parent)
    video(path)


def within(path):
    path.parent.mkdir(parents=True)
    video(path)


def appended(path):
    video(path)
    path.write_bytes(path.read_bytes() + b"trailing words" * 500)


def shared(path):
    """Writes a clip that has a second name by a hard link; it counts as two videos."""
    video(path)
    os.link(path, path.with_name("twin of " + path.name))


make = functools.partial
WHOLE = 6  # samples of three seconds, two per second
# For each name: how the file is made, the numbers of searched and of lost samples (None: at least
# one), and the reason ("": no error). "?": "damaged" if and only if samples are lost; "?none": any
# reason for a file without frames.
TABLE = {
    "plain.mp4": (video, WHOLE, 0, ""),
    # no video
    "empty.mp4": (Path.touch, 0, 0, "not_a_video"),
    "empty.mkv": (Path.touch, 0, 0, "not_a_video"),
    "empty.avi": (Path.touch, 0, 0, "not_a_video"),
    "words.mp4": (lambda p: p.write_text("no video\n" * 99), 0, 0, "not_a_video"),
    "zeros.mov": (lambda p: p.write_bytes(bytes(5000)), 0, 0, "not_a_video"),
    "page.webm": (lambda p: p.write_text("<html><p>Not found"), 0, 0, "not_a_video"),
    "headless.mp4": (without_head, 0, 0, "not_a_video"),
    "cut before its index.mp4": (make(cut, share=0.5), 0, 0, "not_a_video"),
    # cut short
    "cut.mkv": (make(cut, share=0.6), None, None, "damaged"),
    "cut.avi": (make(cut, share=0.6, codec="mjpeg", form="yuvj420p"), None, None, "damaged"),
    "cut fast.mp4": (make(cut, share=0.7, options={"movflags": "faststart"}), None, None,
                     "damaged"),
    # damaged inside
    "zeros inside.avi": (zeros_inside, WHOLE - 1, 1, "damaged"),
    "scattered.mjpeg.avi": (make(scattered, count=9, codec="mjpeg", form="yuvj420p"), None, 0, ""),
    "scattered.mkv": (make(scattered, count=5), None, None, "?"),
    # nothing to see
    "sound.mp4": (sound_alone, 0, 0, "no_video_stream"),
    "song with a cover.mp4": (song_with_a_cover, 0, 0, "no_video_stream"),
    "no frame.mkv": (make(video, times=()), 0, 0, "?none"),
    "bare.ts": (make(video, container="h264"), 0, 0, "no_frames"),
    "pipe.mp4": (os.mkfifo, 0, 0, "unreadable"),
    "absent.mp4": (lambda p: p.symlink_to("nowhere.mp4"), 0, 0, "unreadable"),
    "loop.mp4": (loop, 0, 0, "unreadable"),
    "huge.avi": (make(video, codec="png", form="rgb24", times=(0,), size=(9000, 9000)), 0, 0,
                 "too_large"),
    # odd, but sound
    "title in cp1256.mkv": (make(rewritten, old=b"TTTT", new="فيلم".encode("cp1256")), WHOLE, 0,
                            ""),
    "a hundred million hours.mkv": (make(rewritten, old=LENGTH, new=b"99999999:00:00"), WHOLE, 0,
                                    ""),
    "infinitely long.mkv": (make(rewritten, old=LENGTH, new=b"inf"), WHOLE, 0, ""),
    "one frame.mp4": (make(video, times=(0,)), 1, 0, ""),
    "two frames.mp4": (make(video, times=(0, 1)), 1, 0, ""),
    "odd size.avi": (make(video, codec="png", form="rgb24", size=(67, 91)), WHOLE, 0, ""),
    "tiny.avi": (make(video, codec="png", form="rgb24", size=(3, 5)), WHOLE, 0, ""),
    "wide.mkv": (make(video, codec="ffv1", form="yuv444p", size=(16, 1600)), WHOLE, 0, ""),
    "16 bits.mkv": (make(video, codec="ffv1", form="gray16le"), WHOLE, 0,
                    ""),
    "10 bits.mkv": (make(video, codec="ffv1", form="yuv420p10le"), WHOLE, 0, ""),
    "alpha.mkv": (make(video, codec="ffv1", form="bgra"), WHOLE, 0, ""),
    "alpha.avi": (make(video, codec="png", form="rgba"), WHOLE, 0, ""),
    "grey.avi": (make(video, codec="png", form="gray"), WHOLE, 0, ""),
    "palette.gif.avi": (make(renamed, suffix=".gif", codec="gif", form="rgb8"), WHOLE, 0, ""),
    "turned 90.mp4": (make(video, rotation=90), WHOLE, 0, ""),
    "turned 180.mp4": (make(video, rotation=180), WHOLE, 0, ""),
    "turned 270.mp4": (make(video, rotation=-90), WHOLE, 0, ""),
    "variable rate.mp4": (make(video, times=(0, 1, 2, 3, 12, 13, 29)), 3, 0, ""),
    "late start.mkv": (make(video, times=range(100, 100 + SECONDS * FPS)), WHOLE, 0, ""),
    "slow.mp4": (make(video, times=(0, 1, 2), fps=1), 3, 0, ""),
    "fast.mp4": (make(video, times=range(180), fps=60), WHOLE, 0, ""),
    "lying count.avi": (lying_count, WHOLE, 0, "?"),
    "with sound.mp4": (make(video, audio=True), WHOLE, 0, ""),
    "vp8.webm": (make(video, codec="libvpx"), WHOLE, 0, ""),
    "mpeg2.mpg": (make(video, codec="mpeg2video", fps=25, times=range(75)), None, 0, ""),
    "transport.ts": (video, WHOLE, 0, ""),
    "old.avi": (make(video, codec="mpeg4"), WHOLE, 0, ""),
    "an mkv called.mp4": (make(renamed, suffix=".mkv"), WHOLE, 0, ""),
    "an avi called.mov": (make(renamed, suffix=".avi", codec="mpeg4"), WHOLE, 0, ""),
    "words behind.mp4": (appended, WHOLE, 0, ""),
    "twice.mp4": (shared, WHOLE, 0, ""),
    # names
    "with  blanks .mp4": (video, WHOLE, 0, ""),
    "ویدیوی علی.mp4": (video, WHOLE, 0, ""),
    "😀 #1%.mp4": (video, WHOLE, 0, ""),
    "a:b?c=d&e'f\"g.mp4": (video, WHOLE, 0, ""),
    "-dash.mp4": (video, WHOLE, 0, ""),
    "UPPER.MP4": (video, WHOLE, 0, ""),
    "n" * 240 + ".mp4": (video, WHOLE, 0, ""),
    "line\nbreak.mp4": (video, WHOLE, 0, ""),
    "deep/" * 12 + "x.mp4": (within, WHOLE, 0, ""),
    "folder loop/x.mp4": (folder_loop, WHOLE, 0, ""),
    "link.mp4": (link, WHOLE, 0, ""),
}  # fmt: skip


def test_the_table_is_long_enough():
    assert len(TABLE) >= 40


@pytest.fixture(scope="module")
def looked_at(tmp_path_factory):
    """The counts of each video by name, and the summary and workdir of one run over all videos."""
    folder, workdir = tmp_path_factory.mktemp("odd"), tmp_path_factory.mktemp("work") / "extract"
    for name, (write, *_) in TABLE.items():
        write(folder / name)

    def detect(self, images, *, floor=None, whole_on_device=None):
        assert all(i.dtype == np.uint8 and i.ndim == 3 and i.shape[2] == 3 for i in images)
        none = (np.zeros(shape, np.float32) for shape in ((0, 4), (0,), (0, 5, 2)))
        empty = Faces(*none)
        return [empty for _ in images]

    config = extract_config.get_config()
    config.update({"videos": str(folder), "every_s": 0.5})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Detector, "detect", detect)
        summary = extract.run(config, workdir)
    stats = [read_json(path) for path in (workdir / "shards").glob("*/stats.json")]
    shutil.rmtree(folder)
    return {one["video"]: one for one in stats}, summary, workdir


@pytest.mark.parametrize("name", TABLE, ids=lambda name: ascii(name)[1:41])
def test_a_video_is_counted_in_the_right_column(looked_at, name):
    _, seen, failed, reason = TABLE[name]
    one = looked_at[0][name]
    assert one["frames"] == one["with_faces"] + one["without_faces"] + one["failed"]
    found = one["with_faces"] + one["without_faces"]
    if reason == "?none":  # versions of FFmpeg disagree about an empty container
        assert one["error"] in ("not_a_video", "no_frames", "no_video_stream")
    elif reason != "?":
        assert one["error"] == reason
    assert bool(one["error"]) == bool(one["detail"])
    assert found == seen if seen is not None else found >= 1
    if reason == "?":
        assert bool(one["failed"]) == (one["error"] == "damaged")
    elif failed is None:
        assert one["failed"] >= 1
    else:
        assert one["failed"] == failed


def test_the_columns_add_up(looked_at):
    stats, summary, workdir = looked_at
    assert summary["videos"] == len(stats) == len(TABLE) + 1  # the twin
    gave_nothing = {n for n, one in stats.items() if one["frames"] == one["failed"]}
    assert summary["skipped"] == len(gave_nothing)
    assert summary["frames"] == sum(one["frames"] for one in stats.values())
    listed = pd.read_csv(workdir / "skipped.csv")
    assert set(listed["video"]) == {name for name, one in stats.items() if one["error"]}
    assert listed["reason"].notna().all() and listed["detail"].notna().all()


def test_a_file_without_permission_is_unreadable():
    with tempfile.TemporaryDirectory() as name:  # other users cannot enter pytest's own folder
        Path(name).chmod(0o755)
        clip = video(Path(name) / "a.mp4")
        with nobody():
            assert next(sample_frames(clip, 1.0)).index == 0
        clip.chmod(0)
        with nobody(), pytest.raises(VideoError) as caught:
            next(sample_frames(clip, 1.0))
    assert caught.value.reason == "unreadable"


def test_an_error_in_one_video_does_not_end_the_run(tmp_path, monkeypatch):
    (tmp_path / "videos").mkdir()
    for name in ("a.mp4", "b.mp4"):
        video(tmp_path / "videos" / name, size=(64, 64) if name == "a.mp4" else SIZE)
    empty = Faces(*(np.zeros(shape, np.float32) for shape in ((0, 4), (0,), (0, 5, 2))))

    def detect(self, images, *, floor=None, whole_on_device=None):
        if images[0].shape[0] == 64:
            raise MemoryError("no room for\nthis one")
        return [empty for _ in images]

    monkeypatch.setattr(Detector, "detect", detect)
    config = extract_config.get_config()
    config.update({"videos": str(tmp_path / "videos"), "every_s": 0.5})
    summary = extract.run(config, tmp_path / "work")
    assert (summary["videos"], summary["skipped"], summary["frames"]) == (2, 1, WHOLE)
    listed = (tmp_path / "work" / "skipped.csv").read_text()
    assert "a.mp4,broken,MemoryError: no room for this one,0,0" in listed
    assert len(list((tmp_path / "work" / "shards").iterdir())) == 1
