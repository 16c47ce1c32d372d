"""docs/add_a_method.md, word for word: its file is written, its commands run."""

import shutil

import cv2
import numpy as np
import pandas as pd
import pytest

from configs import photographs as photographs_config
from configs import predict as predict_config
from fer_jax.people import EMOTIONS, photograph
from fer_jax.stages import photographs, predict
from fer_jax.workdir import read_json
from tests import documented

PAGE = "add_a_method.md"
PEOPLE = range(751, 757)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of the repository with generated photographs and the page's file, its commands run."""
    folder = tmp_path_factory.mktemp("checkout")
    (folder / "photos").mkdir()
    lines = ["path,subject,emotion"]
    for person in PEOPLE:
        for emotion in EMOTIONS:
            name = f"p{person}_{emotion}.png"
            cv2.imwrite(str(folder / "photos" / name), photograph(person, emotion, 0)[..., ::-1])
            lines.append(f"{name},p{person},{emotion}")
    (folder / "photos" / "labels.csv").write_text("\n".join(lines))
    config = photographs_config.get_config()
    config.photos = str(folder / "photos")
    photographs.run(config, folder / "work" / "photographs")
    documented.run(PAGE, folder)
    return folder


def test_the_page_names_the_file_that_it_shows():
    (code,) = documented.files(PAGE).values()
    assert len(code.splitlines()) <= 40
    assert len(documented.commands(PAGE)) == 1


def test_it_is_measured_and_compared(checkout):
    table = pd.read_parquet(checkout / "work" / "nearest_mean" / "predictions.parquet")
    assert len(table) == len(PEOPLE) * len(EMOTIONS) and (table["temperature"] > 0).all()
    found = read_json(checkout / "work" / "evaluate" / "metrics.json")
    (comparison,) = found["comparisons"]
    assert comparison["comparable"] and comparison["second"] == "baseline"
    assert found["runs"]["model"]["protocol"]["method"] == "my_methods.nearest_mean"
    assert "inner people" in (checkout / "work" / "evaluate" / "report.html").read_text()


def test_what_is_measured_is_what_predict_ships(checkout, tmp_path):
    workdir = checkout / "work" / "nearest_mean"
    rows = pd.read_parquet(workdir / "predictions.parquet").query("fold == 0").set_index("photo")
    (tmp_path / "in").mkdir()
    for photo in rows.index:
        shutil.copy(checkout / "photos" / photo, tmp_path / "in")
    config = predict_config.get_config()
    model = workdir / "folds" / "seed0_fold0" / "model"
    config.update({"model": str(model), "input": str(tmp_path / "in"), "annotate": False})
    predict.run(config, tmp_path / "predict")
    found = pd.read_csv(tmp_path / "predict" / "predictions.csv").set_index("source")
    for emotion in EMOTIONS:
        shipped, measured = found[f"prob_{emotion}"], rows[f"calibrated_{emotion}"]
        np.testing.assert_allclose(shipped.loc[rows.index], measured, atol=1e-5)
