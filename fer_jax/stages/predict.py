"""predict: the emotions of the faces in an image, a folder or a video."""

from __future__ import annotations

import contextlib
import csv
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from ml_collections import ConfigDict
from tqdm import tqdm

from fer_jax import console
from fer_jax.errors import UserError
from fer_jax.faces import drawing
from fer_jax.faces.alignment import align
from fer_jax.faces.images import SUFFIXES as IMAGE_SUFFIXES
from fer_jax.faces.images import ImageError, read_image
from fer_jax.faces.mtcnn import Detector, Faces
from fer_jax.faces.video import SUFFIXES as VIDEO_SUFFIXES
from fer_jax.faces.video import Frame, VideoError, VideoWriter, sample_frames
from fer_jax.training import model_directory
from fer_jax.workdir import atomic_file, stage

_OVERVIEW = 4  # annotated pictures in overview.jpg
_SKIPPED_TOLD = 10
_PIXELS_AT_ONCE = 16_000_000  # in the frames of one batch: bounds memory on large photographs


class Source(NamedTuple):
    """A file to look at: its path relative to the input folder, and where it lies."""

    name: str
    path: Path


class Analysis(NamedTuple):
    """The faces of one frame and the probability [n, classes] of each emotion."""

    faces: Faces
    probabilities: Float[np.ndarray, "n classes"]


Analyser = Callable[[Sequence[UInt8[np.ndarray, "_ _ 3"]]], list[Analysis]]


@stage(inputs=lambda config: [config.model, config.input])
def run(config: ConfigDict, workdir: Path) -> dict[str, Any]:
    """Finds faces, aligns them as the model was taught, and writes what it says of each.

    Raises:
        UserError: no model, a model without the task `emotion`, or nothing readable as input.
    """
    images, videos, others = list_sources(config.input)
    analyse, labels = _load_analyser(config.model, config.max_side)
    annotated = workdir / "annotated" if config.annotate else None
    started = time.perf_counter()

    with (
        atomic_file(workdir / "predictions.csv") as table,
        _open_table(table) as file,
        tqdm(total=len(images) + len(videos), desc="predict", unit="file", disable=None) as bar,
    ):
        report = Report(file, labels)
        for source in others:
            report.skip(source, "neither an image nor a video by its suffix")
        for batch in _batches(_pictures(images, report, bar), config.batch):
            _predict_images(batch, analyse, report, annotated)
        for source in videos:
            _predict_video(source, analyse, report, annotated, config)
            bar.update()
        if not report.frames:
            name, reason = report.skipped[-1]
            raise UserError(f"predict: nothing can be read in {config.input}; {name}: {reason}")

    if report.overview:
        drawing.write_image(workdir / "overview.jpg", drawing.row(report.overview, height=360))
    with atomic_file(workdir / "skipped.csv") as table, _open_table(table) as file:
        csv.writer(file).writerows([("source", "reason"), *report.skipped])
    for name, reason in report.skipped[:_SKIPPED_TOLD]:
        console.say(f"[predict] skipped {name}: {reason}")
    if len(report.skipped) > _SKIPPED_TOLD:
        console.say(f"[predict] and {len(report.skipped) - _SKIPPED_TOLD} more, see skipped.csv")
    seconds = time.perf_counter() - started
    return {
        "sources": len(images) + len(videos) + len(others),
        "frames": report.frames,
        "faces": report.faces,
        "without_face": report.without_face,
        "skipped": len(report.skipped),
        "frames_per_s": round(report.frames / seconds, 2),
    }


@dataclass
class Report:
    """Writes predictions.csv row by row and counts what went by.

    `frames` counts pictures and video frames, `without_face` those in which no face was found,
    `skipped` names what could not be read, with the reason, and `overview` holds the first
    annotated pictures.
    """

    file: TextIO
    labels: Sequence[str]
    frames: int = 0
    faces: int = 0
    without_face: int = 0
    skipped: list[tuple[str, str]] = field(default_factory=list)
    overview: list[np.ndarray] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._writer = csv.writer(self.file)
        box = ("x0", "y0", "x1", "y1")
        probabilities = (f"prob_{label}" for label in self.labels)
        head = ("source", "frame", "time_s", *box, "detector_score", "emotion", *probabilities)
        self._width = len(head)
        self._writer.writerow(head)

    def add(self, source: Source, frame: Frame, analysis: Analysis) -> None:
        """One row a face; one with an empty box where there is none."""
        place = [source.name, frame.index, f"{frame.time_s:.3f}"]
        faces, probabilities = analysis
        for box, score, row in zip(faces.boxes, faces.scores, probabilities, strict=True):
            numbers = [f"{value:.2f}" for value in box] + [f"{score:.4f}"]
            emotion = self.labels[int(row.argmax())]
            self._writer.writerow([*place, *numbers, emotion, *(f"{value:.4f}" for value in row)])
        if not len(faces.scores):
            self._writer.writerow(place + [""] * (self._width - len(place)))
            self.without_face += 1
        self.frames += 1
        self.faces += len(faces.scores)

    def skip(self, source: Source, reason: str) -> None:
        """Notes a source that could not be read, or not to its end."""
        self.skipped.append((source.name, reason))


