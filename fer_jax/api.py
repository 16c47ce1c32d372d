"""The functions of `import fer_jax`; docs/python.md has an example of each.

None of them needs flags or a workdir. They print nothing but progress bars and warnings, and raise
`UserError` for what the caller can fix.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
from pathlib import Path
from typing import Any

import pandas as pd
from ml_collections import ConfigDict

from fer_jax import abstaining, backend, config_files, console, reading
from fer_jax.errors import UserError
from fer_jax.features import Backbone
from fer_jax.following import follower
from fer_jax.models import starter
from fer_jax.reading import Pictures, Reader, sources_of
from fer_jax.recogniser import Recogniser
from fer_jax.smoothing import SMOOTHING_S
from fer_jax.stages import find_stage
from fer_jax.training import model_directory


def detect(images: Pictures, *, progress: bool = True) -> pd.DataFrame:
    """The faces in pictures, as `read` finds them with the starter, without their emotions.

    Args:
        images: as in `read`.
        progress: whether to show a progress bar.

    Returns:
        The columns of `read` up to the landmarks.

    Raises:
        UserError: as in `read`.
    """
    backend.keep_compiled()
    pipeline = model_directory.read_record(starter.NAME).faces
    assert pipeline is not None, "the starter says how its faces were found"
    found = sources_of(images, every_s=0.2)
    reader = Reader(reading.Detection(pipeline), found.sources, progress=_bar("detect", progress))
    return _table(reader, found.others, "detect")


def read(
    source: Pictures,
    model: str | Path | Recogniser = starter.NAME,
    *,
    every_s: float = 0.2,
    min_confidence: float | None = None,
    coverage: float | None = None,
    people: str = "",
    neutral: str = "",
    batch: int = 8,
    smoothing_s: float = SMOOTHING_S,
    progress: bool = True,
) -> pd.DataFrame:
    """The faces in pictures and videos, and their emotions.

    Args:
        source: the path of a picture, a video or a folder of both; a picture in memory, uint8
            [H, W, 3] RGB, or several of one size, [N, H, W, 3]; or a list of all these.
        model: "starter", a model directory, the workdir of `train` or `crossval` that holds one, or
            a `Recogniser`, which is not compiled again for the next call.
        every_s: seconds of video between the frames that are read; 0 reads all.
        min_confidence: 0..1; answers with a lower probability are withheld.
        coverage: the share of faces to answer, above 0 and at most 1; instead of `min_confidence`.
            The threshold is that which answered this share of held-out faces when the model was
            measured (docs/python.md).
        people: for a person-relative model: "one" person on all pictures, or "folder": a folder
            for each person inside the source, or inside each folder of a list.
        neutral: for the reference "neutral": pattern of the file names of neutral photographs.
        batch: frames that are analysed together.
        smoothing_s: time constant in seconds of the probabilities that are smoothed over time, for
            each person of a video; 0 does not smooth.
        progress: whether to show a progress bar.

    Returns:
        One row per face, and one for a picture or frame without a face, in which the columns x0 to
        smoothed_prob_* are missing, answered is False and reference_faces is 0: source (str: name
        of the file, path within the folder, or number of the picture in memory), frame (int, from
        0), time_s (float, seconds), person (int, from 1 in each video; 0: not numbered), x0, y0,
        x1, y1 (float32, pixels), detector_score
        (0..1), left_eye_x to mouth_right_y (pixels), emotion (str), prob_* (float32, calibrated,
        one column for each emotion), smoothed_emotion and smoothed_prob_* if there is a video,
        reference_faces (int) with a person-relative model, and answered (bool) with
        `min_confidence` or `coverage`. An answer that is withheld has the emotion "" and keeps its
        probabilities. `attrs["skipped"]` lists name and reason of what could not be read,
        `attrs["abstaining"]` says how many answers were withheld and what accuracy was measured.

    Raises:
        UserError: there is no such source or model, nothing can be read, or `coverage` is given and
            the model was not measured on held-out faces.
    """
    backend.keep_compiled()
    found = sources_of(source, every_s=every_s)
    recogniser = model if isinstance(model, Recogniser) else _recogniser(model)
    rule = abstaining.rule(recogniser.where, min_confidence=min_confidence, coverage=coverage)
    reader = Reader(
        recogniser,
        found.sources,
        batch=batch,
        people=people,
        neutral=neutral,
        follow=follower(smoothing_s),
        progress=_bar("read", progress),
    )
    return _table(reader, found.others, "read", rule)


def load_backbone(model: str | Path = starter.NAME) -> Backbone:
    """The backbone of a trained model, for features of faces.

    Args:
        model: "starter", a model directory, or a training workdir that holds one.

    Raises:
        UserError: there is no such model, or it is damaged.
    """
    backend.keep_compiled()
    return Backbone(model)


def config(name: str | Path, **fields: Any) -> ConfigDict:
    """The config of a stage, with some fields changed.

    Args:
        name: of a shipped config, such as "predict" or "emotion:small,rotation" (the command
            `fer-jax` lists them), or the path of a config file.
        **fields: values by the field's name; `**{"optimizer.learning_rate": 1e-3}` for a nested
            one.

    Raises:
        UserError: there is no such config, or it has no such field.
    """
    place = os.fspath(name)
    if not place.partition(":")[0].endswith(".py"):
        place = config_files.named(place, config_files.folder())
    with config_files.importable():
        _, made = config_files.load(place)
    known = config_files.fields(made)
    for given, value in fields.items():
        field = given
        if field not in known:
            raise UserError(config_files.unknown_field(field, list(known), ""))
        if not isinstance(known[field], ConfigDict):
            field, _, last = field.rpartition(".")
            value = {last: value}
        section: ConfigDict = functools.reduce(
            lambda part, key: part[key], filter(None, field.split(".")), made
        )
        try:
            section.update(value)
        except TypeError as error:
            raise UserError(f"the field {given}: {error}") from error
    return made


def run(stage: str | Path | ConfigDict, workdir: str | Path, **fields: Any) -> dict[str, Any]:
    """Runs a stage in a workdir, as the command line does, and returns its summary.

    A finished stage returns at once; one that was killed goes on.

    Args:
        stage: a config, or what `config` makes one of.
        workdir: the folder that the stage writes.
        **fields: as in `config`; only with a name.

    Raises:
        UserError: the config, an input or the workdir is wrong; see `fer_jax.workdir.stage`. Or a
            worker process, which imports the script that started it, arrives here too.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise UserError(
            "worker processes import the script that started them; call fer_jax.run below "
            '`if __name__ == "__main__":`'
        )
    if isinstance(stage, ConfigDict):
        if fields:
            raise UserError(f"give {', '.join(fields)} in the config itself, or the config's name")
        made = stage
    else:
        made = config(stage, **fields)
    backend.keep_compiled()
    module = find_stage(str(made.get("stage", "")))
    with console.only_warnings():
        summary: dict[str, Any] = module.run(made, workdir)
    return summary


