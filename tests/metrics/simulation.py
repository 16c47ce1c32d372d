"""Simulated predictions of a cross-validation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fer_jax.crossval.protocols import make_folds
from fer_jax.metrics import predictions
from fer_jax.records import CrossvalProtocol
from fer_jax.workdir import write_json

LABELS = ("angry", "happy", "neutral", "sad")


def simulate(
    *,
    people: int = 15,
    per_emotion: int = 2,
    skill: float = 0.8,
    spread: float = 0.12,
    no_face: float = 0.0,
    protocol: str = "leave_one_subject_out",
    folds: int = 5,
    seeds: tuple[int, ...] = (0,),
    seed: int = 0,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Simulates a table of predictions and its protocol.

    Each person has `per_emotion` photographs of each emotion, and an accuracy drawn from a normal
    distribution with mean `skill` and SD `spread`, clipped to 0..1. A wrong answer is the next
    label. `no_face` is the probability that no face is found in a photograph.
    """
    subjects = [f"p{p:02d}" for p in range(people) for _ in range(len(LABELS) * per_emotion)]
    truth = np.tile(np.repeat(np.arange(len(LABELS)), per_emotion), people)
    emotions = [LABELS[t] for t in truth]
    made = make_folds(subjects, emotions, protocol=protocol, folds=folds, seed=0)
    fold = np.empty(len(subjects), int)
    for number, split in enumerate(made):
        fold[split.test] = number
    rng = np.random.default_rng(seed)
    ability = np.clip(rng.normal(skill, spread, people), 0, 1).repeat(len(LABELS) * per_emotion)
    lost = rng.random(len(subjects)) < no_face
    tables = []
    for training_seed in seeds:
        answer = np.where(rng.random(len(truth)) < ability, truth, (truth + 1) % len(LABELS))
        scores = rng.dirichlet(np.ones(len(LABELS)), len(truth)) + 1.5 * np.eye(len(LABELS))[answer]
        scores /= scores.sum(axis=1, keepdims=True)
        scores[lost] = np.nan
        columns = {f"prob_{label}": scores[:, i] for i, label in enumerate(LABELS)}
        tables.append(
            pd.DataFrame(
                {
                    "photo": [
                        f"{s}/{e}/{i}.jpg"
                        for i, (s, e) in enumerate(zip(subjects, emotions, strict=True))
                    ],
                    "subject": subjects,
                    "emotion": emotions,
                    "fold": fold,
                    "seed": training_seed,
                    "status": np.where(lost, "no_face", "ok"),
                    **columns,
                }
            )
        )
    return pd.concat(tables, ignore_index=True), {
        "protocol": protocol,
        "folds": len(made),
        "seeds": list(seeds),
        "labels": list(LABELS),
        "people_disjoint": protocol != "random",
        "init": "random weights",
        "pretraining": "",
        "steps": 120,
        "image_size": 64,
    }


def from_table(
    name: str, table: pd.DataFrame, protocol: dict[str, Any], where: str
) -> predictions.Predictions:
    """Calls `predictions.from_table` with a protocol from `simulate`."""
    return predictions.from_table(name, table, CrossvalProtocol(**protocol), where)


def write_run(folder: Path, table: pd.DataFrame, protocol: dict[str, Any]) -> Path:
    """Writes those files of a finished crossval workdir that `evaluate` reads."""
    folder.mkdir(parents=True)
    table.to_parquet(folder / "predictions.parquet")
    write_json(folder / "protocol.json", protocol)
    write_json(folder / "config.json", {"stage": "crossval", "epochs": 20})
    write_json(folder / "done.json", {"stage": "crossval", "summary": {"images_per_s": 412.5}})
    return folder


def write_stage(folder: Path, stage: str, summary: dict[str, Any]) -> Path:
    """Writes the config and summary of a finished stage."""
    folder.mkdir(parents=True)
    write_json(folder / "config.json", {"stage": stage, "workers": 2, "crop": {"size": 64}})
    write_json(folder / "done.json", {"stage": stage, "summary": summary})
    return folder