def list_sources(path: str) -> tuple[list[Source], list[Source], list[Source]]:
    """The images, the videos and the other files at `path`, sorted by name.

    A folder is searched to its depth; hidden files are left out. A single file may have any
    suffix: what is no image by its suffix is tried as a video.

    Raises:
        UserError: no image and no video is there.
    """
    if not path:
        raise UserError("predict: give an image, a video or a folder by --config.input=PATH")
    root = Path(path).absolute()
    if root.is_file():
        single = [Source(root.name, root)]
        return (single, [], []) if root.suffix.lower() in IMAGE_SUFFIXES else ([], single, [])
    if not root.is_dir():
        raise UserError(f"predict: there is no {root}; --config.input names a file or a folder")
    images: list[Source] = []
    videos: list[Source] = []
    others: list[Source] = []
    for file in sorted(root.rglob("*")):
        relative = file.relative_to(root)
        if any(part.startswith(".") for part in relative.parts) or not file.is_file():
            continue
        suffix = file.suffix.lower()
        in_videos = videos if suffix in VIDEO_SUFFIXES else others
        group = images if suffix in IMAGE_SUFFIXES else in_videos
        group.append(Source(relative.as_posix(), file))
    if not images and not videos:
        raise UserError(f"predict: there is no image or video in {root}")
    return images, videos, others


def frame_rate(frames: Sequence[Frame], every_s: float) -> float:
    """Frames per second at which sampled frames play as fast as they were filmed.

    A video of few frames a second yields fewer than one each `every_s` seconds, hence the times.
    """
    span = frames[-1].time_s - frames[0].time_s
    if span > 0:
        return round((len(frames) - 1) / span, 3)
    return 1 / every_s if every_s > 0 else 1.0


def annotated_path(folder: Path, source: Source, suffixes: Sequence[str]) -> Path:
    """Where a source's annotated copy goes; keeps its suffix if it is one of `suffixes`."""
    name = source.name
    return folder / (name if Path(name).suffix.lower() in suffixes else name + suffixes[0])


def shrunk(image: UInt8[np.ndarray, "_ _ 3"], max_side: int) -> UInt8[np.ndarray, "_ _ 3"]:
    """The picture with at most `max_side` pixels on its longer side."""
    height, width = image.shape[:2]
    scale = max_side / max(height, width)
    if scale >= 1:
        return image
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def enlarged(faces: Faces, seen: tuple[int, ...], shape: tuple[int, ...]) -> Faces:
    """Faces found in a picture of the shape `seen`, in pixels of one of `shape` (height, width)."""
    scale = np.array([shape[1] / seen[1], shape[0] / seen[0]], np.float32)
    # Boxes are edges, landmarks are points, and pixel centres lie at whole numbers.
    landmarks = (faces.landmarks + np.float32(0.5)) * scale - np.float32(0.5)
    return Faces(faces.boxes * np.tile(scale, 2), faces.scores, landmarks)


