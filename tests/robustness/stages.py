"""Stages with small inputs and with configs that let them finish quickly."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from configs import (
    audit,
    emotion,
    evaluate,
    extract,
    photographs,
    pipeline,
    predict,
    pretrain,
    refine,
    remove,
    render,
    study,
)
from fer_jax import records
from fer_jax.data.manifest import write_manifest, write_negatives
from fer_jax.records import ModelRecord
from fer_jax.workdir import write_json
from tests.metrics.simulation import simulate, write_run
from tests.robustness import originals

Prepare = Callable[[Path, Path], None]
Configure = Callable[[Path, Path], ConfigDict]

REMOVED = "bob"
DETECTOR = {"min_face": 20, "factor": 0.709, "thresholds": [0.6, 0.7, 0.8]}
HOW_CUT = {"detector": DETECTOR, "search": {}, "crop": {"size": 32, "margin": 0.0}}


@dataclass(frozen=True)
class StageCase:
    """A stage and its inputs.

    Attributes:
        name: the name of the case.
        prepare: writes the originals, the main input to the first folder and others to the second.
        configure: returns the config that names them, from the same two folders.
        output: a file or folder in the workdir that the stage writes.
        kept: patterns of files below the workdir that no run writes again once they are finished.
        timed: patterns of files below the workdir that may differ between uninterrupted runs.
    """

    name: str
    prepare: Prepare
    configure: Configure
    output: str
    kept: tuple[str, ...] = ()
    timed: tuple[str, ...] = ()

    def run(self, config: ConfigDict, workdir: Path) -> dict[str, Any]:
        """Runs the stage in the same way as `launch.py`."""
        return importlib.import_module(f"fer_jax.stages.{config.stage}").run(config, workdir)


def _unlocked(config: ConfigDict, **fields: Any) -> ConfigDict:
    config.unlock()
    config.update(fields)
    return config


def _small_training(config: ConfigDict) -> ConfigDict:
    config.unlock()
    config.batch_size = 4
    config.log_every, config.checkpoint_every_s = 2, 0.0
    if "data" in config:
        config.data.image_size = 32
    else:
        config.image_size = 32
    return config


# render


def _render_prepare(main: Path, side: Path) -> None:
    """Writes a user's files, named like the stage's output; the stage reads no input."""
    originals.write_picture(main / "person_01" / "happy" / "0.jpg", 1)
    originals.write_picture(main / "p101_happy_0.mp4.jpg", 2)


def _render_configure(main: Path, side: Path) -> ConfigDict:
    config = _unlocked(render.get_config(), size=(64, 64), workers=1)
    config.clips.update({"people": 1, "per_emotion": 1, "frames": 2, "scenes": 1})
    config.photographs.update({"people": 2, "per_emotion": 1})
    config.newcomers.people = 1
    return config


# extract


def _extract_prepare(main: Path, side: Path) -> None:
    originals.write_videos(main)
    (main / "words.mp4").write_text("no video")


def _extract_configure(main: Path, side: Path) -> ConfigDict:
    return _unlocked(extract.get_config(), videos=str(main), every_s=0.25)


# photographs


def _photographs_prepare(main: Path, side: Path) -> None:
    originals.write_photos(main)


def _photographs_configure(main: Path, side: Path) -> ConfigDict:
    config = _unlocked(photographs.get_config(), photos=str(main), emotions=originals.EMOTIONS)
    config.batch = 2
    return config


# the output of `extract` and `photographs`, written without running them


def write_faces(folder: Path, videos: int = 6) -> None:
    """Writes a finished workdir of `extract` with four faces and two negatives per video."""
    rows, negatives = [], []
    for number in range(4 * videos):
        crop = f"shards/clip{number % videos}/{number}.png"
        originals.write_picture(folder / crop, 300 + number)
        rows.append(
            {
                "face_id": f"face{number}", "video": f"clip{number % videos}.mp4",
                "frame": number, "time_s": number / 4, "box": np.zeros(4, np.float32),
                "landmarks": np.zeros(10, np.float32), "detector_score": 0.99,
                "verifier_score": None, "sharpness": 1.0, "brightness": 0.5, "yaw": 0.0,
                "phash": number, "track": 0, "status": "kept", "reason": "", "crop": crop,
            }
        )  # fmt: skip
    for number in range(2 * videos):
        crop = f"shards/clip{number % videos}/no{number}.png"
        originals.write_picture(folder / crop, 500 + number)
        negatives.append(
            {
                "crop": crop, "video": f"clip{number % videos}.mp4", "frame": number,
                "kind": "hard" if number % 2 else "background",
                "detector_score": 0.5 if number % 2 else None,
            }
        )  # fmt: skip
    write_manifest(folder / "manifest.parquet", pd.DataFrame(rows))
    write_negatives(folder / "negatives.parquet", pd.DataFrame(negatives))
    crop = {"size": 32, "margin": 0.0}
    write_json(folder / "config.json", {"stage": "extract", "detector": DETECTOR, "crop": crop})
    write_json(folder / "inputs.json", {})
    write_json(folder / records.FACES, HOW_CUT)
    write_json(folder / "done.json", {"stage": "extract", "summary": {"faces": len(rows)}})


def write_photographs(folder: Path) -> None:
    """Writes a finished workdir of `photographs`, of four people with two emotions each."""
    rows = []
    for number in range(16):
        person, feeling = f"p{number // 4}", originals.EMOTIONS[number % 2]
        crop = f"faces/{person}/{feeling}/{number}.png"
        originals.write_picture(folder / crop, 700 + number)
        rows.append(
            {
                "photo": f"{person}/{feeling}/{number}.jpg", "subject": person,
                "emotion": feeling, "split": "", "share": True, "digest": f"{number:032d}",
                "status": "ok", "detector_score": np.float32(0.9), "faces_found": 1, "crop": crop,
            }
        )  # fmt: skip
    pd.DataFrame(rows).to_parquet(folder / "photographs.parquet")
    crop = {"size": 32, "margin": 0.0}
    settings = {"stage": "photographs", "detector": DETECTOR, "crop": crop, "aligned": False}
    write_json(folder / "config.json", settings | {"emotions": list(originals.EMOTIONS)})
    write_json(folder / "inputs.json", {})
    write_json(folder / records.FACES, HOW_CUT)
    write_json(folder / "done.json", {"stage": "photographs", "summary": {"photographs": 16}})


def write_model(folder: Path, task: str, classes: tuple[str, ...]) -> None:
    """Writes a model directory without weights, for the stand-in `load_model`."""
    folder.mkdir(parents=True, exist_ok=True)
    fields = {
        "image_size": 32,
        "backbone": {},
        "tasks": {task: {}},
        "labels": {task: classes},
        "faces": HOW_CUT,
    }
    record = records.parse(ModelRecord, json.dumps(fields), "the stand-in")
    (folder / "model.json").write_text(record.model_dump_json())


# train


def _train_prepare(main: Path, side: Path) -> None:
    write_faces(main)


def _train_configure(main: Path, side: Path) -> ConfigDict:
    config = _small_training(pretrain.get_config("rotation"))
    config.data.update({"root": str(main), "config": "all"})
    config.epochs, config.evaluate_every = 2.0, 3
    return config


# refine


def _refine_prepare(main: Path, side: Path) -> None:
    write_faces(main)
    write_model(side / "verifier", "verification", ("nonface", "face"))


def _refine_configure(main: Path, side: Path) -> ConfigDict:
    fields = {"faces": str(main), "verifier": str(side / "verifier"), "use_verifier": "own"}
    return _unlocked(refine.get_config(), **fields, batch=8)


# crossval, audit


def _crossval_prepare(main: Path, side: Path) -> None:
    write_photographs(main)


def _crossval_configure(main: Path, side: Path) -> ConfigDict:
    config = _small_training(emotion.get_config("small"))
    config.update({"photographs": str(main), "folds": 2, "epochs": 2.0, "min_steps": 0})
    config.explain = False
    return config


def _audit_configure(main: Path, side: Path) -> ConfigDict:
    return _unlocked(audit.get_config(), photographs=str(main), protocol="grouped_kfold", folds=2)


# evaluate, study


def _evaluate_prepare(main: Path, side: Path) -> None:
    write_run(main / "pretrained", *simulate(people=4, seed=1))
    write_run(main / "scratch", *simulate(people=4, seed=2, skill=0.6))


def _evaluate_configure(main: Path, side: Path) -> ConfigDict:
    config = _unlocked(evaluate.of_runs({"pretrained": "", "scratch": ""}))
    config.runs.update({name: str(main / name) for name in ("pretrained", "scratch")})
    config.bootstrap.samples = 50
    return config


def _study_configure(main: Path, side: Path) -> ConfigDict:
    config = study.of_people("small", ("scratch", "jigsaw"), seeds=(0,)).steps.table.unlock()
    config.runs.people.update(
        {"scratch": str(main / "scratch"), "jigsaw": str(main / "pretrained")}
    )
    config.bootstrap.samples = 50
    return config


# predict


def _predict_prepare(main: Path, side: Path) -> None:
    originals.write_media(main)
    write_model(side / "model", "emotion", originals.EMOTIONS)


def _predict_configure(main: Path, side: Path) -> ConfigDict:
    fields = {"input": str(main), "model": str(side / "model"), "batch": 2}
    return _unlocked(predict.get_config(), **fields)


# remove


def _remove_prepare(main: Path, side: Path) -> None:
    """Writes photographs, and a workdir that was made from them."""
    originals.write_photos(main)
    config = _photographs_configure(main, side)
    importlib.import_module("fer_jax.stages.photographs").run(config, side / "photographs")


def _remove_configure(main: Path, side: Path) -> ConfigDict:
    fields = {"remove": REMOVED, "photos": str(main), "work": str(side)}
    return _unlocked(remove.get_config(), **fields)


# pipeline


def _pipeline_prepare(main: Path, side: Path) -> None:
    originals.write_photos(main)
    originals.write_videos(side / "videos")


def _pipeline_configure(main: Path, side: Path) -> ConfigDict:
    """The config of a pipeline on photographs and videos, with a cross-validation."""
    config = pipeline.get_config("small,rotation").unlock()
    config.videos, config.photos = str(side / "videos"), str(main)
    steps = config.steps
    steps.photographs.emotions = originals.EMOTIONS
    steps.extract.every_s = 0.25
    steps.emotion = _crossval_configure(Path("{workdir}/photographs"), side)
    steps.evaluate = evaluate.of_runs({"pretrained": ""}).unlock()
    steps.evaluate.runs.pretrained = "{workdir}/emotion"
    steps.evaluate.bootstrap.samples = 50
    steps.evaluate.context = ("{workdir}/photographs", "{workdir}/extract")
    config.order = ("photographs", "extract", "emotion", "evaluate")
    for name in set(steps) - set(config.order):
        del steps[name]
    return config


CASES = {
    case.name: case
    for case in (
        StageCase(
            "render", _render_prepare, _render_configure, "photographs",
            ("videos/*", "photographs/*/*/*", "newcomers/*"),
        ),
        StageCase(
            "extract", _extract_prepare, _extract_configure, "shards", ("shards/[!.]*/**/*",)
        ),
        StageCase("photographs", _photographs_prepare, _photographs_configure, "faces"),
        StageCase("train", _train_prepare, _train_configure, "records"),
        StageCase("refine", _refine_prepare, _refine_configure, "records"),
        StageCase(
            "crossval", _crossval_prepare, _crossval_configure, "folds",
            ("folds/*/predictions.parquet",),
        ),
        StageCase("audit", _crossval_prepare, _audit_configure, "leaks"),
        StageCase("evaluate", _evaluate_prepare, _evaluate_configure, "report.html"),
        StageCase("study", _evaluate_prepare, _study_configure, "study.csv"),
        StageCase("predict", _predict_prepare, _predict_configure, "annotated"),
        StageCase(  # the photographs change while it runs
            "remove", _remove_prepare, _remove_configure, "removed", (), ("inputs.json",)
        ),
        StageCase(
            "pipeline", _pipeline_prepare, _pipeline_configure, "photographs",
            ("extract/shards/[!.]*/**/*", "emotion/folds/*/predictions.parquet"),
            ("evaluate/*.md", "evaluate/report.html"),
        ),
    )
}  # fmt: skip
