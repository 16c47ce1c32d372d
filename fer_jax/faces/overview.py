"""Overviews of extracted faces: histograms for choosing limits, and contact sheets of crops."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
from jaxtyping import UInt8
from matplotlib.figure import Figure

from fer_jax.data.manifest import KEPT
from fer_jax.faces import drawing
from fer_jax.faces.images import read_image
from fer_jax.faces.selection import Limits, sizes

_LONGEST_NAME = 18  # characters under a crop
_KEPT, _REMOVED = "#2a78c2", "#d9603b"


def histograms(faces: pd.DataFrame, limits: Limits) -> Figure:
    """Histograms of detector score, size, sharpness, brightness, yaw and faces per track.

    Kept and removed faces have different colours, except in the last histogram. Limits within the
    range of the values are drawn as lines.
    """
    kept = (faces["status"] == KEPT).to_numpy()
    tracks = faces.groupby(["video", "track"]).size()
    panels = [
        ("detector score", faces["detector_score"], ()),
        ("face size, pixels", pd.Series(sizes(faces)), (limits.min_size,)),
        ("sharpness", faces["sharpness"], (limits.min_sharpness,)),
        ("brightness", faces["brightness"], (limits.min_brightness, limits.max_brightness)),
        ("yaw, degrees", faces["yaw"], (-limits.max_yaw, limits.max_yaw)),
        ("faces per track", tracks, (limits.per_track,)),
    ]
    figure = Figure(figsize=(11, 6), layout="constrained")
    figure.suptitle(f"{len(faces)} faces, {int(kept.sum())} kept")
    for axes, (name, values, lines) in zip(figure.subplots(2, 3).flat, panels, strict=True):
        numbers = np.asarray(values, np.float64)
        if len(numbers):
            bins = np.histogram_bin_edges(numbers, 40).tolist()
            groups = [numbers] if len(numbers) != len(kept) else [numbers[kept], numbers[~kept]]
            for group, colour, label in zip(
                groups, (_KEPT, _REMOVED), ("kept", "removed"), strict=False
            ):
                axes.hist(group, bins=bins, color=colour, alpha=0.65, label=label)
            low, high = axes.get_xlim()
            for line in lines:
                if low < line < high:
                    axes.axvline(line, color="black", linewidth=1.2, linestyle="--")
        axes.set(xlabel=name)
        axes.spines[["top", "right"]].set_visible(False)
    if len(faces):
        figure.axes[0].legend(frameon=False)
    figure.axes[0].set(ylabel="faces")
    return figure


def kept_sheet(faces: pd.DataFrame, folder: Path, limit: int) -> UInt8[np.ndarray, "h w 3"]:
    """A contact sheet of the kept crops in the order of the manifest, each with video and time.

    Args:
        faces: rows of the manifest in `folder`.
        folder: the folder to which the paths of the crops are relative.
        limit: the maximum number of crops; if more are kept, an evenly spaced selection is shown.
    """
    kept = faces[faces["status"] == KEPT]
    shown = evenly(kept, limit)
    return drawing.contact_sheet(
        [read_image(folder / crop) for crop in shown["crop"]],
        [place_of(*where) for where in zip(shown["video"], shown["time_s"], strict=True)],
        title=f"{len(kept)} of {len(faces)} faces kept" + how_many_shown(kept, shown),
    )


def evenly(rows: pd.DataFrame, limit: int) -> pd.DataFrame:
    """At most `limit` evenly spaced rows, including the first and, if `limit` > 1, the last."""
    if len(rows) <= limit:
        return rows
    return rows.iloc[np.linspace(0, len(rows) - 1, limit).round().astype(int)]


def how_many_shown(rows: pd.DataFrame, shown: pd.DataFrame) -> str:
    """The end of a sheet's title, with the number of shown rows; empty if all are shown."""
    return f", {len(shown)} of them shown" if len(shown) < len(rows) else ""


def place_of(video: str, time_s: float) -> str:
    """A caption of two lines: the file name of a video, and the time in minutes and seconds.

    A long name is shortened in the middle, since many names differ only at the end.
    """
    name = PurePosixPath(video).name
    if len(name) > _LONGEST_NAME:
        name = f"{name[: _LONGEST_NAME - 12]}…{name[-11:]}"
    return f"{name}\n{drawing.clock(time_s)}"