def _load_analyser(folder: str, max_side: int) -> tuple[Analyser, tuple[str, ...]]:
    """A function from pictures to their faces and emotions, and the emotions' names."""
    if not folder:
        raise UserError("predict: give a model directory or a training workdir by --config.model")
    model = model_directory.load(folder)
    if "emotion" not in model.spec["labels"]:
        tasks = ", ".join(model.spec["labels"]) or "nothing with labels"
        raise UserError(f"predict: the model in {folder} was taught {tasks}, not emotion")
    if not {"detector", "crop"} <= model.spec.keys():
        raise UserError(
            f"predict: the model in {folder} does not say how its faces were found and cut; "
            f"train it on a workdir of `extract` or `photographs`"
        )
    labels = tuple(model.spec["labels"]["emotion"])
    settings, crop = model.spec["detector"], model.spec["crop"]
    detector = Detector(**(settings | {"thresholds": tuple(settings["thresholds"])}))

    def analyse(images: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> list[Analysis]:
        views = [shrunk(image, max_side) for image in images]
        found = [
            enlarged(faces, view.shape[:2], image.shape[:2]) if view is not image else faces
            for faces, view, image in zip(detector.detect(views), views, images, strict=True)
        ]
        crops = [
            align(image, landmarks, crop["size"], crop["margin"])
            for image, faces in zip(images, found, strict=True)
            for landmarks in faces.landmarks
        ]
        probabilities = np.zeros((0, len(labels)), np.float32)
        if crops:
            probabilities = np.asarray(model.probabilities("emotion", np.stack(crops)))
        ends = np.cumsum([len(faces.scores) for faces in found])
        rows = np.split(probabilities, ends[:-1])
        return [Analysis(faces, part) for faces, part in zip(found, rows, strict=True)]

    return analyse, labels


def _open_table(path: Path) -> TextIO:
    """Opens a CSV file for writing; file names that are no UTF-8 are written with escapes."""
    return path.open("w", newline="", encoding="utf-8", errors="backslashreplace")


def _pictures(
    images: Iterable[Source], report: Report, bar: tqdm
) -> Iterator[tuple[Source, Frame]]:
    """Reads pictures one by one; those that cannot be read are noted."""
    for source in images:
        try:
            yield source, Frame(0, 0.0, read_image(source.path))
        except ImageError as error:
            report.skip(source, str(error))
        bar.update()


def _frames(source: Source, report: Report, every_s: float) -> Iterator[tuple[Source, Frame]]:
    """Samples a video; where it breaks, that is noted and what came before counts."""
    try:
        for frame in sample_frames(source.path, every_s):
            yield source, frame
    except VideoError as error:
        report.skip(source, f"{error.reason}: {error.detail}")


def _predict_images(
    batch: Sequence[tuple[Source, Frame]],
    analyse: Analyser,
    report: Report,
    annotated: Path | None,
) -> None:
    for (source, frame), analysis in _analysed(batch, analyse):
        report.add(source, frame, analysis)
        if annotated:
            path = annotated_path(annotated, source, (".png", ".jpg", ".jpeg"))
            picture = _draw(frame, analysis, report.labels)
            drawing.write_image(path, picture)
            if len(report.overview) < _OVERVIEW:
                report.overview.append(picture)


def _predict_video(
    source: Source,
    analyse: Analyser,
    report: Report,
    annotated: Path | None,
    config: ConfigDict,
) -> None:
    with contextlib.ExitStack() as stack:
        writer: VideoWriter | None = None
        size = (0, 0)
        for batch in _batches(_frames(source, report, config.every_s), config.batch):
            for (_, frame), analysis in _analysed(batch, analyse):
                report.add(source, frame, analysis)
                if annotated is None:
                    continue
                picture = _draw(frame, analysis, report.labels)
                if writer is None:
                    size = picture.shape[:2]
                    rate = frame_rate([frame for _, frame in batch], config.every_s)
                    path = annotated_path(annotated, source, (".mp4",))
                    writer = stack.enter_context(VideoWriter(path, rate, size))
                if picture.shape[:2] != size:  # some streams change their size half-way
                    picture = cv2.resize(picture, size[::-1], interpolation=cv2.INTER_AREA)
                writer.write(picture)


def _analysed(
    batch: Sequence[tuple[Source, Frame]], analyse: Analyser
) -> Iterator[tuple[tuple[Source, Frame], Analysis]]:
    return zip(batch, analyse([frame.image for _, frame in batch]), strict=True)


def _draw(frame: Frame, analysis: Analysis, labels: Sequence[str]) -> UInt8[np.ndarray, "h w 3"]:
    return drawing.annotate(frame.image, analysis.faces.boxes, analysis.probabilities, labels)


def _batches(
    items: Iterable[tuple[Source, Frame]], count: int
) -> Iterator[list[tuple[Source, Frame]]]:
    """Lists of up to `count` frames, fewer where they are large."""
    batch: list[tuple[Source, Frame]] = []
    pixels = 0
    for item in items:
        batch.append(item)
        pixels += item[1].image.shape[0] * item[1].image.shape[1]
        if len(batch) == count or pixels >= _PIXELS_AT_ONCE:
            yield batch
            batch, pixels = [], 0
    if batch:
        yield batch
