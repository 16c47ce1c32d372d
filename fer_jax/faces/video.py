"""Reading the frames of videos with their presentation times, and writing videos."""

from __future__ import annotations

import collections
import contextlib
import itertools
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av
import cv2
import numpy as np
from av.video.reformatter import VideoReformatter
from jaxtyping import UInt8

from fer_jax.errors import UserError
from fer_jax.faces.images import MOST_PIXELS
from fer_jax.files import check_regular
from fer_jax.workdir import atomic_file

SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".wmv", ".asf", ".flv"}
    | {".3gp", ".3g2", ".ts", ".mts", ".m2ts", ".ogv", ".vob", ".mxf"}
)

Reason = Literal[
    "unreadable", "not_a_video", "no_video_stream", "too_large", "no_frames", "damaged"
]

# A file counts as truncated if its frames end this long before the end that it declares.
_END_TOLERANCE_S = 0.5
# A frame this long before the last sample means that the clock went backwards. Some files have
# frames that are out of order by less.
_CLOCK_TOLERANCE_S = 0.5
# Declared ends after more than a year are ignored.
_LONGEST_S = 366 * 86_400.0
# Frames of fewer pixels are decoded and converted by one thread, since several take a quarter more
# processor time.
_ONE_THREAD_BELOW = 1 << 17
_MOST_AHEAD, _PIXELS_AHEAD = 16, 32_000_000  # frames, and pixels in them, that wait for the caller


class VideoError(UserError):
    """Some or all frames of a file cannot be read.

    Attributes:
        reason: "unreadable" (missing, no permission, not a regular file), "not_a_video",
            "no_video_stream" (only sound, for example), "too_large" (frames of more than 67 million
            pixels), "no_frames" (none can be decoded, or none has a presentation time), or
            "damaged" (samples are lost; raised after all frames that can be decoded).
        detail: the message without the path.
    """

    def __init__(self, path: str | os.PathLike[str], reason: Reason, detail: str) -> None:
        super().__init__(f"{path}: {detail}")
        self.reason: Reason = reason
        self.detail = detail


@dataclass(frozen=True)
class Frame:
    """A frame of a video or a camera, or a picture.

    Attributes:
        index: the number of the frame, from 0, among all decoded frames of a video or all attempts
            to read a camera; 0 for a picture.
        time_s: the presentation time in seconds; for a camera, the time since its first frame.
        image: uint8 [H, W, 3] RGB, upright.
    """

    index: int
    time_s: float
    image: UInt8[np.ndarray, "h w 3"]

    @property
    def pixels(self) -> int:
        """The number of pixels in the picture, H x W."""
        return self.image.shape[0] * self.image.shape[1]


@dataclass
class SampleCounts:
    """Counts of a video's frames, updated by `sample_frames`.

    Attributes:
        decoded: decoded frames, sampled or not.
        without_time: decoded frames without a presentation time, which cannot be sampled.
        failed: expected samples that could not be decoded, or whose times are those of earlier
            frames because the clock went backwards (joined recordings). Set after the last frame.
    """

    decoded: int = 0
    without_time: int = 0
    failed: int = 0


def list_videos(folder: str | os.PathLike[str]) -> list[Path]:
    """The files below `folder` that have the suffix of a video, sorted by path.

    If `folder` is a file, the list contains only this file, whatever its suffix. Linked folders are
    not entered, since links may form a cycle.

    Raises:
        UserError: there is no such folder, or it contains no videos.
    """
    root = Path(folder)
    if root.is_file():
        return [root]
    if not root.is_dir():
        raise UserError(f"{folder} is neither a folder nor a file; pass a folder of videos")
    found = sorted(
        Path(parent) / name
        for parent, _, names in os.walk(root)
        for name in names
        if Path(name).suffix.lower() in SUFFIXES
    )
    if not found:
        raise UserError(
            f"there are no videos below {folder}; their names must end in one of "
            f"{', '.join(sorted(SUFFIXES))}"
        )
    return found


