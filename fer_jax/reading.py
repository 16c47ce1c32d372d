"""Reads the faces in pictures and videos, frame by frame, as one typed record per face.

    recogniser = Recogniser.load("starter")
    reader = Reader(recogniser, find_sources("holiday", every_s=0.5).sources)
    for analysed in reader:
        for face in analysed.readings(recogniser.labels):
            print(face.source, face.time_s, face.emotion, face.probabilities)
    print(reader.skips.rows)  # sources that could not be read, with the reasons

This module reads no flags and writes no files. Memory does not grow with the length of a video,
except for a person-relative model, which needs all faces of a person before it can answer.
"""

from __future__ import annotations

import collections
import dataclasses
import fnmatch
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, NamedTuple, Protocol, TypeAlias, TypeVar, runtime_checkable

import numpy as np
import pandas as pd
import pyarrow as pa
from jaxtyping import Bool, Float, Int, UInt8

from fer_jax import console, workers
from fer_jax.errors import UserError
from fer_jax.faces import images
from fer_jax.faces.alignment import LANDMARKS
from fer_jax.faces.search import find_faces
from fer_jax.faces.skips import Skips
from fer_jax.faces.video import SUFFIXES as VIDEO_SUFFIXES
from fer_jax.faces.video import Frame, expected_samples, sample_frames
from fer_jax.languages.language import spoken
from fer_jax.recogniser import Analysis, Recogniser, Sighting
from fer_jax.records import FacePipeline
from fer_jax.training.person_relative import NEUTRAL, least_faces

BOX = ("x0", "y0", "x1", "y1")
_PIXELS_AT_ONCE = 16_000_000  # at which a batch ends, and no further one starts: bounds memory
_BATCHES_AHEAD = 2  # batches that are analysed while the caller works on an earlier one
T = TypeVar("T")


@runtime_checkable
class Source(Protocol):
    """The interface of a photograph or a video.

    Attributes:
        name: the name of the source in results, such as its path below the input folder; should be
            unique among the sources of a reader.
        prefix: for a source from a list, the part of the name before the path below the input
            folder; otherwise "".
        moving: whether the frames are a sequence, in which people can be tracked.
    """

    moving: ClassVar[bool]

    @property
    def name(self) -> str: ...

    @property
    def prefix(self) -> str: ...

    def frames(self) -> Iterator[Frame]:
        """The frames in order; each call starts from the beginning.

        Raises:
            ImageError, VideoError: the source cannot be read completely.
        """
        ...

    def expected(self) -> int | None:
        """The probable number of frames; None if it is unknown."""
        ...


