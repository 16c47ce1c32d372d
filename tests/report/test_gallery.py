import base64
import io

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fer_jax.people import photograph
from fer_jax.report import gallery
from tests.metrics.simulation import from_table, simulate


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A finished run with faces, Grad-CAM maps and features; half of the people allow sharing.

    Returns its predictions, its folder, and the picture that all faces show.
    """
    root = tmp_path_factory.mktemp("gallery")
    table, protocol = simulate(people=4, per_emotion=1, skill=0.6)
    face = photograph(801, "happy", 0)[40:200, 80:240]
    rows = []
    for number, row in table.iterrows():
        crop = f"faces/{number}.png"
        (root / "photographs" / "faces").mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / "photographs" / crop), face[..., ::-1])
        known = {name: row[name] for name in ("photo", "subject", "emotion", "status")}
        rows.append({**known, "crop": crop, "share": row["subject"] < "p02"})
    pd.DataFrame(rows).to_parquet(root / "photographs" / "photographs.parquet")
    for fold, part in table.groupby("fold"):
        folder = root / "run" / "folds" / f"seed0_fold{fold}"
        folder.mkdir(parents=True)
        heat = np.zeros((len(part), 12, 12), np.float16)
        heat[:, 2:4, 2:4] = 1
        np.savez(folder / "heat.npz", photo=part["photo"].to_numpy(str), heat=heat)
    truth = table["emotion"].map({e: i for i, e in enumerate(protocol["labels"])}).to_numpy()
    features = np.eye(4)[truth] + 0.05 * np.random.default_rng(0).normal(size=(len(table), 4))
    np.savez(root / "run" / "embedding.npz", photo=table["photo"].to_numpy(str), features=features)
    protocol["photographs"] = str(root / "photographs")
    return from_table("a", table, protocol, "table"), root / "run", face


def picture(shown):
    data = base64.b64decode(shown.picture.removeprefix("data:image/jpeg;base64,"))
    return np.asarray(Image.open(io.BytesIO(data)))


def test_faces_are_sorted_by_confidence_and_separated_into_correct_and_wrong(study):
    run, workdir, _ = study
    found = gallery.gallery(run, workdir, drawn=False)
    assert found["right"] and found["wrong"]
    for name, faces in found.items():
        confidence = [face.confidence for face in faces]
        assert confidence == sorted(confidence, reverse=True)
        assert all((face.truth == face.answer) == (name == "right") for face in faces)
    wrong = (run.predicted != run.truth).sum()
    assert len(found["wrong"]) == min(gallery.SHOWN, wrong)


def test_a_face_is_blurred_unless_the_person_shares_or_is_generated(study):
    run, workdir, face = study
    for drawn in (False, True):
        for faces in gallery.gallery(run, workdir, drawn).values():
            for shown in faces:
                assert shown.blurred == (not drawn and shown.subject >= "p02")
                detail = cv2.Laplacian(picture(shown)[60:, 60:].mean(2), cv2.CV_64F).var()
                sharp = cv2.Laplacian(cv2.resize(face, (128, 128))[60:, 60:].mean(2), 6).var()
                if not shown.blurred:
                    assert detail > 0.3 * sharp


def test_a_blurred_face_has_at_most_81_colours():
    face = photograph(801, "happy", 0)[40:200, 80:240]
    mosaic = gallery.blurred(face)
    assert mosaic.shape == face.shape
    assert len(np.unique(mosaic.reshape(-1, 3), axis=0)) <= 81


def test_the_overlay_marks_the_heat(study):
    grey = np.full((96, 96, 3), 128, np.uint8)
    heat = np.zeros((12, 12), np.float32)
    heat[1:3, 1:3] = 1
    shown = gallery.overlaid(grey, heat).astype(int)
    changed = np.abs(shown - 128).sum(2)
    assert changed[12:20, 12:20].min() > 60 and changed[60:, 60:].max() < 12


def test_features_of_emotions_have_a_high_silhouette_by_emotion(study):
    run, workdir, _ = study
    found = gallery.face_map(run, workdir)
    assert found.by_emotion > 0.8 > 0 > found.by_person
    assert found.places.shape == (16, 2) and np.isfinite(found.places).all()
    assert gallery.face_map(run, workdir / "absent") is None
    assert gallery.gallery(run, workdir / "absent", drawn=True) == {"right": [], "wrong": []}