def sample_frames(
    path: str | os.PathLike[str], every_s: float, counts: SampleCounts | None = None
) -> Iterator[Frame]:
    """Yields the first frame of each interval of `every_s` seconds; every frame if `every_s` is 0.

    A thread decodes the next frames while the caller works on one. The rotation declared by the
    file is applied. Frames without a presentation time are skipped and counted.

    Args:
        path: the video.
        every_s: length of the intervals in seconds; the first one starts at the first frame.
        counts: updated during the iteration.

    Raises:
        VideoError: the file cannot be read, or has no frame that can be decoded and has a time; or,
            with the reason "damaged" and after the last frame that can be decoded, samples were
            lost (`counts.failed`). The decoder's other exceptions are not raised.
        ValueError: `every_s` is negative.
    """
    counts = SampleCounts() if counts is None else counts
    return _ahead(_sampled(path, every_s, counts))


def _sampled(path: str | os.PathLike[str], every_s: float, counts: SampleCounts) -> Iterator[Frame]:
    grid, converter = _Grid(every_s), VideoReformatter()
    fault = ""
    try:
        with _open(path) as container:
            for frame in _decode(path, container, grid):
                counts.decoded += 1
                if frame.time is None:
                    counts.without_time += 1
                elif grid.takes(frame.time):
                    yield Frame(counts.decoded - 1, frame.time, _upright(frame, converter))
    except VideoError:
        raise
    except Exception as error:  # invalid bytes cause exceptions of any type
        fault = f" ({type(error).__name__}: {error})"
        grid.fails(None)
    if counts.decoded == counts.without_time:
        detail = "no frame can be decoded"
        if counts.without_time:
            detail = f"none of its {counts.without_time} frames has a presentation time"
        raise VideoError(path, "no_frames", detail + fault)
    counts.failed = grid.lost
    if counts.failed:
        cause = "its clock goes backwards" if grid.went_back else "damaged or truncated"
        lost = "1 sample is" if counts.failed == 1 else f"{counts.failed} samples are"
        detail = f"{cause}; {lost} lost"
        raise VideoError(path, "damaged", detail + fault)


