import struct
import time
from fractions import Fraction

import av
import numpy as np
import pytest

from fer_jax.errors import UserError
from fer_jax.faces import video
from fer_jax.faces.video import SampleCounts, VideoError, list_videos, sample_frames, write_video

SIZE = 96, 128  # height, width


def picture(number):
    """A noisy picture whose grey value encodes its number, with a white top left quarter."""
    image = np.full((*SIZE, 3), 10.0 + 8 * number)
    image[: SIZE[0] // 2, : SIZE[1] // 2] = 255
    noise = np.random.default_rng(number).normal(0, 6, (*SIZE, 1))
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def write(
    path, *, codec="libx264", form=None, times=range(30), fps=10, rotation=0, title="", **options
):
    """Writes a clip in which `picture(i)` is shown at `times[i] / fps` seconds."""
    with av.open(str(path), "w", format=form, options=options) as container:
        container.metadata["title"] = title
        stream = container.add_stream(codec, rate=fps)
        stream.height, stream.width = SIZE
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.time_base = Fraction(1, fps)
        if rotation:
            stream.set_display_rotation(rotation)
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(picture(number), format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def sample(path, every_s):
    """The sampled frames, the counts, and the reason of the error if there is one, else None."""
    counts, frames = SampleCounts(), []
    try:
        for frame in sample_frames(path, every_s, counts):
            frames.append(frame)
    except VideoError as error:
        return frames, counts, error.reason
    return frames, counts, None


def numbers(frames):
    """The numbers of the pictures that the frames show, from their grey values."""
    return [round((float(frame.image[-40:, -60:].mean()) - 10) / 8) for frame in frames]


@pytest.mark.parametrize(
    ("every_s", "expected"),
    [(0.0, list(range(30))), (0.5, [0, 5, 10, 15, 20, 25]), (1.0, [0, 10, 20]), (9.0, [0])],
)
def test_frames_are_sampled_at_regular_times(tmp_path, every_s, expected):
    frames, counts, error = sample(write(tmp_path / "a.mp4"), every_s)
    assert [frame.index for frame in frames] == numbers(frames) == expected
    np.testing.assert_allclose([frame.time_s for frame in frames], np.array(expected) / 10)
    assert (counts.decoded, counts.without_time, counts.failed, error) == (30, 0, 0, None)


def test_times_are_correct_for_a_variable_frame_rate(tmp_path):
    times = [0, 1, 2, 30, 31, 32, 33, 80, 85]
    frames, _, error = sample(write(tmp_path / "a.mp4", times=times), 1.0)
    np.testing.assert_allclose([frame.time_s for frame in frames], [0, 3, 8])
    assert numbers(frames) == [0, 3, 7] and error is None


@pytest.mark.parametrize("name", ["a.mkv", "a.avi", "a.ts", "a.mov", "a.webm"])
def test_other_containers_are_read(tmp_path, name):
    codec = "libvpx" if name.endswith("webm") else "mpeg4" if name.endswith("avi") else "libx264"
    frames, counts, error = sample(write(tmp_path / name, codec=codec), 0.5)
    assert numbers(frames) == [0, 5, 10, 15, 20, 25]
    assert counts.decoded == 30 and error is None


@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_rotation_is_applied(tmp_path, rotation):
    frames, _, _ = sample(write(tmp_path / "a.mp4", times=range(2), rotation=rotation), 0.0)
    expected = np.rot90(picture(1), rotation // 90)
    assert frames[1].image.shape == expected.shape
    assert np.abs(frames[1].image.astype(int) - expected).mean() < 8


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.mp4", "libx264", {"movflags": "faststart"}),
        ("a.mkv", "libx264", {}),
        ("a.avi", "mpeg4", {}),
        ("b.avi", "mjpeg", {}),
    ],
)
def test_a_truncated_file_is_decoded_partly_and_the_rest_is_counted(tmp_path, name, codec, options):
    path = write(tmp_path / name, codec=codec, **options)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 8 // 10])
    frames, counts, error = sample(path, 0.2)
    assert 3 <= len(frames) < 15
    whole = len(frames) - 1  # the last one may be incomplete
    assert numbers(frames)[:whole] == list(range(0, 2 * whole, 2))
    assert error == "damaged" and counts.failed >= 1
    if not name.endswith("avi"):  # FFmpeg derives the length of AVI from the remaining bytes
        assert len(frames) + counts.failed == 15


def test_damaged_packets_are_counted(tmp_path):
    path = write(tmp_path / "a.avi", codec="mjpeg")
    content = bytearray(path.read_bytes())
    packets = [i for i in range(len(content)) if content[i : i + 4] == b"00dc"][:30]
    for packet in packets[11:16]:  # all frames from 1.0 to 1.5 s
        size = int.from_bytes(content[packet + 4 : packet + 8], "little")
        content[packet + 8 : packet + 8 + size] = bytes(size)
    path.write_bytes(content)
    frames, counts, error = sample(path, 0.5)
    assert numbers(frames) == [0, 5, 15, 20, 25]
    assert counts.failed == 1 and error == "damaged"
    assert sample(path, 0.0)[1].failed == 5
    assert sample(path, 1.0)[1].failed == 0  # another frame of that second was used


@pytest.mark.parametrize("content", [b"", b"hello, world\n" * 99, bytes(5000)])
def test_a_file_that_is_not_a_video_is_a_video_error(tmp_path, content):
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(VideoError, match=r"a\.mp4: not a video") as caught:
        next(sample_frames(tmp_path / "a.mp4", 1.0))
    assert caught.value.reason == "not_a_video"


def test_missing_files_and_link_cycles_are_unreadable(tmp_path):
    (tmp_path / "loop.mp4").symlink_to(tmp_path / "loop.mp4")
    for name in ("absent.mp4", "loop.mp4"):
        assert sample(tmp_path / name, 1.0)[2] == "unreadable"


def test_a_file_with_sound_only_has_no_video_stream(tmp_path):
    with av.open(str(tmp_path / "song.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), "fltp", "mono")
        frame.rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert sample(tmp_path / "song.mp4", 1.0)[2] == "no_video_stream"


def test_negative_intervals_are_refused(tmp_path):
    with pytest.raises(ValueError, match="every -1"):
        list(sample_frames(write(tmp_path / "a.mp4"), -1.0))


@pytest.mark.parametrize("size", [(64, 80), (65, 81)])
def test_a_written_video_is_read_back(tmp_path, size):
    def images():
        for number in range(10):
            assert not (tmp_path / "out" / "a.mp4").exists()
            yield np.full((*size, 3), 20 * number, np.uint8)

    write_video(tmp_path / "out" / "a.mp4", 12.5, images())
    frames, _, error = sample(tmp_path / "out" / "a.mp4", 0.0)
    assert [len(frames), frames[0].image.shape, error] == [
        10,
        (size[0] + size[0] % 2, size[1] + size[1] % 2, 3),
        None,
    ]
    np.testing.assert_allclose([f.image.mean() for f in frames], 20 * np.arange(10), atol=4)
    np.testing.assert_allclose(frames[9].time_s, 9 / 12.5, atol=1e-3)


def test_a_failed_write_leaves_no_file(tmp_path):
    def images():
        yield np.zeros((64, 64, 3), np.uint8)
        raise ValueError("no more frames")

    with pytest.raises(ValueError, match="no more frames"):
        write_video(tmp_path / "a.mp4", 5.0, images())
    write_video(tmp_path / "a.mp4", 5.0, [])
    assert list(tmp_path.iterdir()) == []


def test_images_of_another_size_are_resized_to_the_first(tmp_path):
    sides = (64, 32, 64)
    write_video(tmp_path / "a.mp4", 5.0, [np.full((s, 64, 3), 90, np.uint8) for s in sides])
    frames, _, error = sample(tmp_path / "a.mp4", 0.0)
    assert [frame.image.shape for frame in frames] == [(64, 64, 3)] * 3 and error is None


def test_videos_are_listed_recursively(tmp_path):
    for name in ("b.mp4", "a/x.MOV", "a/b/y.webm", "notes.txt", "c.mp4.part"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    names = [path.relative_to(tmp_path).as_posix() for path in list_videos(tmp_path)]
    assert names == ["a/b/y.webm", "a/x.MOV", "b.mp4"]
    assert list_videos(tmp_path / "b.mp4") == [tmp_path / "b.mp4"]
    (tmp_path / "empty").mkdir()
    for folder in ("empty", "absent"):
        with pytest.raises(UserError):
            list_videos(tmp_path / folder)


def test_frames_without_a_time_are_skipped_and_counted(tmp_path):
    write(tmp_path / "bare.ts", codec="libx264", form="h264")  # a stream without a container
    frames, counts, error = sample(tmp_path / "bare.ts", 0.5)
    assert frames == [] and error == "no_frames"
    assert counts.without_time == counts.decoded == 30


def test_samples_are_lost_and_counted_where_the_clock_goes_backwards(tmp_path):
    part = write(tmp_path / "part.ts").read_bytes()
    joined = tmp_path / "joined.ts"
    joined.write_bytes(part + part)
    frames, counts, error = sample(joined, 0.5)
    assert len(frames) == 6 and counts.decoded == 60
    assert counts.failed == 6 and error == "damaged"
    with pytest.raises(VideoError, match="its clock goes backwards; 6 samples are lost"):
        list(sample_frames(joined, 0.5))
    frames, counts, error = sample(joined, 0.0)  # every frame is a sample, whatever its time
    assert len(frames) == 60 and counts.failed == 0 and error is None


def test_sampling_continues_after_the_clock_catches_up():
    grid = video._Grid(0.5)
    times = [0.0, 0.5, 1.0, 1.5, 2.0, 0.1, 0.2, 0.6, 2.2, 2.5, 3.0, 2.9]
    taken = [time for time in times if grid.takes(time)]
    assert taken == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0]
    assert grid.lost == 3  # the intervals of 0.1, 0.6 and 2.2; a step back to 2.9 is tolerated


@pytest.mark.parametrize("encoding", ["cp1256", "utf-16-le", "latin-1"])
@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a.avi"])
def test_a_title_in_any_encoding_does_not_lose_frames(tmp_path, name, encoding):
    title = "é" * 12 if encoding == "latin-1" else "فیلم خانوادگ"
    given = title.replace("ی", "ي").encode(encoding)[:24]
    codec = "mpeg4" if name == "a.avi" else "libx264"
    path = write(tmp_path / name, codec=codec, title="T" * len(given))
    content = path.read_bytes()
    assert content.count(b"T" * len(given)) == 1
    path.write_bytes(content.replace(b"T" * len(given), given))
    frames, counts, error = sample(path, 0.5)
    assert numbers(frames) == [0, 5, 10, 15, 20, 25]
    assert counts.decoded == 30 and error is None


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """The bytes of a Matroska clip of three seconds."""
    return write(tmp_path_factory.mktemp("clip") / "a.mkv").read_bytes()


def tagged(path, content, duration):
    """Writes the Matroska clip `content` of three seconds with `duration` as its tag DURATION."""
    own = b"00:00:03.000000000"
    assert content.count(own) == 1 and len(duration) <= len(own)
    path.write_bytes(content.replace(own, duration.encode().ljust(len(own), b"\0")))
    return path


@pytest.mark.parametrize("every_s", [0.0, 0.5])
@pytest.mark.parametrize(
    "duration",
    ["99999999:00:00", "inf", "inf:00:00", "nan", "nan:0:0", "1e300:0:0", "-1:00:00", "0:0", "x"],
)
@pytest.mark.timeout(20)
def test_an_implausible_duration_is_ignored(tmp_path, clip, duration, every_s):
    frames, counts, error = sample(tagged(tmp_path / "a.mkv", clip, duration), every_s)
    assert len(frames) == (6 if every_s == 0.5 else 30)
    assert counts.failed == 0 and error is None


def test_many_lost_samples_are_counted_without_listing_them():
    """There are as many samples as nanoseconds in 366 days."""
    grid = video._Grid(1e-9)
    assert grid.takes(0.0)
    grid.fails(2.0)
    grid.ends(0.1, 366 * 86_400.0, fps=10.0)
    assert grid.lost == pytest.approx(366 * 86_400e9, rel=1e-9)


@pytest.mark.parametrize(
    ("hours", "lost"),
    [(1.0, 2 * 3600 - 6), (30 * 8766.0, 0), (1e300, 0), (float("inf"), 0), (float("nan"), 0)],
)
def test_a_container_may_declare_hours_but_not_years(tmp_path, clip, hours, lost):
    path = tagged(tmp_path / "a.mkv", clip, "x")
    own = b"\x44\x89\x88" + struct.pack(">d", 3000)  # the length in milliseconds
    content = path.read_bytes()
    assert content.count(own) == 1
    path.write_bytes(content.replace(own, own[:3] + struct.pack(">d", hours * 3.6e6)))
    frames, counts, error = sample(path, 0.5)
    assert len(frames) == 6 and counts.failed == lost
    assert error == ("damaged" if lost else None)


@pytest.mark.parametrize("what", [RuntimeError, MemoryError, UnicodeDecodeError, OSError])
@pytest.mark.parametrize("after", [0, 10])
def test_every_exception_of_the_decoder_becomes_a_video_error(
    tmp_path, monkeypatch, clip, what, after
):
    path, given = tmp_path / "a.mkv", []
    path.write_bytes(clip)
    arguments = ("utf-8", b"\xff", 0, 1, "invalid") if what is UnicodeDecodeError else ("odd",)

    def upright(frame, converter):
        given.append(frame)
        if len(given) > after:
            raise what(*arguments)
        return frame.to_ndarray(format="rgb24")

    monkeypatch.setattr(video, "_upright", upright)
    counts = SampleCounts()
    with pytest.raises(VideoError, match=what.__name__) as caught:
        list(sample_frames(path, 0.0, counts))
    assert caught.value.reason == "damaged" and counts.failed == 1
    assert counts.decoded == after + 1


def test_exceptions_of_the_consumer_are_not_converted(tmp_path):
    with pytest.raises(KeyError, match="mine"):
        for _ in sample_frames(write(tmp_path / "a.mp4"), 1.0):
            raise KeyError("mine")


def test_frames_with_too_many_pixels_are_not_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(video, "MOST_PIXELS", SIZE[0] * SIZE[1] - 1)
    path = write(tmp_path / "a.avi", codec="mjpeg")
    with pytest.raises(VideoError, match="its frames have 128 x 96 pixels") as caught:
        next(sample_frames(path, 1.0))
    assert caught.value.reason == "too_large"
    content = bytearray(path.read_bytes())
    place = content.index(b"strf") + 12  # width and height, in the header of the stream
    content[place : place + 8] = (64).to_bytes(4, "little") * 2
    path.write_bytes(content)  # small according to the header, large according to the frames
    frames, counts, error = sample(path, 1.0)
    assert frames == [] and error == "no_frames" and counts.decoded == 0


def test_few_frames_are_decoded_ahead_and_none_after_the_consumer_stops(tmp_path, monkeypatch):
    monkeypatch.setattr(video, "_MOST_AHEAD", 4)
    write(tmp_path / "clip.mp4")
    counts = SampleCounts()
    frames = sample_frames(tmp_path / "clip.mp4", 0.0, counts)
    assert counts.decoded == 0  # nothing is decoded before the first frame is asked for
    taken = [next(frames).index for _ in range(3)]
    assert taken == [0, 1, 2]
    frames.close()
    stopped = counts.decoded
    assert 3 <= stopped <= 3 + 4
    time.sleep(0.05)
    assert counts.decoded == stopped
    monkeypatch.setattr(video, "_PIXELS_AHEAD", 1)  # large frames: only the next one
    assert [frame.index for frame in sample_frames(tmp_path / "clip.mp4", 0.0)] == list(range(30))


@pytest.mark.parametrize("size", [(96, 128), (98, 130), (242, 322), (400, 642)])
def test_pixels_are_those_of_a_conversion_frame_by_frame(tmp_path, size):
    """Small frames are decoded and converted by one thread, and others by several."""
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (*size, 3)).astype(np.uint8) for _ in range(4)]
    write_video(tmp_path / "clip.mp4", 10.0, pictures)
    with av.open(str(tmp_path / "clip.mp4")) as container:
        expected = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    frames = list(sample_frames(tmp_path / "clip.mp4", 0.0))
    assert len(frames) == len(expected) == 4
    for frame, image in zip(frames, expected, strict=True):
        np.testing.assert_array_equal(frame.image, image)


def test_only_small_frames_are_decoded_by_one_thread():
    assert [video._threads(*size) for size in ((320, 240), (480, 270), (640, 360))] == [1, 1, 0]
