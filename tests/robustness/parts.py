"""The parts of the harness that generate inputs: each is a strategy and a check.

Whatever its inputs are, a stage ends in success or in `UserError`, the originals are unchanged, the
counts add up, and accepted inputs are read as they were meant.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import re
import shutil
import unicodedata
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import strategies as st
from ml_collections import ConfigDict
from safetensors.numpy import load_file, save_file

from configs import emotion, evaluate, extract, photographs, predict
from fer_jax.crossval.methods import fine_tune
from fer_jax.errors import UserError
from fer_jax.faces.images import SUFFIXES as IMAGE_SUFFIXES
from fer_jax.faces.video import SUFFIXES as VIDEO_SUFFIXES
from fer_jax.schemas import validated
from fer_jax.stages import train
from fer_jax.training import model_directory
from fer_jax.training.learner import Learner, make_tasks
from fer_jax.workdir import write_json
from tests.metrics.simulation import simulate, write_run
from tests.robustness import originals, stages
from tests.robustness.originals import EMOTIONS
from tests.robustness.strategies import (
    HOSTILE,
    Damage,
    Entry,
    JsonChange,
    Ledger,
    Table,
    TableChange,
    damage_lists,
    damaged,
    entry_lists,
    json_changes,
    label_tables,
    ledgers,
    shares,
    table_changes,
    texts,
    value_like,
)
from tests.training.tiny import make_learner


@dataclass(frozen=True)
class Accepted:
    """The result of a stage that was not refused: its summary, and what it printed.

    The summary is empty if a training run was stopped where its steps would begin.
    """

    summary: dict[str, Any]
    printed: str


@dataclass(frozen=True)
class Refused:
    """The result of a stage that ended in `UserError`."""

    message: str
    printed: str


class ReachedError(Exception):
    """Raised when a training run would begin its steps, which the harness counts as success."""


class ViolationError(Exception):
    """A requirement is violated."""


def require(condition: object, what: str) -> None:
    if not condition:
        raise ViolationError(what)


def attempt(
    run: Callable[[ConfigDict, Path], dict[str, Any]],
    config: Callable[[], ConfigDict],
    workdir: Path,
    *roots: Path,
) -> Accepted | Refused:
    """Runs a stage and checks what is required of every run.

    `config` makes the config, and may raise `UserError`; `roots` contain the originals.

    Raises:
        ViolationError: a `UserError` has no message, the output contains a control character, or an
            original below `roots` has changed.
        Exception: the stage raised an error other than `UserError`.
    """
    before = originals.digests(*roots)
    printed = io.StringIO()
    result: Accepted | Refused
    try:
        with (
            contextlib.redirect_stdout(printed),
            contextlib.redirect_stderr(printed),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")  # those of libraries: the console logs them, escaped
            result = Accepted(run(config(), workdir), printed.getvalue())
    except ReachedError:
        result = Accepted({}, printed.getvalue())
    except UserError as error:
        require(str(error).strip(), "an error without a message")
        result = Refused(str(error), printed.getvalue())
    missing = originals.lost(before, originals.digests(*roots))
    require(not missing, f"originals were changed: {missing[:3]}")
    odd = {character for character in result.printed if _is_control(character)}
    require(not odd, f"control characters reach the terminal: {odd}")
    return result


def _is_control(character: str) -> bool:
    return character not in "\n\r\t" and unicodedata.category(character) == "Cc"


# labels


def check_labels(folder: Path, table: Table) -> None:
    """Checks `photographs` on a generated labels.csv."""
    photos, workdir = folder / "photos", folder / "work"
    _write_numbered(photos)
    (photos / "labels.csv").write_bytes(table.content)
    result = _photographs(photos, workdir)
    if isinstance(result, Accepted) and table.plain:
        given = sum(any(cell.strip() for cell in row) for row in table.rows)
        counted = _photographs_counted(result.summary)
        require(given == counted, f"{given} rows were given and {counted} are accounted for")
    if isinstance(result, Accepted):
        _require_people_apart(workdir)


def _write_numbered(photos: Path) -> None:
    for number in range(8):
        originals.write_picture(photos / f"{number}.png", number)


def _photographs(photos: Path, workdir: Path, **fields: Any) -> Accepted | Refused:
    def config() -> ConfigDict:
        made = photographs.get_config()
        made.update({"photos": str(photos), "emotions": EMOTIONS, **fields})
        return made

    return attempt(stages.CASES["photographs"].run, config, workdir, photos)


def _photographs_counted(summary: dict[str, Any]) -> int:
    require(
        summary["photographs"] == summary["with_face"] + summary["without_face"],
        "photographs are not the sum of those with and without a face",
    )
    names = ("photographs", "ignored", "without_consent")
    return sum(int(summary[name]) for name in names)


def _person(name: str) -> str:
    """The name without differences of spelling, by rules that do not use fer_jax."""
    text = unicodedata.normalize("NFKD", name).translate(
        str.maketrans({"ي": "ی", "ى": "ی", "ك": "ک", "ـ": None})
    )
    kept = (c for c in text if unicodedata.category(c) not in ("Mn", "Cf"))
    digits = (str(unicodedata.digit(c)) if unicodedata.category(c) == "Nd" else c for c in kept)
    return " ".join("".join(digits).casefold().split())


def _require_people_apart(workdir: Path) -> None:
    table = pd.read_parquet(workdir / "photographs.parquet")
    names = table["subject"].unique()
    people = {_person(name) for name in names}
    require(len(people) == len(names), f"one person under two names: {sorted(names)}")


# consent


def check_ledger(folder: Path, ledger: Ledger) -> None:
    """Checks that only people who certainly consent, by a generated consent.csv, are used.

    A ledger that is neither a file nor a link to one must be refused. The rows of a ledger are
    checked only if it is `plain`.
    """
    photos, workdir = folder / "photos", folder / "work"
    originals.write_photos(photos)
    place = photos / "consent.csv"
    place.unlink()
    match ledger.kind:
        case "file":
            place.write_bytes(ledger.table.content)
        case "link":
            (folder / "ledger.csv").write_bytes(ledger.table.content)
            place.symlink_to(folder / "ledger.csv")
        case "broken":
            place.symlink_to(folder / "nowhere.csv")
        case "circular":
            place.symlink_to(place)
        case "folder":
            place.mkdir()
        case "pipe":
            os.mkfifo(place)
    result = _photographs(photos, workdir)
    if isinstance(result, Refused):
        return
    require(ledger.kind in ("file", "link"), f"a ledger of the kind {ledger.kind!r} was ignored")
    used = set(pd.read_parquet(workdir / "photographs.parquet")["subject"])
    if ledger.table.plain:
        given = _photographs_counted(result.summary)
        require(given == 12, f"12 photographs were given and {given} are accounted for")
        doubtful = {person for person in used if not _certainly_allowed(person, ledger.table)}
        require(not doubtful, f"used without consent: {sorted(doubtful)}")


def _certainly_allowed(person: str, table: Table) -> bool:
    """Whether exactly one row of the ledger names the person, and it is complete and consents."""
    header = [name.strip().lower() for name in table.header]
    if len(set(header)) < len(header):
        return False
    rows = [row for row in table.rows if any(_person(cell) == _person(person) for cell in row)]
    whole = [dict(zip(header, row, strict=True)) for row in rows if len(row) == len(header)]
    return len(whole) == len(rows) == 1 and all(
        row.get("train", "").strip().lower() in ("yes", "true", "1")
        and row.get("revoked", "").strip().lower() in ("", "no", "false", "0")
        for row in whole
    )


# folders


def build_entry(root: Path, outside: Path, entry: Entry) -> None:
    """Makes an entry below `root`, unless the disk refuses it; `outside` has files to link to."""
    folder = Path(root, *map(os.fsdecode, entry.folders))
    path = folder / os.fsdecode(entry.name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(path):
            return
        match entry.kind:
            case "picture":
                shutil.copyfile(outside / "one.jpg", path)
            case "video":
                shutil.copyfile(outside / "clip.mp4", path)
            case "empty":
                path.touch()
            case "text":
                path.write_bytes(b"words\n")
            case "pipe":
                os.mkfifo(path)
            case "link":
                path.symlink_to(outside / "one.jpg")
            case "broken":
                path.symlink_to("/nowhere/at/all")
            case "circular":
                path.symlink_to(folder)
            case "linked_folder":
                path.symlink_to(outside)
    except OSError:  # a name that this disk refuses, or a file in the place of a folder
        return


def _files(root: Path) -> Iterator[Path]:
    """Files below a folder, except hidden ones; hidden and linked folders are not entered."""
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(folder, name)
            if not name.startswith(".") and path.is_file():
                yield path


def check_folder(folder: Path, example: tuple[str, Sequence[Entry]]) -> None:
    """Checks `predict`, `extract` or `photographs` on a folder with entries of any kind."""
    name, entries = example
    root, outside = folder / "given", folder / "outside"
    root.mkdir()
    originals.write_media(outside)
    for entry in entries:
        build_entry(root, outside, entry)
    if name == "predict":
        _check_predict_folder(folder, root, outside)
    elif name == "extract":
        result = attempt(
            stages.CASES["extract"].run, lambda: _extract_config(root), folder / "work",
            root, outside,
        )  # fmt: skip
        if isinstance(result, Accepted):
            _check_extract(folder / "work", result.summary)
    else:
        result = _photographs(root, folder / "work")
        if isinstance(result, Accepted):
            _require_people_apart(folder / "work")


def _extract_config(root: Path) -> ConfigDict:
    config = extract.get_config()
    config.update({"videos": str(root), "every_s": 0.25})
    return config


def _check_extract(workdir: Path, summary: dict[str, Any]) -> None:
    counted = summary["with_faces"] + summary["without_faces"] + summary["failed"]
    require(summary["frames"] == counted, f"{summary['frames']} frames, {counted} accounted for")
    shards = [f for f in (workdir / "shards").iterdir() if not f.name.startswith(".")]
    fewest = summary["videos"] - summary["skipped"]
    require(fewest <= len(shards) <= summary["videos"], f"{len(shards)} shards of {summary}")


def _predict_config(root: Path, model: Path) -> ConfigDict:
    config = predict.get_config()
    config.update({"input": str(root), "model": str(model), "batch": 2})
    return config


_GOOD = (("one", ".jpg"), ("clip", ".mp4"))


def _check_predict_folder(folder: Path, root: Path, outside: Path) -> Accepted | None:
    model, workdir = folder / "model", folder / "work"
    stages.write_model(model, "emotion", EMOTIONS)
    result = attempt(
        stages.CASES["predict"].run, lambda: _predict_config(root, model), workdir, root, outside
    )
    if isinstance(result, Refused):
        whole = {".jpg": IMAGE_SUFFIXES, ".mp4": VIDEO_SUFFIXES}
        contents = {(outside / f"{n}{s}").read_bytes(): whole[s] for n, s in _GOOD}
        good = [
            path
            for path in _files(root)
            if path.suffix.lower() in contents.get(path.read_bytes(), ())
        ]
        require(not good, f"refused although {good[:2]} can be read: {result.message}")
        return None
    check_predictions(workdir, result.summary)
    given = len(list(_files(root)))
    sources = result.summary["sources"]
    require(sources >= given, f"{given} files were given and {sources} are accounted for")
    return result


def check_predictions(workdir: Path, summary: dict[str, Any]) -> None:
    """Checks the number of sources, the probabilities, and that no source is a formula."""
    with (workdir / "predictions.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    with (workdir / "skipped.csv").open(newline="", encoding="utf-8") as file:
        skipped = list(csv.DictReader(file))
    names = {row["source"] for row in rows} | {row["source"] for row in skipped}
    require(len(names) == summary["sources"], f"{summary['sources']} sources, {len(names)} named")
    for row in (*rows, *skipped):
        require(row["source"][:1] not in "=+-@\t\r" or not row["source"], f"a formula: {row}")
    for row in rows:
        values = [value for name, value in row.items() if name.startswith("prob_") and value]
        if values:
            probabilities = np.array(values, float)
            good = np.isfinite(probabilities).all() and abs(probabilities.sum() - 1) < 1e-3
            require(good and (probabilities >= 0).all(), f"invalid probabilities: {values}")


# media


@dataclass(frozen=True)
class Medium:
    """A damaged or extreme picture or video, whose suffix may be that of another format."""

    base: str
    changes: tuple[Damage, ...]
    suffix: str


def _picture(path: Path) -> None:
    path.write_bytes(originals.encoded(originals.picture(4), path.suffix))


def _transparent(path: Path) -> None:
    image = np.dstack([originals.picture(5), np.full((48, 64), 90, np.uint8)])
    path.write_bytes(originals.encoded(image, ".png"))


def _deep(path: Path) -> None:
    path.write_bytes(originals.encoded(originals.picture(6).astype(np.uint16) * 257, ".png"))


def _bomb(path: Path) -> None:
    """Writes a picture of 400 million pixels in 50 kB."""
    path.write_bytes(originals.blank_png(20_000, 20_000))


def _wide(path: Path) -> None:
    path.write_bytes(originals.blank_png(20_000, 100))


def _clip(path: Path) -> None:
    codec = "mjpeg" if path.suffix == ".avi" else "mpeg4"
    originals.write_video(path, 7, frames=6, codec=codec)


def _old_title(path: Path) -> None:
    """Writes a video whose title is in the encoding of Persian Windows."""
    originals.write_video(path, 8, title="TITLE HERE")
    path.write_bytes(path.read_bytes().replace(b"TITLE HERE", "سلام عليكم".encode("cp1256")))


def _long_duration(path: Path) -> None:
    """Writes a video whose header states a duration of 99,999,999 hours."""
    originals.write_video(path, 9)
    content = path.read_bytes()
    path.write_bytes(re.sub(rb"00:00:0\d\.\d{9}", b"99999999:00:00.000", content))


BASES: dict[str, Callable[[Path], None]] = {
    "picture.png": _picture, "picture.jpg": _picture, "picture.tiff": _picture,
    "picture.webp": _picture, "picture.bmp": _picture, "picture.ppm": _picture,
    "picture.jp2": _picture, "alpha.png": _transparent, "deep.png": _deep, "clip.mp4": _clip,
    "clip.mkv": _clip, "clip.avi": _clip, "old title.mkv": _old_title,
    "long.mkv": _long_duration,
}  # fmt: skip
EXTREMES = {"bomb.png": _bomb, "wide.png": _wide, "old title.mkv": _old_title,
            "long.mkv": _long_duration}  # fmt: skip
_damaged = st.builds(
    Medium,
    base=st.sampled_from([*BASES, "clip.mp4", "clip.mkv", "picture.png"]),
    changes=damage_lists.map(tuple),
    suffix=st.sampled_from(("", "", "", "", ".jpg", ".mp4", ".png", ".mkv")),
)
_extreme = st.builds(
    Medium, base=st.sampled_from([*EXTREMES]), changes=st.just(()), suffix=st.just("")
)
media = st.one_of(*[_damaged] * 7, _extreme)


def check_medium(folder: Path, medium: Medium) -> None:
    """Checks that a damaged file does not end a run, and that good files are still read."""
    root, outside = folder / "given", folder / "outside"
    root.mkdir()
    originals.write_media(outside)
    {**BASES, **EXTREMES}[medium.base](folder / medium.base)
    content = damaged((folder / medium.base).read_bytes(), medium.changes)
    suffix = medium.suffix or Path(medium.base).suffix
    (root / f"odd{suffix}").write_bytes(content)
    shutil.copyfile(outside / "one.jpg", root / "good.jpg")
    shutil.copyfile(outside / "clip.mp4", root / "good clip.mp4")
    accepted = _check_predict_folder(folder, root, outside)
    require(accepted, "a damaged file ended the run")
    table = pd.read_csv(folder / "work" / "predictions.csv")
    require({"good.jpg", "good clip.mp4"} <= set(table["source"]), "a good file was lost")
    if suffix in VIDEO_SUFFIXES:
        run = stages.CASES["extract"].run
        result = attempt(run, lambda: _extract_config(root), folder / "extract", root)
        require(isinstance(result, Accepted), f"a damaged video ended the run: {result}")
        assert isinstance(result, Accepted)
        _check_extract(folder / "extract", result.summary)
        require(result.summary["with_faces"] >= 3, "the good video's faces were lost")


# models


@dataclass(frozen=True)
class ModelDamage:
    """Damage to a model directory: to bytes of the weights, an array, or the description."""

    weights: tuple[Damage, ...]
    array: TableChange | None
    description: JsonChange | None


models = st.one_of(
    st.builds(ModelDamage, damage_lists.map(tuple), st.none(), st.none()),
    st.builds(ModelDamage, st.just(()), table_changes, st.none()),
    st.builds(ModelDamage, st.just(()), st.none(), json_changes),
)


def write_real_model(folder: Path) -> None:
    """Writes a workdir of faces, and a model directory with initial weights."""
    stages.write_photographs(folder / "faces")
    config = emotion.get_config("small").unlock()
    config.image_size = 32
    config = validated(config)
    made = make_tasks(config.tasks.fields(), emotion={"classes": EMOTIONS})
    learner = make_learner(config, *made, 1)
    spec = model_directory.describe(
        config.backbone,
        config.image_size,
        learner.tasks,
        faces=model_directory.read_faces(folder / "faces"),
    )
    model_directory.save(folder / "model", model_directory.arrays_of(learner.init(0)), spec)


_REAL: dict[str, Path] = {}


def _real_model(folder: Path) -> Path:
    """The folder of the undamaged model and its predictions, made once per process."""
    if "model" not in _REAL or not _REAL["model"].is_dir():
        home = folder.parent / f"real model {os.getpid()}"
        write_real_model(home)
        originals.write_picture(home / "given" / "one.jpg", 1)
        config = _predict_config(home / "given", home / "model")
        with contextlib.redirect_stdout(io.StringIO()):
            stages.CASES["predict"].run(config, home / "work")
        _REAL["model"] = home
    return _REAL["model"]


def check_model(folder: Path, example: ModelDamage) -> None:
    """Checks that `predict` refuses damaged weights, or that they do not change its results.

    If the description is damaged, the results may differ, but must be valid.
    """
    home = _real_model(folder)
    model = folder / "model"
    originals.copy(home / "model", model)
    weights = model / "weights.safetensors"
    weights.write_bytes(damaged(weights.read_bytes(), example.weights))
    if example.array:
        arrays = load_file(weights)
        save_file(changed_arrays(arrays, example.array), weights)
    description = model / "model.json"
    if example.description:
        description.write_text(example.description(description.read_text()))
    result = attempt(
        stages.CASES["predict"].run, lambda: _predict_config(home / "given", model),
        folder / "work", home / "given", model,
    )  # fmt: skip
    if isinstance(result, Refused):
        return
    check_predictions(folder / "work", result.summary)
    if example.description is None:
        same = (folder / "work" / "predictions.csv").read_bytes()
        wanted = (home / "work" / "predictions.csv").read_bytes()
        require(same == wanted, "damaged weights were used, and changed the answer")


def changed_arrays(arrays: dict[str, np.ndarray], change: TableChange) -> dict[str, np.ndarray]:
    """Changes a value, the name, the type or the shape of one of the arrays, or removes it."""
    names = sorted(arrays)
    name = names[min(int(change.column * len(names)), len(names) - 1)]
    array = arrays[name]
    match change.kind:
        case "drop":
            del arrays[name]
        case "rename":
            arrays[name + "x"] = arrays.pop(name)
        case "value":
            flat = array.ravel().copy()
            value = change.value if isinstance(change.value, float) else float("nan")
            with np.errstate(over="ignore"):
                flat[min(int(change.row * flat.size), flat.size - 1)] = value
            arrays[name] = flat.reshape(array.shape)
        case "double":
            arrays[name] = array.astype(np.float64)
        case "empty":
            arrays[name] = array[:0]
        case _:
            arrays[name] = np.rint(array * 100).astype(np.int32)
    return arrays


# records of earlier stages


@dataclass(frozen=True)
class RecordDamage:
    """Damage to one of the files of an earlier stage.

    Attributes:
        case: the stage that reads the file.
        file: the position of the file among all files, as a fraction.
        changes: changes of the bytes of a picture, or with `as_text` of any file.
        json: without `as_text`, the change of a JSON file.
        table: without `as_text`, the change of a table.
        as_text: whether the bytes are changed, whatever the kind of the file.
    """

    case: str
    file: float
    changes: tuple[Damage, ...]
    json: JsonChange
    table: TableChange
    as_text: bool


RECORD_CASES = ("evaluate", "study", "audit", "refine", "crossval")
records = st.builds(
    RecordDamage,
    case=st.sampled_from(RECORD_CASES),
    file=shares,
    changes=damage_lists.map(tuple),
    json=json_changes,
    table=table_changes,
    as_text=st.booleans(),
)


def check_record(folder: Path, example: RecordDamage) -> None:
    """Checks a stage that reads the workdir of another stage, in which a file is damaged."""
    main, side, workdir = folder / "main", folder / "side", folder / "work"
    case = prepared(example.case, main, side)
    known = [f for root in (main, side) for f in root.rglob("*") if f.suffix in _RECORDS]
    file = sorted(known)[min(int(example.file * len(known)), len(known) - 1)]
    damage_record(file, example)
    with quick_training():
        result = attempt(case.run, lambda: case.configure(main, side), workdir, main, side)
    if isinstance(result, Accepted) and example.case == "evaluate":
        value = result.summary["accuracy"]
        require(0 <= value <= 1, f"an accuracy of {value}")


_RECORDS = (".json", ".parquet", ".png")


def damage_record(file: Path, example: RecordDamage) -> None:
    """Changes a value of a JSON file or a table, or the bytes of any file."""
    if example.as_text or file.suffix == ".png":
        file.write_bytes(damaged(file.read_bytes(), example.changes))
    elif file.suffix == ".json":
        file.write_text(example.json(file.read_text()))
    else:
        frame = changed_frame(pd.read_parquet(file), example.table)
        with contextlib.suppress(Exception):  # values that a table cannot contain are not written
            frame.to_parquet(file)


def changed_frame(frame: pd.DataFrame, change: TableChange) -> pd.DataFrame:
    """The table with one change."""
    name = frame.columns[min(int(change.column * len(frame.columns)), len(frame.columns) - 1)]
    match change.kind:
        case "drop":
            return frame.drop(columns=name)
        case "rename":
            return frame.rename(columns={name: f"{name}2"})
        case "double":
            return pd.concat([frame, frame.iloc[: 1 + int(change.row * 3)]], ignore_index=True)
        case "empty":
            return frame.iloc[:0]
        case "text":
            return frame.assign(**{name: frame[name].astype(str)})
        case _:
            values = frame[name].astype(object).tolist()
            if values:
                values[min(int(change.row * len(values)), len(values) - 1)] = change.value
            return frame.assign(**{name: values})


@contextlib.contextmanager
def quick_training(*, with_network: bool = True) -> Iterator[None]:
    """Ends a training run where its steps would begin, with `ReachedError`.

    Without `with_network`, it ends where the first weights would be drawn.
    """

    def reached(*_: Any, **__: Any) -> Any:
        raise ReachedError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fine_tune, "fit", reached)
        patch.setattr(train, "fit", reached)
        if not with_network:
            patch.setattr(Learner, "init", reached)
        yield


_PREPARED: dict[str, Path] = {}


def prepared(name: str, main: Path, side: Path) -> stages.StageCase:
    """Copies the originals of a stage to `main` and `side`; returns its case.

    The originals are made once per process.
    """
    case = stages.CASES[name]
    if name not in _PREPARED or not _PREPARED[name].is_dir():
        home = main.parent.parent / f"prepared {name} {os.getpid()}"
        for part in ("main", "side"):
            (home / part).mkdir(parents=True, exist_ok=True)
        with contextlib.redirect_stdout(io.StringIO()):
            case.prepare(home / "main", home / "side")
        _PREPARED[name] = home
    originals.copy(_PREPARED[name] / "main", main)
    originals.copy(_PREPARED[name] / "side", side)
    return case


# configs


@dataclass(frozen=True)
class ConfigChange:
    """Fields of a stage's config with other values."""

    case: str
    fields: tuple[tuple[str, Any], ...]


