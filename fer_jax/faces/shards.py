"""One video becomes one shard: a folder with the crops, the rows and the counts of that video.

    manifest.parquet, crops/<frame>_<face>.jpg        the faces
    negatives.parquet, negatives/<frame>_<n>.jpg      crops of what is no face
    stats.json                                        counts; what is wrong with the video, if so

A shard appears whole or not at all, and depends on nothing but the video and the settings.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from jaxtyping import Float, UInt8

from fer_jax.data import manifest
from fer_jax.faces import quality, selection
from fer_jax.faces.alignment import align
from fer_jax.faces.mtcnn import Detector, Faces
from fer_jax.faces.negatives import background_landmarks, touches, typical_landmarks
from fer_jax.faces.shots import CutFinder
from fer_jax.faces.tracks import Tracker
from fer_jax.faces.video import Frame, SampleCounts, VideoError, sample_frames
from fer_jax.workdir import atomic_folder, read_json, write_json

_JPEG_QUALITY = 95
# Where a face was seen this long ago, one may still be that the detector misses.
_REMEMBERED_S = 2.0


@dataclass(frozen=True)
class Settings:
    """What a shard depends on, besides its video.

    Attributes:
        every_s: seconds between samples; 0 takes every frame.
        detector: the face detector.
        size, margin: of the crops, as in `align`.
        negatives: background crops to cut a frame.
        floor: the least detector score of a candidate that becomes a hard negative.
        batch: frames detected together.
        seed: of the random places of background crops.
        limits: which crops are kept.
    """

    every_s: float
    detector: Detector
    size: int
    margin: float
    negatives: int
    floor: float
    batch: int
    seed: int
    limits: selection.Limits


@dataclass(frozen=True)
class Job:
    """A video to extract: its file, its id (its path below the folder of videos), its shard."""

    path: Path
    video: str
    shard: Path
    settings: Settings


@dataclass
class Stats:
    """The counts of one video. `error` and `detail` are "" for a sound one."""

    video: str
    source: list[int]
    frames: int = 0
    with_faces: int = 0
    without_faces: int = 0
    failed: int = 0
    faces: int = 0
    kept: int = 0
    negatives: int = 0
    cuts: int = 0
    decoded: int = 0
    without_time: int = 0
    error: str = ""
    detail: str = ""

    @property
    def kept_frames(self) -> int:
        """Frames that could be looked at."""
        return self.with_faces + self.without_faces


def video_id(path: Path, root: Path) -> str:
    """The video's path below `root` with forward slashes; its name when it is `root` itself."""
    relative = path.relative_to(root).as_posix() if path != root else path.name
    # Names that are no UTF-8 are possible on Linux, and impossible in a table.
    return os.fsencode(relative).decode("utf-8", "backslashreplace")


def shard_name(video: str) -> str:
    """A short ASCII folder name, a different one for every video id."""
    stem = Path(video).stem.encode("ascii", "ignore").decode()
    readable = "".join(c if c.isalnum() or c in "-_" else "_" for c in stem)[:40]
    return f"{readable}-{hashlib.sha256(video.encode()).hexdigest()[:12]}"


def finished(job: Job) -> Stats | None:
    """The counts of a shard that is there already and whose video has not changed since."""
    if not (job.shard / "stats.json").exists():
        return None
    stats = Stats(**read_json(job.shard / "stats.json"))
    return stats if stats.source == _source(job.path) else None


def extract(job: Job, progress: Callable[[int], None] = lambda frames: None) -> Stats:
    """Extracts one video into its shard; `progress` is told of frames as they are done.

    A video that is none, or is damaged, raises nothing: what could be decoded is kept, and the
    counts say what is wrong. One at which something breaks leaves no shard, so that a later run
    tries it again; only a disk that takes no more ends the run.
    """
    try:
        return _extract(job, progress)
    except OSError:
        raise
    except Exception as error:
        detail = f"{type(error).__name__}: {error}".replace("\n", " ")[:200]
        return Stats(job.video, _source(job.path), error="broken", detail=detail)