@dataclass(frozen=True)
class Photograph:
    """A picture in a file."""

    name: str
    path: Path
    prefix: str = ""
    moving: ClassVar[bool] = False

    def frames(self) -> Iterator[Frame]:
        """Yields the picture as one frame, at 0 s."""
        yield Frame(0, 0.0, images.read_image(self.path))

    def expected(self) -> int:
        """The number of frames, 1."""
        return 1


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture in memory, uint8 [H, W, 3] RGB."""

    name: str
    image: UInt8[np.ndarray, "h w 3"]
    prefix: ClassVar[str] = ""
    moving: ClassVar[bool] = False

    def frames(self) -> Iterator[Frame]:
        """Yields the picture as one frame, at 0 s."""
        yield Frame(0, 0.0, self.image)

    def expected(self) -> int:
        """The number of frames, 1."""
        return 1


@dataclass(frozen=True)
class Video:
    """A video in a file, of which the first frame of each interval of `every_s` seconds is read.

    If `every_s` is 0, every frame is read.
    """

    name: str
    path: Path
    every_s: float
    prefix: str = ""
    moving: ClassVar[bool] = True

    def frames(self) -> Iterator[Frame]:
        """The sampled frames in order; raises the errors of `sample_frames`."""
        return sample_frames(self.path, self.every_s)

    def expected(self) -> int | None:
        """The number of sampled frames, estimated from the container; None if it is unknown.

        It is 0 if the file cannot be opened.
        """
        return expected_samples(self.path, self.every_s)


class Found(NamedTuple):
    """The sources that were found, and the files that are not sources, as (name, reason)."""

    sources: list[Source]
    others: list[tuple[str, str]]


def find_sources(place: str | os.PathLike[str], *, every_s: float) -> Found:
    """The photographs at `place`, sorted by name, then the videos, also sorted by name.

    A folder is searched recursively; hidden files and folders are ignored. A single file may have
    any suffix; if it is not that of an image, the file is tried as a video.

    Raises:
        UserError: `place` is empty or does not exist, or there is no image and no video in it.
    """
    if not os.fspath(place):  # an empty path would mean the current folder
        raise UserError("pass a picture, a video or a folder of them, not an empty path")
    root = Path(place).absolute()
    if root.exists() and not root.is_dir():
        if root.suffix.lower() in images.SUFFIXES:
            return Found([Photograph(root.name, root)], [])
        return Found([Video(root.name, root, every_s)], [])
    if not root.is_dir():
        raise UserError(f"there is no {root}; pass a picture, a video or a folder of them")
    photographs: list[Source] = []
    videos: list[Source] = []
    others, hints = [], set()
    for path in sorted(root.rglob("*")):
        below, suffix = path.relative_to(root), path.suffix.lower()
        if any(part.startswith(".") for part in below.parts) or path.is_dir():
            continue
        if suffix in images.SUFFIXES:
            photographs.append(Photograph(below.as_posix(), path))
        elif suffix in VIDEO_SUFFIXES:
            videos.append(Video(below.as_posix(), path, every_s))
        else:
            hint = images.advice(path)
            hints |= {hint} - {""}
            reason = hint or "its suffix is not that of an image or a video"
            others.append((below.as_posix(), reason))
    if not photographs and not videos:
        raise UserError("; ".join([f"there is no image or video in {root}", *sorted(hints)]))
    return Found(photographs + videos, others)


Place: TypeAlias = str | os.PathLike[str]
Pictures: TypeAlias = Place | np.ndarray | Sequence[Place | np.ndarray]
"""A path, a picture uint8 [H, W, 3] RGB, several as [N, H, W, 3], or a list of any of these."""


def sources_of(given: Pictures, *, every_s: float) -> Found:
    """The sources in `given`; pictures in memory are named by their number, from 0.

    Raises:
        UserError: there is no image or video at a path, an array is not a picture, or `given` has
            another type or is empty.
    """
    if isinstance(given, str | os.PathLike):
        return find_sources(given, every_s=every_s)
    if not isinstance(given, Iterable) or isinstance(given, bytes | Mapping):
        raise UserError(
            f"a source cannot be of the type {type(given).__name__}; pass a path, a picture as an "
            "array, or a list of these"
        )
    found = Found([], [])
    for item in [given] if isinstance(given, np.ndarray) else given:
        if isinstance(item, str | os.PathLike):
            below = find_sources(item, every_s=every_s)
            # Names start with the path as it was given, since two files may have the same name.
            place = os.fspath(item).rstrip("/")
            prefix = f"{place}/" if Path(item).is_dir() else place.removesuffix(Path(place).name)
            found.sources.extend(
                dataclasses.replace(  # type: ignore[type-var]
                    source, name=prefix + source.name, prefix=prefix
                )
                for source in below.sources
            )
            found.others.extend((prefix + name, reason) for name, reason in below.others)
            continue
        array = np.asarray(item)
        number = sum(isinstance(source, Picture) for source in found.sources)
        if array.dtype != np.uint8 or array.ndim not in (3, 4) or array.shape[-1] != 3:
            raise UserError(
                f"picture {number} in memory is {array.dtype} {list(array.shape)}; pass uint8 "
                "[H, W, 3] in RGB, or [N, H, W, 3]"
            )
        found.sources.extend(
            Picture(str(number + place), picture)
            for place, picture in enumerate(array if array.ndim == 4 else array[None])
        )
    if not found.sources:
        raise UserError("there is no picture or video in the source; pass at least one")
    return found


@dataclass(frozen=True)
class Reading:
    """One face of a photograph or a video frame.

    Attributes:
        source: the name of the photograph or video.
        frame: number of the decoded frame, from 0; 0 for a photograph.
        time_s: presentation time in seconds; 0 for a photograph.
        person: number of the person in this video, from 1; 0 if none was assigned.
        box: x0, y0, x1, y1 in pixels.
        detector_score: the score that the detector gave the face, 0..1.
        landmarks: x, y in pixels of the five points `fer_jax.faces.alignment.LANDMARKS`.
        emotion: the most probable emotion; "" if the answer is withheld or there are no classes.
        probabilities: the calibrated probabilities by class; they sum to 1.
        smoothed: the person's probabilities smoothed over time, by class; None if they are not
            smoothed, as for photographs.
        reference_faces: for a person-relative model, the number of faces in the person's reference;
            0 if the reference is the average person. None for other models.
        answered: False if the answer is withheld because of low confidence.
    """

    source: str
    frame: int
    time_s: float
    person: int
    box: tuple[float, ...]
    detector_score: float
    landmarks: tuple[tuple[float, float], ...]
    emotion: str
    probabilities: Mapping[str, float]
    reference_faces: int | None = None
    answered: bool = True
    smoothed: Mapping[str, float] | None = None

    @property
    def smoothed_emotion(self) -> str | None:
        """The emotion with the largest smoothed probability; None if nothing was smoothed.

        If the answer is withheld, it is "".
        """
        if not self.smoothed:
            return None
        return max(self.smoothed, key=self.smoothed.__getitem__) if self.answered else ""

    def cells(self) -> dict[str, Any]:
        """The values by column of `schema`."""
        points = {
            f"{name}_{axis}": value
            for name, point in zip(LANDMARKS, self.landmarks, strict=True)
            for axis, value in zip("xy", point, strict=True)
        }
        return {
            "source": self.source,
            "frame": self.frame,
            "time_s": self.time_s,
            "person": self.person,
            **dict(zip(BOX, self.box, strict=True)),
            "detector_score": self.detector_score,
            **points,
            "emotion": self.emotion,
            **{f"prob_{label}": value for label, value in self.probabilities.items()},
            "smoothed_emotion": self.smoothed_emotion,
            **{f"smoothed_prob_{label}": value for label, value in (self.smoothed or {}).items()},
            "reference_faces": self.reference_faces,
            "answered": self.answered,
        }


@dataclass(frozen=True)
class AnalysedFrame:
    """A photograph or video frame and its faces.

    Attributes:
        source: the photograph or video.
        frame: its number, time and pixels.
        analysis: its n faces and their probabilities.
        people: the number of each face's person, from 1; 0 if none was assigned.
        smoothed: the probabilities smoothed over time; None if they are not smoothed.
    """

    source: Source
    frame: Frame
    analysis: Analysis
    people: Int[np.ndarray, " n"]
    smoothed: Float[np.ndarray, "n classes"] | None = None

    def answered(self, least: float = 0.0) -> Bool[np.ndarray, " n"]:
        """Whether each face has an answer with a probability of at least `least`."""
        return self.analysis.probabilities.max(axis=1, initial=0.0) >= least

    def readings(
        self, labels: Sequence[str], *, relative: bool = False, least: float = 0.0
    ) -> list[Reading]:
        """One record per face, in the order of `analysis.faces` (best first).

        Args:
            labels: the classes, in the order of the probabilities.
            relative: whether the answers are person-relative.
            least: answers with a lower probability are withheld.
        """
        faces, probabilities, references = self.analysis
        smoothed: Iterable[np.ndarray | None] = itertools.repeat(None, len(faces))
        if self.smoothed is not None:
            smoothed = self.smoothed
        return [
            Reading(
                source=self.source.name,
                frame=self.frame.index,
                time_s=self.frame.time_s,
                person=int(person),
                box=tuple(box.tolist()),
                detector_score=float(score),
                landmarks=tuple((float(x), float(y)) for x, y in landmarks),
                emotion=labels[int(row.argmax())] if labels and answered else "",
                probabilities=dict(zip(labels, row.tolist(), strict=True)),
                reference_faces=references if relative else None,
                answered=bool(answered),
                smoothed=None if calm is None else dict(zip(labels, calm.tolist(), strict=True)),
            )
            for person, box, score, landmarks, row, answered, calm in zip(
                self.people,
                faces.boxes,
                faces.scores,
                faces.landmarks,
                probabilities,
                self.answered(least),
                smoothed,
                strict=True,
            )
        ]

    def rows(
        self, labels: Sequence[str], *, relative: bool = False, least: float = 0.0
    ) -> list[dict[str, Any]]:
        """The cells of each face by column of `schema`; a frame without a face has one row."""
        # File names may be invalid UTF-8, tables may not.
        source = self.source.name.encode(errors="backslashreplace").decode()
        place = {"source": source, "frame": self.frame.index, "time_s": self.frame.time_s}
        readings = self.readings(labels, relative=relative, least=least)
        without_face = {"person": 0, "reference_faces": 0, "answered": False}
        return [reading.cells() | place for reading in readings] or [place | without_face]


def schema(
    labels: Sequence[str],
    *,
    smoothed: bool = False,
    relative: bool = False,
    abstains: bool = False,
) -> pa.Schema:
    """The columns of a table of faces.

    In the row of a frame without a face, person and reference_faces are 0, answered is False, and
    the columns from x0 to smoothed_prob_* are null.

    Args:
        labels: the classes; without them, the table ends with the landmarks.
        smoothed: whether there are columns of smoothed probabilities, which are null in the rows of
            photographs.
        relative: whether the answers are person-relative.
        abstains: whether answers may be withheld.
    """
    points = [f"{name}_{axis}" for name in LANDMARKS for axis in "xy"]
    columns = {
        "source": pa.string(),
        "frame": pa.int64(),
        "time_s": pa.float64(),
        "person": pa.int64(),
        **dict.fromkeys([*BOX, "detector_score", *points], pa.float32()),
    }
    if labels:
        columns["emotion"] = pa.string()
        columns |= dict.fromkeys([f"prob_{label}" for label in labels], pa.float32())
    if labels and smoothed:
        columns["smoothed_emotion"] = pa.string()
        columns |= dict.fromkeys([f"smoothed_prob_{label}" for label in labels], pa.float32())
    if relative:
        columns["reference_faces"] = pa.int64()
    if abstains:
        columns["answered"] = pa.bool_()
    return pa.schema(list(columns.items()))


def table(rows: list[dict[str, Any]], columns: pa.Schema) -> pd.DataFrame:
    """Rows of `AnalysedFrame.rows` as a data frame with the columns of `schema`."""
    return pa.Table.from_pylist(rows, columns).to_pandas()


Follow = Callable[[Iterator[AnalysedFrame]], Iterator[AnalysedFrame]]
"""A function that completes the analysed frames of one video, for example with the numbers of
people. It gets the frames in order, may delay them, and yields each one."""


class Detection:
    """Finds faces without recognising emotions, for a `Reader` in place of a recogniser."""

    labels: tuple[str, ...] = ()
    reference = ""
    where = "detection"

    def __init__(self, pipeline: FacePipeline) -> None:
        self._pipeline = pipeline

    def __call__(self, pictures: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> list[Analysis]:
        """The faces of each picture; `probabilities` is [n, 0], since there are no classes."""
        found = find_faces(pictures, self._pipeline)
        return [Analysis(faces, np.zeros((len(faces), 0), np.float32)) for faces in found]


class Reader:
    """Iterates over the analysed frames of sources, in order; can be iterated over only once.

    A source or frame that cannot be read or analysed is recorded in `skips`; others are not
    affected.

    Args:
        recogniser: finds and classifies the faces, or only finds them (`Detection`).
        sources: photographs and videos.
        batch: the maximum number of frames that are analysed together; fewer if they are large. Use
            1 for a live source, whose frames are then answered one by one.
        people: only for a person-relative model; "one" if all faces are of the same person, or
            "folder" if the first folder below the input folder names the person. The same name in
            two input folders is the same person.
        neutral: only for a model with the reference "neutral"; a pattern that matches the file
            names of neutral photographs, such as "*neutral*".
        follow: a function that is applied to the frames of each video, such as
            `following.follower()`.
        progress: the name of the progress bar, which counts frames; "" for no bar.
        flag: the prefix of argument names in messages, such as "--config." in a stage.

    Attributes:
        sources: the sources that are read.
        labels: the classes, in the order of the probabilities; empty if faces are only found.
        relative: whether the answers are person-relative.
        skips: the sources that could not be read completely so far, with the reasons.
        others: for a person-relative model, the number of faces that have no answer, since they are
            not the largest of their picture.

    Raises:
        UserError: `people` has another value, or `people` and `neutral` do not fit the model.
    """

    def __init__(
        self,
        recogniser: Recogniser | Detection,
        sources: Sequence[Source],
        *,
        batch: int = 8,
        people: str = "",
        neutral: str = "",
        follow: Follow = iter,
        progress: str = "",
        flag: str = "",
    ) -> None:
        self.labels = recogniser.labels
        self.relative = bool(recogniser.reference)
        self.skips = Skips()
        self.others = 0
        self._recogniser = recogniser
        self._batch = batch
        self._people, self._neutral = people, neutral
        self._follow = follow
        self._progress = progress
        self._check_people(sources, flag)
        self.sources = list(sources)
        if people == "folder":
            self.sources = [source for source in sources if _person(source)]
            for source in sources:
                if not _person(source):
                    reason = f"is not in the folder of a person, and {flag}people is 'folder'"
                    self.skips.add(source.name, reason)

    def __iter__(self) -> Iterator[AnalysedFrame]:
        recogniser = self._recogniser
        relative = None
        if isinstance(recogniser, Recogniser) and self.relative:
            relative = self._look_for_references(recogniser)

        def analyse(shots: Sequence[_Shot]) -> list[Analysis]:
            if relative is None:
                return recogniser([frame.image for _, frame in shots])
            return [relative.answer(source, frame) for source, frame in shots]

        with self._counted(self._progress) as progress:
            for moving, group in itertools.groupby(self.sources, key=lambda one: one.moving):
                for sources in ([source] for source in group) if moving else (group,):
                    shots = _shots(sources, self.skips, progress)
                    found = _analysed(shots, analyse, self._batch, self.skips)
                    frames = itertools.starmap(_not_numbered, found)
                    yield from self._follow(frames) if moving else frames

    def _check_people(self, sources: Sequence[Source], flag: str) -> None:
        reference, people, neutral = self._recogniser.reference, self._people, self._neutral
        fault = ""
        if people not in ("", "one", "folder"):
            raise UserError(f"{flag}people={people!r} must be 'one', 'folder' or ''")
        if not reference and (people or neutral):
            fault = f"is not person-relative; leave out {flag}people and {flag}neutral"
        elif reference and not people:
            fault = (
                "is person-relative: it compares the faces of a person with each other; set "
                f"{flag}people=folder (a folder for each person) or {flag}people=one"
            )
        elif reference == NEUTRAL and not any(
            not source.moving and self._is_neutral(source) for source in sources
        ):
            fault = (
                "compares faces with a neutral one of the same person, but no photograph has a "
                f"name that matches {neutral!r}; set {flag}neutral to a pattern of the file names "
                "of neutral photographs, or of their paths inside the folder of a person"
            )
        elif reference not in ("", NEUTRAL) and neutral:
            fault = f"has the reference {reference!r}; leave out {flag}neutral"
        if fault:
            raise UserError(f"the model {self._recogniser.where} {fault}")

    def _is_neutral(self, source: Source) -> bool:
        """Whether the file name, or the path inside the person's folder, matches the pattern."""
        inside = source.name.removeprefix(source.prefix)
        if self._people == "folder":
            inside = inside.partition("/")[2]
        names = (PurePosixPath(source.name).name, inside)
        return any(fnmatch.fnmatch(name, self._neutral) for name in names if name)

    def _look_for_references(self, recogniser: Recogniser) -> _Relative:
        """Analyses all sources once in advance, since a reference needs all faces of its person.

        Sources that cannot be read are recorded in `skips` only when they are read again.
        """

        def look(shots: Sequence[_Shot]) -> list[Sighting]:
            return recogniser.sightings([frame.image for _, frame in shots])

        skips = Skips()
        with self._counted(spoken().text("doing.references") if self._progress else "") as progress:
            shots = _shots(self.sources, skips, progress)
            seen = list(_without_pixels(_analysed(shots, look, self._batch, skips)))
        sources, _, sightings = zip(*seen, strict=True) if seen else ((), (), ())
        people = [_person(source) if self._people == "folder" else "" for source in sources]
        neutral = [self._is_neutral(source) for source in sources]
        answers = recogniser.relative(sightings, people, neutral)
        pairs = zip(people, answers, strict=True)
        alone = {person for person, answer in pairs if not answer.reference_faces}
        if alone:
            kind = "neutral face" if recogniser.reference == NEUTRAL else "face"
            console.warn(
                f"{len(alone)} of {len(set(people))} people have no reference of their own, which "
                f"needs at least {console.count(least_faces(recogniser.reference), kind)}; they "
                "are compared with the average person, and their answers are less accurate (column "
                "reference_faces is 0)"
            )
        self.others = sum(sighting.others for sighting in sightings)
        keys = [(source.name, index) for source, index, _ in seen]
        return _Relative(recogniser, dict(zip(keys, answers, strict=True)))

    def _counted(self, name: str) -> console.Progress:
        """A bar of frames, with a total if all sources know theirs; hidden if `name` is ""."""
        if not name:
            return console.Progress(shown=False)
        counts = [source.expected() for source in self.sources]
        known = [count for count in counts if count is not None]
        total = sum(known) if len(known) == len(counts) else None
        return console.Progress(name, total, "frame")


