"""The public functions of fer_jax; docs/python.md has an example of each.

They need no flags, and only `run` needs a workdir. They print nothing but progress bars and
warnings, and raise `UserError` for problems that the caller can fix.
"""

from __future__ import annotations

import functools
import math
import multiprocessing
import numbers
import os
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


def detect(images: Pictures, *, every_s: float = 0.2, progress: bool = True) -> pd.DataFrame:
    """Finds the faces in pictures and videos without recognising emotions.

    `read` with the starter finds the same faces.

    Args:
        images: as `source` in `read`.
        every_s: seconds of video between the frames that are searched; 0: every frame.
        progress: whether to show a progress bar.

    Returns:
        A table with the rows of `read` and its columns up to the landmarks. The column person is 0,
        since people are not numbered. `attrs["skipped"]` is that of `read`.

    Raises:
        UserError: there is no such source, nothing can be read, or an argument has a wrong type or
            is out of range.
    """
    _check_number("every_s", every_s, 0)
    backend.keep_compiled()
    pipeline = model_directory.read_record(starter.NAME).faces
    assert pipeline is not None, "the starter says how its faces were found"
    found = sources_of(images, every_s=every_s)
    reader = Reader(reading.Detection(pipeline), found.sources, progress=_bar("detect", progress))
    return _table(reader, found.others, "detect")


