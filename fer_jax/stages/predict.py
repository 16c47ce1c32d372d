"""predict: the emotions of the faces in an image, a folder or a video."""

from __future__ import annotations

import csv
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, TextIO

import cv2
import numpy as np
from jaxtyping import UInt8
from tqdm import tqdm

from fer_jax import console, schemas
from fer_jax.data import names
from fer_jax.errors import UserError
from fer_jax.faces import drawing
from fer_jax.faces.images import SUFFIXES as IMAGE_SUFFIXES
from fer_jax.faces.images import advice, read_image
from fer_jax.faces.skips import Skips
from fer_jax.faces.video import SUFFIXES as VIDEO_SUFFIXES
from fer_jax.faces.video import Frame, VideoWriter, sample_frames
from fer_jax.recogniser import Analysis, Recogniser
from fer_jax.spreadsheets import safe_cell
from fer_jax.training import trained_model
from fer_jax.workdir import atomic_file, stage

_OVERVIEW = 4  # annotated pictures in overview.jpg
_LONGEST_NAME = 180  # bytes; the temporary file beside it has a longer one, and disks take 255
_NOT_ANNOTATED = "analysed, but no annotated copy could be written"
_PIXELS_AT_ONCE = 16_000_000  # in the frames of one batch: bounds memory on large photographs


class Source(NamedTuple):
    """A file to look at: its path relative to the input folder, and where it lies."""

    name: str
    path: Path


Analyser = Callable[[Sequence[UInt8[np.ndarray, "_ _ 3"]]], list[Analysis]]


@stage(inputs=lambda config: [config.model, config.input])
def run(config: schemas.Predict, workdir: Path) -> dict[str, Any]:
    """Finds and aligns faces as those were that the model was measured on, and classifies them.

    Each source fails alone: it is counted and named in skipped.csv, and the others go on.

    Raises:
        UserError: no model, a model without the task `emotion`, or no readable input.
    """
    images, videos, others = list_sources(config.input)
    recogniser = _load_recogniser(config.model, config.max_side)
    annotated = name_outputs(images, videos, workdir / "annotated") if config.annotate else None
    skips = Skips()
    started = time.perf_counter()

    with (
        atomic_file(workdir / "predictions.csv") as table,
        _open_table(table) as file,
        tqdm(total=len(images) + len(videos), desc="predict", unit="file", disable=None) as bar,
    ):
        report = Report(file, recogniser.labels, skips)
        for source in others:
            reason = advice(source.path) or "neither an image nor a video by its suffix"
            skips.add(source.name, reason)
        for batch in _batches(_pictures(images, skips, bar), config.batch):
            _predict_images(batch, recogniser, report, annotated)
        for source in videos:
            _predict_video(source, recogniser, report, annotated, config)
            bar.update()
        if not report.frames:
            name, reason = skips.rows[-1]
            raise UserError(f"predict: nothing can be read in {config.input}; {name}: {reason}")

    if report.overview:
        drawing.write_image(workdir / "overview.jpg", drawing.row(report.overview, height=360))
    skips.write(workdir / "skipped.csv")
    skips.tell("predict")
    seconds = time.perf_counter() - started
    return {
        "sources": len(images) + len(videos) + len(others),
        "frames": report.frames,
        "faces": report.faces,
        "without_face": report.without_face,
        "skipped": len(skips),
        "frames_per_s": round(report.frames / seconds, 2),
    }


@dataclass
class Report:
    """Writes predictions.csv row by row and counts.

    `frames` counts pictures and video frames, `without_face` those in which no face was found;
    `overview` holds the first annotated pictures.
    """

    file: TextIO
    labels: Sequence[str]
    skips: Skips
    frames: int = 0
    faces: int = 0
    without_face: int = 0
    overview: list[np.ndarray] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._writer = csv.writer(self.file)
        box = ("x0", "y0", "x1", "y1")
        probabilities = (f"prob_{label}" for label in self.labels)
        head = ("source", "frame", "time_s", *box, "detector_score", "emotion", *probabilities)
        self._width = len(head)
        self._writer.writerow(head)

    def add(self, source: Source, frame: Frame, analysis: Analysis) -> None:
        """One row for each face; one with an empty box if there is none."""
        place = [safe_cell(source.name), frame.index, f"{frame.time_s:.3f}"]
        faces, probabilities = analysis
        for box, score, row in zip(faces.boxes, faces.scores, probabilities, strict=True):
            numbers = [f"{value:.2f}" for value in box] + [f"{score:.4f}"]
            emotion = safe_cell(self.labels[int(row.argmax())])
            self._writer.writerow([*place, *numbers, emotion, *(f"{value:.6f}" for value in row)])
        if not len(faces.scores):
            self._writer.writerow(place + [""] * (self._width - len(place)))
            self.without_face += 1
        self.frames += 1
        self.faces += len(faces.scores)


