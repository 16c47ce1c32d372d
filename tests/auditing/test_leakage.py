"""Planted leaks of each kind are found among generated faces, without false alarms."""

import cv2
import numpy as np
import pandas as pd
import pytest

from configs import photographs as photographs_config
from fer_jax.auditing import leakage, likeness
from fer_jax.crossval.protocols import Fold, make_folds
from fer_jax.data.manifest import write_manifest
from fer_jax.errors import UserError
from fer_jax.people import EMOTIONS, photograph
from fer_jax.stages import photographs
from fer_jax.workdir import write_json

PEOPLE = range(701, 709)
VICTIM, ATTACKER = "p701", "p702"


def encoded(image, quality):
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], 1)


def resized(image, factor):
    return cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)


def turned(image, degrees):
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1)
    return cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REFLECT)


COPIES = {
    "same_file": lambda image: image,
    "recompressed": lambda image: encoded(image, 30),
    "half_size": lambda image: resized(image, 0.5),
    "third_size": lambda image: resized(image, 0.34),
    "cropped": lambda image: image[12:, 16:],  # 5 % at the top and the left
    "cropped_all_round": lambda image: image[12:-12, 16:-16],
    "mirrored": lambda image: np.ascontiguousarray(image[:, ::-1]),
    "brightened": lambda image: np.clip(image.astype(int) + 45, 0, 255).astype(np.uint8),
    "darkened": lambda image: (image * 0.6).astype(np.uint8),
    "gamma": lambda image: (255 * (image / 255) ** 1.6).astype(np.uint8),
    "grey": lambda image: cv2.cvtColor(cv2.cvtColor(image, 6), 8),
    "turned": lambda image: turned(image, 4),
    "blurred": lambda image: cv2.GaussianBlur(image, (0, 0), 1.5),
    "framed": lambda image: cv2.copyMakeBorder(image, 30, 30, 30, 30, 0, value=(255, 255, 255)),
    "mirrored_brightened": lambda image: np.clip(image[:, ::-1].astype(int) + 30, 0, 255).astype(
        np.uint8
    ),
}


def write(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image)


def photographs_table(photos, workdir):
    config = photographs_config.get_config()
    config.update({"photos": str(photos), "crop": {"size": 80, "margin": 0.0}})
    photographs.run(config, workdir)
    table = pd.read_parquet(workdir / "photographs.parquet")
    return table.assign(file=[str(workdir / crop) for crop in table["crop"]])