def read(
    source: Pictures,
    model: str | os.PathLike[str] | Recogniser = starter.NAME,
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
    """Reads the faces in pictures and videos, and their emotions.

    Args:
        source: the path of a picture, a video or a folder of both; a picture in memory, uint8
            [H, W, 3] RGB, or several of one size, [N, H, W, 3]; or a list of all these.
        model: "starter", a model directory, a workdir of `train` or `crossval` that contains one,
            or a `Recogniser`, which is compiled only once for several calls.
        every_s: seconds of video between the frames that are read; 0: every frame.
        min_confidence: 0..1; answers with a lower probability are withheld.
        coverage: the share of faces to answer, above 0 and at most 1, instead of `min_confidence`.
            The threshold is the one with which this share of held-out faces was answered when the
            model was measured (docs/python.md).
        people: only for a person-relative model; "one" if all pictures show the same person, or
            "folder" if the source (or each folder of a list) has one subfolder per person.
        neutral: only for a model with the reference "neutral"; a pattern that matches the file
            names of neutral photographs, or their paths inside the folder of a person, such as
            "neutral/*".
        batch: the maximum number of frames that are analysed together.
        smoothing_s: time constant in seconds for smoothing the probabilities of each person in a
            video; 0: no smoothing.
        progress: whether to show a progress bar.

    Returns:
        A table with one row per face (with a person-relative model, only for the largest face of
        each picture or frame), and one row for each picture or frame without a face, in which the
        columns x0 to smoothed_prob_* have no values, answered is False and reference_faces
        is 0. Columns: source (str: the file name, the path within the folder, or the number of a
        picture in memory; for a list, paths start as they were given), frame (int, from 0), time_s
        (float, seconds), person (int, from 1 in each video; 0: not numbered), x0, y0, x1, y1
        (float32, pixels), detector_score (0..1), left_eye_x to mouth_right_y (pixels), emotion
        (str), prob_* (float32, calibrated, one column per emotion), smoothed_emotion and
        smoothed_prob_* if there is a video, reference_faces (int) with a person-relative model, and
        answered (bool) with `min_confidence` or `coverage`. A withheld answer has the emotion ""
        and keeps its probabilities. `attrs["skipped"]` lists each source that could not be read
        completely, with the reason. With `min_confidence` or `coverage`, `attrs["abstaining"]` says
        how many answers were withheld, and the measured accuracy, if any.

    Raises:
        UserError: there is no such source or model, the model is damaged or does not recognise
            emotions, nothing can be read, an argument has a wrong type or is out of range,
            `min_confidence` and `coverage` are both passed, `coverage` is passed and the model was
            not measured on held-out faces, or `people` and `neutral` do not fit the model.
    """
    _check_number("every_s", every_s, 0)
    _check_number("smoothing_s", smoothing_s, 0)
    _check_number("batch", batch, 1, whole=True)
    for name, share in (("min_confidence", min_confidence), ("coverage", coverage)):
        if share is not None:
            _check_number(name, share, 0)
    backend.keep_compiled()
    found = sources_of(source, every_s=every_s)
    recogniser = model if isinstance(model, Recogniser) else _recogniser(model)
    rule = abstaining.rule(recogniser.folder, min_confidence=min_confidence, coverage=coverage)
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


def load_backbone(model: str | os.PathLike[str] = starter.NAME) -> Backbone:
    """Loads the backbone of a trained model, to compute features of faces.

    Args:
        model: "starter", a model directory, or a training workdir that contains one.

    Raises:
        UserError: there is no such model, or it is damaged.
    """
    backend.keep_compiled()
    return Backbone(model)


def config(name: str | os.PathLike[str], **fields: Any) -> ConfigDict:
    """The config of a stage, with some fields changed.

    Args:
        name: the name of a shipped config, such as "predict" or "emotion:small,rotation" (the
            command `fer-jax` lists them), or the path of a config file or of a saved `config.json`.
        **fields: values by field name; for a nested field, `**{"optimizer.learning_rate": 1e-3}`. A
            path may be an `os.PathLike`.

    Raises:
        UserError: there is no such config, it cannot be loaded or has no such field, or a value has
            a wrong type.
    """
    if not isinstance(name, str | os.PathLike):
        raise UserError(
            f"a config cannot be of the type {type(name).__name__}; pass its name or its path"
        )
    place = os.fspath(name)
    if not config_files.is_saved(place) and not place.partition(":")[0].endswith(".py"):
        place = config_files.named(place, config_files.folder())
    with config_files.importable():
        _, made = config_files.load(place)
    known = config_files.fields(made)
    for given, value in fields.items():
        field, value = given, _plain(value)
        is_section = isinstance(known.get(field), ConfigDict)
        if is_section and not isinstance(value, dict | ConfigDict):
            raise UserError(f"the field {field} is a section; pass a dictionary of its fields")
        for part in config_files.fields(ConfigDict(value), field) if is_section else [field]:
            if part not in known:
                raise UserError(config_files.unknown_field(part, list(known), ""))
        if not is_section:
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


def run(
    stage: str | os.PathLike[str] | ConfigDict, workdir: str | os.PathLike[str], **fields: Any
) -> dict[str, Any]:
    """Runs a stage in a workdir, as the command line does, and returns its summary.

    Finished work is not repeated: a finished stage returns its summary at once, and an interrupted
    one continues.

    Args:
        stage: a config, or its name or path as in `config`; not "serve", which is a command only.
        workdir: the folder that the stage writes to.
        **fields: as in `config`; only with a name or path.

    Raises:
        UserError: the config, an input or the workdir is invalid (see `fer_jax.workdir.stage`);
            `stage` is "serve"; `fields` are passed together with a config; or the call is not below
            `if __name__ == "__main__":`, so that a worker process repeats it.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise UserError(
            "worker processes import the script that started them; call fer_jax.run below "
            '`if __name__ == "__main__":`'
        )
    if isinstance(stage, ConfigDict):
        if fields:
            raise UserError(
                f"set {', '.join(fields)} in the config itself, or pass the config's name"
            )
        made = stage
    else:
        made = config(stage, **fields)
    name = str(made.get("stage", ""))
    if name == "serve":
        raise UserError(
            "serve runs until Ctrl-C, so it cannot be called; use the command fer-jax serve"
        )
    if not isinstance(workdir, str | os.PathLike):
        raise UserError(f"a workdir cannot be of the type {type(workdir).__name__}; pass its path")
    backend.keep_compiled()
    module = find_stage(name)
    with console.only_warnings():
        summary: dict[str, Any] = module.run(made, workdir)
    return summary


def _check_number(name: str, value: object, least: int, *, whole: bool = False) -> None:
    """Raises a `UserError` unless `value` is a finite number (`whole`: an integer) >= `least`."""
    wanted = "a whole number" if whole else "a finite number"
    kind = numbers.Integral if whole else numbers.Real
    right = isinstance(value, kind) and not isinstance(value, bool)
    if not right or not least <= value < math.inf:  # type: ignore[operator]
        raise UserError(f"{name}={value!r} must be {wanted}, {least} or more")


def _plain(value: Any) -> Any:
    """The value with each `os.PathLike` converted to str, also inside dictionaries."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    return value


def _recogniser(model: str | os.PathLike[str]) -> Recogniser:
    """Loads a recogniser; only the starter is cached, since other models may change on the disk."""
    is_starter = model_directory.find(model) == starter.folder()
    return _starter() if is_starter else Recogniser.load(model)


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
    """All rows of a reader as a table; a warning states how many sources were skipped.

    Args:
        reader: the reader, from which all sources are read.
        others: further skipped sources, each with the reason.
        name: the name of the public function, for the warning.
        rule: the rule for withholding answers; None: no answer is withheld.

    Raises:
        UserError: sources were skipped, and nothing could be read.
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
        raise UserError(f"nothing could be read; the last error: {source}: {reason}")
    if skipped:
        number = console.count(len(reader.skips), "source")
        console.warn(f"{name} skipped {number}; see table.attrs['skipped']")
    columns = reading.schema(
        reader.labels,
        smoothed=any(source.moving for source in reader.sources),
        relative=reader.relative,
        abstains=rule is not None,
    )
    table = reading.table(rows, columns)
    table.attrs["skipped"] = list(skipped)
    if rule is not None:
        answered = [row["answered"] for row in rows if "x0" in row]  # only rows with a face
        table.attrs["abstaining"] = rule.describe(answered.count(False), len(answered))
    return table
