"""The manifest, one row per detected face, and the list of non-faces.

A rejected face keeps its row in the manifest, with the status "removed" and a reason.
"""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
import pyarrow as pa

from fer_jax.data.stage_tables import read_table, write_table

KEPT, REMOVED = "kept", "removed"
BACKGROUND, HARD = "background", "hard"

SCHEMA = pa.schema(
    [
        pa.field("face_id", pa.string(), nullable=False),  # unique, ASCII, valid in a file name
        pa.field("video", pa.string(), nullable=False),  # path below the folder of videos
        pa.field("frame", pa.int64(), nullable=False),  # number of the decoded frame, from 0
        pa.field("time_s", pa.float64(), nullable=False),  # presentation time, seconds
        pa.field("box", pa.list_(pa.float32(), 4), nullable=False),  # x0, y0, x1, y1, pixels
        pa.field("landmarks", pa.list_(pa.float32(), 10), nullable=False),  # x, y of five points
        pa.field("detector_score", pa.float32(), nullable=False),
        pa.field("verifier_score", pa.float32()),  # null until the stage refine
        pa.field("sharpness", pa.float32(), nullable=False),
        pa.field("brightness", pa.float32(), nullable=False),
        pa.field("yaw", pa.float32(), nullable=False),  # degrees
        pa.field("phash", pa.uint64(), nullable=False),
        pa.field("track", pa.int32(), nullable=False),  # number of the face's track in its video
        pa.field("status", pa.string(), nullable=False),  # "kept" or "removed"
        pa.field("reason", pa.string(), nullable=False),  # "" while kept
        pa.field("crop", pa.string(), nullable=False),  # path relative to the manifest's folder
    ]
)

NEGATIVES_SCHEMA = pa.schema(
    [
        pa.field("crop", pa.string(), nullable=False),  # path relative to this file's folder
        pa.field("video", pa.string(), nullable=False),
        pa.field("frame", pa.int64(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),  # "background" or "hard"
        pa.field("detector_score", pa.float32()),  # null for background
    ]
)


def read_manifest(path: str | os.PathLike[str]) -> pd.DataFrame:
    """The rows of a manifest; each cell of `box` is float32 [4], of `landmarks` float32 [10].

    Raises:
        UserError: the file is missing, or not a manifest.
    """
    return read_table(Path(path), SCHEMA)[SCHEMA.names]


def write_manifest(path: str | os.PathLike[str], frame: pd.DataFrame) -> None:
    """Writes a manifest atomically.

    Raises:
        ValueError: an id occurs twice, a status is unknown, or `write_table` refuses the table.
    """
    twice = frame["face_id"][frame["face_id"].duplicated()]
    if len(twice):
        raise ValueError(f"face_id {twice.iloc[0]} occurs twice")
    unknown = set(frame["status"]) - {KEPT, REMOVED}
    if unknown:
        raise ValueError(f"unknown status {sorted(unknown)}")
    write_table(Path(path), frame, SCHEMA)


def read_negatives(path: str | os.PathLike[str]) -> pd.DataFrame:
    """The rows of a list of non-faces.

    Raises:
        UserError: the file is missing, or not such a list.
    """
    return read_table(Path(path), NEGATIVES_SCHEMA)[NEGATIVES_SCHEMA.names]


def write_negatives(path: str | os.PathLike[str], frame: pd.DataFrame) -> None:
    """Writes a list of non-faces atomically.

    Raises:
        ValueError: `write_table` refuses the table.
    """
    write_table(Path(path), frame, NEGATIVES_SCHEMA)
