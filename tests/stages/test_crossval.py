"""Protocols, methods and inner validation of crossval, on a few generated people."""

import dataclasses
import shutil
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from ml_collections import ConfigDict

from configs import audit as audit_config
from configs import emotion as emotion_config
from configs import evaluate as evaluate_config
from configs import photographs as photographs_config
from configs import predict as predict_config
from configs import probe as probe_config
from fer_jax import abstaining
from fer_jax.crossval import method
from fer_jax.crossval.labelled_faces import crop_margins, read_photographs
from fer_jax.crossval.methods import as_is, fine_tune, probe
from fer_jax.errors import UserError
from fer_jax.metrics import results as evaluate_results
from fer_jax.metrics.predictions import read_predictions
from fer_jax.models import starter
from fer_jax.people import EMOTIONS, photograph
from fer_jax.records import Origin
from fer_jax.schemas import validated
from fer_jax.stages import audit, crossval, evaluate, photographs, predict
from fer_jax.training import model_directory, trained_model
from fer_jax.training.inference import scale
from fer_jax.workdir import read_json, write_json

SPLIT = {741: "train", 742: "train", 743: "train", 744: "validation", 745: "test"}
THREE = ("happy", "neutral", "sad")


def taken(root, people, emotions, name):
    lines = ["path,subject,emotion,split"]
    for person in people:
        for emotion in emotions:
            file = root / name / f"{person}_{emotion}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(file), photograph(person, emotion, 0)[..., ::-1])
            lines.append(f"{file.name},p{person},{emotion},{SPLIT.get(person, '')}")
    (root / name / "labels.csv").write_text("\n".join(lines))
    config = photographs_config.get_config()
    config.update({"photos": str(root / name), "crop": {"size": 80, "margin": 0.0}})
    photographs.run(config, root / f"{name}_faces")
    return str(root / f"{name}_faces")


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    return taken(tmp_path_factory.mktemp("faces"), SPLIT, EMOTIONS, "five")


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    """A workdir of `photographs` of three other people, without angry photographs."""
    return taken(tmp_path_factory.mktemp("others"), (751, 752, 753), THREE, "three")


def tiny(faces, **fields):
    config = emotion_config.get_config("small")
    config.update({"photographs": faces, "min_steps": 0, "epochs": 2.0, "batch_size": 8})
    config.longer.update({"min_steps": 1, "epochs": 2.0})
    config.update({"folds": 2, "explain": False, **fields})
    config.backbone.update({"depth": (0, 0, 0)})
    return config


def check_shipped(workdir, photos, out):
    """Checks that `predict` gives each fold's calibrated probabilities for its test people.

    `predict` is given the original photographs and the model of the fold. Returns the record of the
    last fold's model.
    """
    table = answers(workdir)
    assert (table["status"] == "ok").all() and (table["temperature"] != 1).all()
    labels = [name for name in table.columns if name.startswith("calibrated_")]
    for (seed, fold), rows in table.set_index("photo").groupby(["seed", "fold"]):
        folder = out / f"seed{seed}_fold{fold}"
        (folder / "in").mkdir(parents=True)
        for photo in rows.index:
            shutil.copy(Path(photos) / photo, folder / "in" / photo)
        config = predict_config.get_config()
        model = workdir / "folds" / folder.name / "model"
        config.update({"model": str(model), "input": str(folder / "in"), "annotate": False})
        predict.run(config, folder / "predict")
        found = pd.read_csv(folder / "predict" / "predictions.csv").set_index("source")
        assert sorted(found.index) == sorted(rows.index)  # one face on each
        shipped = found.loc[rows.index, [name.replace("calibrated_", "prob_") for name in labels]]
        np.testing.assert_allclose(shipped.to_numpy(), rows[labels].to_numpy(), atol=1e-5)
        tempered = scale(rows.filter(like="prob_").to_numpy(), rows["temperature"].to_numpy())
        np.testing.assert_allclose(rows[labels].to_numpy(), tempered, atol=1e-6)
    return model_directory.read_record(model)


def answers(workdir):
    """Returns the predictions; checks that the CSV file agrees with them up to rounding."""
    table = pd.read_parquet(workdir / "predictions.parquet")
    text = pd.read_csv(workdir / "predictions.csv", keep_default_na=False, na_values=[""])
    for column in ("predicted", "chosen"):
        text[column] = text[column].fillna("")
    pd.testing.assert_frame_equal(text, table, check_dtype=False, rtol=0, atol=1e-6)
    return table


