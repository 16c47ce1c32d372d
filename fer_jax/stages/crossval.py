"""Labelled faces → predictions on people never seen, one model a fold, and a model of everyone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from fer_jax import console, records, schemas
from fer_jax.auditing import leakage
from fer_jax.crossval import fold_models, protocols
from fer_jax.crossval.fold import Faces, FoldModel, inits
from fer_jax.crossval.labelled_faces import Study, crop_margins, read_study
from fer_jax.data.stage_tables import read_table
from fer_jax.training import inference, model_directory
from fer_jax.training.features import FrozenBackbone
from fer_jax.workdir import atomic_file, stage

_SAW = {"yes": True, "no": False, "unknown": None}


@stage(inputs=lambda config: [config.photographs, config.test_photographs, *inits(config).values()])
def run(config: schemas.Crossval, workdir: Path) -> dict[str, Any]:
    """Trains and tests every fold of every seed; writes predictions.parquet and `model/`.

    Leaks are looked for first, and stop the run. What is chosen (steps, temperature, the strength
    of a penalty) is chosen on people of a fold's training side, whom the inner model has not
    seen; who is held out is looked at once. A photograph without a face has no probabilities, and
    counts as an error when it is evaluated.
    """
    study = read_study(config)
    _tell_of_crops(config)
    folds = study.folds(config)
    model = fold_models.make(config, study.labels, _mean_size(config, study, folds))
    leaks = _audited(config, study, folds, workdir)
    _write_protocol(config, workdir, study, folds, model, leaks)

    parts = []
    for seed in config.seeds:
        for number, fold in enumerate(folds):
            file = workdir / "folds" / f"seed{seed}_fold{number}" / "predictions.parquet"
            if not file.exists():
                tested = _test(config, study, model, fold, seed, number, file.parent)
                with atomic_file(file) as temporary:
                    tested.to_parquet(temporary)
            parts.append(read_table(file, pa.schema([])))
    predictions = pd.concat(parts, ignore_index=True)
    with atomic_file(workdir / "predictions.parquet") as temporary:
        predictions.to_parquet(temporary)
    if config.everyone and not (workdir / "model" / "model.json").exists():
        model.save_everyone(_everyone(config, study), config.seeds[0], workdir)
    if config.explain and config.everyone and not (workdir / "embedding.npz").exists():
        _embed(study, workdir)
    return _summary(config, study, folds, predictions, model, leaks)


def _tell_of_crops(config: schemas.Crossval) -> None:
    if model_directory.read_faces(config.photographs) is None:
        console.warn(
            f"crossval: {config.photographs} was written by an older version and does "
            "not say how its faces were found, so predict will refuse the models; run the stage "
            "photographs again in a new workdir"
        )
    margins = crop_margins(config)
    if len(set(margins.values())) > 1:
        how = ", ".join(f"{margin:g} for {path}" for path, margin in margins.items())
        console.warn(
            f"crossval: faces are cut with different margins ({how}); the model at init "
            "has not seen such crops, and may be worth less on them (docs/results.md). To cut the "
            "photographs again: --config=configs/photographs.py --config.crop.margin=..."
        )


def _test(
    config: schemas.Crossval,
    study: Study,
    model: FoldModel,
    fold: protocols.Fold,
    seed: int,
    number: int,
    folder: Path,
) -> pd.DataFrame:
    """One row a photograph tested; NaN probabilities and no emotion where no face was found."""
    train = _taught(config, study, fold, seed)
    inner = None
    if fold.validation.size:
        inner = (train, study.with_face(fold.validation))
    elif config.inner.share and model.wants_inner:
        inner = protocols.inner_split(
            train, study.subjects, study.emotions, share=config.inner.share, seed=seed
        )

    def trained_on(rows: np.ndarray) -> Faces:
        chosen = protocols.balanced(rows, study.emotions, seed=seed) if config.balance else rows
        return study.faces(chosen)

    inner_faces = (trained_on(inner[0]), study.faces(inner[1])) if inner else None
    test = study.with_face(fold.test)
    answers = model.run(trained_on(train), study.faces(test), inner_faces, seed=seed, folder=folder)
    if answers.heat is not None:
        photos = np.array([study.photographs["photo"].iloc[row] for row in test], str)
        with atomic_file(folder / "heat.npz") as temporary:
            np.savez_compressed(temporary, photo=photos, heat=np.float16(answers.heat))
    table = study.photographs.iloc[fold.test][["photo", "subject", "emotion", "status"]].copy()
    table.insert(3, "fold", number)
    table.insert(4, "seed", seed)
    found = (table["status"] == "ok").to_numpy()
    probabilities = np.full((len(table), len(study.labels)), np.nan, np.float32)
    probabilities[found] = answers.probabilities
    for column, label in enumerate(study.labels):
        table[f"prob_{label}"] = probabilities[:, column]
    calibrated = inference.scale(probabilities, answers.temperature or 1.0)
    for column, label in enumerate(study.labels):  # what `predict` gives with the fold's model
        table[f"calibrated_{label}"] = np.float32(calibrated[:, column])
    best = np.where(found, np.nan_to_num(probabilities).argmax(1), 0)
    table["predicted"] = [study.labels[i] if ok else "" for i, ok in zip(best, found, strict=True)]
    table["temperature"] = np.float32(
        np.nan if answers.temperature is None else answers.temperature
    )
    table["chosen"] = answers.chosen
    return table.reset_index(drop=True)


def _everyone(config: schemas.Crossval, study: Study) -> Faces:
    """All faces, thinned out and balanced as those of the folds are."""
    rows = study.with_face(np.arange(len(study.photographs)))
    seed = config.seeds[0]
    rows = protocols.few_shots(rows, study.emotions, shots=config.shots, seed=seed)
    return study.faces(
        protocols.balanced(rows, study.emotions, seed=seed) if config.balance else rows
    )


def _mean_size(config: schemas.Crossval, study: Study, folds: list[protocols.Fold]) -> float:
    return float(np.mean([_taught(config, study, fold, config.seeds[0]).size for fold in folds]))


def _taught(config: schemas.Crossval, study: Study, fold: protocols.Fold, seed: int) -> np.ndarray:
    """The rows that a fold's models may learn from."""
    rows = study.with_face(fold.train)
    return protocols.few_shots(rows, study.emotions, shots=config.shots, seed=seed)


