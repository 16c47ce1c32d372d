"""A workdir of the stage `extract` with crops of uniform colour."""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from fer_jax.data.manifest import write_manifest, write_negatives

VIDEOS = [f"video{number}.mp4" for number in range(10)]
FRAMES = range(4)


def _crop(root: Path, name: str, value: int) -> str:
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(file), np.full((16, 16, 3), value, np.uint8))
    return name


def _face(root: Path, video: str, frame: int) -> dict[str, object]:
    name = f"{Path(video).stem}-{frame}"
    removed = frame == 3
    return {
        "face_id": name,
        "video": video,
        "frame": frame,
        "time_s": frame / 5,
        "box": np.zeros(4, np.float32),
        "landmarks": np.zeros(10, np.float32),
        "detector_score": 0.99,
        "verifier_score": None,
        "sharpness": 1.0,
        "brightness": 0.5,
        "yaw": 0.0,
        "phash": 7,
        "track": 0,
        "status": "removed" if removed else "kept",
        "reason": "verifier" if removed else "",
        "crop": _crop(root, f"crops/{name}.jpg", 200),
    }


def _negative(root: Path, video: str, frame: int) -> dict[str, object]:
    return {
        "crop": _crop(root, f"negatives/{Path(video).stem}-{frame}.jpg", 40),
        "video": video,
        "frame": frame,
        "kind": "hard" if frame == 0 else "background",
        "detector_score": 0.4 if frame == 0 else None,
    }


@pytest.fixture
def extracted(tmp_path: Path) -> Path:
    """A workdir of ten videos, each with two non-faces and four faces, one of which is removed."""
    root = tmp_path / "extract"
    faces = [_face(root, video, frame) for video in VIDEOS for frame in FRAMES]
    negatives = [_negative(root, video, frame) for video in VIDEOS for frame in (0, 1)]
    write_manifest(root / "manifest.parquet", pd.DataFrame(faces))
    write_negatives(root / "negatives.parquet", pd.DataFrame(negatives))
    return root
