"""After a removal, all data of the person and all models that were trained on them are gone."""

import functools
import json
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from configs import photographs as photographs_config
from configs import remove as remove_config
from fer_jax import outputs, workdir
from fer_jax.data import builders
from fer_jax.errors import UserError
from fer_jax.locking import alone_in
from fer_jax.reading import Photograph, Video
from fer_jax.spreadsheets import safe_cell
from fer_jax.stages import photographs, predict, remove
from fer_jax.workdir import atomic_file, write_json

GONE, STAYS = "zelda77", "yorick"


environment = functools.cache(workdir.environment)


def config(tmp_path, person=GONE):
    config = remove_config.get_config()
    config.update(
        {"remove": person, "photos": str(tmp_path / "photos"), "work": str(tmp_path / "w")}
    )
    return config


def finished(folder, stage, files=None, **config):
    """Writes a workdir with `files` (text, bytes or a table, by name), recorded as written."""
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
    """The names of the workdirs whose model has been deleted."""
    return [name for name in ("emotion", "later", "other") if not (work / name / "model").exists()]


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Photographs of two people, their crops, records, predictions, a report and models."""
    monkeypatch.setattr(workdir, "environment", environment)
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

    finished(work / "train", "train", data={"root": str(work / "photographs")})
    builders.build("persian_emotion", None, work / "photographs", work / "train" / "records")

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


@pytest.mark.parametrize("place", ["", "..", "link/.."])
def test_no_byte_of_the_person_is_left(study, monkeypatch, place):
    (study / "here").mkdir()
    (study / "here" / "link").symlink_to(study / "w")
    monkeypatch.chdir(study / "here")
    before = everything(study)
    pictures = {data for path, data in before.items() if GONE in path.parts}
    assert len(pictures) == 4  # two photographs, two crops
    summary = remove.run(config(Path(place) if place else study), study / "removals")
    after = everything(study)
    for path, data in after.items():
        assert GONE not in str(path) and GONE.encode() not in data, path
        assert all(picture not in data for picture in pictures), path
        if path.suffix == ".parquet":
            assert GONE not in pd.read_parquet(path).to_csv()
    assert not [p for p in study.rglob("*") if GONE in p.name]
    assert summary["rows_deleted"] == 2 + 2 + 2 + 1  # photographs, two predictions, consent


def test_data_of_other_people_are_kept(study):
    remove.run(config(study), study / "removals")
    table = pd.read_parquet(study / "w" / "photographs" / "photographs.parquet")
    assert set(table["subject"]) == {STAYS} and len(table) == 2
    assert all((study / "w" / "photographs" / crop).is_file() for crop in table["crop"])
    assert STAYS in (study / "photos" / "consent.csv").read_text()
    assert len(list((study / "photos" / STAYS).rglob("*.png"))) == 2


def test_only_models_trained_on_the_person_are_deleted_and_named(study):
    named = remove.run(config(study), study / "removals")["models_that_saw_the_person"]
    assert [path.split("/")[-2] for path in named] == ["emotion", "later"]
    assert saw(study / "w") == ["emotion", "later"]


def test_only_exports_of_such_models_are_deleted_and_named(study):
    for name, model in (("export", "emotion"), ("export_other", "other")):
        files = {"model.onnx": "weights", "model.stablehlo": "weights", "README.md": "card"}
        finished(study / "w" / name, "export", files, model=str(study / "w" / model))
    named = remove.run(config(study), study / "removals")["models_that_saw_the_person"]
    folder = study / "w" / "export"
    assert {str(folder / "model.onnx"), str(folder / "model.stablehlo")} < set(named)
    assert not list(folder.glob("model*")) and not (folder / "README.md").exists()
    assert (study / "w" / "export_other" / "model.onnx").exists()
    assert not any("export_other" in path for path in named)


def test_a_pretraining_probed_on_the_person_loses_its_pictures_and_keeps_its_model(study):
    for name, root in (("watched", study / "w" / "photographs"), ("alone", "")):
        pictures = dict.fromkeys(("neighbours.png", "embedding.png", "curves.png"), "faces")
        faces = {"records/probed/0/persian_emotion-1/faces.array_record": "faces"}
        files = {"model/model.json": "{}", **faces, **pictures}
        finished(study / "w" / name, "train", files, probe={"photographs": str(root)})
    named = remove.run(config(study), study / "removals")["models_that_saw_the_person"]
    assert [path.split("/")[-2] for path in named] == ["emotion", "later"]
    assert [p.name for p in (study / "w" / "watched").glob("*.png")] == ["curves.png"]
    assert not list((study / "w" / "watched").rglob("*.array_record"))
    assert list((study / "w" / "alone").rglob("*.array_record"))
    assert len(list((study / "w" / "alone").glob("*.png"))) == 3
    assert (study / "w" / "watched" / "model" / "model.json").is_file()


def test_models_initialised_by_a_relative_path_are_deleted(study, monkeypatch):
    monkeypatch.chdir(study)
    finished(study / "w" / "later", "crossval", init="w/emotion/model")
    named = remove.run(config(study), study / "removals")["models_that_saw_the_person"]
    assert [path.split("/")[-2] for path in named] == ["emotion", "later"]


def test_models_of_a_pipeline_without_the_person_are_kept(study):
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
def test_a_path_is_not_accepted_as_an_id(study, person):
    before = everything(study)
    with pytest.raises(UserError, match="is a path; give the id of a person"):
        remove.run(config(study, person), study / "removals")
    assert everything(study).items() >= before.items()


def test_records_and_reports_are_deleted_and_can_be_made_again(study):
    remove.run(config(study), study / "removals")
    assert not list((study / "w" / "train").rglob("persian_emotion-*"))
    assert not (study / "w" / "evaluate" / "report.html").exists()
    assert not (study / "w" / "photographs" / "sheet.png").exists()


def test_an_unknown_person_is_an_error_and_nothing_is_changed(study):
    before = everything(study)
    with pytest.raises(UserError, match="there is no person with the id 'someone'"):
        remove.run(config(study, "someone"), study / "removals")
    assert before == everything(study)


def test_files_that_still_name_the_person_are_reported(study):
    (study / "w" / "other" / "notes.txt").write_text(f"thanks to {GONE} for coming")
    for _ in range(2):  # also when all else is deleted already
        with pytest.raises(UserError, match=r"1 files still contain the person's id: .*notes\.txt"):
            remove.run(config(study), study / "removals")


def test_the_rows_of_the_person_are_deleted_from_labels(tmp_path):
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


def run_again_until_done(asked, workdir, monkeypatch):
    """Runs the stage again and again; each run but the last is killed at its second deletion.

    Returns the last run's summary and the number of kills.
    """
    kills = 0
    real = {name: getattr(outputs, name) for name in ("delete", "delete_folder")}
    while True:
        left = [1]

        def deleting(path, name, left=left):
            if Path(path).parent.name != "removals":
                left[0] -= 1
                if left[0] < 0:
                    raise KeyboardInterrupt
            return real[name](path)

        for name in real:
            monkeypatch.setattr(outputs, name, lambda path, name=name: deleting(path, name))
        try:
            return remove.run(asked, workdir), kills
        except KeyboardInterrupt:
            kills += 1


def test_a_removal_killed_at_any_deletion_is_completed_by_the_same_command(study, monkeypatch):
    _, kills = run_again_until_done(config(study), study / "removals", monkeypatch)
    assert kills > 10
    assert saw(study / "w") == ["emotion", "later"]
    assert not [path for path in everything(study) if GONE in str(path)]
    assert not any(GONE.encode() in data for data in everything(study).values())
    assert (study / "w" / "other" / "model" / "model.json").is_file()


def test_a_removal_killed_after_the_last_deletion_is_completed(study, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(remove.console, "detail", killed)
        remove.run(config(study), study / "removals")
    assert remove.run(config(study), study / "removals")["files_deleted"] == 0
    assert not any(GONE.encode() in data for data in everything(study).values())
    with pytest.raises(UserError, match="no person with the id 'nobody'"):
        remove.run(config(study, "nobody"), study / "removals")


def test_models_initialised_by_one_model_per_seed_are_deleted(study):
    work = study / "w"
    (work / "emotion").rename(work / "emotion_1")
    finished(work / "later", "crossval", init=str(work / "emotion_{seed}" / "model"), seeds=[0, 1])
    named = remove.run(config(study), study / "removals")["models_that_saw_the_person"]
    assert [path.split("/")[-2] for path in named] == ["emotion_1", "later"]


def test_a_training_on_the_photographs_and_its_descendants_are_deleted(study):
    work = study / "w"
    sheets = dict.fromkeys(("tasks.png", "checkpoints/1/array", "best/model/model.json"), "face")
    finished(work / "pretrain", "train", sheets, data={"root": str(work / "photographs")})
    runs = {"set": {"probe": str(work / "later"), "tuned": str(work / "emotion")}}
    tables = dict.fromkeys(("study.csv", "study.md", "study.png"), "90 %")
    finished(work / "study", "study", tables, runs=runs)
    pool = {"photographs": str(work / "photographs")}
    finished(work / "audit", "audit", {"leaks/suspects.png": "faces"}, **pool)
    remove.run(config(study), study / "removals")
    for name in ("pretrain", "study", "audit"):
        assert [path.name for path in (work / name).iterdir()] == [outputs.RECORD]


def test_sheets_of_the_persons_videos_are_deleted_and_the_videos_named(study):
    work, videos = study / "w", study / "videos"
    videos.mkdir()
    (videos / f"{GONE}_talks.mp4").write_bytes(b"a video")
    manifest = pd.DataFrame({"video": [f"{GONE}_talks.mp4", "other.mp4"], "status": "kept"})
    tables = {"manifest.parquet": manifest}
    finished(work / "extract", "extract", {**tables, "kept.png": "faces"}, videos=str(videos))
    pictures = dict.fromkeys(("removed.png", "disagreements.png"), "faces")
    finished(work / "refine", "refine", {**tables, **pictures}, faces=str(work / "extract"))
    with pytest.raises(UserError, match=rf"1 files still contain .*{GONE}_talks.mp4"):
        remove.run(config(study), study / "removals")
    for name in ("extract", "refine"):
        assert [path.name for path in (work / name).iterdir()] == [outputs.RECORD]


def predictions(work, name, sources, **fields):
    rows = "".join(f"{source},0,sad\n" for source in sources)
    drawn = {f"annotated/{source}": source for source in sources}
    files = {
        "predictions.csv": f"source,frame,emotion\n{rows}",
        "predictions.parquet": pd.DataFrame({"source": sources, "frame": 0, "emotion": "sad"}),
        "overview.jpg": "all",
        **drawn,
    }
    return finished(work / name, "predict", files, **fields)


def test_predictions_lose_only_the_rows_of_the_person(study):
    work, photos = study / "w", study / "photos"
    mixed = predictions(work, "mixed", [f"{GONE}/sad/1.png", "x/1.png"], input=str(photos))
    own = predictions(work, "own", ["sad/1.png"], input=str(photos / GONE))
    others = predictions(work, "others", ["1.png"], input="elsewhere", model=str(work / "later"))
    summary = remove.run(config(study), study / "removals")
    assert (mixed / "predictions.csv").read_text() == "source,frame,emotion\nx/1.png,0,sad\n"
    assert pd.read_parquet(mixed / "predictions.parquet")["source"].tolist() == ["x/1.png"]
    assert [path.name for path in (mixed / "annotated").rglob("*.png")] == ["1.png"]
    assert not (mixed / "overview.jpg").exists()
    assert [path.name for path in own.iterdir()] == [outputs.RECORD]
    assert (others / "overview.jpg").is_file()
    assert summary["predictions_kept"] == [str(others)]


def test_predictions_inside_a_pipeline_are_made_again(study):
    work = study / "w"
    finished(work, "pipeline", order=["photographs", "emotion", "predict"])
    predictions(work, "predict", ["1.png"], input="elsewhere", model=str(work / "emotion"))
    remove.run(config(study), study / "removals")
    assert [path.name for path in (work / "predict").iterdir()] == [outputs.RECORD]


def test_the_table_determines_the_person_whatever_a_picture_is_called(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in ("a.png", "b.png"):
        (photos / name).write_bytes(name.encode())
    (photos / "labels.csv").write_text(
        f"path,subject,emotion\na.png,{GONE},sad\nb.png,{STAYS},sad\n"
    )
    folder = predictions(tmp_path / "w", "predict", ["a.png", "b.png"], input=str(photos))
    remove.run(config(tmp_path), tmp_path / "removals")
    assert (folder / "predictions.csv").read_text() == "source,frame,emotion\nb.png,0,sad\n"
    assert [path.name for path in (folder / "annotated").iterdir()] == ["b.png"]


def test_an_annotated_copy_under_another_name_is_deleted(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    sources = ["=a.png", f"{'b' * 190}.png", "c.png"]
    for name in sources:
        (photos / name).write_bytes(name.encode())
    rows = "".join(f"{name},{GONE},sad\n" for name in sources[:2])
    (photos / "labels.csv").write_text(f"path,subject,emotion\n{rows}c.png,{STAYS},sad\n")
    listed = [Photograph(name, photos / name) for name in sources]
    copies = predict.name_copies(listed, Path("annotated"))
    cells = "".join(f"{safe_cell(name)},0,sad\n" for name in sources)
    folder = finished(
        tmp_path / "w" / "predict",
        "predict",
        {
            "predictions.csv": f"source,frame,emotion\n{cells}",
            **{str(copy): "drawn" for copy in copies.values()},
        },
        input=str(photos),
    )
    assert len(list((folder / "annotated").iterdir())) == 3
    remove.run(config(tmp_path), tmp_path / "removals")
    assert [path.name for path in (folder / "annotated").iterdir()] == ["c.png"]
    assert (folder / "predictions.csv").read_text() == "source,frame,emotion\nc.png,0,sad\n"


def test_timelines_of_the_persons_videos_are_deleted(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    own = ["a.mp4", "=b.avi", f"{'c' * 190}.mp4", "d/e.mov"]
    sources = [*own, "f.mp4", "g.mp4"]
    for name in sources:
        (photos / name).parent.mkdir(exist_ok=True)
        (photos / name).write_bytes(name.encode())
    rows = "".join(f"{name},{GONE if name in own else STAYS},sad\n" for name in sources)
    (photos / "labels.csv").write_text(f"path,subject,emotion\n{rows}")
    listed = [Video(name, photos / name, 0.2) for name in sources]
    copies = predict.name_copies(listed, Path("annotated"))
    timelines = {name: str(predict.timeline_of(copy, Path())) for name, copy in copies.items()}
    folder = finished(
        tmp_path / "w" / "predict",
        "predict",
        {
            "predictions.parquet": pd.DataFrame({"source": sources, "frame": 0}),
            **dict.fromkeys(timelines.values(), "drawn"),
        },
        input=str(photos),
    )
    remove.run(config(tmp_path), tmp_path / "removals")
    left = {path.relative_to(folder).as_posix() for path in folder.rglob("*.png")}
    assert left == {timelines["f.mp4"], timelines["g.mp4"]}


@pytest.mark.parametrize("asked", ["ZELDA77", "ｚｅｌｄａ７７"])
def test_another_spelling_of_the_id_is_the_same_person(study, asked):
    remove.run(config(study, asked), study / "removals")
    assert not [path for path in everything(study) if GONE in str(path)]


def test_a_workdir_without_a_record_is_named_and_nothing_is_deleted(study):
    (study / "w" / "emotion" / outputs.RECORD).unlink()
    before = everything(study)
    with pytest.raises(UserError, match=r"nothing was deleted, since .*w/emotion has no record"):
        remove.run(config(study), study / "removals")
    assert everything(study) == before


def test_a_linked_folder_on_another_disk_is_named_and_nothing_is_deleted(study):
    folds = study / "w" / "emotion" / "folds"
    folds.rename(study / "disk")
    folds.symlink_to(study / "disk")
    before = everything(study)
    with pytest.raises(UserError, match=r"nothing was deleted, since .*points out of .*emotion"):
        remove.run(config(study), study / "removals")
    assert everything(study) == before


def test_files_of_the_user_in_a_workdir_are_kept(study):
    mine = study / "w" / "emotion" / "model" / "my_notes.odt"
    mine.write_text("mine")
    remove.run(config(study), study / "removals")
    assert mine.read_text() == "mine"


@pytest.mark.parametrize("busy", ["later", "."])
def test_a_workdir_in_use_by_another_process_stops_the_removal(study, busy):
    finished(study / "w", "pipeline", order=["photographs", "emotion"])
    before = everything(study)
    with (
        alone_in(study / "w" / busy, "another"),
        pytest.raises(UserError, match="another process is working"),
    ):
        remove.run(config(study), study / "removals")
    assert everything(study) == before


def test_photographs_that_would_be_read_again_are_named(study):
    asked = config(study)
    asked.photos = ""
    before = everything(study)
    with pytest.raises(UserError, match=rf"add --config.photos={study / 'photos'}"):
        remove.run(asked, study / "removals")
    assert everything(study) == before
    ledger = study / "photos" / "consent.csv"
    ledger.write_text(ledger.read_text().replace(f"{GONE},no,yes,no,", f"{GONE},no,yes,no,yes"))
    remove.run(asked, study / "removals")
    assert saw(study / "w") == ["emotion", "later"]
    assert len(list((study / "photos" / GONE).rglob("*.png"))) == 2


def test_a_short_id_is_searched_for_only_in_columns_of_subjects(tmp_path):
    """The id `1` of a person is also the name of a checkpoint's folder."""
    photos, work = tmp_path / "photos", tmp_path / "w"
    for person in ("1", "2"):
        (photos / person / "sad").mkdir(parents=True)
        (photos / person / "sad" / "1.png").write_bytes(person.encode())
    files = {"checkpoints/1/array": "weights", "curves.md": "1", "model/model.json": "{}"}
    finished(work / "pretrain", "train", files, data={"root": "videos"})
    remove.run(config(tmp_path, "1"), tmp_path / "removals")
    assert [path.parts[-3] for path in photos.rglob("*.png")] == ["2"]
    assert (work / "pretrain" / "checkpoints" / "1" / "array").is_file()


def test_a_linked_workdir_is_named_and_nothing_is_deleted(study):
    (study / "w" / "later").rename(study / "disk")
    (study / "w" / "later").symlink_to(study / "disk")
    before = everything(study)
    with pytest.raises(UserError, match=rf"nothing was deleted, since {study}/disk is outside"):
        remove.run(config(study), study / "removals")
    assert everything(study) == before
