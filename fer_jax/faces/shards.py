"""Extraction of a video into a shard: a folder with the crops, rows and counts of the video.

    manifest.parquet, crops/<frame>_<face>.jpg        the faces
    negatives.parquet, negatives/<frame>_<n>.jpg      crops without a face
    stats.json                                        counts, and what is wrong with the video

A shard is written atomically, and depends only on the video and the config.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from jaxtyping import Float, UInt8

from fer_jax.data import manifest
from fer_jax.errors import UserError
from fer_jax.faces import quality, selection
from fer_jax.faces.alignment import align
from fer_jax.faces.mtcnn import Detector, Faces
from fer_jax.faces.negatives import background_landmarks, touches, typical_landmarks
from fer_jax.faces.shots import CutFinder
from fer_jax.faces.tracks import Tracker
from fer_jax.faces.video import Frame, SampleCounts, VideoError, sample_frames
from fer_jax.schemas import Extract
from fer_jax.workdir import atomic_folder, read_json, write_json

_JPEG_QUALITY = 95
# A face that was detected less than this time ago may still be there, undetected.
_REMEMBERED_S = 2.0


@dataclass(frozen=True)
class Job:
    """A video to extract.

    Attributes:
        path: the file.
        video: the id of the video, from `video_id`.
        shard: the folder to write.
        config: the settings of the extraction.
    """

    path: Path
    video: str
    shard: Path
    config: Extract


@dataclass(kw_only=True)
class Stats(SampleCounts):
    """The counts of one video.

    Attributes:
        video: the id of the video.
        source: size in bytes and modification time in nanoseconds of the file; [] if unreadable.
        frames: samples, including those that could not be decoded (`failed`).
        with_faces, without_faces: decoded samples with and without a face.
        faces: detected faces.
        kept: faces that were not removed.
        negatives: crops without a face.
        cuts: scene cuts that were detected.
        error: the reason of a `VideoError`, or "broken" after an unexpected error (see `extract`);
            "" if nothing is wrong.
        detail: the explanation of the error; "" if nothing is wrong.
    """

    video: str
    source: list[int]
    frames: int = 0
    with_faces: int = 0
    without_faces: int = 0
    faces: int = 0
    kept: int = 0
    negatives: int = 0
    cuts: int = 0
    error: str = ""
    detail: str = ""

    @property
    def kept_frames(self) -> int:
        """The number of sampled frames that could be decoded."""
        return self.with_faces + self.without_faces


def video_id(path: Path, root: Path) -> str:
    """The path of a video relative to `root`, with "/"; its file name if `path` is `root`."""
    relative = path.relative_to(root).as_posix() if path != root else path.name
    # Linux allows names that are not UTF-8, but tables do not.
    return os.fsencode(relative).decode("utf-8", "backslashreplace")


def shard_name(video: str) -> str:
    """A short ASCII folder name, which a digest makes unique for the video id."""
    stem = Path(video).stem.encode("ascii", "ignore").decode()
    readable = "".join(c if c.isalnum() or c in "-_" else "_" for c in stem)[:40]
    return f"{readable}-{hashlib.sha256(video.encode()).hexdigest()[:12]}"


def finished(job: Job) -> Stats | None:
    """The counts in a job's shard; None if there is no shard, or the video has changed since."""
    if not (job.shard / "stats.json").exists():
        return None
    stats = Stats(**read_json(job.shard / "stats.json"))
    return stats if stats.source == _source(job.path) else None


def extract(job: Job, progress: Callable[[int], None] = lambda frames: None) -> Stats:
    """Extracts one video into its shard, and returns its counts.

    A file that is damaged, unreadable or not a video does not raise an error: the frames that can
    be decoded are kept, and the counts say what is wrong. Any other failure leaves no shard, so
    that the next run tries the video again: an `OSError` or a `UserError` is raised, and any other
    exception is returned as counts with the error "broken".

    Args:
        job: the video and the config.
        progress: called with the number of frames in each processed batch.

    Raises:
        OSError: the shard cannot be read or written.
        UserError: the package `mtcnn` is missing, or the shard has files that no stage wrote.
    """
    try:
        return _extract(job, progress)
    except _FinishedElsewhereError as other:
        return other.stats
    except (OSError, UserError):  # not the fault of this video, such as a missing package
        # If another worker has finished this video, the shard written here cannot be renamed, or
        # was deleted.
        if (stats := finished(job)) is None:
            raise
        return stats
    except Exception as error:
        detail = f"{type(error).__name__}: {error}".replace("\n", " ")[:200]
        return Stats(video=job.video, source=_source(job.path), error="broken", detail=detail)


