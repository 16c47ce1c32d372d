"""predict: the emotions of the faces in an image, a folder or a video."""

from __future__ import annotations

import csv
import fnmatch
import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, TextIO, TypeVar

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
from fer_jax.recogniser import Analysis, Recogniser, Sighting
from fer_jax.spreadsheets import safe_cell
from fer_jax.training import trained_model
from fer_jax.training.person_relative import NEUTRAL, least_faces
from fer_jax.workdir import atomic_file, stage

_OVERVIEW = 4  # annotated pictures in overview.jpg
_LONGEST_NAME = 180  # bytes; file systems allow 255, and the name of the temporary file is longer
_NOT_ANNOTATED = "analysed, but no annotated copy could be written"
T = TypeVar("T")
_PIXELS_AT_ONCE = 16_000_000  # in the frames of one batch: bounds memory on large photographs


class MediaFile(NamedTuple):
    """An input file: its path relative to the input folder, and its absolute path."""

    name: str
    path: Path


Shot = tuple[MediaFile, Frame]  # a photograph has one frame
Analyser = Callable[[Sequence[Shot]], list[Analysis]]


@stage(inputs=lambda config: [config.model, config.input])
def run(config: schemas.Predict, workdir: Path) -> dict[str, Any]:
    """Finds, aligns and classifies faces as when the model was measured.

    A file that fails is counted and listed in skipped.csv; the others are not affected.

    Raises:
        UserError: no model, a model without the task `emotion`, or no readable input.
    """
    images, videos, others = list_media(config.input)
    recogniser = _load_recogniser(config.model, config.max_side)
    _check_people(config, recogniser, images)
    copies = name_outputs(images, videos, workdir / "annotated") if config.annotate else {}
    skips = Skips()
    overview: list[np.ndarray] = []
    started = time.perf_counter()
    if config.people == "folder":
        for file in images + videos:
            if "/" not in file.name:
                skips.add(file.name, "lies in no folder of a person, and config.people is 'folder'")
        images, videos = ([f for f in files if "/" in f.name] for files in (images, videos))
    relative = _relative(config, recogniser, images, videos) if recogniser.reference else None

    def analyse(shots: Sequence[Shot]) -> list[Analysis]:
        if relative is None:
            return recogniser([frame.image for _, frame in shots])
        return [relative.answer(file, frame) for file, frame in shots]

    def draw(frame: Frame, analysis: Analysis) -> UInt8[np.ndarray, "h w 3"]:
        boxes, probabilities = analysis.faces.boxes, analysis.probabilities
        return drawing.annotate(frame.image, boxes, probabilities, recogniser.labels)

    with (
        atomic_file(workdir / "predictions.csv") as path,
        # File names that are not UTF-8 are written with escapes.
        path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as table,
        tqdm(total=len(images) + len(videos), desc="predict", unit="file", disable=None) as bar,
    ):
        report = Report(table, recogniser.labels, counts_references=relative is not None)
        for file in others:
            skips.add(file.name, advice(file.path) or "not an image or a video by its suffix")
        shots = _photographs(images, skips, bar)
        for file, frame, analysis in _analysed(shots, analyse, config.batch, skips):
            report.add(file, frame, analysis)
            if config.annotate:
                with skips.each(file.name, _NOT_ANNOTATED):
                    picture = draw(frame, analysis)
                    drawing.write_image(copies[file.name], picture)
                    if len(overview) < _OVERVIEW:
                        overview.append(picture)
        for file in videos:
            shots = _samples(file, config.every_s, skips)
            analysed = report.adding(_analysed(shots, analyse, config.batch, skips))
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
        **({"other_faces_left_out": relative.others} if relative else {}),
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
    counts_references: bool = False
    frames: int = 0
    faces: int = 0
    without_face: int = 0

    def __post_init__(self) -> None:
        self._writer = csv.writer(self.table)
        head = ["source", "frame", "time_s", "x0", "y0", "x1", "y1", "detector_score", "emotion"]
        head += [f"prob_{label}" for label in self.labels]
        head += ["reference_faces"] * self.counts_references
        self._width = len(head)
        self._writer.writerow(head)

    def add(self, file: MediaFile, frame: Frame, analysis: Analysis) -> None:
        """One row for each face; one with an empty box if there is none."""
        place = [safe_cell(file.name), frame.index, f"{frame.time_s:.3f}"]
        faces, probabilities, references = analysis
        counted = [str(references)] * self.counts_references
        for box, score, row in zip(faces.boxes, faces.scores, probabilities, strict=True):
            numbers = [f"{value:.2f}" for value in box] + [f"{score:.4f}"]
            emotion = safe_cell(self.labels[int(row.argmax())])
            answer = [emotion, *(f"{value:.6f}" for value in row)]
            self._writer.writerow([*place, *numbers, *answer, *counted])
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


