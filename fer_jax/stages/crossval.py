"""Labelled faces → predictions on held-out people, one model per fold, and a model of everyone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from fer_jax import abstaining, console, records, schemas
from fer_jax.auditing import leakage
from fer_jax.crossval import method, protocols
from fer_jax.crossval.labelled_faces import (
    FaceSet,
    LabelledPhotographs,
    crop_margins,
    read_photographs,
)
from fer_jax.crossval.method import TrainedModel, inits
from fer_jax.data.stage_tables import read_table
from fer_jax.models import starter
from fer_jax.recogniser import TASK
from fer_jax.training import inference, model_directory, trained_model
from fer_jax.training.person_relative import NEUTRAL
from fer_jax.workdir import atomic_file, stage

_SAW = {"yes": True, "no": False, "unknown": None}


@stage(inputs=lambda config: [config.photographs, config.test_photographs, *inits(config).values()])
def run(config: schemas.Crossval, workdir: Path) -> dict[str, Any]:
    """Trains and tests every fold of every seed; writes predictions.parquet and `model/`.

    Leaks are searched for first, and stop the run. What is chosen (steps, temperature, the strength
    of a penalty) is chosen on people of a fold's training side whom the inner model has not seen;
    held-out people are tested once. A photograph without a face has no probabilities, and counts
    as an error when it is evaluated.
    """
    photographs = read_photographs(config, workdir / "records")
    everyone = set(photographs.subjects)
    if config.reference == NEUTRAL:
        photographs = photographs.with_neutral()
    folds = photographs.folds(config.protocol, config.folds, config.fold_seed)
    emotions, first_seed = photographs.emotions, config.seeds[0]
    sizes = [
        protocols.few_shots(
            photographs.with_face(fold.train), emotions, shots=config.shots, seed=first_seed
        ).size
        for fold in folds
    ]
    trainer = method.make(config, photographs.labels, float(np.mean(sizes)))
    models = list(inits(config).values())
    _warn_of_crops(models, [config.photographs, config.test_photographs])
    pretraining = leakage.pretraining_of(*models)
    leaks = leakage.audit(photographs.table, folds, pretraining)
    leakage.write(leaks, workdir / "leaks")
    if config.protocol == "random":  # people in both train and test are asked for by name
        leaks = [leak for leak in leaks if leak.of_pretraining]
    leakage.stop_unless_allowed(leaks, config.allow_leaks, workdir / "leaks")
    seen = any(leak.of_pretraining for leak in leaks)
    facts = trainer.facts
    named = any(photographs.with_face(fold.validation).size for fold in folds)
    chosen_by = (facts.chosen_on_validation if named else "") or facts.chosen_by
    protocol = records.CrossvalProtocol(
        protocol=config.protocol,
        folds=len(folds),
        seeds=list(config.seeds),
        labels=photographs.labels,
        people_disjoint=not any(protocols.people_on_both_sides(folds, photographs.subjects)),
        method=config.method,
        frozen=facts.frozen,
        features=list(facts.features),
        steps=facts.steps,
        init="pretrained" if config.init else "random weights",
        pretraining=config.pretraining or (starter.DATA if config.init == starter.NAME else ""),
        pretraining_saw_test_people=seen or _SAW[config.pretraining_saw_test_people],
        pretraining_known=pretraining.known,
        shots=config.shots,
        balance=config.balance,
        test_crops=facts.test_crops or config.test_crops,
        reference=config.reference,
        reference_photographs=len(photographs.neutral),
        without_reference=len(everyone - set(photographs.subjects)),
        chosen_by=chosen_by,
        image_size=config.image_size,
        photographs=config.test_photographs or config.photographs,
        leaks=leakage.counts(leaks),
        allowed_leaks=list(config.allow_leaks),
    )
    records.write(workdir / "protocol.json", protocol)
    inner_share = config.inner.share if facts.wants_inner else 0.0

    parts = []
    for seed in protocol.seeds:
        for number, fold in enumerate(folds):
            folder = workdir / "folds" / f"seed{seed}_fold{number}"
            file = folder / "predictions.parquet"
            if not file.exists():
                sides = _training_side(photographs, fold, protocol, inner_share, seed)
                model = trainer.fit(*sides, seed=seed, folder=folder)
                test = photographs.faces(photographs.with_face(fold.test))
                probabilities = model.probabilities(test)
                if config.save_folds:
                    model.save(folder / "model")
                if config.explain and len(test):
                    _explain(model, test, probabilities, folder / "heat.npz")
                answers = _predictions(photographs, fold, model, probabilities)
                if config.reference:
                    answers = answers[~answers["photo"].isin(photographs.neutral)]
                    answers = answers.assign(reference=config.reference)
                answers.insert(3, "fold", number)
                answers.insert(4, "seed", seed)
                with atomic_file(file) as temporary:
                    answers.to_parquet(temporary)
            parts.append(read_table(file, pa.schema([])))
    predictions = pd.concat(parts, ignore_index=True)
    with atomic_file(workdir / "predictions.parquet") as temporary:
        predictions.to_parquet(temporary)

    rows = photographs.with_face()
    if config.everyone and not (workdir / "model" / "model.json").exists():
        few = protocols.few_shots(rows, emotions, shots=protocol.shots, seed=first_seed)
        faces = _balanced(photographs, few, protocol, first_seed)
        model = trainer.fit_everyone(faces, seed=first_seed, workdir=workdir)
        model.save(workdir / "model")
    held_out = protocol.people_disjoint and not leaks
    if config.everyone and held_out and not (workdir / "model" / abstaining.FILE).exists():
        _write_abstaining(predictions, photographs.labels, workdir / "model")
    if config.everyone and config.explain and not (workdir / "embedding.npz").exists():
        _embed(photographs.faces(rows), workdir)
    tested = predictions[predictions["seed"] == first_seed]
    return {
        "photographs": len(tested),
        "without_face": int((tested["status"] != "ok").sum()),
        "people": int(tested["subject"].nunique()),
        "other_emotions_left_out": photographs.left_out,
        **(
            {
                "reference_photographs": protocol.reference_photographs,
                "without_reference": protocol.without_reference,
            }
            if config.reference
            else {}
        ),
        "folds": len(folds),
        "seeds": len(protocol.seeds),
        "accuracy": round(float((predictions["predicted"] == predictions["emotion"]).mean()), 4),
        "leaks_allowed": len(leaks),
        **trainer.speed(),
    }


def _warn_of_crops(models: list[str], roots: list[str]) -> None:
    if model_directory.read_faces(roots[0]) is None:
        console.warn(
            f"crossval: {roots[0]} was written by an older version and does not say how its faces "
            "were found, so predict will refuse the models; run the stage photographs again in a "
            "new workdir"
        )
    margins = crop_margins(models, roots)
    if len(set(margins.values())) > 1:
        how = ", ".join(f"{margin:g} for {path}" for path, margin in margins.items())
        console.warn(
            f"crossval: faces are cropped with different margins ({how}); the model at init has "
            "not seen such crops, and may be worth less on them (docs/results.md). To crop the "
            "photographs again: --config=configs/photographs.py --config.crop.margin=..."
        )


def _training_side(
    photographs: LabelledPhotographs,
    fold: protocols.Fold,
    protocol: records.CrossvalProtocol,
    inner_share: float,
    seed: int,
) -> tuple[FaceSet, tuple[FaceSet, FaceSet] | None]:
    """The faces to train on, and those to choose on after other faces to train on for that."""
    emotions = photographs.emotions
    rows = photographs.with_face(fold.train)
    rows = protocols.few_shots(rows, emotions, shots=protocol.shots, seed=seed)
    train = _balanced(photographs, rows, protocol, seed)
    named = photographs.with_face(fold.validation)
    if named.size:
        return train, (train, photographs.faces(named))
    if not inner_share:
        return train, None
    own, validation = protocols.inner_split(
        rows, photographs.subjects, emotions, share=inner_share, seed=seed
    )
    return train, (
        _balanced(photographs, own, protocol, seed),
        photographs.faces(validation),
    )


def _balanced(
    photographs: LabelledPhotographs,
    rows: np.ndarray,
    protocol: records.CrossvalProtocol,
    seed: int,
) -> FaceSet:
    if protocol.balance:
        rows = protocols.balanced(rows, photographs.emotions, seed=seed)
    return photographs.faces(rows)


def _predictions(
    photographs: LabelledPhotographs,
    fold: protocols.Fold,
    model: TrainedModel,
    probabilities: np.ndarray,
) -> pd.DataFrame:
    """A row per tested photograph; NaN probabilities and no emotion where no face was found."""
    table = photographs.table.iloc[fold.test][["photo", "subject", "emotion", "status"]]
    table = table.reset_index(drop=True)
    labels = photographs.labels
    found = (table["status"] == "ok").to_numpy()
    raw = np.full((len(table), len(labels)), np.nan, np.float32)
    raw[found] = probabilities
    calibrated = np.float32(inference.scale(raw, model.temperature or 1.0))
    table[[f"prob_{label}" for label in labels]] = raw
    table[[f"calibrated_{label}" for label in labels]] = calibrated  # what `predict` gives
    best = np.nan_to_num(raw).argmax(axis=1)
    table["predicted"] = np.where(found, np.array(labels, object)[best], "")
    table["temperature"] = np.float32(np.nan if model.temperature is None else model.temperature)
    table["chosen"] = model.chosen
    return table


def _write_abstaining(predictions: pd.DataFrame, labels: list[str], folder: Path) -> None:
    """Writes how confident the models of the folds were on the faces that they were tested on."""
    faces = predictions[predictions["status"] == "ok"]
    if faces.empty:
        return
    confidence = faces[[f"calibrated_{label}" for label in labels]].to_numpy().max(axis=1)
    right = (faces["predicted"] == faces["emotion"]).to_numpy()
    photos, people = faces["photo"].nunique(), faces["subject"].nunique()
    measured_on = f"{photos} held-out faces of {people} people"
    abstaining.write(folder, abstaining.measure(confidence, right, measured_on))


def _explain(model: TrainedModel, test: FaceSet, probabilities: np.ndarray, file: Path) -> None:
    """Writes where the model looked for the answer that it gave."""
    heat = model.heat(test, probabilities.argmax(axis=1))
    if heat is not None:
        with atomic_file(file) as temporary:
            np.savez_compressed(temporary, photo=np.array(test.photos, str), heat=np.float16(heat))


def _embed(faces: FaceSet, workdir: Path) -> None:
    """Features of all faces, as the model of everyone sees them: for the picture of them."""
    model = trained_model.load(workdir / "model")
    features = model.pooled(TASK, faces.images)
    with atomic_file(workdir / "embedding.npz") as temporary:
        np.savez_compressed(temporary, photo=np.array(faces.photos, str), features=features)