# Amounts of work: large values are valid, only slow.
_AMOUNTS = re.compile(
    r"(epochs|min_steps|samples|people|frames|scenes|per_emotion|fps|folds|neighbours|seeds"
    r"|steps|size|per_frame|image_size|wandb|dataset|width|sheet|every_s)$"
)
_PATHS = re.compile(
    r"(photos|videos|input|model|faces|verifier|root|work|init|pool|photographs|test_photographs"
    r"|workers|runner|runner_options|probe\..*|runs\..*|context|stage|needs|order|remove)$"
)
_MOST_WORK = 300


def config_fields(case: stages.StageCase) -> dict[str, Any]:
    """The fields of a case's config, without those in _PATHS, by their dotted names."""
    config = case.configure(Path("main"), Path("side"))
    flat: dict[str, Any] = {}

    def walk(part: ConfigDict, prefix: str) -> None:
        for key, value in part.items():
            if isinstance(value, ConfigDict):
                walk(value, f"{prefix}{key}.")
            elif not _PATHS.search(f"{prefix}{key}"):
                flat[prefix + key] = value

    walk(config, "")
    return flat


CONFIG_CASES = (
    "render", "extract", "photographs", "refine", "predict", "evaluate", "study", "audit",
    "crossval", "train",
)  # fmt: skip