def _ahead(frames: Iterator[Frame]) -> Iterator[Frame]:
    """Yields the items of `frames`, while a thread decodes the next ones."""
    with ThreadPoolExecutor(1, "decode") as thread:
        coming: collections.deque[Future[Frame | None]] = collections.deque()
        coming.append(thread.submit(next, frames, None))
        try:
            while frame := coming.popleft().result():
                while len(coming) < max(1, min(_MOST_AHEAD, _PIXELS_AHEAD // frame.pixels)):
                    coming.append(thread.submit(next, frames, None))
                yield frame
        finally:
            for future in coming:
                future.cancel()


def expected_samples(path: str | os.PathLike[str], every_s: float) -> int | None:
    """The approximate number of frames that `sample_frames` yields, according to the container.

    It is 0 for a file that cannot be opened, and None if it cannot be computed from the number of
    frames or the length that the container states.
    """
    stated = _stated(path)
    if stated is None:
        return 0
    length_s, frames = stated
    if every_s and length_s:
        samples = math.ceil(length_s / every_s - 1e-6)
        frames = min(frames, samples) if frames else samples
    return frames or None


def stated_length_s(path: str | os.PathLike[str]) -> float | None:
    """The length in seconds that the container states; None if it states none, or is unreadable."""
    stated = _stated(path)
    return (stated[0] or None) if stated else None


def _stated(path: str | os.PathLike[str]) -> tuple[float, int] | None:
    """The length in seconds and the number of frames that the container states.

    If it does not state the number, this is computed from the length and the frame rate. A value
    that is unknown is 0. The result is None if the file cannot be read.
    """
    try:
        with _open(path) as container:
            stream = _picture_stream(path, container)
            start_s = _seconds(stream.start_time, stream.time_base) or 0.0
            length_s = max(0.0, _declared_end(container, stream) - start_s)
            frames = stream.frames or round(length_s * float(stream.average_rate or 0))
    except Exception:  # invalid bytes cause exceptions of any type
        return None
    return length_s, frames


class _Grid:
    """Divides time into cells of `every_s` seconds and records which were sampled or lost."""

    def __init__(self, every_s: float) -> None:
        if every_s < 0:
            raise ValueError(f"cannot sample every {every_s} s; `every_s` must not be negative")
        self._every_s = every_s
        self._origin: float | None = None
        self._last, self._last_s = -1, 0.0  # cell and time of the last sample
        self._behind: int | None = None  # the current cell if the clock is behind the last sample
        self._left_out = 0  # number of cells that were passed while the clock was behind
        self._recent: collections.deque[int] = collections.deque(maxlen=64)
        self._failed: set[int] = set()
        self._cut_off = 0  # number of cells after the last frame, which may be too many to list
        self._failed_frames = 0  # without a known cell; all if there are no cells

    def takes(self, time_s: float) -> bool:
        """Whether the frame at this time is a sample.

        A sample is the first frame of a cell that is later than the cell of the last sample; its
        cell is then recorded as sampled. If `every_s` is 0, every frame is a sample.
        """
        if self._origin is None:
            self._origin = time_s
        if not self._every_s:
            return True
        cell = self._cell(time_s)
        if cell <= self._last:
            if self._behind is not None or self._last_s - time_s > _CLOCK_TOLERANCE_S:
                self._left_out += cell != self._behind
                self._behind = cell
            return False
        self._last, self._last_s, self._behind = cell, time_s, None
        self._recent.append(cell)
        self._failed.discard(cell)
        return True

    def fails(self, time_s: float | None) -> None:
        """Records a frame that could not be decoded; another frame of its cell may replace it.

        `time_s` is None if its presentation time is unknown.
        """
        if not self._every_s or self._origin is None or time_s is None:
            self._failed_frames += 1
        elif self._cell(time_s) not in self._recent:
            self._failed.add(self._cell(time_s))

    def ends(self, last_s: float, declared_s: float, fps: float) -> None:
        """Records that the last frame ends at `last_s`, before the declared end `declared_s`."""
        if not self._every_s:
            self._failed_frames += max(1, round((declared_s - last_s) * fps))
        elif self._origin is not None:
            due = self._cell(declared_s - 1e-3)
            self._failed = {cell for cell in self._failed if not self._last < cell <= due}
            self._cut_off = max(0, due - self._last)

    @property
    def lost(self) -> int:
        """The number of expected samples that were lost."""
        return len(self._failed) + self._cut_off + self._failed_frames + self._left_out

    @property
    def went_back(self) -> bool:
        """Whether samples were lost because the clock went backwards."""
        return self._left_out > 0

    def _cell(self, time_s: float) -> int:
        assert self._origin is not None
        return math.floor((time_s - self._origin) / self._every_s + 1e-6)


@contextlib.contextmanager
def _open(path: str | os.PathLike[str]) -> Iterator[av.container.InputContainer]:
    """Opens a video file, and closes it after the block.

    Raises:
        VideoError: it is not a video, or cannot be read.
    """
    try:
        check_regular(path)
        container = _container(path, max_pixels=str(MOST_PIXELS))
    except (av.error.InvalidDataError, av.error.EOFError) as error:
        raise VideoError(path, "not_a_video", "not a video, or its header is damaged") from error
    except OSError as error:
        raise VideoError(path, "unreadable", f"cannot be read ({error.strerror})") from error
    except av.error.FFmpegError as error:
        raise VideoError(path, "not_a_video", f"not a video ({error.strerror})") from error
    with container:
        yield container


def _container(path: str | os.PathLike[str], **options: str) -> av.container.InputContainer:
    # The path is absolute, since FFmpeg interprets a name such as "a:b.mp4" as a protocol. Titles
    # may have any encoding.
    return av.open(str(Path(path).absolute()), options=options, metadata_errors="replace")


def _decode(
    path: str | os.PathLike[str], container: av.container.InputContainer, grid: _Grid
) -> Iterator[av.VideoFrame]:
    """All frames that can be decoded, in order of presentation; reports failures to `grid`."""
    stream = _picture_stream(path, container)
    stream.thread_type = "AUTO"
    stream.codec_context.thread_count = _threads(*_size(stream))
    stream.codec_context.options = {"max_pixels": str(MOST_PIXELS)}
    packets = container.demux(stream)
    end_s, broken = 0.0, False
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            break
        except av.error.FFmpegError:
            broken = True
            break
        if packet.size:  # FFmpeg marks the last packet as corrupt if the file ends within it
            broken = packet.is_corrupt
        try:
            for frame in packet.decode():
                if frame.time is not None:
                    length = _seconds(frame.duration, frame.time_base) or 0.0
                    end_s = max(end_s, frame.time + length)
                yield frame
        except av.error.FFmpegError:
            grid.fails(_seconds(packet.pts, packet.time_base))
    declared_s = _declared_end(container, stream)
    if declared_s - end_s > _END_TOLERANCE_S:
        grid.ends(end_s, declared_s, float(stream.average_rate or 0))
    elif broken:
        grid.fails(None)


def _picture_stream(
    path: str | os.PathLike[str], container: av.container.InputContainer
) -> av.VideoStream:
    """The first video stream that is not an attached picture, such as the cover of a song.

    Raises:
        VideoError: there is no such stream, or its frames have too many pixels.
    """
    cover = av.stream.Disposition.attached_pic
    for stream in container.streams.video:
        if stream.disposition & cover:
            continue
        width, height = _size(stream)
        if not width * height:  # FFmpeg reports no size if it refuses the size
            width, height = _size_in_header(path, stream.index)
        if width * height > MOST_PIXELS:
            detail = (
                f"its frames have {width} x {height} pixels, more than the limit of "
                f"{MOST_PIXELS // 10**6} million"
            )
            raise VideoError(path, "too_large", detail)
        return stream
    raise VideoError(path, "no_video_stream", "contains no video stream")


def _size_in_header(path: str | os.PathLike[str], index: int) -> tuple[int, int]:
    """Width and height of a stream in pixels, as declared by the container."""
    with _container(path, codec_whitelist="none") as container:
        stream = container.streams[index]
        return _size(stream) if isinstance(stream, av.VideoStream) else (0, 0)


def _size(stream: av.VideoStream) -> tuple[int, int]:
    return stream.codec_context.width, stream.codec_context.height


def _threads(width: int, height: int) -> int:
    """The number of threads for frames of this size; 0: FFmpeg chooses."""
    return 1 if width * height < _ONE_THREAD_BELOW else 0


def _seconds(ticks: int | None, time_base: Fraction | None) -> float | None:
    return None if ticks is None or time_base is None else float(ticks * time_base)


def _declared_end(container: av.container.InputContainer, stream: av.VideoStream) -> float:
    """The end of the video stream in seconds, as declared by the file.

    The result is 0 if the file declares none, or none that can be trusted.
    """
    declared = 0.0
    if stream.duration is not None and stream.time_base is not None:
        declared = float(((stream.start_time or 0) + stream.duration) * stream.time_base)
    elif container.duration is not None:
        declared = ((container.start_time or 0) + container.duration) / av.time_base
        tagged = _tagged_end(stream)
        if tagged is not None:
            declared = min(declared, tagged)
        elif len(container.streams) > 1:  # another stream may be longer
            return 0.0
    return declared if declared <= _LONGEST_S else 0.0


def _tagged_end(stream: av.VideoStream) -> float | None:
    """Matroska's tag DURATION (hours:minutes:seconds) in seconds; None if missing or invalid."""
    try:
        hours, minutes, seconds = map(float, stream.metadata.get("DURATION", "").split(":"))
    except ValueError:
        return None
    end = 3600 * hours + 60 * minutes + seconds
    return end if 0 <= end < math.inf else None


def _upright(frame: av.VideoFrame, converter: VideoReformatter) -> UInt8[np.ndarray, "h w 3"]:
    """The pixels of a frame after the declared rotation, uint8 [H, W, 3] RGB.

    `converter` keeps the tables of the conversion for the next frame.
    """
    quarter_turns = round(frame.rotation / 90) % 4
    threads = _threads(frame.width, frame.height)
    image = converter.reformat(frame, format="rgb24", threads=threads).to_ndarray()
    return np.ascontiguousarray(np.rot90(image, quarter_turns)) if quarter_turns else image


def write_video(
    path: str | os.PathLike[str],
    fps: float,
    images: Iterable[UInt8[np.ndarray, "_ _ 3"]],
    options: Mapping[str, str] = {},
) -> None:
    """Writes an H.264 MP4 (yuv420p, which players commonly support), atomically.

    Args:
        path: the file to write.
        fps: frames per second.
        images: uint8 [H, W, 3] RGB each; they are resized to the size of the first. Odd sizes are
            padded by a row or a column, since the format halves the resolution of colours. Without
            images, no file is written.
        options: options of the encoder x264, by their FFmpeg names.
    """
    images = iter(images)
    first = next(images, None)
    if first is None:
        return
    height, width = first.shape[:2]
    with (
        atomic_file(path) as temporary,
        av.open(str(temporary), "w", format="mp4") as container,
    ):
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        stream.height, stream.width = height + height % 2, width + width % 2
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "20", "preset": "veryfast", **options}
        for image in itertools.chain([first], images):
            if image.shape != first.shape:
                image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
            image = np.pad(image, [(0, height % 2), (0, width % 2), (0, 0)], "edge")
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
