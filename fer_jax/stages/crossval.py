"""crossval: trains and tests a model per fold and seed and, if wanted, trains one on all people."""

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
from fer_jax.crossval.method import TrainedModel
from fer_jax.data.stage_tables import read_table
from fer_jax.inputs import PUBLISHED
from fer_jax.languages.language import spoken
from fer_jax.metrics import bootstrap, measures
from fer_jax.metrics.predictions import read_predictions
from fer_jax.models import starter
from fer_jax.recogniser import TASK
from fer_jax.spreadsheets import safe_table
from fer_jax.training import inference, model_directory, trained_model
from fer_jax.training.person_relative import NEUTRAL
from fer_jax.workdir import atomic_file, stage

_SAW = {"yes": True, "no": False, "unknown": None}
_BOOTSTRAP = {"samples": 10_000, "seed": 0}  # as in configs/evaluate.py


def _doing(config: schemas.Crossval) -> str:
    words = spoken()
    start = words.text("doing.trained", name=Path(config.init).name)
    if config.init in PUBLISHED:
        start = words.text("doing.published", name=config.init)
    if config.init in ("", starter.NAME):
        start = words.text("doing.starter" if config.init else "doing.random")
    if config.method == "as_is":
        return words.text("doing.as_is", start=start)
    method = words.texts.get(f"doing.method.{config.method}", config.method)
    return words.text("doing.crossval", method=method, start=start)