def _extract(job: Job, progress: Callable[[int], None]) -> Stats:
    stats = Stats(job.video, _source(job.path))
    counts = SampleCounts()
    with atomic_folder(job.shard) as folder:
        writer = _ShardWriter(folder, job, stats)
        for frames in _batches(job, counts, stats):
            images = [frame.image for frame in frames]
            found = job.settings.detector.detect(images, floor=job.settings.floor)
            for frame, faces in zip(frames, found, strict=True):
                writer.add(frame, faces)
            progress(len(frames))
        stats.decoded, stats.without_time = counts.decoded, counts.without_time
        stats.failed = counts.failed
        stats.frames += counts.failed
        if stats.frames != stats.with_faces + stats.without_faces + stats.failed:
            raise RuntimeError(f"{job.video}: frames were lost on the way: {stats}")
        writer.close()
        write_json(folder / "stats.json", asdict(stats))
    return stats


def _batches(job: Job, counts: SampleCounts, stats: Stats) -> Iterator[list[Frame]]:
    """The video's samples in lists of the batch size, counted; an error ends it and is noted."""

    def samples() -> Iterator[Frame]:
        try:
            for frame in sample_frames(job.path, job.settings.every_s, counts):
                stats.frames += 1
                yield frame
        except VideoError as error:
            stats.error, stats.detail = error.reason, error.detail

    stream = samples()
    while frames := list(itertools.islice(stream, job.settings.batch)):
        yield frames


def _source(path: Path) -> list[int]:
    """Size and time of change of a file, to notice that it has become another."""
    try:
        status = path.stat()
    except OSError:
        return []
    return [status.st_size, status.st_mtime_ns]