def _check_people(config: schemas.Predict, recogniser: Recogniser, images: list[MediaFile]) -> None:
    """Raises a `UserError` unless `people` and `neutral` are what the model needs."""
    reference, neutral = recogniser.reference, config.neutral
    fault = ""
    if not reference and (config.people or neutral):
        fault = "is not person-relative; leave out --config.people and --config.neutral"
    elif reference and not config.people:
        fault = (
            "is person-relative: it compares the faces of a person with each other; say whose they "
            "are by --config.people=folder (a folder for each person) or --config.people=one"
        )
    elif reference == NEUTRAL and not any(_is_neutral(file, neutral) for file in images):
        fault = (
            "compares faces with a neutral one of the person; name such photographs by "
            f"--config.neutral=PATTERN, which matches none (it is {neutral!r})"
        )
    elif reference not in ("", NEUTRAL) and neutral:
        fault = f"has the reference {reference!r}; leave out --config.neutral"
    if fault:
        raise UserError(f"predict: the model in {config.model} {fault}")


def _is_neutral(file: MediaFile, pattern: str) -> bool:
    return fnmatch.fnmatch(file.path.name, pattern)


@dataclass
class _Relative:
    """The answers of a person-relative model, by file and frame.

    `others` counts the faces that are not the largest of their picture, and get no answer.
    """

    recogniser: Recogniser
    answers: dict[tuple[str, int], Analysis]
    others: int

    def answer(self, file: MediaFile, frame: Frame) -> Analysis:
        key = file.name, frame.index
        if key not in self.answers:
            self.recogniser.sightings([frame.image])  # fails as it did before
        return self.answers[key]


def _relative(
    config: schemas.Predict,
    recogniser: Recogniser,
    images: list[MediaFile],
    videos: list[MediaFile],
) -> _Relative:
    """Looks at everything once, since a reference needs all faces of its person.

    What cannot be read is noted when it is read again.
    """

    def look(shots: Sequence[Shot]) -> list[Sighting]:
        return recogniser.sightings([frame.image for _, frame in shots])

    skips = Skips()
    with tqdm(total=len(images), desc="references", unit="file", disable=None) as bar:
        read = [_photographs(images, skips, bar)]
        read += [_samples(file, config.every_s, skips) for file in videos]
        shots = itertools.chain.from_iterable(read)
        seen = list(_seen(_analysed(shots, look, config.batch, skips)))
    files = [file for file, _, _ in seen]
    people = [file.name.partition("/")[0] if config.people == "folder" else "" for file in files]
    neutral = [_is_neutral(file, config.neutral) for file in files]
    sightings = [sighting for _, _, sighting in seen]
    answers = recogniser.relative(sightings, people, neutral)
    alone = {who for who, answer in zip(people, answers, strict=True) if not answer.reference_faces}
    if alone:
        console.warn(
            f"predict: {len(alone)} of {len(set(people))} people have no reference of their own "
            f"(it takes {least_faces(recogniser.reference)} faces or more); they are compared with "
            "the average person, and their answers are worth less (column reference_faces is 0)"
        )
    keys = [(file.name, index) for file, index, _ in seen]
    others = sum(sighting.others for sighting in sightings)
    return _Relative(recogniser, dict(zip(keys, answers, strict=True)), others)


def _seen(
    analysed: Iterable[tuple[MediaFile, Frame, Sighting]],
) -> Iterator[tuple[MediaFile, int, Sighting]]:
    """Frames by their index, without their pixels."""
    for file, frame, sighting in analysed:
        yield file, frame.index, sighting


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
    shots: Iterable[Shot], analyse: Callable[[Sequence[Shot]], list[T]], most: int, skips: Skips
) -> Iterator[tuple[MediaFile, Frame, T]]:
    """The faces of each frame; one that cannot be analysed does not affect the others."""
    for batch in _batches(shots, most):
        found: list[T | None]
        try:
            found = [*analyse(batch)]
        except UserError:
            raise
        except Exception:  # alone, each frame shows whether it is the cause
            found = [None] * len(batch)
            for number, (file, frame) in enumerate(batch):
                with skips.each(file.name):
                    (found[number],) = analyse([(file, frame)])
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