def loso_folds(table):
    return make_folds(
        table["subject"].tolist(), table["emotion"].tolist(),
        protocol="leave_one_subject_out", folds=0, seed=0,
    )  # fmt: skip


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Eight people with six photographs each, and copies of photographs under the id ATTACKER.

    There is one copy for each change in COPIES; its original shows another person. Returns the
    table of photographs and the folder that contains everything.
    """
    root = tmp_path_factory.mktemp("leaks")
    images = {}
    for person in PEOPLE:
        for number in range(6):
            emotion = EMOTIONS[number % 4]
            image = photograph(person, emotion, number)[..., ::-1]
            images[person, number] = image
            write(root / "photos" / f"p{person}" / emotion / f"{number}.png", image)
    for number, (name, change) in enumerate(COPIES.items()):
        victim = [701, 703, 704, 705, 706][number % 5]
        image = change(images[victim, number % 6])
        write(root / "photos" / ATTACKER / "happy" / f"{name}.png", image)
    return photographs_table(root / "photos", root / "work"), root


@pytest.fixture(scope="module")
def found(planted):
    table, _ = planted
    return leakage.audit(table, loso_folds(table))


@pytest.mark.parametrize("kind", COPIES)
def test_a_copy_under_another_id_is_found(found, kind):
    pairs = {leak.tested for leak in found if leak.kind == "near_duplicate"}
    assert f"{ATTACKER}/happy/{kind}.png" in pairs


def test_identical_pictures_are_found(found):
    (pair,) = {
        tuple(sorted((leak.tested, leak.other)))
        for leak in found
        if leak.kind == "identical_picture"
    }
    assert pair == ("p701/happy/0.png".replace("happy", EMOTIONS[0]), "p702/happy/same_file.png")


def test_only_the_copies_are_suspected(found):
    for leak in found:
        assert ATTACKER in leak.tested.split("/")[0] or ATTACKER in leak.other.split("/")[0]


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    """Twelve other people with eight photographs each."""
    root = tmp_path_factory.mktemp("clean")
    for person in range(721, 733):
        for number in range(8):
            emotion = EMOTIONS[number % 4]
            image = photograph(person, emotion, number)[..., ::-1]
            write(root / "photos" / f"p{person}" / emotion / f"{number}.png", image)
    return photographs_table(root / "photos", root / "work")


def test_different_people_cause_no_false_alarm(clean):
    assert leakage.audit(clean, loso_folds(clean)) == []


def test_people_under_two_ids_are_found(clean):
    """The two ids are found for at least a third of twelve people; no others are confused."""
    faces = likeness.Faces.read(clean["file"].tolist())
    tables = {}
    for person in sorted(set(clean["subject"])):
        table = clean.copy()
        table.loc[table.index[table["subject"] == person][::2], "subject"] = "stranger"
        names, alike = likeness.people_alike(faces.features, table["subject"].tolist())
        pairs = zip(*np.nonzero(np.triu(alike, 1) >= likeness.SAME_PERSON), strict=True)
        found = {frozenset((names[i], names[j])) for i, j in pairs}
        assert found <= {frozenset((person, "stranger"))}
        if found:
            tables[person] = table
    assert len(tables) >= 4
    person, table = tables.popitem()
    leaks = {(x.kind, x.tested, x.other) for x in leakage.audit(table, loso_folds(table))}
    assert leaks == {("same_person", person, "stranger")}
    # If only the stranger is tested, the leak and its pictures start with the stranger.
    is_stranger = (table["subject"] == "stranger").to_numpy()
    fold = Fold(np.flatnonzero(~is_stranger), np.flatnonzero(is_stranger))
    (leak,) = leakage.audit(table, [fold])
    assert (leak.tested, leak.other) == ("stranger", person)
    owner = dict(zip(table["file"], table["subject"], strict=True))
    assert [owner[picture] for picture in leak.pictures] == ["stranger", person]


def test_similar_ids_are_found(clean):
    table = clean.copy()
    table["subject"] = table["subject"].replace({"p721": "p1", "p722": "P_01", "p723": "p10"})
    pairs = {(x.tested, x.other) for x in leakage.audit(table, loso_folds(table))}
    assert pairs == {("p1", "P_01"), ("P_01", "p1")}


def test_a_person_in_train_and_test_of_a_given_split_is_found(clean):
    splits = ["test" if i % 8 == 0 else "train" for i in range(len(clean))]
    folds = make_folds(
        clean["subject"].tolist(), clean["emotion"].tolist(),
        protocol="fixed_split", folds=0, seed=0, splits=splits,
    )  # fmt: skip
    shared = [leak for leak in leakage.audit(clean, folds) if leak.kind == "shared_id"]
    assert len(shared) == 12


def test_a_person_in_validation_and_test_is_found(clean):
    people = sorted(set(clean["subject"]))
    first = (clean["subject"] == people[0]).to_numpy()
    half = np.arange(len(clean)) % 2 == 0
    splits = np.where(first & half, "test", np.where(first, "validation", "train")).tolist()
    folds = make_folds(
        clean["subject"].tolist(), clean["emotion"].tolist(),
        protocol="fixed_split", folds=0, seed=0, splits=splits,
    )  # fmt: skip
    shared = [leak for leak in leakage.audit(clean, folds) if leak.kind == "shared_id"]
    assert [(leak.tested, leak.other) for leak in shared] == [(people[0], people[0])]


def videos(root, table, rows, video, change=lambda image: image):
    """Writes a workdir of `extract` with faces of a table as frames of `video`; returns its path.

    `rows` are the positions of the faces in `table`; `change` is applied to each picture.
    """
    faces = []
    for number, row in enumerate(rows):
        name = f"crops/{number}.jpg"
        write(root / name, change(cv2.imread(table["file"].iloc[row])))
        faces.append(
            {
                "face_id": str(number), "video": video, "frame": number, "time_s": 0.0,
                "box": np.zeros(4, np.float32), "landmarks": np.zeros(10, np.float32),
                "detector_score": 1.0, "verifier_score": None, "sharpness": 1.0,
                "brightness": 1.0, "yaw": 0.0, "phash": 0, "track": 0, "status": "kept",
                "reason": "", "crop": name,
            }
        )  # fmt: skip
    write_manifest(root / "manifest.parquet", pd.DataFrame(faces))
    return str(root)


def test_a_test_person_in_the_pretraining_videos_is_found(clean, tmp_path):
    rows = np.flatnonzero(clean["subject"] == "p726")
    other = np.flatnonzero(clean["subject"] == "p727")
    study = clean[clean["subject"] != "p727"].reset_index(drop=True)
    seen = videos(tmp_path / "a", clean, rows, "x.mp4", lambda image: encoded(image, 60))
    kinds = {
        (leak.kind, leak.other)
        for leak in leakage.audit(study, loso_folds(study), leakage.Pretraining(faces=(seen,)))
    }
    assert ("pretraining_duplicate", "x.mp4") in kinds
    unseen = videos(tmp_path / "b", clean, other, "x.mp4")
    assert leakage.audit(study, loso_folds(study), leakage.Pretraining(faces=(unseen,))) == []
    named = videos(tmp_path / "c", clean, other, "2024/p726_talks.mp4")
    (leak,) = leakage.audit(study, loso_folds(study), leakage.Pretraining(faces=(named,)))
    assert (leak.kind, leak.tested) == ("pretraining_name", "p726")


def test_pretraining_data_are_found_through_the_workdirs(planted, tmp_path):
    table, root = planted
    for name, config in {
        "pretrain": {"stage": "train", "data": {"root": str(root / "work")}, "init": ""},
        "emotion": {
            "stage": "crossval",
            "photographs": str(root / "work"),
            "init": str(tmp_path / "pretrain"),
        },
    }.items():
        write_json(tmp_path / name / "config.json", config)
    pool = leakage.pretraining_of(str(tmp_path / "emotion"))
    assert pool == leakage.Pretraining((str(root / "work"),), (), True)  # listed once
    assert not leakage.pretraining_of(str(tmp_path / "nowhere")).known
    moved = {"stage": "train", "data": {"root": str(tmp_path / "moved")}, "init": ""}
    write_json(tmp_path / "pretrain" / "config.json", moved)
    assert not leakage.pretraining_of(str(tmp_path / "emotion")).known
    assert leakage.pretraining_of("") == leakage.Pretraining()
    leaks = leakage.audit(table, loso_folds(table), pool)
    names = {leak.tested for leak in leaks if leak.kind == "pretraining_labels"}
    assert names == {f"p{person}" for person in PEOPLE}


@pytest.mark.parametrize("part", ["best", "best/model", "best/model/weights.safetensors"])
def test_pretraining_data_of_the_best_model_are_found(planted, tmp_path, part):
    _, root = planted
    config = {"stage": "train", "data": {"root": str(root / "work")}, "init": ""}
    write_json(tmp_path / "pretrain" / "config.json", config)
    write_json(tmp_path / "pretrain" / "best" / "model" / "model.json", {})
    (tmp_path / "pretrain" / "best" / "model" / "weights.safetensors").touch()
    pool = leakage.pretraining_of(str(tmp_path / "pretrain" / part))
    assert pool == leakage.Pretraining((str(root / "work"),), (), True)


def test_pretraining_on_a_users_folders_is_unknown(tmp_path):
    config = {"stage": "train", "data": {"root": "", "folders": {"faces": str(tmp_path)}}}
    write_json(tmp_path / "verify" / "config.json", config)
    assert not leakage.pretraining_of(str(tmp_path / "verify")).known


def test_a_leak_stops_the_run_unless_its_kind_is_allowed(found, tmp_path):
    leakage.write(found, tmp_path)
    assert (tmp_path / "suspects.png").stat().st_size > 10_000
    table = pd.read_csv(tmp_path / "leaks.csv")
    assert len(table) == len(found) and set(table["kind"]) <= set(leakage.KINDS)
    with pytest.raises(UserError, match=r"\d+ near_duplicate"):
        leakage.stop_unless_allowed(found, ("identical_picture",), tmp_path)
    leakage.stop_unless_allowed(found, tuple(leakage.KINDS), tmp_path)


def test_same_picture_is_high_only_for_the_same_face(clean):
    first, second = (cv2.imread(file)[..., ::-1].copy() for file in clean["file"].iloc[[0, 40]])
    assert likeness.same_picture(first, first) > 0.99
    assert likeness.same_picture(first, second) < likeness.SAME_PICTURE
    flat = np.full((80, 80, 3), 90, np.uint8)
    assert likeness.same_picture(flat, flat) == 0.0
    assert np.linalg.norm(likeness.descriptors(first[None]), axis=1).max() < 8


@pytest.mark.parametrize(("one", "other"), [("P_01", "p۱"), ("علي", "علی"), ("كاوه", "کاوه")])
def test_two_spellings_of_an_id_in_train_and_test_are_a_leak(one, other):
    fields = {"photo": "", "status": "no_face", "file": ""}
    table = pd.DataFrame({"subject": [one, other], **fields})
    folds = [Fold(train=np.array([0]), test=np.array([1]))]
    (leak,) = leakage.audit(table, folds)
    assert (leak.kind, leak.tested, leak.other) == ("similar_id", other, one)


def test_a_pretraining_person_with_another_spelling_is_a_leak(tmp_path):
    fields = {"photo": "", "status": "no_face", "file": ""}
    table = pd.DataFrame({"subject": ["P1", "علی"], **fields})
    pretrained = pd.DataFrame(
        {"subject": ["p١", "كاوه"], "photo": "", "crop": "", "status": "", "emotion": ""}
    )
    pretrained.to_parquet(tmp_path / "photographs.parquet")
    folds = [Fold(train=np.zeros(0, int), test=np.arange(2))]
    known = leakage.Pretraining(photographs=(str(tmp_path),))
    (leak,) = leakage.audit(table, folds, known)
    assert (leak.kind, leak.tested) == ("pretraining_labels", "P1")