class _ShardWriter:
    """Writes crops as they come, and the tables at the end."""

    def __init__(self, folder: Path, job: Job, stats: Stats) -> None:
        self._folder, self._job, self._stats = folder, job, stats
        self._tracker, self._cuts = Tracker(), CutFinder()
        self._rows: list[dict[str, Any]] = []
        self._negative_rows: list[dict[str, Any]] = []
        self._last: tuple[float, Faces] | None = None  # the last faces seen, and when
        self._key = int.from_bytes(hashlib.sha256(job.video.encode()).digest()[:8], "big")
        (folder / "crops").mkdir()
        (folder / "negatives").mkdir()

    def add(self, frame: Frame, candidates: Faces) -> None:
        """Takes in one frame and all that the detector saw on it, down to the floor."""
        is_face = candidates.scores > self._job.settings.detector.thresholds[2]
        faces, others = candidates.take(is_face), candidates.take(~is_face)
        if self._cuts.update(frame.image):
            self._stats.cuts += 1
            self._tracker.forget()
        tracks = self._tracker.update(frame.time_s, faces.boxes)
        for number in range(len(faces)):
            self._add_face(frame, faces, number, int(tracks[number]))
        self._add_negatives(frame, faces, others)
        if len(faces):
            self._last = frame.time_s, faces
        self._stats.with_faces += len(faces) > 0
        self._stats.without_faces += len(faces) == 0
        self._stats.faces += len(faces)

    def _add_face(self, frame: Frame, faces: Faces, number: int, track: int) -> None:
        landmarks = faces.landmarks[number]
        name = f"{frame.index:07d}_{number:02d}"
        crop = self._cut(frame, landmarks)
        _write_jpeg(self._folder / "crops" / f"{name}.jpg", crop)
        self._rows.append(
            {
                "face_id": f"{self._job.shard.name}/{name}",
                "video": self._job.video,
                "frame": frame.index,
                "time_s": frame.time_s,
                "box": faces.boxes[number],
                "landmarks": landmarks.ravel(),
                "detector_score": faces.scores[number],
                "verifier_score": np.nan,
                "sharpness": quality.sharpness(crop),
                "brightness": quality.brightness(crop),
                "yaw": quality.yaw(landmarks),
                "phash": np.uint64(quality.perceptual_hash(crop)),
                "track": track,
                "status": manifest.KEPT,
                "reason": "",
                "crop": f"crops/{name}.jpg",
            }
        )

    def _add_negatives(self, frame: Frame, faces: Faces, others: Faces) -> None:
        near = self._remembered(frame.time_s)
        people = np.concatenate([faces.boxes, near.boxes if near else faces.boxes[:0]])
        for number in range(len(others)):
            if not touches(others.boxes[number], people):
                score = float(others.scores[number])
                self._add_negative(frame, others.landmarks[number], manifest.HARD, score)
        rng = np.random.default_rng([self._job.settings.seed, self._key, frame.index])
        taken = np.concatenate([people, others.boxes])
        size = frame.image.shape[:2]
        for _ in range(self._job.settings.negatives):
            model = faces if len(faces) else self._last[1] if self._last else None
            landmarks = background_landmarks(
                rng,
                model.landmarks[0] if model else typical_landmarks(rng, size),
                taken,
                size,
                self._job.settings.margin,
            )
            if landmarks is not None:
                self._add_negative(frame, landmarks, manifest.BACKGROUND, np.nan)

    def _remembered(self, time_s: float) -> Faces | None:
        recent = self._last is not None and time_s - self._last[0] <= _REMEMBERED_S
        return self._last[1] if self._last and recent else None

    def _add_negative(
        self, frame: Frame, landmarks: Float[np.ndarray, "5 2"], kind: str, score: float
    ) -> None:
        name = f"{frame.index:07d}_{len(self._negative_rows):06d}.jpg"
        _write_jpeg(self._folder / "negatives" / name, self._cut(frame, landmarks))
        self._negative_rows.append(
            {
                "crop": f"negatives/{name}",
                "video": self._job.video,
                "frame": frame.index,
                "kind": kind,
                "detector_score": score,
            }
        )
        self._stats.negatives += 1

    def _cut(self, frame: Frame, landmarks: Float[np.ndarray, "5 2"]) -> np.ndarray:
        return align(frame.image, landmarks, self._job.settings.size, self._job.settings.margin)

    def close(self) -> None:
        """Writes the tables."""
        faces = _table(self._rows, manifest.SCHEMA)
        if len(faces):
            faces["reason"] = selection.reasons(faces, self._job.settings.limits)
            faces["status"] = np.where(faces["reason"] == "", manifest.KEPT, manifest.REMOVED)
        self._stats.kept = int((faces["status"] == manifest.KEPT).sum())
        manifest.write_manifest(self._folder / "manifest.parquet", faces)
        negatives = _table(self._negative_rows, manifest.NEGATIVES_SCHEMA)
        manifest.write_negatives(self._folder / "negatives.parquet", negatives)


def _table(rows: list[dict[str, Any]], schema: Any) -> pd.DataFrame:
    return pd.DataFrame(rows) if rows else manifest.empty(schema)


def _write_jpeg(path: Path, image: UInt8[np.ndarray, "h w 3"]) -> None:
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    path.write_bytes(data.tobytes())


def merge(
    shards: list[Path],
    read: Callable[[Path], pd.DataFrame],
    root: Path,
    schema: Any,
) -> pd.DataFrame:
    """The tables of all shards that there are as one, its crops relative to `root`."""
    shards = [shard for shard in shards if shard.is_dir()]
    tables = [read(shard) for shard in shards]
    for table, shard in zip(tables, shards, strict=True):
        table["crop"] = f"{shard.relative_to(root).as_posix()}/" + table["crop"]
    tables = [table for table in tables if len(table)]
    return pd.concat(tables, ignore_index=True) if tables else manifest.empty(schema)