@pytest.fixture(scope="module")
def trained_run(faces, tmp_path_factory):
    """Workdir, summary and config of a finished crossval with inner validation and heat maps."""
    workdir = tmp_path_factory.mktemp("trained") / "w"
    config = tiny(
        faces, explain=True, inner={"share": 0.34, "checkpoints": (0.5, 1.0)}, test_crops=5,
        save_folds=True,
    )  # fmt: skip
    return workdir, crossval.run(config, workdir), config


def test_predict_gives_the_measured_probabilities_of_fine_tuning(trained_run, faces, tmp_path):
    record = check_shipped(trained_run[0], faces.removesuffix("_faces"), tmp_path)
    assert record.inference["emotion"].crops == 5 and record.faces.search.border == 0.25
    everyone = model_directory.read_record(trained_run[0]).inference["emotion"]
    choices = [read_json(f)["tried"] for f in trained_run[0].glob("folds/*/inner/choice.json")]
    best = [min(tried, key=lambda row: row["log_loss"])["temperature"] for tried in choices]
    assert everyone.temperature == pytest.approx(np.median(best)) and everyone.crops == 5


def test_the_final_model_has_a_table_of_accuracy_by_confidence(trained_run):
    workdir, summary, _ = trained_run
    table = abstaining.read(workdir)
    assert table.measured_on == "20 held-out faces of 5 people"
    assert table.steps[-1].accuracy == pytest.approx(summary["accuracy"], abs=1e-4)
    confidence = answers(workdir).filter(like="calibrated_").max(axis=1)
    for step in table.steps[:-1]:
        assert (confidence >= step.threshold).mean() == pytest.approx(step.coverage)
    assert abstaining.read(workdir / "folds" / "seed0_fold0") is None


@pytest.mark.parametrize("overlap", ["people", "leaks"])
def test_there_is_no_abstaining_table_without_held_out_people(
    overlap, faces, trained_run, tmp_path
):
    fields = {"protocol": "random"} if overlap == "people" else {"init": str(trained_run[0])}
    allowed = ("pretraining_labels", "pretraining_duplicate")
    config = tiny(faces, method="probe", allow_leaks=allowed, **fields)
    summary = crossval.run(config, tmp_path / "w")
    assert (summary["leaks_allowed"] > 0) == (overlap == "leaks")
    assert model_directory.is_model(tmp_path / "w")
    assert abstaining.read(tmp_path / "w") is None


def test_all_folds_and_inner_fits_share_one_compilation(trained_run):
    workdir, summary, _ = trained_run
    assert summary["compilations"] == 1
    assert summary["folds"] == 2 and summary["photographs"] == 20
    assert (answers(workdir)["temperature"] > 0).all()


def test_steps_and_temperature_are_those_selected_on_inner_people(trained_run):
    workdir, _, _ = trained_run
    for number in (0, 1):
        folder = workdir / "folds" / f"seed0_fold{number}"
        tried = read_json(folder / "inner" / "choice.json")["tried"]
        best = min(tried, key=lambda row: row["log_loss"])
        rows = pd.read_parquet(folder / "predictions.parquet")
        assert len(tried) == 2
        assert set(rows["chosen"]) == {f"steps={best['steps']}"}
        assert rows["temperature"].iloc[0] == pytest.approx(best["temperature"], rel=1e-5)


def test_every_face_has_a_heat_map(trained_run):
    workdir, _, _ = trained_run
    seen = []
    for file in workdir.glob("folds/*/heat.npz"):
        with np.load(file) as stored:
            seen += stored["photo"].tolist()
            heat = stored["heat"].astype(float)
            assert heat.shape[1:] == (12, 12)
            assert heat.min() >= 0 and heat.max() == pytest.approx(1, abs=1e-3)
    assert sorted(seen) == sorted(answers(workdir)["photo"])
    with np.load(workdir / "embedding.npz") as stored:
        assert len(stored["features"]) == 20 and np.ptp(stored["features"], axis=0).max() > 0


def test_a_killed_selection_continues_to_the_same_result(trained_run):
    workdir, _, config = trained_run
    before = answers(workdir)
    for lost in ("done.json", "predictions.parquet", "folds/seed0_fold1/predictions.parquet"):
        (workdir / lost).unlink()
    crossval.run(config, workdir)
    pd.testing.assert_frame_equal(before, answers(workdir))


