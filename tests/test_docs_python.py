"""The Python examples of the documents run as written, with the package from its wheel.

Those of docs/python.md run in order, and warn only of skipped sources. The pages that show files of
a checkout have tests of their own, `tests/test_docs_*.py`.
"""

import re
from pathlib import Path

import pandas as pd
import pytest

import fer_jax
from fer_jax.data.manifest import write_manifest
from fer_jax.faces.drawing import write_image
from fer_jax.people import photograph
from fer_jax.stages.render import write_clip
from tests import wheel
from tests.test_docs_pretext_task import FACE

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "python.md"
SIZE = (120, 160)
pytestmark = pytest.mark.timeout(900)  # the first test installs the wheel


def examples(page: Path = PAGE) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL)


def output(script: str, folder: Path) -> tuple[str, str]:
    """The standard output and standard error of a script that is run in `folder`."""
    (folder / "page.py").write_text(script, "utf-8")
    wheel.install()
    done = wheel.run(folder, "python", "page.py")
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
    return done.stdout, done.stderr


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
    printed, noise = output(script, folder)
    return re.split(r"--- \d+\n", printed)[1:], noise


def test_every_example_runs(session):
    parts, _ = session
    assert len(parts) == len(examples()) and all(parts)


def test_read_finds_the_faces_and_names_what_it_skips(session):
    parts, noise = session
    assert parts[0].count("ann.jpg") == 1 and parts[0].count("clip.mp4") == 3
    assert "('notes.txt', 'its suffix is not that of an image or a video')" in parts[1]
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
    assert "(1, 576) float32" in features
    assert stages == "4 labelled faces\n"
    assert re.search(r"p\d (happy|sad)", data)
    assert tasks.startswith("(4, 80, 80, 3)")


def test_the_page_names_every_public_name_and_every_column():
    text = PAGE.read_text()
    missing = [name for name in fer_jax.__all__ if f"`{name}`" not in text]
    assert not missing


def test_the_example_of_the_detector_finds_a_face_in_each_picture(tmp_path):
    write_image(tmp_path / "a.jpg", photograph(3, "happy", 0, SIZE))
    write_image(tmp_path / "b.png", photograph(5, "sad", 0, SIZE))
    (code,) = examples(ROOT / "docs" / "faces.md")
    code += "print(*(face.landmarks.shape for face in faces))"
    assert output(code, tmp_path) == ("(1, 5, 2) (1, 5, 2)\n", "")


def test_the_example_of_a_manifest_counts_removed_faces_by_reason(tmp_path):
    rows = [
        FACE | {"face_id": str(number), "video": "a.mp4", "frame": number, "crop": "crops/a.jpg"}
        for number in range(3)
    ]
    rows[1] |= {"status": "removed", "reason": "blurred"}
    write_manifest(tmp_path / "work" / "refine" / "manifest.parquet", pd.DataFrame(rows))
    (code,) = examples(ROOT / "docs" / "data_layouts.md")
    *before, last = code.splitlines()
    script = "\n".join((*before, f"print(({last}).to_dict())"))
    assert output(script, tmp_path) == ("{'blurred': 1}\n", "")
