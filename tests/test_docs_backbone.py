"""The file and the commands of docs/add_a_backbone.md work as they are written."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from fer_jax.people import EMOTIONS
from fer_jax.workdir import read_json
from tests import documented
from tests.test_docs_pretext_task import PEOPLE, make_frames, make_photographs

PAGE = "add_a_backbone.md"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of the repository with generated faces, in which the page's commands were run.

    The people in the videos differ from those in the photographs.
    """
    folder = tmp_path_factory.mktemp("checkout")
    work = folder / "work"
    make_photographs(folder / "photos", work / "mine")
    make_photographs(folder / "others", work / "others", people=range(781, 784))
    make_frames(work / "others")
    (work / "others" / "refine").rename(work / "mine" / "refine")
    documented.run(PAGE, folder)
    return folder


def test_the_page_names_the_file_that_it_shows():
    (code,) = documented.files(PAGE).values()
    assert len(code.splitlines()) <= 66
    assert len(documented.commands(PAGE)) == 3


def test_pretraining_lists_its_blocks(checkout):
    table = (checkout / "work" / "pretrained" / "parameters.txt").read_text()
    blocks = [line.split()[0] for line in table.splitlines()[1:]]
    assert blocks == [*(f"backbone/blocks/{n}" for n in range(4)), "heads/rotation", "all"]


def test_fine_tuning_starts_from_the_pretrained_weights(checkout):
    work = checkout / "work"
    predictions = pd.read_parquet(work / "emotion" / "predictions.parquet")
    assert len(predictions) == len(PEOPLE) * len(EMOTIONS)
    record = read_json(work / "emotion" / "model" / "model.json")
    assert record["backbone"]["name"] == "my_backbones.plain"
    assert record["init"]["name"] == "pretrained"


def test_predict_uses_the_model(checkout):
    found = pd.read_csv(checkout / "work" / "predict" / "predictions.csv")
    probabilities = found[[f"prob_{emotion}" for emotion in EMOTIONS]]
    assert len(found) == len(PEOPLE) * len(EMOTIONS)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-4)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--config.backbone.width=0"], "--config.backbone.width=0 must be greater than or equal"),
        (["--config.backbone.name=my_backbones.plane"], "no module my_backbones.plane"),
        (["--config.data.image_size=8"], "--config.data.image_size=8 must be at least 16 pixels"),
    ],
)
def test_a_wrong_field_is_refused_by_its_flag(checkout, flags, message):
    command = ["launch.py", "--config=my_backbones/plain.py:pretrain,rotation", "--workdir=work/x"]
    done = subprocess.run(
        [sys.executable, *command, "--config.data.root=work/mine/refine", *flags],
        cwd=checkout, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2 and message in done.stderr, done.stderr