@st.composite
def config_changes(draw: st.DrawFn) -> ConfigChange:
    """One or two fields of one stage's config with other values."""
    name = draw(st.sampled_from(CONFIG_CASES))
    fields = config_fields(stages.CASES[name])
    chosen = draw(st.lists(st.sampled_from(sorted(fields)), min_size=1, max_size=2, unique=True))
    pairs = []
    for field in chosen:
        values = value_like(fields[field])
        if _AMOUNTS.search(field):
            values = values.filter(_is_bearable)
        pairs.append((field, draw(values)))
    return ConfigChange(name, tuple(pairs))


def _is_bearable(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(_is_bearable(part) for part in value)
    return not isinstance(value, int | float) or not abs(value) > _MOST_WORK


def check_config(folder: Path, example: ConfigChange) -> None:
    """Checks a stage whose config has other values, also out of range."""
    main, side, workdir = folder / "main", folder / "side", folder / "work"
    case = prepared(example.case, main, side)

    def config() -> ConfigDict:
        made = case.configure(main, side)
        made.lock()
        try:
            for name, value in example.fields:
                made.update_from_flattened_dict({name: value})
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise UserError(f"the flags refuse it: {error}") from error  # as launch.py does
        return made

    with quick_training():
        attempt(case.run, config, workdir, main, side)


# finished workdirs


@dataclass(frozen=True)
class WorkdirDamage:
    """Damage to a finished workdir of the stage `case`.

    `fates` contains, for each damaged file, what happens to it, its position among all files as a
    fraction, and a change of its bytes.
    """

    case: str
    fates: tuple[tuple[str, float, Damage], ...]


WORKDIR_CASES = ("extract", "photographs", "refine", "evaluate", "study", "predict", "audit")
_fates = st.tuples(
    st.sampled_from(("delete", "damage", "folder", "empty", "broken", "partial")),
    shares,
    damage_lists.map(lambda changes: changes[0]),
)
workdirs = st.builds(
    WorkdirDamage,
    case=st.sampled_from(WORKDIR_CASES),
    fates=st.lists(_fates, min_size=1, max_size=4).map(tuple),
)

_FINISHED: dict[str, Path] = {}


def check_workdir(folder: Path, example: WorkdirDamage) -> None:
    """Runs a stage again in a damaged workdir; a file of the user must be kept."""
    main, side, workdir = folder / "main", folder / "side", folder / "work"
    case = prepared(example.case, main, side)
    # Configs name the originals, which are in another folder for each example.
    with contextlib.redirect_stdout(io.StringIO()):
        case.run(case.configure(main, side), workdir)
    for fate, place, damage in example.fates:
        files = sorted(p for p in workdir.rglob("*") if p.is_file() and not p.is_symlink())
        if files:
            _befall(files[min(int(place * len(files)), len(files) - 1)], fate, damage)
    own = workdir / "my own notes.txt"
    own.write_text("kept")
    attempt(case.run, lambda: case.configure(main, side), workdir, main, side, own)


def _befall(file: Path, fate: str, damage: Damage) -> None:
    content = file.read_bytes()
    if fate == "partial":
        leftover = file.with_name(f".{file.stem}.1.partial{file.suffix}")
        leftover.unlink(missing_ok=True)  # an earlier damage may have made it a broken link
        leftover.write_bytes(content[:10])
        return
    file.unlink()
    match fate:
        case "damage":
            file.write_bytes(damage(content))
        case "folder":
            file.mkdir()
        case "empty":
            file.touch()
        case "broken":
            file.symlink_to("/nowhere/at/all")


# names in reports


@dataclass(frozen=True)
class Named:
    """Names that get into reports through tables."""

    people: tuple[str, ...]
    labels: tuple[str, ...]
    photo: str
    run: str


_names = st.one_of(st.sampled_from([name for name in HOSTILE if "\0" not in name]), texts)
named = st.builds(
    Named,
    people=st.lists(_names, min_size=3, max_size=5, unique=True).map(tuple),
    labels=st.lists(_names, min_size=4, max_size=4, unique=True).map(tuple),
    photo=_names,
    run=st.sampled_from(("model", "a b", "<b>", "=x", "میم")),
)


def check_named(folder: Path, example: Named) -> None:
    """Checks that the reports of `evaluate` escape unusual names."""
    run, workdir = folder / "run", folder / "work"
    table, protocol = simulate(people=len(example.people), per_emotion=1, seed=1)
    old = list(dict.fromkeys(table["subject"]))
    table["subject"] = table["subject"].map(dict(zip(old, example.people, strict=True)))
    names = dict(zip(protocol["labels"], example.labels, strict=True))
    table["emotion"] = table["emotion"].map(names)
    table = table.rename(columns={f"prob_{a}": f"prob_{b}" for a, b in names.items()})
    table["photo"] = example.photo + table["photo"]
    write_run(run, table, {**protocol, "labels": list(example.labels)})

    def config() -> ConfigDict:
        made = evaluate.get_config().unlock()
        made.runs = {example.run: str(run)}
        made.main, made.bootstrap.samples = example.run, 50
        return made

    result = attempt(stages.CASES["evaluate"].run, config, workdir, run)
    if isinstance(result, Refused):
        return
    for name in ("report.html", "model_card.md", "datasheet.md"):
        text = (workdir / name).read_text("utf-8")
        require("<script>alert" not in text, f"a raw tag in {name}")
    with (workdir / "per_person.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.reader(file):
            odd = [cell for cell in row if cell[:1] in ("=", "+", "-", "@") and not _number(cell)]
            require(not odd, f"formulas in per_person.csv: {odd}")
    write_json(folder / "seen.json", json.loads((workdir / "metrics.json").read_text()))


def _number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


@dataclass(frozen=True)
class Part:
    """A strategy for inputs, the check of each input, and its share of 5,000 generated inputs.

    `real_models`: whether real models are loaded instead of stand-ins.
    """

    strategy: st.SearchStrategy[Any]
    check: Callable[[Path, Any], None]
    share: int
    real_models: bool = False


PARTS = {
    "labels": Part(label_tables, check_labels, 900),
    "ledgers": Part(ledgers, check_ledger, 700),
    "folders": Part(
        st.tuples(st.sampled_from(("predict", "extract", "photographs")), entry_lists),
        check_folder, 600,
    ),
    "media": Part(media, check_medium, 900),
    "models": Part(models, check_model, 300, real_models=True),
    "records": Part(records, check_record, 500),
    "configs": Part(config_changes(), check_config, 600),
    "workdirs": Part(workdirs, check_workdir, 300),
    "names": Part(named, check_named, 200),
}  # fmt: skip
