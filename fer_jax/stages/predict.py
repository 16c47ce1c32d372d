"""predict: finds faces in pictures, videos or camera frames, and predicts their emotions."""

from __future__ import annotations

import contextlib
import csv
import itertools
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import UInt8

from fer_jax import abstaining, console, schemas
from fer_jax.data import names
from fer_jax.errors import UserError
from fer_jax.faces import drawing
from fer_jax.faces.camera import Camera, Window
from fer_jax.faces.video import Frame, write_video
from fer_jax.figures import save_figure
from fer_jax.following import follower
from fer_jax.languages.language import language, spoken
from fer_jax.reading import AnalysedFrame, Found, Reader, Source, find_sources, schema
from fer_jax.recogniser import Recogniser
from fer_jax.report.timeline import Timeline
from fer_jax.spreadsheets import safe_cell
from fer_jax.workdir import atomic_file, stage

_OVERVIEW = 4  # annotated pictures in overview.jpg
_LONGEST_NAME = 180  # bytes; file systems allow 255, and the name of the temporary file is longer
_NOT_ANNOTATED = "analysed, but no annotated copy could be written"
_NO_TIMELINE = "analysed, but no timeline could be drawn"
_ROWS_AT_ONCE = 4096  # rows per row group of predictions.parquet
_PIXELS, _SCORE, _PROBABILITY = "{:.2f}", "{:.4f}", "{:.6f}"  # numbers in predictions.csv


def _doing(config: schemas.Predict) -> str:
    camera = spoken().text("doing.camera", number=config.camera)
    return spoken().text("doing.predict", input=config.input or camera)


@stage(
    doing=_doing,
    live=lambda config: bool(config.camera),
)
def run(config: schemas.Predict, workdir: Path) -> dict[str, Any]:
    """Finds, aligns and classifies faces with the settings that are recorded in the model.

    `config.max_side` can replace the recorded maximum side of pictures for detection. A file that
    fails is counted and listed in skipped.csv; the others are not affected.

    Raises:
        UserError: there is no model, the model lacks the task `emotion` or does not fit
            `config.people` or `config.coverage`, no input can be read, or the camera was stopped
            before its first frame.
    """
    words = language(config.language)
    if config.annotate or config.camera:
        drawing.check_text_layout(words)
    camera = Camera(int(config.camera), config.every_s) if config.camera else None
    sources, others = (
        find_sources(config.input, every_s=config.every_s) if not camera else Found([camera], [])
    )
    window = Window(camera) if camera else None
    recogniser = Recogniser.load(config.model, max_side=config.max_side)
    reader = Reader(
        recogniser,
        sources,
        batch=config.batch if not camera else 1,
        people=config.people,
        neutral=config.neutral,
        follow=follower(config.smoothing_s),
        progress="predict",
        flag="--config.",
    )
    rule = abstaining.rule(
        recogniser.folder,
        min_confidence=config.min_confidence or None,
        coverage=config.coverage or None,
        flag="--config.",
    )
    least = rule.threshold if rule else 0.0
    skips = reader.skips
    for name, reason in others:
        skips.add(name, reason)
    copies = name_copies(sources, workdir / "annotated")
    has_videos = any(source.moving for source in sources)
    counts = Counts()
    overview: list[np.ndarray] = []
    started = time.perf_counter()

    def draw(analysed: AnalysedFrame) -> UInt8[np.ndarray, "h w 3"]:
        faces, probabilities, _ = analysed.analysis
        return drawing.annotate(
            analysed.frame.image,
            faces.boxes,
            probabilities if analysed.smoothed is None else analysed.smoothed,
            reader.labels,
            answered=analysed.answered(least),
            people=analysed.people,
            words=words,
        )

    columns = schema(
        reader.labels, smoothed=has_videos, relative=reader.relative, abstains=rule is not None
    )
    with tables(workdir, columns) as table, window or contextlib.nullcontext():

        def written() -> Iterator[AnalysedFrame]:
            for source, frames in itertools.groupby(reader, key=lambda one: one.source):
                timeline = Timeline(reader.labels, words)
                for analysed in frames:
                    counts.add(analysed, least)
                    table.add(analysed.rows(reader.labels, relative=reader.relative, least=least))
                    if analysed.smoothed is not None:
                        timeline.add(analysed.frame.time_s, analysed.people, analysed.smoothed)
                    if window:
                        window.show(draw(analysed))
                    yield analysed
                if config.annotate and (figure := timeline.draw(source.name)):
                    with skips.each(source.name, _NO_TIMELINE):
                        save_figure(figure, timeline_of(copies[source.name], workdir), dpi=110)

        for source, frames in itertools.groupby(written(), key=lambda one: one.source):
            if not config.annotate:
                continue  # groupby reads the remaining frames
            with skips.each(source.name, _NOT_ANNOTATED):
                if source.moving:
                    copy_video(copies[source.name], frames, draw, config)
                else:
                    picture = draw(next(frames))
                    drawing.write_image(copies[source.name], picture)
                    if len(overview) < _OVERVIEW:
                        overview.append(picture)
        if not counts.frames and not skips.rows:
            raise UserError(
                f"predict: camera {config.camera} was stopped before its first frame; run the same "
                f"command again"
            )
        if not counts.frames:
            name, reason = skips.rows[-1]
            if not config.input:
                raise UserError(
                    f"predict: the camera {config.camera} cannot be read ({reason}); set "
                    f"--config.camera to another one"
                )
            raise UserError(
                f"predict: no picture or video of {console.count(len(skips), 'file')} can be read "
                f"({name}: {reason}); set --config.input to others"
            )

    if overview:
        drawing.write_image(workdir / "overview.jpg", drawing.row(overview, height=360))
    skips.write(workdir / "skipped.csv")
    skips.tell()
    if rule:
        console.say(f"  {rule.describe(counts.withheld, counts.faces, words)}")
    without = ""
    if counts.without_face:
        number = words.count(counts.without_face, "frame")
        without = words.text("result.predict_without", frames=number)
    console.result(
        "predict",
        faces=words.count(counts.faces, "face"),
        frames=words.count(counts.frames, "frame"),
        files=words.count(len(sources), "file"),
        without=without,
    )
    if counts.answers:
        numbers = {reader.labels[emotion]: n for emotion, n in counts.answers.most_common()}
        console.say(f"  {words.emotions(numbers)}")
    seconds = time.perf_counter() - started
    return {
        "sources": len(sources) + len(others),
        "frames": counts.frames,
        "faces": counts.faces,
        "without_face": counts.without_face,
        **({"withheld": counts.withheld} if rule else {}),
        **({"other_faces_left_out": reader.others} if reader.relative else {}),
        "skipped": len(skips),
        "frames_per_s": round(counts.frames / seconds, 2),
    }


