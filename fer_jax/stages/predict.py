"""predict: the emotions of the faces in an image, a folder or a video."""

from __future__ import annotations

import csv
import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, TextIO

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
from fer_jax.faces.video import Frame, sample_frames, write_video
from fer_jax.recogniser import Analysis, Recogniser
from fer_jax.spreadsheets import safe_cell
from fer_jax.training import trained_model
from fer_jax.workdir import atomic_file, stage

_OVERVIEW = 4  # annotated pictures in overview.jpg
_LONGEST_NAME = 180  # bytes; file systems allow 255, and the name of the temporary file is longer
_NOT_ANNOTATED = "analysed, but no annotated copy could be written"
_PIXELS_AT_ONCE = 16_000_000  # in the frames of one batch: bounds memory on large photographs


class MediaFile(NamedTuple):
    """An input file: its path relative to the input folder, and its absolute path."""

    name: str
    path: Path


Analyser = Callable[[Sequence[UInt8[np.ndarray, "_ _ 3"]]], list[Analysis]]
Shot = tuple[MediaFile, Frame]  # a photograph has one frame


@stage(inputs=lambda config: [config.model, config.input])
def run(config: schemas.Predict, workdir: Path) -> dict[str, Any]:
    """Finds, aligns and classifies faces as when the model was measured.

    A file that fails is counted and listed in skipped.csv; the others are not affected.

    Raises:
        UserError: no model, a model without the task `emotion`, or no readable input.
    """
    images, videos, others = list_media(config.input)
    recogniser = _load_recogniser(config.model, config.max_side)
    copies = name_outputs(images, videos, workdir / "annotated") if config.annotate else {}
    skips = Skips()
    overview: list[np.ndarray] = []
    started = time.perf_counter()

    def draw(frame: Frame, analysis: Analysis) -> UInt8[np.ndarray, "h w 3"]:
        boxes, probabilities = analysis.faces.boxes, analysis.probabilities
        return drawing.annotate(frame.image, boxes, probabilities, recogniser.labels)

    with (
        atomic_file(workdir / "predictions.csv") as path,
        # File names that are not UTF-8 are written with escapes.
        path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as table,
        tqdm(total=len(images) + len(videos), desc="predict", unit="file", disable=None) as bar,
    ):
        report = Report(table, recogniser.labels)
        for file in others:
            skips.add(file.name, advice(file.path) or "not an image or a video by its suffix")
        shots = _photographs(images, skips, bar)
        for file, frame, analysis in _analysed(shots, recogniser, config.batch, skips):
            report.add(file, frame, analysis)
            if config.annotate:
                with skips.each(file.name, _NOT_ANNOTATED):
                    picture = draw(frame, analysis)
                    drawing.write_image(copies[file.name], picture)
                    if len(overview) < _OVERVIEW:
                        overview.append(picture)
        for file in videos:
            shots = _samples(file, config.every_s, skips)
            analysed = report.adding(_analysed(shots, recogniser, config.batch, skips))
            if config.annotate:
                with skips.each(file.name, _NOT_ANNOTATED):
                    first = list(itertools.islice(analysed, config.batch))
                    rate = frame_rate([frame for frame, _ in first], config.every_s)
                    pictures = (draw(*one) for one in itertools.chain(first, analysed))
                    write_video(copies[file.name], rate, pictures)
            for _ in analysed:  # the rows of frames that were not drawn
                pass
            bar.update()
        if not report.frames:
            name, reason = skips.rows[-1]
            raise UserError(f"predict: nothing can be read in {config.input}; {name}: {reason}")

    if overview:
        drawing.write_image(workdir / "overview.jpg", drawing.row(overview, height=360))
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

    `frames` counts photographs and video frames, `without_face` those in which no face was found.
    """

    table: TextIO
    labels: Sequence[str]
    frames: int = 0
    faces: int = 0
    without_face: int = 0

    def __post_init__(self) -> None:
        self._writer = csv.writer(self.table)
        head = ["source", "frame", "time_s", "x0", "y0", "x1", "y1", "detector_score", "emotion"]
        head += [f"prob_{label}" for label in self.labels]
        self._width = len(head)
        self._writer.writerow(head)

    def add(self, file: MediaFile, frame: Frame, analysis: Analysis) -> None:
        """One row for each face; one with an empty box if there is none."""
        place = [safe_cell(file.name), frame.index, f"{frame.time_s:.3f}"]
        faces, probabilities = analysis
        for box, score, row in zip(faces.boxes, faces.scores, probabilities, strict=True):
            numbers = [f"{value:.2f}" for value in box] + [f"{score:.4f}"]
            emotion = safe_cell(self.labels[int(row.argmax())])
            self._writer.writerow([*place, *numbers, emotion, *(f"{value:.6f}" for value in row)])
        if not len(faces):
            self._writer.writerow(place + [""] * (self._width - len(place)))
            self.without_face += 1
        self.frames += 1
        self.faces += len(faces)

    def adding(
        self, analysed: Iterable[tuple[MediaFile, Frame, Analysis]]
    ) -> Iterator[tuple[Frame, Analysis]]:
        """Adds each frame when it is asked for."""
        for file, frame, analysis in analysed:
            self.add(file, frame, analysis)
            yield frame, analysis


def list_media(place: str) -> tuple[list[MediaFile], list[MediaFile], list[MediaFile]]:
    """The images, the videos and the other files at `place`, sorted by name.

    A folder is searched recursively without hidden files. A single file may have any suffix: if
    it is not that of an image, the file is tried as a video.

    Raises:
        UserError: there is no image and no video.
    """
    if not place:
        raise UserError("predict: give an image, a video or a folder by --config.input=PATH")
    root = Path(place).absolute()
    if root.exists() and not root.is_dir():
        single = [MediaFile(root.name, root)]
        return (single, [], []) if root.suffix.lower() in IMAGE_SUFFIXES else ([], single, [])
    if not root.is_dir():
        raise UserError(f"predict: there is no {root}; --config.input names a file or a folder")
    files = []
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root)
        if not any(part.startswith(".") for part in name.parts) and not path.is_dir():
            files.append(MediaFile(name.as_posix(), path))
    images = [file for file in files if file.path.suffix.lower() in IMAGE_SUFFIXES]
    videos = [file for file in files if file.path.suffix.lower() in VIDEO_SUFFIXES]
    others = [file for file in files if file not in {*images, *videos}]
    if not images and not videos:
        hints = sorted({advice(file.path) for file in others} - {""})
        raise UserError("; ".join([f"predict: there is no image or video in {root}", *hints]))
    return images, videos, others


def frame_rate(frames: Sequence[Frame], every_s: float) -> float:
    """Frames per second at which sampled frames play as fast as they were filmed.

    From their times, since a slow video has fewer than one frame every `every_s` seconds.
    """
    span = frames[-1].time_s - frames[0].time_s if frames else 0.0
    if span > 0:
        return round((len(frames) - 1) / span, 3)
    return 1 / every_s if every_s > 0 else 1.0


def name_outputs(
    images: Sequence[MediaFile], videos: Sequence[MediaFile], folder: Path
) -> dict[str, Path]:
    """A distinct path for the annotated copy of each file, by the file's name.

    A copy has the name of its file, with ".png" or ".mp4" added to a suffix that cannot be
    written. Names that are too long or taken get a digest of the file's name.
    """
    wanted = {}
    for files, suffixes in ((images, (".png", ".jpg", ".jpeg")), (videos, (".mp4",))):
        for file in files:
            kept = Path(file.name).suffix.lower() in suffixes
            wanted[file.name] = file.name if kept else file.name + suffixes[0]
    # Files whose name can stay come first and keep it.
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
            f"predict: the model in {folder} was trained on faces that others had cropped in an "
            "unknown way; here they are cropped to the usual template, and the model may do worse "
            "than measured"
        )
    return recogniser


def _photographs(files: Iterable[MediaFile], skips: Skips, bar: tqdm) -> Iterator[Shot]:
    """Reads photographs one by one."""
    for file in files:
        image = None
        with skips.each(file.name):
            image = read_image(file.path)
        bar.update()
        if image is not None:
            yield file, Frame(0, 0.0, image)


def _samples(file: MediaFile, every_s: float, skips: Skips) -> Iterator[Shot]:
    """Samples a video; after a failure, which is noted, the frames before it count."""
    with skips.each(file.name):
        for frame in sample_frames(file.path, every_s):
            yield file, frame


def _analysed(
    shots: Iterable[Shot], analyse: Analyser, most: int, skips: Skips
) -> Iterator[tuple[MediaFile, Frame, Analysis]]:
    """The faces of each frame; one that cannot be analysed does not affect the others."""
    for batch in _batches(shots, most):
        found: list[Analysis | None]
        try:
            found = [*analyse([frame.image for _, frame in batch])]
        except UserError:
            raise
        except Exception:  # alone, each frame shows whether it is the cause
            found = [None] * len(batch)
            for number, (file, frame) in enumerate(batch):
                with skips.each(file.name):
                    (found[number],) = analyse([frame.image])
        for (file, frame), analysis in zip(batch, found, strict=True):
            if analysis is not None:
                yield file, frame, analysis


def _batches(shots: Iterable[Shot], most: int) -> Iterator[list[Shot]]:
    """Lists of up to `most` frames, fewer where they are large."""
    batch: list[Shot] = []
    pixels = 0
    for file, frame in shots:
        batch.append((file, frame))
        pixels += frame.image.shape[0] * frame.image.shape[1]
        if len(batch) == most or pixels >= _PIXELS_AT_ONCE:
            yield batch
            batch, pixels = [], 0
    if batch:
        yield batch
