"""Labelled faces → predictions on people never seen, one model a fold, and a model of everyone."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from fer_jax.data import iterators, sources
from fer_jax.errors import UserError
from fer_jax.evaluation import protocols
from fer_jax.training import model_directory
from fer_jax.training.learner import Learner, make_tasks
from fer_jax.training.loop import Fitted, fit
from fer_jax.training.state import State
from fer_jax.workdir import atomic_file, stage, write_json

TASK = "emotion"
_SAW = {"yes": True, "no": False, "unknown": None}


@stage(inputs=lambda config: [config.photographs, config.init])
def run(config: ConfigDict, workdir: Path) -> dict[str, Any]:
    """Trains and tests every fold of every seed; writes predictions.parquet and `model/`.

    Each fold trains for the same number of steps, set before anyone is tested; nothing is chosen
    on the people who are held out. A photograph without a face has no probabilities, and counts
    as an error when it is evaluated.
    """
    photographs, images = _read_photographs(config)
    labels = sorted(photographs["emotion"].unique())
    folds = protocols.make_folds(
        photographs["subject"].tolist(),
        photographs["emotion"].tolist(),
        protocol=config.protocol,
        folds=config.folds,
        seed=config.fold_seed,
    )
    mean_size = np.mean([_with_face(photographs, fold.train).size for fold in folds])
    steps = max(config.min_steps, round(config.epochs * mean_size / config.batch_size), 1)
    if steps == config.min_steps:
        print(f"[{config.stage}] config.min_steps={steps} decides, not config.epochs", flush=True)
    learner = Learner(
        config, *make_tasks(config.tasks.to_dict(), emotion={"classes": tuple(labels)}), steps
    )
    if config.init:  # a backbone that does not fit should stop us before anything is written
        model_directory.backbone_leaves(config.init, learner.init(0))
    study = _Study(config, workdir, learner, photographs, images, labels, steps)
    _write_protocol(study, len(folds))

    parts = [
        study.fold(seed, number, fold) for seed in config.seeds for number, fold in enumerate(folds)
    ]
    with atomic_file(workdir / "predictions.parquet") as temporary:
        pd.concat(parts, ignore_index=True).to_parquet(temporary)
    study.train_on_everyone()

    predictions = pd.concat(parts)
    right = predictions["predicted"] == predictions["emotion"]
    return {
        "photographs": len(photographs),
        "without_face": int((photographs["status"] != "ok").sum()),
        "people": int(photographs["subject"].nunique()),
        "folds": len(folds),
        "seeds": len(config.seeds),
        "steps_per_fold": steps,
        "accuracy": round(float(right.mean()), 4),
        **study.speed,
        "compilations": int("train" in learner.compile_seconds),
        "compile_s": round(sum(learner.compile_seconds.values()), 2),
    }


@dataclasses.dataclass
class _Study:
    """What all folds share."""

    config: ConfigDict
    workdir: Path
    learner: Learner
    photographs: pd.DataFrame
    images: np.ndarray
    labels: list[str]
    steps: int
    speed: dict[str, float] = dataclasses.field(default_factory=dict)

    def fold(self, seed: int, number: int, fold: protocols.Fold) -> pd.DataFrame:
        """The predictions on one fold's test people; read, if a run before this made them."""
        folder = self.workdir / "folds" / f"seed{seed}_fold{number}"
        file = folder / "predictions.parquet"
        if file.exists():
            return pd.read_parquet(file)
        fitted = self._fit(_with_face(self.photographs, fold.train), seed, folder)
        predictions = self._predict(fitted.state, fold.test)
        predictions.insert(3, "fold", number)
        predictions.insert(4, "seed", seed)
        with atomic_file(file) as temporary:
            predictions.to_parquet(temporary)
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        return predictions

    def train_on_everyone(self) -> None:
        """One model from all the photographs, for `predict`; no figure is claimed for it."""
        folder = self.workdir / "everyone"
        if (self.workdir / "model" / "model.json").exists():
            return
        everyone = _with_face(self.photographs, np.arange(len(self.photographs)))
        fitted = self._fit(everyone, self.config.seeds[0], folder)
        spec = model_directory.describe(self.config, self.learner.tasks, self.config.photographs)
        model_directory.save(self.workdir / "model", fitted.state, spec)
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)

    def _fit(self, rows: np.ndarray, seed: int, folder: Path) -> Fitted:
        state = self.learner.init(seed)
        if self.config.init:
            leaves = model_directory.backbone_leaves(self.config.init, state)
            state = self.learner.init(seed, leaves)
        batches = iterators.train_iterator(
            self._source(rows), batch_size=self.config.batch_size, seed=seed
        )
        fitted = fit(
            self.learner, state, batches, steps=self.steps, folder=folder, config=self.config
        )
        # The first step of the first fit is the one that compiles.
        self.speed = {
            **fitted.speed(),
            **{k: v for k, v in self.speed.items() if k == "first_step_s"},
        }
        return fitted

    def _predict(self, state: State, rows: np.ndarray) -> pd.DataFrame:
        """One row a photograph; NaN probabilities and no emotion where no face was found."""
        tested = self.photographs.iloc[rows][["photo", "subject", "emotion", "status"]].copy()
        probabilities = np.full((len(rows), len(self.labels)), np.nan, np.float32)
        found = (tested["status"] == "ok").to_numpy()
        if found.any():
            batches = iterators.eval_batches(
                self._source(rows[found]), batch_size=self.config.batch_size
            )
            probabilities[found] = self.learner.predict(state, TASK, batches)
        for column, label in enumerate(self.labels):
            tested[f"prob_{label}"] = probabilities[:, column]
        best = np.where(found, np.nan_to_num(probabilities).argmax(1), 0)
        tested["predicted"] = [
            self.labels[i] if ok else "" for i, ok in zip(best, found, strict=True)
        ]
        return tested.reset_index(drop=True)

    def _source(self, rows: np.ndarray) -> sources.ArraySource:
        photographs = self.photographs.iloc[rows]
        codes = np.array([self.labels.index(e) for e in photographs["emotion"]], np.int32)
        places = photographs["place"].to_numpy()
        return sources.ArraySource(self.images[places], codes, photographs["photo"].tolist())


def _read_photographs(config: ConfigDict) -> tuple[pd.DataFrame, np.ndarray]:
    """The table of the stage `photographs`, and the aligned faces uint8 [N, S, S, 3] in memory.

    Its column `place` says where a photograph's face stands among them, -1 if none was found.
    """
    if not config.photographs:
        raise UserError("give --config.photographs, the workdir of a run of the stage photographs")
    root = Path(config.photographs)
    table = pd.read_parquet(root / "photographs.parquet")
    found = (table["status"] == "ok").to_numpy()
    table["place"] = np.where(found, np.cumsum(found) - 1, -1)
    crops = [root / crop for crop in table["crop"][found]]
    return table, sources.read_images(crops, config.image_size)


def _with_face(photographs: pd.DataFrame, rows: np.ndarray) -> np.ndarray:
    return rows[(photographs["status"].to_numpy() == "ok")[rows]]


def _write_protocol(study: _Study, folds: int) -> None:
    config = study.config
    write_json(
        study.workdir / "protocol.json",
        {
            "protocol": config.protocol,
            "folds": folds,
            "seeds": list(config.seeds),
            "labels": study.labels,
            "people_disjoint": config.protocol != "random",
            "init": "pretrained" if config.init else "random weights",
            "pretraining": config.pretraining,
            "pretraining_saw_test_people": _SAW[config.pretraining_saw_test_people],
            "steps": study.steps,
            "image_size": config.image_size,
        },
    )