def _recogniser(model: str | Path) -> Recogniser:
    """The starter stays loaded; other models may change in their folder."""
    return _starter() if model == starter.NAME else Recogniser.load(model)


@functools.cache
def _starter() -> Recogniser:
    return Recogniser.load(starter.NAME)


def _bar(name: str, shown: bool) -> str:
    return name if shown else ""


def _table(
    reader: Reader,
    others: list[tuple[str, str]],
    name: str,
    rule: abstaining.Rule | None = None,
) -> pd.DataFrame:
    """All rows of a reader; a warning counts what was skipped.

    Raises:
        UserError: nothing could be read.
    """
    for source, reason in others:
        reader.skips.add(source, reason)
    least = rule.threshold if rule else 0.0
    rows = [
        row
        for analysed in reader
        for row in analysed.rows(reader.labels, relative=reader.relative, least=least)
    ]
    skipped = reader.skips.rows
    if skipped and not rows:
        source, reason = skipped[-1]
        raise UserError(f"nothing can be read; {source}: {reason}")
    if skipped:
        console.warn(f"{name}: sources skipped: {len(reader.skips)}; see table.attrs['skipped']")
    columns = reading.schema(
        reader.labels,
        smoothed=any(source.moving for source in reader.sources),
        relative=reader.relative,
        abstains=rule is not None,
    )
    table = reading.table(rows, columns)
    table.attrs["skipped"] = list(skipped)
    if rule is not None:
        answered = [row["answered"] for row in rows if "x0" in row]  # those of faces
        table.attrs["abstaining"] = rule.describe(answered.count(False), len(answered))
    return table
