"""The pictures neighbours.png and embedding.png: which faces have similar features.

They show labelled people, so do not share them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, UInt8
from matplotlib.figure import Figure

from fer_jax.figures import save_figure
from fer_jax.probes.task_pictures import mark, show
from fer_jax.report.gallery import map_of
from fer_jax.report.plots import points

QUERIES, NEIGHBOURS = 8, 5
_MAX_NAMED = 60  # groups in a legend; there is no legend for more


def draw_neighbours(
    file: Path,
    features: Float[np.ndarray, "n f"],
    images: UInt8[np.ndarray, "n s s 3"],
    emotions: Sequence[str],
    people: Sequence[str],
) -> None:
    """Draws up to eight faces, each with the five most similar faces of other people.

    Similarity is the cosine of the features. If there are fewer than five faces of other people for
    some face, only that many are drawn for every face.
    """
    nearest = neighbours(features, people, NEIGHBOURS)
    queries = choose_queries(emotions, people, QUERIES)
    shown = nearest.shape[1] + 1
    same = np.asarray(emotions)[nearest] == np.asarray(emotions)[:, None]
    figure = Figure(figsize=(0.4 + 1.2 * shown, 0.7 + 1.38 * len(queries)), layout="constrained")
    figure.suptitle(
        f"Nearest faces of other people: the first one has the same emotion for "
        f"{100 * same[:, 0].mean():.0f} % of all {len(nearest)} faces",
        fontsize=10,
    )
    grid = figure.subplots(len(queries), shown, squeeze=False)
    for row, query in enumerate(queries):
        for column, face in enumerate([query, *nearest[query]]):
            show(grid[row, column], images[face])
            grid[row, column].set_xlabel(emotions[face], fontsize=8, labelpad=2)
            if column:
                mark(grid[row, column], bool(same[query, column - 1]))
    grid[0, 0].set_title("face", fontsize=9)
    grid[0, 1].set_title("nearest first", fontsize=9, loc="left")
    save_figure(figure, file, dpi=120)


def neighbours(
    features: Float[np.ndarray, "n f"], people: Sequence[str], count: int
) -> Int[np.ndarray, "n k"]:
    """The indices of the `count` faces of other people nearest to each face, nearest first.

    The similarity is the cosine of the features. If there are fewer than `count` faces of other
    people for some face, only that many are returned for every face.
    """
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    unit = features / np.maximum(lengths, 1e-12)
    _, codes, sizes = np.unique(np.asarray(people), return_inverse=True, return_counts=True)
    likeness = np.where(codes[:, None] == codes, -np.inf, unit @ unit.T)
    count = min(count, len(people) - int(sizes.max()))
    return np.argsort(-likeness, axis=1, kind="stable")[:, :count]


def choose_queries(emotions: Sequence[str], people: Sequence[str], count: int) -> list[int]:
    """Indices of up to `count` faces: emotions alternate, and people repeat as late as possible."""
    order = np.random.default_rng(0).permutation(len(emotions))
    left, known = [int(place) for place in order], sorted(set(emotions))
    chosen: list[int] = []
    while left and len(chosen) < count:
        wanted = known[len(chosen) % len(known)]
        shown = [people[place] for place in chosen]
        best = min(left, key=lambda place: (emotions[place] != wanted, shown.count(people[place])))
        chosen.append(best)
        left.remove(best)
    return chosen


def draw_embedding(
    file: Path,
    features: Float[np.ndarray, "n f"],
    emotions: Sequence[str],
    people: Sequence[str],
) -> None:
    """Draws two maps of all faces by their features, one coloured by emotion and one by person.

    Nothing is drawn for fewer than ten faces.
    """
    found = map_of(features, list(emotions), list(people))
    if found is None:
        return
    figure = Figure(figsize=(10.4, 5.6), layout="constrained")
    panels = (("emotion", emotions, found.by_emotion), ("person", people, found.by_person))
    for axes, (kind, groups, silhouette) in zip(figure.subplots(1, 2), panels, strict=True):
        known = points(axes, found.places, groups)
        axes.set_title(f"by {kind}: silhouette {round(silhouette, 2) + 0.0:.2f}", fontsize=10)
        if len(known) <= _MAX_NAMED:
            axes.legend(
                loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=min(5, len(known)),
                frameon=False, fontsize=8, handletextpad=0.2, columnspacing=1.0,
            )  # fmt: skip
    save_figure(figure, file, dpi=120)