_Shot = tuple[Source, Frame]
_Analyse = Callable[[Sequence[_Shot]], list[T]]


@dataclass(frozen=True)
class _Relative:
    """The answers of a person-relative model, by the source's name and the frame's number."""

    recogniser: Recogniser
    answers: dict[tuple[str, int], Analysis]

    def answer(self, source: Source, frame: Frame) -> Analysis:
        key = source.name, frame.index
        if key not in self.answers:
            self.recogniser.sightings([frame.image])  # fails as in the first pass
        return self.answers[key]


def _person(source: Source) -> str:
    """The first folder below the input folder on the path of a source; "" if there is none."""
    person, slash, _ = source.name.removeprefix(source.prefix).partition("/")
    return person if slash else ""


def _not_numbered(source: Source, frame: Frame, analysis: Analysis) -> AnalysedFrame:
    return AnalysedFrame(source, frame, analysis, np.zeros(len(analysis.faces), np.int64))


def _without_pixels(
    analysed: Iterable[tuple[Source, Frame, T]],
) -> Iterator[tuple[Source, int, T]]:
    for source, frame, found in analysed:
        yield source, frame.index, found


def _shots(sources: Iterable[Source], skips: Skips, progress: console.Progress) -> Iterator[_Shot]:
    """Yields (source, frame) for all frames, including those before a failure (see `skips`)."""
    for source in sources:
        seen = 0
        with skips.each(source.name):
            for frame in source.frames():
                seen += 1
                progress.update()
                yield source, frame
        if progress.total is not None:
            progress.total += seen - (source.expected() or 0)