def _embed(study: Study, workdir: Path) -> None:
    """Features of all faces, as the model of everyone sees them: for the picture of them."""
    rows = study.with_face(np.arange(len(study.photographs)))
    source = study.faces(rows).source
    features = FrozenBackbone(workdir / "model", {})(source.images)
    with atomic_file(workdir / "embedding.npz") as temporary:
        np.savez_compressed(temporary, photo=np.array(source.ids, str), features=features)


def _audited(
    config: schemas.Crossval, study: Study, folds: list[protocols.Fold], workdir: Path
) -> list[leakage.Leak]:
    """The leaks that are allowed; another one stops the run."""
    found = leakage.audit(study.photographs, folds, leakage.lineage(*inits(config).values()))
    leakage.write(found, workdir / "leaks")
    if config.protocol == "random":  # people on both sides are what was asked for by name
        found = [leak for leak in found if leak.kind not in leakage.BETWEEN_PEOPLE]
    leakage.stop_unless_allowed(found, tuple(config.allow_leaks), workdir / "leaks")
    return found


def _write_protocol(
    config: schemas.Crossval,
    workdir: Path,
    study: Study,
    folds: list[protocols.Fold],
    model: FoldModel,
    leaks: list[leakage.Leak],
) -> None:
    shared = protocols.people_on_both_sides(folds, study.subjects)
    saw = _SAW[config.pretraining_saw_test_people]
    if any(leak.kind in leakage.OF_PRETRAINING for leak in leaks):
        saw = True
    protocol = records.StudyProtocol(
        protocol=config.protocol,
        folds=len(folds),
        seeds=list(config.seeds),
        labels=study.labels,
        people_disjoint=not any(shared),
        method=config.method,
        init="pretrained" if config.init else "random weights",
        pretraining=config.pretraining,
        pretraining_saw_test_people=saw,
        shots=config.shots,
        balance=config.balance,
        test_crops=config.test_crops,
        chosen_by=model.chosen_by,
        image_size=config.image_size,
        photographs=config.test_photographs or config.photographs,
        leaks=leakage.counts(leaks),
        allowed_leaks=list(config.allow_leaks),
        pretraining_known=leakage.lineage(*inits(config).values()).known,
        **model.facts,
    )
    records.write(workdir / "protocol.json", protocol)


def _summary(
    config: schemas.Crossval,
    study: Study,
    folds: list[protocols.Fold],
    predictions: pd.DataFrame,
    model: FoldModel,
    leaks: list[leakage.Leak],
) -> dict[str, Any]:
    tested = predictions[predictions["seed"] == config.seeds[0]]
    return {
        "photographs": len(tested),
        "without_face": int((tested["status"] != "ok").sum()),
        "people": int(tested["subject"].nunique()),
        "other_emotions_left_out": study.left_out,
        "folds": len(folds),
        "seeds": len(config.seeds),
        "accuracy": round(float((predictions["predicted"] == predictions["emotion"]).mean()), 4),
        "leaks_allowed": len(leaks),
        **model.speed(),
    }