def list_sources(path: str) -> tuple[list[Source], list[Source], list[Source]]:
    """The images, the videos and the other files at `path`, sorted by name.

    A folder is searched to its depth; hidden files are left out. A single file may have any
    suffix: what is not an image by its suffix is tried as a video.

    Raises:
        UserError: no image and no video is there.
    """
    if not path:
        raise UserError("predict: give an image, a video or a folder by --config.input=PATH")
    root = Path(path).absolute()
    if root.exists() and not root.is_dir():
        single = [Source(root.name, root)]
        return (single, [], []) if root.suffix.lower() in IMAGE_SUFFIXES else ([], single, [])
    if not root.is_dir():
        raise UserError(f"predict: there is no {root}; --config.input names a file or a folder")
    images: list[Source] = []
    videos: list[Source] = []
    others: list[Source] = []
    for file in sorted(root.rglob("*")):
        relative = file.relative_to(root)
        if any(part.startswith(".") for part in relative.parts) or file.is_dir():
            continue
        suffix = file.suffix.lower()
        in_videos = videos if suffix in VIDEO_SUFFIXES else others
        group = images if suffix in IMAGE_SUFFIXES else in_videos
        group.append(Source(relative.as_posix(), file))
    if not images and not videos:
        told = sorted({advice(source.path) for source in others} - {""})
        raise UserError("; ".join([f"predict: there is no image or video in {root}", *told]))
    return images, videos, others


def frame_rate(frames: Sequence[Frame], every_s: float) -> float:
    """Frames per second at which sampled frames play as fast as they were filmed.

    A video of few frames a second yields fewer than one each `every_s` seconds, hence the times.
    """
    span = frames[-1].time_s - frames[0].time_s
    if span > 0:
        return round((len(frames) - 1) / span, 3)
    return 1 / every_s if every_s > 0 else 1.0


def name_outputs(
    images: Sequence[Source], videos: Sequence[Source], folder: Path
) -> dict[str, Path]:
    """Where the annotated copy of each source goes, by the source's name; no two go to one place.

    A copy is called as its source, with ".png" or ".mp4" added to a suffix that cannot be written.
    Names that would be too long, or those of two copies, get a digest of the source's name.
    """
    wanted = {}
    for sources, suffixes in ((images, (".png", ".jpg", ".jpeg")), (videos, (".mp4",))):
        for source in sources:
            kept = Path(source.name).suffix.lower() in suffixes
            wanted[source.name] = source.name if kept else source.name + suffixes[0]
    # Names that stay as they are come first, and keep theirs.
    ordered = sorted(wanted, key=lambda name: (wanted[name] != name, name))
    folders = {str(parent).casefold() for name in wanted for parent in PurePosixPath(name).parents}
    taken, places = set(folders), {}
    for name in ordered:
        path = PurePosixPath(wanted[name])
        if str(path).casefold() in taken or len(os.fsencode(path.name)) > _LONGEST_NAME:
            digest = names.digest(name)
            room = _LONGEST_NAME - len(digest) - len(os.fsencode(path.suffix)) - 1
            stem = os.fsencode(path.stem)[:room].decode(errors="ignore")
            path = path.with_name(f"{stem}-{digest}{path.suffix}")
        taken.add(str(path).casefold())
        places[name] = folder / path
    return places


def _load_recogniser(folder: str, max_side: int) -> Recogniser:
    if not folder:
        raise UserError("predict: give a model directory or a training workdir by --config.model")
    recogniser = Recogniser(trained_model.load(folder), folder, max_side=max_side)
    if recogniser.faces.aligned:
        console.warn(
            f"predict: the model in {folder} was trained on faces that others had cut "
            "in a way that is not known; here they are cut to the usual template, and the model "
            "may do worse than measured"
        )
    return recogniser