@stage(
    doing=_doing,
)
def run(config: schemas.Crossval, workdir: Path) -> dict[str, Any]:
    """Trains and tests a model for each fold and seed, and writes its predictions.

    It first searches for leakage; a leak whose kind is not allowed stops the run. Hyperparameters
    (such as steps, temperature or the strength of a penalty) are selected without test people. The
    method decides how: on the fold's validation people, on inner validation people (a share
    `config.inner.share` of its training people), or by cross-validation over its training people. A
    test photograph without a face has no probabilities, and counts as an error in an evaluation.
    With `config.everyone`, a final model is trained on all people and written to `model/`.

    Raises:
        UserError: the photographs, the initial weights or the method cannot be used, or a leak was
            found whose kind is not in `config.allow_leaks`.
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
    models = list(config.inits().values())
    _warn_of_crops(models, [config.photographs, config.test_photographs])
    pretraining = leakage.pretraining_of(*models)
    leaks = leakage.audit(photographs.table, folds, pretraining)
    leakage.write(leaks, workdir / "leaks")
    leaks = leakage.unintended(leaks, config.protocol)
    leakage.stop_unless_allowed(leaks, config.allow_leaks, workdir / "leaks")
    seen = any(leak.of_pretraining for leak in leaks)
    facts = trainer.facts
    given = any(photographs.with_face(fold.validation).size for fold in folds)
    chosen_by = (facts.chosen_on_validation if given else "") or facts.chosen_by
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
        test_crops_by_choice=dict(facts.test_crops_by_choice),
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
    trainings = len(folds) * len(protocol.seeds) + config.everyone
    with console.Progress(total=trainings, unit="training") as progress:
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
                progress.update()
        predictions = pd.concat(parts, ignore_index=True)
        with atomic_file(workdir / "predictions.parquet") as temporary:
            predictions.to_parquet(temporary)
        with atomic_file(workdir / "predictions.csv") as temporary:
            safe_table(predictions).to_csv(temporary, index=False, float_format="%.6f")

        rows = photographs.with_face()
        if config.everyone and not (workdir / "model" / "model.json").exists():
            few = protocols.few_shots(rows, emotions, shots=protocol.shots, seed=first_seed)
            faces = _balanced(photographs, few, protocol, first_seed)
            model = trainer.fit_everyone(faces, seed=first_seed, workdir=workdir)
            model.save(workdir / "model")
            progress.update()
    held_out = protocol.people_disjoint and not leaks
    if config.everyone and held_out and not (workdir / "model" / abstaining.FILE).exists():
        _write_abstaining(predictions, photographs.labels, workdir / "model")
    if config.everyone and config.explain and not (workdir / "embedding.npz").exists():
        _embed(photographs.faces(rows), workdir)
    tested = predictions[predictions["seed"] == first_seed]
    without_face = int((tested["status"] != "ok").sum())
    accuracy = _accuracy(workdir)
    _print_result(protocol, tested, without_face, photographs.left_out, accuracy)
    return {
        "photographs": len(tested),
        "without_face": without_face,
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
        "low": round(accuracy.low, 4),
        "high": round(accuracy.high, 4),
        "leaks_allowed": len(leaks),
        **trainer.speed(),
    }


def _accuracy(workdir: Path) -> bootstrap.Estimate:
    """The accuracy in predictions.parquet with its interval over people."""
    by_person = measures.confusion_by_person(read_predictions("crossval", workdir))
    return bootstrap.estimate(by_person, **_BOOTSTRAP)["accuracy"]


def _print_result(
    protocol: records.CrossvalProtocol,
    tested: pd.DataFrame,
    without_face: int,
    left_out: int,
    accuracy: bootstrap.Estimate,
) -> None:
    words, seeds = spoken(), ""
    if len(protocol.seeds) > 1:
        number = words.count(len(protocol.seeds), "seed")
        seeds = words.text("result.crossval_seeds", seeds=number)
    who = "held_out_person" if protocol.people_disjoint else "person"
    console.result(
        "crossval",
        accuracy=console.percent(accuracy.value, words),
        photographs=words.count(len(tested), "photograph"),
        people=words.count(tested["subject"].nunique(), who),
        low=words.number(100 * accuracy.low, 1),
        high=console.percent(accuracy.high, words),
        seeds=seeds,
    )
    if without_face:
        number = words.count(without_face, "photograph")
        console.result("crossval_without", photographs=number)
    if left_out:
        number = words.count(left_out, "photograph")
        console.result("crossval_left_out", photographs=number)
    if protocol.without_reference:
        number = words.count(protocol.without_reference, "person")
        console.result("crossval_no_neutral", people=number)


def _warn_of_crops(models: list[str], roots: list[str]) -> None:
    if model_directory.read_faces(roots[0]) is None:
        console.warn(
            f"crossval: {roots[0]} does not record how its faces were found (older versions did "
            "not), so predict will refuse the models; run the stage photographs again in a new "
            "workdir"
        )
    margins = crop_margins(models, roots)
    if len(set(margins.values())) > 1:
        how = ", ".join(f"{margin:g} for {path}" for path, margin in margins.items())
        console.warn(
            f"crossval: faces are cropped with different margins ({how}), and a model may "
            "be less accurate on faces with another margin than those it was trained on; to crop "
            "the photographs again, run --config=configs/photographs.py --config.crop.margin=... "
            "in a new workdir"
        )


def _training_side(
    photographs: LabelledPhotographs,
    fold: protocols.Fold,
    protocol: records.CrossvalProtocol,
    inner_share: float,
    seed: int,
) -> tuple[FaceSet, tuple[FaceSet, FaceSet] | None]:
    """The training faces, and a pair of training and validation faces to select hyperparameters.

    If the fold has no validation faces, the pair is split from the training faces, or is None if
    `inner_share` is 0.
    """
    emotions = photographs.emotions
    rows = photographs.with_face(fold.train)
    rows = protocols.few_shots(rows, emotions, shots=protocol.shots, seed=seed)
    train = _balanced(photographs, rows, protocol, seed)
    validation = photographs.with_face(fold.validation)
    if validation.size:
        return train, (train, photographs.faces(validation))
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
    """One row per test photograph.

    If it has no face, its probabilities are NaN and `predicted` is "".
    """
    table = photographs.table.iloc[fold.test][["photo", "subject", "emotion", "status"]]
    table = table.reset_index(drop=True)
    labels = photographs.labels
    found = (table["status"] == "ok").to_numpy()
    raw = np.full((len(table), len(labels)), np.nan, np.float32)
    raw[found] = probabilities
    calibrated = np.float32(inference.scale(raw, model.temperature or 1.0))
    table[[f"prob_{label}" for label in labels]] = raw
    table[[f"calibrated_{label}" for label in labels]] = calibrated  # as `predict` returns them
    best = np.nan_to_num(raw).argmax(axis=1)
    table["predicted"] = np.where(found, np.array(labels, object)[best], "")
    table["temperature"] = np.float32(np.nan if model.temperature is None else model.temperature)
    table["chosen"] = model.chosen
    return table


def _write_abstaining(predictions: pd.DataFrame, labels: list[str], folder: Path) -> None:
    """Writes the accuracy by confidence, measured on the held-out faces of all folds, if any."""
    faces = predictions[predictions["status"] == "ok"]
    if faces.empty:
        return
    confidence = faces[[f"calibrated_{label}" for label in labels]].to_numpy().max(axis=1)
    right = (faces["predicted"] == faces["emotion"]).to_numpy()
    photos, people = faces["photo"].nunique(), faces["subject"].nunique()
    measured_on = f"{photos} held-out faces of {people} people"
    abstaining.write(folder, abstaining.measure(confidence, right, measured_on))


def _explain(model: TrainedModel, test: FaceSet, probabilities: np.ndarray, file: Path) -> None:
    """Writes heat maps for the classes that the model predicted, if its method has heat maps."""
    heat = model.heat(test, probabilities.argmax(axis=1))
    if heat is not None:
        with atomic_file(file) as temporary:
            np.savez_compressed(temporary, photo=np.array(test.photos, str), heat=np.float16(heat))


def _embed(faces: FaceSet, workdir: Path) -> None:
    """Writes the final model's features of all faces, from which the report draws a map."""
    model = trained_model.load(workdir / "model")
    features = model.pooled(TASK, faces.images)
    with atomic_file(workdir / "embedding.npz") as temporary:
        np.savez_compressed(temporary, photo=np.array(faces.photos, str), features=features)