def _analysed(
    shots: Iterable[_Shot], analyse: _Analyse[T], most: int, skips: Skips
) -> Iterator[tuple[Source, Frame, T]]:
    """Yields (source, frame, result of `analyse`) for each frame; `skips` records failures.

    Threads analyse the next batches while the caller works on one, since one batch does not keep
    all cores busy. Batches are not analysed ahead if `most` is 1, since a live camera needs the
    result of each frame before the next one.
    """
    ahead = _BATCHES_AHEAD if most > 1 else 0
    for batch, future in _started(_batches(shots, most), analyse, ahead):
        found: list[T | None]
        try:
            found = [*future.result()]
        except UserError:
            raise
        except Exception:  # each frame is analysed alone, to find those that fail
            found = [None] * len(batch)
            for number, (source, frame) in enumerate(batch):
                with skips.each(source.name):
                    (found[number],) = analyse([(source, frame)])
        for (source, frame), analysis in zip(batch, found, strict=True):
            if analysis is not None:
                yield source, frame, analysis


def _started(
    batches: Iterable[list[_Shot]], analyse: _Analyse[T], ahead: int
) -> Iterator[tuple[list[_Shot], Future[list[T]]]]:
    """Yields the batches in order, each with its analysis, which runs in a thread.

    While the caller works on one batch, up to `ahead` others (fewer if they are large) are being
    analysed or are ready.
    """
    threads = workers.threads("analyse", _BATCHES_AHEAD)
    running: collections.deque[tuple[list[_Shot], Future[list[T]]]] = collections.deque()
    try:
        for number, batch in enumerate(batches):
            future = threads.submit(analyse, batch)
            running.append((batch, future))
            if number == 0:
                wait([future])  # the first batch compiles the programs that all batches use
            while len(running) > ahead or _pixels(running) >= _PIXELS_AT_ONCE:
                yield running.popleft()
        while running:
            yield running.popleft()
    finally:
        for _, future in running:
            future.cancel()


def _pixels(batches: Iterable[tuple[list[_Shot], object]]) -> int:
    return sum(frame.pixels for batch, _ in batches for _, frame in batch)


def _batches(shots: Iterable[_Shot], most: int) -> Iterator[list[_Shot]]:
    """Yields lists of up to `most` frames, or of fewer if the frames are large."""
    batch: list[_Shot] = []
    pixels = 0
    for source, frame in shots:
        batch.append((source, frame))
        pixels += frame.pixels
        if len(batch) == most or pixels >= _PIXELS_AT_ONCE:
            yield batch
            batch, pixels = [], 0
    if batch:
        yield batch
