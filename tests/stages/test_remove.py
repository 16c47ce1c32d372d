"""After a removal no byte of a person is left, and the models that saw them are named."""

import json

import cv2
import numpy as np
import pandas as pd
import pytest

from configs import photographs as photographs_config
from configs import remove as remove_config
from fer_jax import outputs
from fer_jax.data import builders
from fer_jax.errors import UserError
from fer_jax.stages import photographs, remove
from fer_jax.workdir import atomic_file, write_json

GONE, STAYS = "zelda77", "yorick"


def config(tmp_path, person=GONE):
    config = remove_config.get_config()
    config.update(
        {"remove": person, "photos": str(tmp_path / "photos"), "work": str(tmp_path / "w")}
    )
    return config


def finished(folder, stage, files=None, **config):
    """A workdir with these files (text, bytes or a table by name), all of them in its record."""
    folder.mkdir(parents=True, exist_ok=True)
    outputs.begin(folder)
    write_json(folder / "config.json", {"stage": stage, **config})
    for name, content in (files or {}).items():
        with atomic_file(folder / name) as temporary:
            if isinstance(content, pd.DataFrame):
                content.to_parquet(temporary)
            else:
                data = content if isinstance(content, bytes) else content.encode()
                temporary.write_bytes(data)
    return folder


def saw(work):
    """Which of the workdirs with a model have none any more."""
    return [name for name in ("emotion", "later", "other") if not (work / name / "model").exists()]


@pytest.fixture
def study(tmp_path):
    """Photographs of two people, their crops, records, predictions, a report and models."""
    rng = np.random.default_rng(0)
    photos, work = tmp_path / "photos", tmp_path / "w"
    for person in (GONE, STAYS):
        for emotion in ("happy", "sad"):
            file = photos / person / emotion / "1.png"
            file.parent.mkdir(parents=True)
            cv2.imwrite(str(file), rng.integers(0, 256, (40, 40, 3)).astype(np.uint8))
    rows = [f"{name},no,yes,no," for name in (GONE, STAYS)]
    (photos / "consent.csv").write_text("\n".join(["subject,share,train,demo,revoked", *rows]))
    asked = photographs_config.get_config()
    asked.update({"photos": str(photos), "aligned": True, "emotions": ("happy", "sad")})
    photographs.run(asked, work / "photographs")

    builder = builders.builder_module("persian_emotion")
    two = builder.PersianEmotionConfig(name="two", emotions=("happy", "sad"))
    finished(work / "train", "train", data={"root": str(photos)})
    builders.build("persian_emotion", two, photos, work / "train" / "records")

    table = pd.read_parquet(work / "photographs" / "photographs.parquet")
    answers = table[["photo", "subject", "emotion", "status"]].assign(fold=0, seed=0)
    finished(
        work / "emotion",
        "crossval",
        {
            "predictions.parquet": answers,
            "folds/seed0_fold0/predictions.parquet": answers,
            "folds/seed0_fold0/heat.npz": GONE,
            "leaks/leaks.csv": f"kind,tested\nsame_person,{GONE}\n",
            "model/model.json": "{}",
        },
        photographs=str(work / "photographs"),
    )
    model = {"model/model.json": "{}"}
    finished(work / "later", "crossval", model, init=str(work / "emotion"))
    finished(work / "other", "train", model, init="")
    report = {"report.html": f"<td>{GONE}</td>", "per_person.csv": f"run,subject\na,{GONE}\n"}
    finished(work / "evaluate", "evaluate", report, runs={})
    return tmp_path


def everything(root):
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_no_byte_of_the_person_is_left(study):
    before = everything(study)
    pictures = {data for path, data in before.items() if GONE in path.parts}
    assert len(pictures) == 4  # two photographs, two crops
    summary = remove.run(config(study), study / "removals")
    after = everything(study)
    for path, data in after.items():
        assert GONE not in str(path) and GONE.encode() not in data, path
        assert all(picture not in data for picture in pictures), path
        if path.suffix == ".parquet":
            assert GONE not in pd.read_parquet(path).to_csv()
    assert not [p for p in study.rglob("*") if GONE in p.name]
    assert summary["rows_deleted"] == 2 + 2 + 2 + 1  # photographs, two predictions, consent