def test_the_final_model_uses_the_median_selection_even_after_a_kill(
    trained_run, monkeypatch, tmp_path
):
    workdir, _, config = trained_run
    tried = [read_json(file)["tried"] for file in workdir.glob("folds/*/inner/choice.json")]
    steps = [min(rows, key=lambda row: row["log_loss"])["steps"] for rows in tried]
    used = []
    fit = fine_tune.fit

    def no_longer_than_a_step(*args, steps, **rest):
        used.append(steps)
        return fit(*args, steps=1, **rest)

    monkeypatch.setattr(fine_tune, "fit", no_longer_than_a_step)
    fresh = method.make(validated(config), list(EMOTIONS), 15.0)  # knows no folds, as after a kill
    faces = read_photographs(validated(config), tmp_path / "records").faces(np.arange(20))
    fresh.fit_everyone(faces, seed=0, workdir=workdir)
    assert used == [int(np.median(steps))]


def test_fine_tuning_starts_from_a_weight_file(trained_run, faces, tmp_path):
    file = tmp_path / "theirs.safetensors"
    file.write_bytes((trained_run[0] / "model" / "weights.safetensors").read_bytes())
    crossval.run(tiny(faces, init=str(file), epochs=0.1), tmp_path / "w")
    assert np.isfinite(answers(tmp_path / "w")["prob_happy"]).all()
    assert read_json(tmp_path / "w" / "model" / "model.json")["init"]["name"] == file.name


def test_classes_of_the_model_at_init_keep_their_weights(trained_run, faces, tmp_path, monkeypatch):
    first = trained_model.load(trained_run[0])
    heads = {name: array + 1 for name, array in first.weights.items() if "/heads/" in name}
    model = first.replaced(first.record, first.weights | heads)  # weights that no initialiser draws
    model.save(tmp_path / "first")
    config = validated(tiny(faces, init=str(tmp_path / "first")))
    labels = ["grim", *EMOTIONS[1:]]  # "grim" is new, so its weights are drawn
    begun = {}

    def stopped(learner, state, *args, **rest):
        begun["head"] = state["parameters"]["heads"]["emotion"]["linear"]
        raise KeyboardInterrupt

    monkeypatch.setattr(fine_tune, "fit", stopped)
    found = read_photographs(config, tmp_path / "records").faces(np.arange(4))
    with pytest.raises(KeyboardInterrupt):
        method.make(config, labels, 15.0).fit(found, None, seed=0, folder=tmp_path)
    known = model.record.labels["emotion"]
    for name, own in begun["head"].items():
        trained = model.weights[f"parameters/heads/emotion/linear/{name}"]
        for column, label in enumerate(labels):
            if label in known:
                np.testing.assert_array_equal(own[..., column], trained[..., known.index(label)])
    assert len(set(labels) & set(known)) == len(labels) - 1
    assert np.abs(np.asarray(begun["head"]["kernel"])[:, 0]).max() > 0


def test_a_probe_starts_from_a_weight_file(trained_run, faces, tmp_path):
    file = trained_run[0] / "model" / "weights.safetensors"
    config = tiny(faces, method="probe", features=("backbone",), init=str(file))
    faces = read_photographs(validated(config), tmp_path / "records").faces(np.arange(3))
    found = method.make(validated(config), list(EMOTIONS), 15.0).backbone.features(faces)
    model = trained_model.load(trained_run[0])
    np.testing.assert_allclose(found[:, 0], model.pooled("emotion", faces.images), atol=1e-5)


@pytest.mark.parametrize("name", ["as_is", "probe", "auto"])
def test_a_model_with_another_image_size_is_refused(name, trained_run, faces):
    config = tiny(faces, method=name, init=str(trained_run[0]), image_size=64)
    with pytest.raises(UserError, match=r"set --config\.image_size=48"):
        method.make(validated(config), list(EMOTIONS), 15.0)


def test_a_fixed_split_tests_only_test_people_and_selects_on_validation_people(faces, tmp_path):
    config = tiny(
        faces, protocol="fixed_split", method="probe", save_folds=True,
        features=("gradients", "depths", "backbone"), test_crops=5, test_zooms=(1.0, 1.3),
    )  # fmt: skip
    summary = crossval.run(config, tmp_path / "w")
    assert set(answers(tmp_path / "w")["subject"]) == {"p745"}
    assert summary["photographs"] == 4 and summary["folds"] == 1
    protocol = read_json(tmp_path / "w" / "protocol.json")
    assert protocol["people_disjoint"] and "on the validation people" in protocol["chosen_by"]
    record = check_shipped(tmp_path / "w", faces.removesuffix("_faces"), tmp_path / "p")
    how = record.inference["emotion"]
    assert how.gradients and how.depths and how.zooms == (1.0, 1.3)
    of_everyone = model_directory.read_record(tmp_path / "w").inference["emotion"]
    assert of_everyone == how.model_copy(update={"temperature": of_everyone.temperature})


