"""Pictures of the results of `fer_jax.read`; docs/python.md has an example of each."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from jaxtyping import UInt8

from fer_jax.errors import UserError
from fer_jax.faces import drawing, images
from fer_jax.reading import BOX
from fer_jax.report.timeline import Timeline

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_RAW, _SMOOTHED = "prob_", "smoothed_prob_"


def draw(
    picture: str | os.PathLike[str] | np.ndarray, faces: pd.DataFrame
) -> UInt8[np.ndarray, "hh ww 3"]:
    """Draws the box and the probabilities of each face into a picture, like `predict`.

    Args:
        picture: the path of a picture, or an array uint8 [H, W, 3] RGB, such as a video frame.
        faces: the rows of this picture or frame, from a table that `read` returned. Smoothed
            probabilities are drawn instead of the others if all rows have them. The number that
            identifies a person (column `person`) is shown unless it is 0.

    Returns:
        uint8 [H, W, 3] RGB; a small picture is enlarged by a whole factor, so that the text is
        legible.

    Raises:
        UserError: the picture cannot be read or is not such an array, a column is missing, or the
            rows are not those of one picture.
    """
    _require(faces, [*BOX, "source", "frame", "person"], "draw")
    places = faces[["source", "frame"]].drop_duplicates()
    if len(places) > 1:
        raise UserError(
            f"draw: the table has rows of {len(places)} pictures or frames; pass those of one, "
            "such as faces[faces['source'] == 'a.jpg']"
        )
    if not isinstance(picture, np.ndarray):
        try:
            picture = images.read_image(Path(picture))
        except images.ImageError as error:
            raise UserError(f"draw: {picture}: {error}") from error
    elif picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        shape = list(picture.shape)
        raise UserError(f"draw: the picture is {picture.dtype} {shape}; pass uint8 [H, W, 3] RGB")
    found = faces[faces["x0"].notna()]
    smoothed = f"{_SMOOTHED}{_labels(faces)[0]}"
    moving = smoothed in found and bool(found[smoothed].notna().all())
    return drawing.annotate(
        picture,
        found[list(BOX)].to_numpy(np.float64),
        _probabilities(found, _SMOOTHED if moving else _RAW),
        _labels(faces),
        answered=found["answered"].to_numpy(bool) if "answered" in found else None,
        people=found["person"].to_numpy(np.int64),
    )


def timeline(faces: pd.DataFrame) -> Figure:
    """Draws the smoothed probabilities of each person in a video over time, like `predict`.

    Args:
        faces: the rows of one video, from a table that `read` returned.

    Returns:
        A matplotlib figure with a panel for each person or, if there are more than 12, for the 12
        who are seen in the most frames. A notebook shows it at the end of a cell; `savefig` writes
        it to a file.

    Raises:
        UserError: a column is missing, the rows are not those of one video, or nobody in it has a
            number.
    """
    _require(faces, ["source", "time_s", "person"], "timeline")
    sources = faces["source"].unique()
    if len(sources) != 1:
        raise UserError(
            f"timeline: the table has rows of {len(sources)} sources; pass those of one video, "
            "such as faces[faces['source'] == 'a.mp4']"
        )
    labels = _labels(faces)
    drawn = Timeline(labels)
    if f"{_SMOOTHED}{labels[0]}" in faces:
        for _, frame in faces[faces["x0"].notna()].groupby("time_s"):
            people = frame["person"].to_numpy(np.int64)
            time_s = float(frame["time_s"].iloc[0])
            drawn.add(time_s, people, _probabilities(frame, _SMOOTHED))
    figure = drawn.draw(str(sources[0]))
    if figure is None:
        raise UserError(
            f"timeline: nobody in {sources[0]} has a number; pass the rows of a video with faces"
        )
    return figure


def _require(faces: pd.DataFrame, columns: list[str], name: str) -> None:
    if not isinstance(faces, pd.DataFrame) or not {*columns} <= {*faces} or not _labels(faces):
        raise UserError(f"{name}: pass a table returned by fer_jax.read, with all its columns")


def _labels(faces: pd.DataFrame) -> list[str]:
    names = map(str, faces.columns)
    return [name.removeprefix(_RAW) for name in names if name.startswith(_RAW)]


def _probabilities(faces: pd.DataFrame, prefix: str) -> np.ndarray:
    return faces[[f"{prefix}{label}" for label in _labels(faces)]].to_numpy(np.float64)
