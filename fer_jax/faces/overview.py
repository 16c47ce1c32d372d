"""Histograms of the measures of extracted faces, for choosing limits."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from fer_jax.data.manifest import KEPT
from fer_jax.faces.selection import Limits, sizes

_KEPT, _REMOVED = "#2a78c2", "#d9603b"


def histograms(faces: pd.DataFrame, limits: Limits) -> Figure:
    """Histograms of detector score, size, sharpness, brightness, yaw and faces per track.

    Limits are drawn as lines.
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
