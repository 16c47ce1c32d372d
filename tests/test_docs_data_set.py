"""The file and the command of docs/add_a_data_set.md work as they are written."""

import cv2
import pytest

from fer_jax.people import EMOTIONS, photograph
from fer_jax.workdir import read_json
from tests import documented

PAGE = "add_a_data_set.md"
PEOPLE = range(751, 757)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of the repository with generated faces, in which the page's command was run."""
    folder = tmp_path_factory.mktemp("checkout")
    (folder / "lab_faces").mkdir()
    for person in PEOPLE:
        for emotion in EMOTIONS:
            face = cv2.resize(photograph(person, emotion, 0)[..., ::-1], (64, 64))
            cv2.imwrite(str(folder / "lab_faces" / f"p{person}_{emotion}_0.png"), face)
    documented.run(PAGE, folder)
    return folder


def test_the_page_names_the_file_that_it_shows():
    (code,) = documented.files(PAGE).values()
    assert len(code.splitlines()) <= 40
    assert len(documented.commands(PAGE)) == 1


def test_the_stage_train_learns_from_it(checkout):
    summary = read_json(checkout / "work" / "lab" / "done.json")["summary"]
    assert (summary["train_images"], summary["validation_images"]) == (20, 4)
    assert 0 <= summary["validation/emotion/accuracy"] <= 1
    model = read_json(checkout / "work" / "lab" / "model" / "model.json")
    assert model["labels"] == {"emotion": ["angry", "happy", "neutral", "sad"]}
    (records,) = (checkout / "work" / "lab" / "records").iterdir()
    assert records.name.startswith("my_data.lab_faces-")
    assert not (checkout / "lab_faces" / "records").exists()