def test_validation_people_without_a_face_are_ignored(faces, tmp_path):
    """The labels name one validation person, in whose photographs no face was found."""
    shutil.copytree(faces, tmp_path / "faces")
    table = pd.read_parquet(tmp_path / "faces" / "photographs.parquet")
    table.loc[table["subject"] == "p744", "status"] = "no_face"
    table.to_parquet(tmp_path / "faces" / "photographs.parquet")
    config = tiny(str(tmp_path / "faces"), protocol="fixed_split", method="auto", everyone=False)
    crossval.run(config, tmp_path / "w")
    protocol = read_json(tmp_path / "w" / "protocol.json")
    assert "cross-validation over training people" in protocol["chosen_by"]
    tried = read_json(tmp_path / "w/folds/seed0_fold0/inner/choice.json")["tried"]
    assert len(tried[0]["losses"]) == 12  # of the three people trained on


def test_cross_set_uses_only_the_shared_emotions(faces, others, trained_run, tmp_path):
    config = tiny(
        faces, protocol="cross_set", test_photographs=others, method="as_is",
        init=str(trained_run[0]), pretraining="five people", save_folds=True,
    )  # fmt: skip
    config.allow_leaks = ("pretraining_labels",)
    summary = crossval.run(config, tmp_path / "w")
    table = answers(tmp_path / "w")
    assert set(table["subject"]) == {"p751", "p752", "p753"} and len(table) == 9
    assert summary["other_emotions_left_out"] == 4  # the fifth is in the set's own test split
    assert [c for c in table if c.startswith("prob_")] == [f"prob_{name}" for name in THREE]
    assert table.filter(like="prob_").sum(axis=1).between(0.999, 1.001).all()
    record = check_shipped(tmp_path / "w", others.removesuffix("_faces"), tmp_path / "p")
    assert record.inference["emotion"].crops == 5  # as the model's own record says
    assert read_json(tmp_path / "w" / "protocol.json")["test_crops"] == 5


def test_a_model_trained_on_test_people_is_used_only_if_allowed(faces, trained_run, tmp_path):
    config = tiny(faces, init=str(trained_run[0]), method="probe")
    with pytest.raises(UserError, match=r"5 pretraining_labels.*allow_leaks"):
        crossval.run(config, tmp_path / "w")
    assert (tmp_path / "w" / "leaks" / "leaks.csv").is_file()
    looked = audit_config.get_config()
    looked.update({"photographs": faces, "init": str(trained_run[0])})
    with pytest.raises(UserError, match=r"5 pretraining_labels"):
        audit.run(looked, tmp_path / "audit")
    looked.init = ""
    assert audit.run(looked, tmp_path / "clean")["leaks"] == 0


def audited(run, **fields):
    config = audit_config.get_config()
    config.update({"run": str(run), **fields})
    return config


def test_the_audit_of_a_run_uses_its_photographs_folds_and_models(trained_run, faces, tmp_path):
    summary = audit.run(audited(trained_run[0]), tmp_path / "one")
    assert (summary["leaks"], summary["people"], summary["pretraining_sets"]) == (0, 5, 0)
    config = tiny(faces, init=str(trained_run[0]), method="as_is", everyone=False)
    config.allow_leaks = ("pretraining_labels", "pretraining_duplicate")
    run = tmp_path / "pipeline" / "emotion"
    counted = crossval.run(config, run)["leaks_allowed"]
    write_json(run.parent / "config.json", {"stage": "pipeline", "order": ["emotion", "later"]})
    for place in (run, run.parent):
        found = audited(place, allow_leaks=config.allow_leaks)
        assert audit.run(found, tmp_path / f"of_{place.name}")["leaks"] == counted > 0
        with pytest.raises(UserError, match="pretraining_labels"):
            audit.run(audited(place), tmp_path / f"refused_{place.name}")


def test_a_workdir_without_one_cross_validation_cannot_be_audited(trained_run, faces, tmp_path):
    with pytest.raises(UserError, match=r"_faces contains no cross-validation; set --config\.run"):
        audit.run(audited(faces), tmp_path / "w")
    with pytest.raises(UserError, match=r"run=.* already determines photographs, .*; leave those"):
        audit.run(audited(trained_run[0], init="starter"), tmp_path / "w")
    for name, folds in (("a", 2), ("b", 3)):
        (tmp_path / "p" / name).mkdir(parents=True)
        made = read_json(trained_run[0] / "config.json") | {"folds": folds}
        write_json(tmp_path / "p" / name / "config.json", made)
    write_json(tmp_path / "p" / "config.json", {"stage": "pipeline", "order": ["a", "b"]})
    with pytest.raises(UserError, match=r"different folds; set --config\.run to one of them: .*/a"):
        audit.run(audited(tmp_path / "p"), tmp_path / "w")


