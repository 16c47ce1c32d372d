"""The examples of docs/python.md run as written, in order, and warn only of skipped sources."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fer_jax
from fer_jax.faces.drawing import write_image
from fer_jax.people import photograph
from fer_jax.stages.render import write_clip

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "python.md"
SIZE = (120, 160)


def examples() -> list[str]:
    return re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """The output of each example, and what all examples wrote to standard error."""
    folder = tmp_path_factory.mktemp("notebook")
    write_image(folder / "holiday" / "ann.jpg", photograph(3, "happy", 0, SIZE))
    write_clip(folder / "holiday" / "clip.mp4", 5, "neutral", 0, 3, 2, SIZE)
    (folder / "holiday" / "notes.txt").write_text("no picture")
    for person in (6, 7):
        for emotion in ("happy", "sad"):
            image = photograph(person, emotion, 0, SIZE)
            write_image(folder / "album" / f"p{person}" / emotion / "0.png", image)
    script = "".join(f"print('--- {number}')\n{code}" for number, code in enumerate(examples()))
    (folder / "page.py").write_text(script)
    done = subprocess.run(
        [sys.executable, "page.py"], cwd=folder, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
    return re.split(r"--- \d+\n", done.stdout)[1:], done.stderr


def test_every_example_runs(session):
    parts, _ = session
    assert len(parts) == len(examples()) and all(parts)


def test_read_finds_the_faces_and_names_what_it_skips(session):
    parts, noise = session
    assert parts[0].count("ann.jpg") == 1 and parts[0].count("clip.mp4") == 3
    assert "('notes.txt', 'not an image or a video by its suffix')" in parts[1]
    lines = [line for line in noise.splitlines() if line]
    assert set(lines) == {"warning: read skipped 1 source; see table.attrs['skipped']"}


def test_abstaining_reports_the_measured_accuracy(session):
    parts, _ = session
    assert re.search(r"withheld \d of \d answers .* faces of FER2013's validation split", parts[2])


def test_the_other_examples_give_results(session):
    parts, _ = session
    detected, drawn, looped, streamed, features, stages, data, tasks = parts[3:]
    assert drawn == "(360, 480, 3) clip.mp4\n"
    assert "nose_x" in detected and "[" in looped
    assert "0 sources could not be read" in streamed
    assert "(1, 384) float32" in features
    assert stages == "4 labelled faces\n"
    assert re.search(r"p\d (happy|sad)", data)
    assert tasks.startswith("(4, 80, 80, 3)")


def test_the_page_names_every_public_name_and_every_column():
    text = PAGE.read_text()
    missing = [name for name in fer_jax.__all__ if f"`{name}`" not in text]
    assert not missing