def test_the_others_stay(study):
    remove.run(config(study), study / "removals")
    table = pd.read_parquet(study / "w" / "photographs" / "photographs.parquet")
    assert set(table["subject"]) == {STAYS} and len(table) == 2
    assert all((study / "w" / "photographs" / crop).is_file() for crop in table["crop"])
    assert STAYS in (study / "photos" / "consent.csv").read_text()
    assert len(list((study / "photos" / STAYS).rglob("*.png"))) == 2


def test_models_that_saw_the_person_are_deleted_and_named_and_others_are_not(study):
    named = remove.run(config(study), study / "removals")["models_that_saw_the_person"]
    assert [path.split("/")[-2] for path in named] == ["emotion", "later"]
    assert saw(study / "w") == ["emotion", "later"]


def test_pictures_of_a_pretraining_that_was_watched_on_the_person_go_its_model_stays(study):
    for name, root in (("watched", study / "w" / "photographs"), ("alone", "")):
        pictures = dict.fromkeys(("neighbours.png", "embedding.png", "curves.png"), "faces")
        files = {"model/model.json": "{}", **pictures}
        finished(study / "w" / name, "train", files, probe={"photographs": str(root)})
    named = remove.run(config(study), study / "removals")["models_that_saw_the_person"]
    assert [path.split("/")[-2] for path in named] == ["emotion", "later"]
    assert [p.name for p in (study / "w" / "watched").glob("*.png")] == ["curves.png"]
    assert len(list((study / "w" / "alone").glob("*.png"))) == 3
    assert (study / "w" / "watched" / "model" / "model.json").is_file()


def test_models_that_began_by_a_relative_path_are_named(study, monkeypatch):
    monkeypatch.chdir(study)
    finished(study / "w" / "later", "crossval", init="w/emotion/model")
    named = remove.run(config(study), study / "removals")["models_that_saw_the_person"]
    assert [path.split("/")[-2] for path in named] == ["emotion", "later"]


def test_a_pipeline_s_other_models_did_not_see_the_person(study):
    finished(study / "w", "pipeline", photos=str(study / "photos"), order=["photographs"])
    named = remove.run(config(study), study / "removals")["models_that_saw_the_person"]
    assert [path.split("/")[-2] for path in named] == ["emotion", "later"]


def test_a_table_may_spell_its_columns_in_any_case(study):
    photos = study / "photos"
    file = photos / "loose.png"
    file.write_bytes(b"a picture")
    (photos / "labels.csv").write_text(f"Path,Subject,Emotion\n{file.name},{GONE},sad\n")
    remove.run(config(study), study / "removals")
    assert not file.exists()
    assert (photos / "labels.csv").read_text().split() == ["Path,Subject,Emotion"]


@pytest.mark.parametrize("person", [".", "..", "photos/yorick"])
def test_a_path_is_no_id(study, person):
    before = everything(study)
    with pytest.raises(UserError, match="is a path, and not the id"):
        remove.run(config(study, person), study / "removals")
    assert everything(study).items() >= before.items()


def test_records_and_reports_are_deleted_to_be_made_again(study):
    remove.run(config(study), study / "removals")
    assert not list((study / "w" / "train").rglob("persian_emotion-*"))
    assert not (study / "w" / "evaluate" / "report.html").exists()
    assert not (study / "w" / "photographs" / "sheet.png").exists()


def test_a_person_whom_nobody_knows_is_an_error_and_touches_nothing(study):
    before = everything(study)
    with pytest.raises(UserError, match="there is nobody called 'someone'"):
        remove.run(config(study, "someone"), study / "removals")
    assert before == everything(study)


def test_what_still_names_the_person_is_told(study):
    (study / "w" / "other" / "notes.txt").write_text(f"thanks to {GONE} for coming")
    with pytest.raises(UserError, match=r"1 files still name the person: .*notes\.txt"):
        remove.run(config(study), study / "removals")


def test_a_table_of_labels_loses_the_rows(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    lines = ["path,subject,emotion"]
    for number, person in enumerate((GONE, STAYS, GONE)):
        cv2.imwrite(str(photos / f"IMG_{number}.png"), np.full((8, 8, 3), number, np.uint8))
        lines.append(f"IMG_{number}.png,{person},happy")
    (photos / "labels.csv").write_text("\n".join(lines))
    (tmp_path / "w").mkdir()
    remove.run(config(tmp_path), tmp_path / "removals")
    assert sorted(path.name for path in photos.iterdir()) == ["IMG_1.png", "labels.csv"]
    assert GONE not in (photos / "labels.csv").read_text()
    assert json.loads((tmp_path / "removals" / "done.json").read_text())