def test_an_unfinished_run_or_changed_photographs_cannot_be_audited(trained_run, faces, tmp_path):
    photos, run = tmp_path / "photos", tmp_path / "run"
    shutil.copytree(faces, photos)
    config = tiny(str(photos), init=str(trained_run[0]), method="as_is", everyone=False)
    config.allow_leaks = ("pretraining_labels", "pretraining_duplicate")
    crossval.run(config, run)
    looked = audited(run, allow_leaks=config.allow_leaks)
    audit.run(looked, tmp_path / "w")
    (run / "done.json").rename(run / "kept")
    with pytest.raises(UserError, match="run is not finished; run its command again"):
        audit.run(looked, tmp_path / "half")
    (run / "kept").rename(run / "done.json")
    write_json(photos / "done.json", read_json(photos / "done.json") | {"later": 1})
    for place in ("w", "new"):  # a finished audit is outdated, too
        with pytest.raises(UserError, match=r"photos changed since .*run began"):
            audit.run(looked, tmp_path / place)


def test_people_in_train_and_test_of_random_folds_pass_the_audit(faces, trained_run, tmp_path):
    """People are in both train and test on purpose; leaks from pretraining are still refused."""
    run = tmp_path / "run"
    crossval.run(tiny(faces, protocol="random", method="probe", everyone=False), run)
    assert audit.run(audited(run), tmp_path / "of_run")["leaks"] == 0
    assert "shared_id" in (tmp_path / "of_run" / "leaks" / "leaks.csv").read_text()
    looked = audit_config.get_config()
    looked.update({"photographs": faces, "protocol": "random", "folds": 2})
    assert audit.run(looked, tmp_path / "clean")["leaks"] == 0
    looked.init = str(trained_run[0])
    with pytest.raises(UserError, match=r"pretraining_labels"):
        audit.run(looked, tmp_path / "refused")


def test_the_probe_config_trains_one_head_per_held_out_person(faces, trained_run, tmp_path):
    config = probe_config.get_config("small")
    config.update({"photographs": faces, "init": str(trained_run[0]), "everyone": False})
    config.allow_leaks = ("pretraining_labels", "pretraining_duplicate")
    summary = crossval.run(config, tmp_path / "w")
    assert (summary["folds"], summary["people"]) == (5, 5)
    protocol = read_json(tmp_path / "w" / "protocol.json")
    assert protocol["features"] == ["backbone", "gradients"] and protocol["test_crops"] == 1


def test_a_saved_probe_classifies_crops_of_other_people(faces, others, trained_run, tmp_path):
    """The saved layer contains the scaling of features and the temperature."""
    config = tiny(
        faces,
        protocol="cross_set",
        test_photographs=others,
        method="probe",
        init=str(trained_run[0]),
    )
    config.allow_leaks = ("pretraining_labels",)
    crossval.run(config, tmp_path / "w")
    model = trained_model.load(tmp_path / "w")
    assert model.record.labels["emotion"] == THREE
    table = pd.read_parquet(f"{others}/photographs.parquet")
    crops = np.stack([cv2.imread(f"{others}/{c}")[..., ::-1] for c in table["crop"]])
    found = model.probabilities("emotion", crops)
    assert found.shape == (9, 3) and np.allclose(found.sum(1), 1, atol=1e-5)


def test_a_crop_margin_other_than_the_models_causes_a_warning(
    others, trained_run, tmp_path, capsys
):
    crossval.run(tiny(others, method="probe", init=str(trained_run[0])), tmp_path / "same")
    assert "different margins" not in capsys.readouterr().err
    loose = tmp_path / "loose"
    shutil.copytree(others, loose)
    settings = read_json(loose / "faces.json")
    write_json(loose / "faces.json", settings | {"crop": {"size": 80, "margin": 0.5}})
    config = tiny(str(loose), method="probe", init=str(trained_run[0]))
    crossval.run(config, tmp_path / "other")
    assert f"0 for {trained_run[0]}, 0.5 for {loose}" in capsys.readouterr().err
    write_json(loose / "faces.json", settings | {"aligned": True})
    assert crop_margins([config.init], [config.photographs]) == {str(trained_run[0]): 0.0}
    fields = read_json(trained_run[0] / "model" / "model.json")
    assert not fields["faces"]["aligned"]
    assert model_directory.read_faces(loose).aligned
    fields["faces"]["aligned"] = True
    write_json(tmp_path / "given" / "model.json", fields)
    assert crop_margins([str(tmp_path / "given")], [str(others)]) == {str(others): 0.0}