def _extract(job: Job, progress: Callable[[int], None]) -> Stats:
    stats = Stats(video=job.video, source=_source(job.path))
    config, detector = job.config, Detector(**job.config.detector.model_dump())
    with atomic_folder(job.shard) as folder:
        writer = _ShardWriter(folder, job, stats)
        samples = _samples(job, stats)

        def write(frames: list[Frame], found: list[Faces]) -> None:
            for frame, candidates in zip(frames, found, strict=True):
                writer.add(frame, candidates)
            progress(len(frames))

        # A thread cuts out the faces of a batch while those of the next one are found.
        with ThreadPoolExecutor(1, "write") as thread:
            writing: Future[None] | None = None
            while frames := list(itertools.islice(samples, config.batch)):
                images = [frame.image for frame in frames]
                found = detector.detect(images, floor=config.negatives.floor)
                if writing is not None:
                    writing.result()
                writing = thread.submit(write, frames, found)
            if writing is not None:
                writing.result()
        stats.frames += stats.failed
        if stats.frames != stats.kept_frames + stats.failed:
            raise RuntimeError(f"the frame counts of {job.video} do not add up ({stats})")
        writer.close()
        write_json(folder / "stats.json", asdict(stats))
        if (others := finished(job)) is not None:
            raise _FinishedElsewhereError(others)
    return stats


def _samples(job: Job, stats: Stats) -> Iterator[Frame]:
    """Yields and counts the sampled frames; a `VideoError` is recorded and ends the iteration."""
    try:
        for frame in sample_frames(job.path, job.config.every_s, stats):
            stats.frames += 1
            yield frame
    except VideoError as error:
        stats.error, stats.detail = error.reason, error.detail


def _source(path: Path) -> list[int]:
    """Size and modification time of a file, to notice its replacement; [] if it is unreadable."""
    try:
        status = path.stat()
    except OSError:
        return []
    return [status.st_size, status.st_mtime_ns]


class _FinishedElsewhereError(Exception):
    """Another worker, for example one that was considered dead, has finished the video meanwhile.

    Its shard is kept, since the stage may already be reading it.
    """

    def __init__(self, stats: Stats) -> None:
        self.stats = stats


