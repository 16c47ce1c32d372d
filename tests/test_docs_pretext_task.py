"""The files and the commands of docs/add_a_pretext_task.md work, and the task learns."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from configs import photographs as photographs_config
from fer_jax.data.manifest import write_manifest
from fer_jax.people import EMOTIONS, photograph
from fer_jax.stages import photographs
from fer_jax.workdir import read_json

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "add_a_pretext_task.md").read_text()
PEOPLE, FRAMES = range(741, 746), 24
FACE = {
    "time_s": 0.0, "box": np.zeros(4, np.float32), "landmarks": np.zeros(10, np.float32),
    "detector_score": 0.99, "verifier_score": 0.99, "sharpness": 1.0, "brightness": 0.5,
    "yaw": 0.0, "phash": 7, "track": 0, "status": "kept", "reason": "",
}  # fmt: skip


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def files():
    """The name and the code of each file in my_tasks/ that the page shows."""
    return re.findall(r"[Tt]he file `(my_tasks/\S+)`:\n\n```python\n(.*?)```", PAGE, re.DOTALL)


def make_photographs(folder, work, people=PEOPLE):
    for person in people:
        for emotion in EMOTIONS:
            file = folder / f"p{person}" / emotion / "0.png"
            file.parent.mkdir(parents=True)
            cv2.imwrite(str(file), photograph(person, emotion, 0)[..., ::-1])
    config = photographs_config.get_config()
    config.photos = str(folder)
    photographs.run(config, work / "photographs")


def make_frames(work):
    """Writes a workdir of `refine` in which each face is a video with motion and changing light."""
    rng = np.random.default_rng(0)
    rows = []
    for file in sorted((work / "photographs" / "faces").rglob("*.png")):
        face, name = cv2.imread(str(file)), f"{file.parts[-3]}-{file.parts[-2]}"
        for frame in range(FRAMES):
            move = np.float32([[1, 0, rng.uniform(-3, 3)], [0, 1, rng.uniform(-3, 3)]])
            moved = cv2.warpAffine(face, move, face.shape[1::-1], borderMode=cv2.BORDER_REPLICATE)
            crop = work / "refine" / "crops" / f"{name}-{frame}.png"
            crop.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(crop), cv2.convertScaleAbs(moved, alpha=rng.uniform(0.8, 1.2)))
            rows.append(
                {"face_id": crop.stem, "video": f"{name}.mp4", "frame": frame, **FACE}
                | {"crop": f"crops/{crop.name}"}
            )
    write_manifest(work / "refine" / "manifest.parquet", pd.DataFrame(rows))


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of the repository with generated faces, in which the page's commands were run."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("fer_jax", "configs", "datasets"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "launch.py", folder)
    make_photographs(folder / "photos", folder / "work" / "mine")
    make_frames(folder / "work" / "mine")
    for name, code in files():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(code)
    python = Path(sys.executable).parent
    environment = os.environ | {"PATH": f"{python}{os.pathsep}{os.environ['PATH']}"}
    for commands in blocks("sh"):
        done = subprocess.run(
            ["bash", "-ec", commands], cwd=folder, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, (commands, done.stdout[-2000:], done.stderr[-2000:])
    return folder


def summary(folder):
    return read_json(folder / "done.json")["summary"]


def test_the_page_names_every_file_it_shows():
    assert [name for name, _ in files()] == [
        "my_tasks/upside_down.py",
        "my_tasks/test_upside_down.py",
    ]
    assert len(files()) == len(blocks("python"))
    assert len(blocks("sh")) == 4
    assert len(files()[0][1].splitlines()) <= 48


def test_the_task_learns(checkout):
    alone = summary(checkout / "work" / "upside_down")
    assert alone["my_tasks.upside_down/accuracy"] > 3 / 9  # chance is 1 in 9
    assert alone["validation/my_tasks.upside_down/accuracy"] > 2 / 9
    assert (checkout / "work" / "upside_down" / "model" / "weights.safetensors").exists()


def test_the_task_combines_with_others_and_its_fields_are_flags(checkout):
    both = checkout / "work" / "both"
    assert {"rotation/accuracy", "my_tasks.upside_down/accuracy"} <= summary(both).keys()
    described = read_json(both / "config.json")["tasks"]["my_tasks.upside_down"]
    assert described == {"gap": 5, "grid": 2, "weight": 0.5}
    predictions = pd.read_parquet(checkout / "work" / "emotion" / "predictions.parquet")
    assert len(predictions) == len(PEOPLE) * len(EMOTIONS)
    config = read_json(checkout / "work" / "emotion" / "config.json")
    assert config["tasks"]["my_tasks.upside_down"] == {"gap": 5, "grid": 3, "weight": 0.5}