def test_low_shot_trains_on_the_requested_number_of_photographs(faces, tmp_path, monkeypatch):
    sizes = []

    class Counting(probe.LinearProbe):
        def fit(self, train, inner, **rest):
            sizes.append(np.bincount(train.labels).tolist())
            return super().fit(train, inner, **rest)

    monkeypatch.setattr(probe, "METHOD", Counting)
    crossval.run(tiny(faces, method="probe", shots=2), tmp_path / "w")
    assert sizes == [[2, 2, 2, 2]] * 3  # two folds, and the final model


def relative(faces, reference):
    return tiny(
        faces, method="probe", features=("backbone", "depths"), test_zooms=(1.2,),
        save_folds=True, reference=reference,
    )  # fmt: skip


@pytest.mark.parametrize("reference", ["balanced", "neutral"])
def test_predict_gives_the_measured_probabilities_of_a_person_relative_model(
    faces, tmp_path, reference, capsys
):
    workdir, photos = tmp_path / "w", Path(faces.removesuffix("_faces"))
    summary = crossval.run(relative(faces, reference), workdir)
    table, protocol = answers(workdir), read_json(workdir / "protocol.json")
    assert set(table["reference"]) == {reference} == {protocol["reference"]}
    excluded = 5 * (reference == "neutral")  # one neutral photograph of each person
    assert len(table) == 20 - excluded == summary["photographs"]
    assert protocol["reference_photographs"] == excluded == summary["reference_photographs"]
    assert ("neutral" in set(table["emotion"])) == (not excluded)

    config = predict_config.get_config()
    config.update({"annotate": False, "neutral": "neutral/*" if excluded else ""})
    for fold, rows in table.set_index("photo").groupby("fold"):
        given = tmp_path / f"in{fold}"
        for person in set(rows["subject"]):
            for file in photos.glob(f"{person[1:]}_*.png"):
                folder = given / person / file.stem.partition("_")[2]
                folder.mkdir(parents=True)
                shutil.copy(file, folder)
        model = workdir / "folds" / f"seed0_fold{fold}" / "model"
        config.update({"model": str(model), "input": str(given), "people": "folder"})
        predict.run(config, tmp_path / f"out{fold}")
        found = pd.read_csv(tmp_path / f"out{fold}" / "predictions.csv")
        assert set(found["reference_faces"]) == {1 if excluded else 4}
        found = found.set_index(found["source"].str.rpartition("/")[2]).loc[rows.index]
        for label in EMOTIONS:
            np.testing.assert_allclose(
                found[f"prob_{label}"], rows[f"calibrated_{label}"], atol=1e-5
            )
    assert model_directory.read_record(model).inference["emotion"].reference == reference

    capsys.readouterr()
    config.update({"input": str(given / person / "neutral" / f"{person[1:]}_neutral.png")})
    config.update({"people": "one", "neutral": "*_neutral.png" if excluded else ""})
    predict.run(config, tmp_path / "single")
    assert ("1 of 1 people have no reference" in capsys.readouterr().err) == (not excluded)
    for wrong, words in (
        ({"people": ""}, "is person-relative"),
        ({"neutral": "" if excluded else "*"}, "neutral"),
        ({"people": "folder"}, "is not in the folder of a person"),
        ({"people": "folder", "neutral": ""}, "no photograph has" if excluded else "folder of a"),
    ):
        with pytest.raises(UserError, match=words):
            predict.run(ConfigDict({**config.to_dict(), **wrong}), tmp_path / "refused")


@pytest.mark.parametrize("reference", ["mean", "balanced", "neutral"])
def test_labels_of_test_people_do_not_influence_their_answers(faces, tmp_path, reference):
    config = validated(relative(faces, reference))
    photographs = read_photographs(config, tmp_path / "records")
    if reference == "neutral":
        photographs = photographs.with_neutral()
    train, test = photographs.faces(np.arange(12)), photographs.faces(np.arange(12, 20))
    model = method.make(config, list(EMOTIONS), 12.0).fit(train, None, seed=0, folder=tmp_path)
    other = dataclasses.replace(test, labels=test.labels[::-1].copy())
    np.testing.assert_array_equal(model.probabilities(test), model.probabilities(other))