@dataclass
class Counts:
    """The numbers of frames (a picture counts as one), faces, frames without a face, and answers.

    Withheld answers are only counted; the others are counted by emotion.
    """

    frames: int = 0
    faces: int = 0
    without_face: int = 0
    withheld: int = 0
    answers: Counter[int] = field(default_factory=Counter)  # by the emotion's place in the labels

    def add(self, analysed: AnalysedFrame, least: float) -> None:
        """Counts one frame; answers with a probability below `least` are withheld."""
        faces = len(analysed.analysis.faces)
        answered = analysed.answered(least)
        self.withheld += int((~answered).sum())
        best = analysed.analysis.probabilities.argmax(axis=1)
        self.answers.update(best[answered].tolist())
        self.frames += 1
        self.faces += faces
        self.without_face += not faces


@dataclass
class Tables:
    """Writes the same rows as CSV (with rounded numbers) and as Parquet."""

    columns: pa.Schema
    text: Any  # a csv.writer
    parquet: pq.ParquetWriter
    waiting: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.text.writerow(self.columns.names)
        self._formats = _formats(self.columns)

    def add(self, rows: Iterable[dict[str, Any]]) -> None:
        """Adds rows, each a dictionary of values by column."""
        for row in rows:
            self.text.writerow(
                "" if row.get(name) is None else form(row[name])
                for name, form in self._formats.items()
            )
            self.waiting.append(row)
        if len(self.waiting) >= _ROWS_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Writes the collected rows to the Parquet file, as one row group."""
        if self.waiting:
            self.parquet.write_table(pa.Table.from_pylist(self.waiting, self.columns))
            self.waiting.clear()


def _formats(columns: pa.Schema) -> dict[str, Any]:
    """For each column, the function that formats its values for CSV."""
    forms: dict[str, Any] = dict.fromkeys(columns.names, str)
    for column in columns:
        if column.type == pa.string():
            forms[column.name] = safe_cell
        elif column.type == pa.float32():
            forms[column.name] = _PIXELS.format
            if "prob_" in column.name:
                forms[column.name] = _PROBABILITY.format
    return forms | {"time_s": "{:.3f}".format, "detector_score": _SCORE.format}


@contextlib.contextmanager
def tables(folder: Path, columns: pa.Schema) -> Iterator[Tables]:
    """Writes predictions.csv and predictions.parquet in `folder`, atomically, as rows are added."""
    with (
        atomic_file(folder / "predictions.csv") as text,
        atomic_file(folder / "predictions.parquet") as binary,
        text.open("w", newline="", encoding="utf-8") as file,
        pq.ParquetWriter(binary, columns) as parquet,
    ):
        both = Tables(columns, csv.writer(file), parquet)
        yield both
        both.flush()


def copy_video(
    path: Path,
    frames: Iterator[AnalysedFrame],
    draw: Callable[[AnalysedFrame], UInt8[np.ndarray, "h w 3"]],
    config: schemas.Predict,
) -> None:
    """Writes the annotated frames as a video that plays at the speed of the original."""
    first = list(itertools.islice(frames, config.batch))
    rate = frame_rate([analysed.frame for analysed in first], config.every_s)
    write_video(path, rate, map(draw, itertools.chain(first, frames)))


def frame_rate(frames: Sequence[Frame], every_s: float) -> float:
    """Frames per second at which sampled frames play at the original speed.

    The rate is computed from the frames' times, since a video can have fewer frames than one per
    `every_s`. If the times do not differ, it is 1 / `every_s`, or 1 if `every_s` is 0.
    """
    span = frames[-1].time_s - frames[0].time_s if frames else 0.0
    if span > 0:
        return round((len(frames) - 1) / span, 3)
    return 1 / every_s if every_s > 0 else 1.0


def name_copies(sources: Iterable[Source], folder: Path) -> dict[str, Path]:
    """A distinct path for the annotated copy of each source, by the source's name.

    A copy has the name of its source; ".png" or ".mp4" is added if the format of its suffix cannot
    be written. Names that are too long or already used get a digest of the source's name.
    """
    wanted = {}
    for source in sources:
        suffixes = (".mp4",) if source.moving else (".png", ".jpg", ".jpeg")
        kept = Path(source.name).suffix.lower() in suffixes
        wanted[source.name] = source.name if kept else source.name + suffixes[0]
    # Sources that can keep their names come first.
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


def timeline_of(copy: Path, workdir: Path) -> Path:
    """The path of the timeline for the video whose annotated copy is `copy`."""
    return workdir / "timeline" / f"{copy.relative_to(workdir / 'annotated')}.png"
