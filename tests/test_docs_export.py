"""The example of docs/export.md runs without JAX, and answers as the model does."""

import subprocess
import sys

import numpy as np
import pytest

from configs import export as export_config
from fer_jax.faces.alignment import align
from fer_jax.faces.drawing import write_image
from fer_jax.faces.search import find_faces
from fer_jax.people import photograph
from fer_jax.stages import export
from fer_jax.training import trained_model
from tests import documented

NEEDED = "needs the converter (requirements-export.txt), which is optional"
PAGE = "export.md"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An export of the starter, with the page's file in it."""
    pytest.importorskip("jax2onnx", reason=NEEDED)
    folder = tmp_path_factory.mktemp("export")
    config = export_config.get_config()
    config.formats = ("onnx",)
    export.run(config, folder)
    for name, code in documented.files(PAGE).items():
        (folder / name).write_text(code)
    return folder


def test_the_example_has_at_most_thirty_lines():
    (code,) = documented.files(PAGE).values()
    assert len(code.splitlines()) <= 30


@pytest.mark.parametrize("size", [(240, 320), (900, 1200)])  # used at full size, and shrunk first
def test_the_example_answers_as_the_model_does(folder, size):
    model = trained_model.load("starter")
    pipeline = model.record.faces
    picture = photograph(2, "happy", 1, size)
    (faces,) = find_faces([picture], pipeline)
    landmarks = faces.landmarks[0]
    write_image(folder / "photo.png", picture)

    # In a process in which JAX cannot be imported.
    code = "import sys, runpy; sys.modules['jax'] = None; runpy.run_path('emotion.py')"
    numbers = [str(number) for number in landmarks.ravel()]
    command = [sys.executable, "-c", code, "photo.png", *numbers]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = [line.rsplit(" ", 1) for line in done.stdout.splitlines()]
    assert [label for label, _ in lines] == list(model.record.labels["emotion"])
    crop = align(picture, landmarks, pipeline.crop.size, pipeline.crop.margin)
    expected = model.probabilities("emotion", crop[None])[0]
    np.testing.assert_allclose([float(p) for _, p in lines], expected, atol=2e-3)