def test_people_without_a_neutral_photograph_are_left_out_and_counted(faces, tmp_path):
    photographs = read_photographs(validated(relative(faces, "neutral")), tmp_path / "records")
    table = photographs.table
    lost = (table["subject"] == "p742") & (table["emotion"] == "neutral")
    found = dataclasses.replace(photographs, table=table[~lost].reset_index(drop=True))
    found = found.with_neutral()
    assert set(found.subjects) == {"p741", "p743", "p744", "p745"} and len(found.neutral) == 4
    none = dataclasses.replace(photographs, table=table[table["emotion"] != "neutral"])
    with pytest.raises(UserError, match="needs photographs with the emotion 'neutral'"):
        none.with_neutral()


def test_auto_reports_and_saves_its_selection_without_seeing_held_out_people(
    faces, trained_run, tmp_path, monkeypatch
):
    """For an emotion model, the candidates are the probe and the model as it is."""
    seen = {}

    def noting(fit):
        def noted(self, train, inner, *, seed, folder):
            fold = next((part for part in folder.parts if part.startswith("seed0_")), "everyone")
            seen.setdefault(fold, []).append(set(train.people))
            return fit(self, train, inner, seed=seed, folder=folder)

        return noted

    for kind in (probe.LinearProbe, as_is.AsItIs):
        monkeypatch.setattr(kind, "fit", noting(kind.fit))
    config = tiny(faces, method="auto", init=str(trained_run[0]), save_folds=True)
    config.allow_leaks = ("pretraining_labels", "pretraining_duplicate")
    summary = crossval.run(config, tmp_path / "w")
    table = answers(tmp_path / "w")
    assert summary["features_of"] == len(table)  # once for all folds, and nothing is trained
    for number, rows in table.groupby("fold"):
        fold = f"seed0_fold{number}"
        assert len(seen[fold]) > 4  # two candidates, at least two inner folds
        for people in seen[fold]:
            assert people.isdisjoint(rows["subject"])
        tried = read_json(tmp_path / "w" / "folds" / fold / "inner" / "choice.json")["tried"]
        assert [one["method"] for one in tried] == ["probe", "as_is"]
        assert set(rows["chosen"]) <= {one["method"] for one in tried}
    protocol = read_json(tmp_path / "w" / "protocol.json")
    assert "probe or as_is" in protocol["chosen_by"] and protocol["frozen"]
    assert protocol["test_crops_by_choice"] == {"probe": 1, "as_is": 5}
    choices = evaluate_results.describe(read_predictions("w", tmp_path / "w"), samples=40, seed=0)
    assert sum(choices["choices"].values()) == 2
    check_shipped(tmp_path / "w", faces.removesuffix("_faces"), tmp_path / "p")
    selection = model_directory.read_record(tmp_path / "w").selection
    tried = read_json(tmp_path / "w" / "everyone" / "inner" / "choice.json")["tried"]
    assert selection.method in {one["method"] for one in tried}
    assert [one.model_dump() for one in selection.tried] == [
        {name: one[name] for name in ("method", "log_loss", "accuracy")} for one in tried
    ]
    report = evaluate_config.of_runs({"auto": str(tmp_path / "w")}).unlock()
    report.bootstrap.samples = 40
    evaluate.run(report.lock(), tmp_path / "report")
    card = (tmp_path / "report" / "model_card.md").read_text()
    assert f"selected on all people: {selection.method}" in card
    for one in selection.tried:
        assert f"{one.method}: log loss {one.log_loss:.3f}" in card


def test_auto_without_init_compares_fine_tuning_and_gradients(faces, tmp_path):
    made = method.make(validated(tiny(faces, method="auto")), list(EMOTIONS), 15.0)
    assert list(made.candidates) == ["fine_tune", "probe"]
    assert made.candidates["probe"].facts.features == ("gradients",)