def _open_table(path: Path) -> TextIO:
    """Opens a CSV file for writing; file names that are no UTF-8 are written with escapes."""
    return path.open("w", newline="", encoding="utf-8", errors="backslashreplace")


def _pictures(images: Iterable[Source], skips: Skips, bar: tqdm) -> Iterator[tuple[Source, Frame]]:
    """Reads pictures one by one."""
    for source in images:
        picture = None
        with skips.each(source.name):
            picture = read_image(source.path)
        bar.update()
        if picture is not None:
            yield source, Frame(0, 0.0, picture)


def _frames(source: Source, skips: Skips, every_s: float) -> Iterator[tuple[Source, Frame]]:
    """Samples a video; if it breaks, that is noted, and the frames before it count."""
    frames = iter(sample_frames(source.path, every_s))
    while True:
        frame = None
        with skips.each(source.name):
            frame = next(frames, None)
        if frame is None:
            return
        yield source, frame


def _predict_images(
    batch: Sequence[tuple[Source, Frame]],
    analyse: Analyser,
    report: Report,
    annotated: Mapping[str, Path] | None,
) -> None:
    for source, frame, analysis in _analysed(batch, analyse, report.skips):
        report.add(source, frame, analysis)
        if annotated is None:
            continue
        with report.skips.each(source.name, _NOT_ANNOTATED):
            picture = _draw(frame, analysis, report.labels)
            drawing.write_image(annotated[source.name], picture)
            if len(report.overview) < _OVERVIEW:
                report.overview.append(picture)


def _predict_video(
    source: Source,
    analyse: Analyser,
    report: Report,
    annotated: Mapping[str, Path] | None,
    config: schemas.Predict,
) -> None:
    pictures = _analysed_video(source, analyse, report, config)
    if annotated is not None:
        with report.skips.each(source.name, _NOT_ANNOTATED):
            _write_video(annotated[source.name], pictures, report.labels)
    for _ in pictures:  # the rows of frames that were not drawn
        pass


def _analysed_video(
    source: Source, analyse: Analyser, report: Report, config: schemas.Predict
) -> Iterator[tuple[Frame, Analysis, float]]:
    """Writes a row for each face; yields each frame, its faces, and frames per second."""
    for batch in _batches(_frames(source, report.skips, config.every_s), config.batch):
        rate = frame_rate([frame for _, frame in batch], config.every_s)
        for _, frame, analysis in _analysed(batch, analyse, report.skips):
            report.add(source, frame, analysis)
            yield frame, analysis, rate


def _write_video(
    path: Path, frames: Iterator[tuple[Frame, Analysis, float]], labels: Sequence[str]
) -> None:
    first = next(frames, None)
    if first is None:
        return
    frame, analysis, rate = first
    picture = _draw(frame, analysis, labels)
    size = picture.shape[:2]
    with VideoWriter(path, rate, size) as writer:
        writer.write(picture)
        for frame, analysis, _ in frames:
            picture = _draw(frame, analysis, labels)
            if picture.shape[:2] != size:  # some streams change their size half-way
                picture = cv2.resize(picture, size[::-1], interpolation=cv2.INTER_AREA)
            writer.write(picture)


def _analysed(
    batch: Sequence[tuple[Source, Frame]], analyse: Analyser, skips: Skips
) -> Iterator[tuple[Source, Frame, Analysis]]:
    """The faces of each frame; a frame that cannot be analysed does not take others with it."""
    if len(batch) == 1:
        ((source, frame),) = batch
        found: list[Analysis] = []
        with skips.each(source.name):
            found = analyse([frame.image])
        for analysis in found:
            yield source, frame, analysis
        return
    try:
        together = analyse([frame.image for _, frame in batch])
    except Exception as error:
        if isinstance(error, UserError):
            raise
        for item in batch:  # alone, which shows whose fault it was
            yield from _analysed([item], analyse, skips)
        return
    for (source, frame), analysis in zip(batch, together, strict=True):
        yield source, frame, analysis


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