class _ShardWriter:
    """Writes crops frame by frame and, at the end, the tables."""

    def __init__(self, folder: Path, job: Job, stats: Stats) -> None:
        self._folder, self._job, self._stats = folder, job, stats
        self._tracker, self._cuts = Tracker(), CutFinder()
        self._faces: list[dict[str, Any]] = []
        self._negatives: list[dict[str, Any]] = []
        self._last: tuple[float, Faces] | None = None  # time and faces of the last detection
        self._key = int.from_bytes(hashlib.sha256(job.video.encode()).digest()[:8], "big")
        (folder / "crops").mkdir()
        (folder / "negatives").mkdir()

    def add(self, frame: Frame, candidates: Faces) -> None:
        """Adds a frame with its faces and the candidates that the detector rejected.

        `candidates` contains both, with scores above O-Net's threshold or `negatives.floor`,
        whichever is lower.
        """
        is_face = candidates.scores > self._job.config.detector.thresholds[2]
        faces = candidates.take(is_face)
        if self._cuts.update(frame.image):
            self._stats.cuts += 1
            self._tracker.forget()
        for number, track in enumerate(self._tracker.update(frame.time_s, faces.boxes)):
            self._add_face(frame, faces, number, int(track))
        self._add_negatives(frame, faces, candidates.take(~is_face))
        if len(faces):
            self._last = frame.time_s, faces
        self._stats.with_faces += len(faces) > 0
        self._stats.without_faces += len(faces) == 0
        self._stats.faces += len(faces)

    def close(self) -> None:
        """Selects the faces to keep, writes the tables, and completes the counts."""
        faces = pd.DataFrame(self._faces, columns=manifest.SCHEMA.names)
        if len(faces):
            faces["reason"] = selection.reasons(faces, self._job.config.limits)
            faces["status"] = np.where(faces["reason"] == "", manifest.KEPT, manifest.REMOVED)
        self._stats.kept = int((faces["status"] == manifest.KEPT).sum())
        self._stats.negatives = len(self._negatives)
        manifest.write_manifest(self._folder / "manifest.parquet", faces)
        negatives = pd.DataFrame(self._negatives, columns=manifest.NEGATIVES_SCHEMA.names)
        manifest.write_negatives(self._folder / "negatives.parquet", negatives)

    def _add_face(self, frame: Frame, faces: Faces, number: int, track: int) -> None:
        landmarks = faces.landmarks[number]
        name = f"{frame.index:07d}_{number:02d}"
        crop = self._write_crop(f"crops/{name}.jpg", frame, landmarks)
        self._faces.append(
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

    def _add_negatives(self, frame: Frame, faces: Faces, rejected: Faces) -> None:
        """Adds rejected candidates that overlap no face, and random regions.

        The regions overlap neither faces nor rejected candidates. The faces are those of this frame
        and of the last frame with a face, if that is recent.
        """
        config, people = self._job.config, faces.boxes
        if self._last and frame.time_s - self._last[0] <= _REMEMBERED_S:
            people = np.concatenate([people, self._last[1].boxes])
        for box, landmarks, score in zip(
            rejected.boxes, rejected.landmarks, rejected.scores, strict=True
        ):
            if not touches(box, people):
                self._add_negative(frame, landmarks, manifest.HARD, float(score))
        rng = np.random.default_rng([config.seed, self._key, frame.index])
        taken = np.concatenate([people, rejected.boxes])
        size = frame.image.shape[:2]
        like = faces if len(faces) else self._last[1] if self._last else None
        for _ in range(config.negatives.per_frame):
            shape = like.landmarks[0] if like else typical_landmarks(rng, size)
            place = background_landmarks(rng, shape, taken, size, config.crop.margin)
            if place is not None:
                self._add_negative(frame, place, manifest.BACKGROUND, np.nan)

    def _add_negative(
        self, frame: Frame, landmarks: Float[np.ndarray, "5 2"], kind: str, score: float
    ) -> None:
        name = f"negatives/{frame.index:07d}_{len(self._negatives):06d}.jpg"
        self._write_crop(name, frame, landmarks)
        row = {"crop": name, "video": self._job.video, "frame": frame.index, "kind": kind}
        self._negatives.append(row | {"detector_score": score})

    def _write_crop(
        self, name: str, frame: Frame, landmarks: Float[np.ndarray, "5 2"]
    ) -> UInt8[np.ndarray, "s s 3"]:
        crop = align(
            frame.image, landmarks, self._job.config.crop.size, self._job.config.crop.margin
        )
        bgr = cv2.cvtColor(crop, cv2.COLOR_RGB2BGR)
        _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
        (self._folder / name).write_bytes(data.tobytes())
        return crop


def merge(shards: list[Path], workdir: Path) -> pd.DataFrame:
    """Writes the concatenated tables of the shards to `workdir`, with crop paths relative to it.

    Shards that do not exist are left out.

    Returns:
        The rows of all faces.
    """
    shards = [shard for shard in shards if shard.is_dir()]

    def joined(read: Callable[[Path], pd.DataFrame], name: str, schema: Any) -> pd.DataFrame:
        tables = [schema.empty_table().to_pandas()]
        for shard in shards:
            table = read(shard / name)
            table["crop"] = f"{shard.relative_to(workdir).as_posix()}/" + table["crop"]
            tables.append(table)
        return pd.concat([table for table in tables if len(table)] or tables, ignore_index=True)

    faces = joined(manifest.read_manifest, "manifest.parquet", manifest.SCHEMA)
    manifest.write_manifest(workdir / "manifest.parquet", faces)
    negatives = joined(manifest.read_negatives, "negatives.parquet", manifest.NEGATIVES_SCHEMA)
    manifest.write_negatives(workdir / "negatives.parquet", negatives)
    return faces