def test_only_a_network_that_has_never_learned_emotions_is_trained(faces, trained_run, tmp_path):
    """Emotion models and descendants of the starter are not trained further."""
    origins = {
        "pretext": None,
        "continued": model_directory.origin("starter"),
        "twice": Origin(name="a", sha256="0" * 64, init=model_directory.origin("starter")),
        "earlier": Origin(name="starter", sha256=starter.EARLIER_SHA256[0]),
    }
    weights, record = (
        read(trained_run[0]) for read in (model_directory.read_weights, model_directory.read_record)
    )
    nothing = {"tasks": {"rotation": {}}, "labels": {}, "inference": {}}
    for name, origin in origins.items():
        changed = record.model_copy(update={**nothing, "init": origin})
        model_directory.save(tmp_path / name, weights, changed)

    def candidates(init):
        config = emotion_config.get_config().unlock()
        config.update({"photographs": faces, "init": init, "image_size": 48})
        return method.make(validated(config), list(EMOTIONS), 15.0).candidates

    for init in ("", str(tmp_path / "pretext")):
        made = candidates(init)
        assert list(made) == ["fine_tune", "probe"]
        assert made["fine_tune"].steps == 300
        assert made["fine_tune"].config.optimizer.learning_rate == 6e-3
    assert list(candidates(str(trained_run[0]))) == ["probe", "as_is"]
    for init in ("continued", "twice", "earlier"):
        assert list(candidates(str(tmp_path / init))) == ["probe"]


def test_auto_refuses_an_auxiliary_task_that_no_training_would_use(faces, trained_run):
    config = emotion_config.get_config("base,rotation").unlock()
    config.update({"photographs": faces, "init": str(trained_run[0]), "image_size": 48})
    with pytest.raises(UserError, match=r"so rotation would have no effect; set --config\.method"):
        method.make(validated(config.lock()), list(EMOTIONS), 15.0)


def test_auto_uses_the_backbone_of_init_even_if_labels_are_unknown_to_it(faces, trained_run):
    config = emotion_config.get_config().unlock()  # of another size than the model
    config.update({"photographs": faces, "init": str(trained_run[0]), "image_size": 48})
    for labels in (["grim", *EMOTIONS[1:]], ["grim", "glad"]):
        made = method.make(validated(config.lock()), labels, 15.0)
        assert list(made.candidates) == ["probe"]


def test_predict_gives_the_measured_probabilities_of_the_tuned_probe(faces, trained_run, tmp_path):
    config = tiny(faces, method="tuned_probe", init=str(trained_run[0]))
    config.allow_leaks = ("pretraining_labels", "pretraining_duplicate")
    crossval.run(config, tmp_path / "w")
    assert model_directory.read_record(tmp_path / "w").inference["emotion"].gradients
    assert np.isfinite(answers(tmp_path / "w")["prob_happy"]).all()


def test_the_tuned_probe_averages_tuned_and_initial_weights(faces, trained_run, tmp_path):
    config = validated(tiny(faces, method="tuned_probe", init=str(trained_run[0])))
    shown = read_photographs(config, tmp_path / "records").faces(np.arange(16))
    trainer = method.make(config, list(EMOTIONS), 16.0)
    found = trainer.fit(shown, None, seed=0, folder=tmp_path / "probe").model.weights
    tuner = fine_tune.FineTune(config, list(EMOTIONS), 16.0)
    tuned = tuner.fit(shown, None, seed=0, folder=tmp_path / "tuned").model.weights
    before = model_directory.read_weights(trained_run[0])
    backbone = [path for path in before if "/backbone/" in path]
    moved = [path for path in backbone if np.abs(tuned[path] - before[path]).max() > 1e-5]
    assert len(moved) > len(backbone) / 2
    for path in backbone:
        halfway = (tuned[path] + before[path]) / 2
        np.testing.assert_allclose(found[path], halfway, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"reference": "balanced"}, "reference.* needs method='probe'"),
        ({"reference": "mean", "method": "probe", "shots": 2}, "shots.* must be 0"),
        ({"reference": "mean", "method": "probe", "protocol": "random"}, "must not be 'random'"),
        ({"method": "auto", "init": "runs/{seed}"}, "without {seed}, for method='auto'"),
        ({"method": "finetune"}, "did you mean 'fine_tune'"),
        ({"method": "as_is"}, "must be an emotion model"),
        ({"method": "auto", "inner": {"share": 0.2}}, r"inner\.share=0\.2 must be 0\.0 for"),
        ({"method": "auto", "features": ("gradients",)}, "features.* needs method='probe'"),
        ({"method": "probe", "features": ("colour",)}, "must be 'backbone', 'depths' or"),
        ({"protocol": "cross_set"}, "test_photographs"),
        ({"allow_leaks": ("everything",)}, "allow_leaks=.*everything.* must be 'shared_id'"),
    ],
)
def test_impossible_configs_of_crossval_are_user_errors(faces, tmp_path, fields, words):
    with pytest.raises(UserError, match=words):
        crossval.run(tiny(faces, **fields), tmp_path / "w")
