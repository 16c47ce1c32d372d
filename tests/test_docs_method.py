"""The file and the commands of docs/add_a_method.md work as they are written."""

import shutil

import numpy as np
import pandas as pd
import pytest

from configs import predict as predict_config
from fer_jax.people import EMOTIONS
from fer_jax.stages import predict
from fer_jax.workdir import read_json
from tests import documented
from tests.test_docs_pretext_task import PEOPLE, make_photographs

PAGE = "add_a_method.md"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of the repository with photographs, in which the page's commands were run."""
    folder = tmp_path_factory.mktemp("checkout")
    make_photographs(folder / "photos", folder / "work")
    documented.run(PAGE, folder)
    return folder


def test_the_page_names_the_file_that_it_shows():
    (code,) = documented.files(PAGE).values()
    assert len(code.splitlines()) <= 40
    assert len(documented.commands(PAGE)) == 1


def test_the_method_is_measured_and_compared(checkout):
    table = pd.read_parquet(checkout / "work" / "nearest_mean" / "predictions.parquet")
    assert len(table) == len(PEOPLE) * len(EMOTIONS) and (table["temperature"] > 0).all()
    found = read_json(checkout / "work" / "evaluate" / "metrics.json")
    (comparison,) = found["comparisons"]
    assert comparison["comparable"] and comparison["second"] == "baseline"
    assert found["runs"]["model"]["protocol"]["method"] == "my_methods.nearest_mean"
    assert "inner people" in (checkout / "work" / "evaluate" / "report.html").read_text()


def test_predict_gives_the_measured_probabilities(checkout, tmp_path):
    workdir = checkout / "work" / "nearest_mean"
    rows = pd.read_parquet(workdir / "predictions.parquet").query("fold == 0").set_index("photo")
    for photo in rows.index:
        (tmp_path / "in" / photo).parent.mkdir(parents=True)
        shutil.copy(checkout / "photos" / photo, tmp_path / "in" / photo)
    config = predict_config.get_config()
    model = workdir / "folds" / "seed0_fold0" / "model"
    config.update({"model": str(model), "input": str(tmp_path / "in"), "annotate": False})
    predict.run(config, tmp_path / "predict")
    found = pd.read_csv(tmp_path / "predict" / "predictions.csv").set_index("source")
    for emotion in EMOTIONS:
        shipped, measured = found[f"prob_{emotion}"], rows[f"calibrated_{emotion}"]
        np.testing.assert_allclose(shipped.loc[rows.index], measured, atol=1e-5)
