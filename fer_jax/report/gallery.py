"""Faces in the report: Grad-CAM of confident answers, right and wrong, and a map of faces.

A face is blurred unless the person consents to `share` (see `fer_jax.data.consent`) or is
generated.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.metrics import silhouette_score
from threadpoolctl import threadpool_limits

from fer_jax.data import stage_tables
from fer_jax.data.sources import read_images
from fer_jax.metrics.predictions import Predictions
from fer_jax.training.inference import scale

SHOWN = 8  # faces of each kind
_SIDE = 128  # side of a face in pixels
_MOSAIC = 9  # squares per side of a blurred face
_MIN_POINTS, _MAX_POINTS = 10, 2000  # faces in the map


@dataclass(frozen=True)
class Shown:
    """A face in the report with the model's answer.

    `picture` is a `data:` URL of the face, blurred if `blurred`, and overlaid with its heat map.
    """

    picture: str
    truth: str
    answer: str
    confidence: float
    subject: str
    blurred: bool


@dataclass(frozen=True, eq=False)
class Map:
    """Faces as points of a t-SNE map, and how well the features separate emotions and people.

    `by_emotion` and `by_person` are silhouettes in -1..1, or NaN if undefined. They are computed
    from principal components of the features, not from `places`.
    """

    places: Float[np.ndarray, "n 2"]
    emotions: list[str]
    people: list[str]
    by_emotion: float
    by_person: float


def gallery(run: Predictions, workdir: Path, drawn: bool) -> dict[str, list[Shown]]:
    """The most confident correct answers (`right`) and mistakes (`wrong`), sorted by confidence.

    There are at most `SHOWN` of each, from the first seed, and none if the run has no Grad-CAM maps
    or the workdir of its photographs no longer exists. `workdir` is that of the run. `drawn` means
    that the people are generated, so that no face is blurred.
    """
    root = Path(run.protocol.photographs)
    heat: dict[str, np.ndarray] = {}
    for file in sorted(workdir.glob(f"folds/seed{run.seed_values[0]}_fold*/heat.npz")):
        with np.load(file) as stored:
            heat |= dict(zip(stored["photo"].astype(str), stored["heat"], strict=True))
    if not heat or not (root / "photographs.parquet").is_file():
        return {"right": [], "wrong": []}
    table = stage_tables.read_photographs(root).set_index("photo")
    best = run.probabilities
    if run.temperatures is not None:
        best = scale(best, run.temperatures)
    confidence = np.where(run.no_face, 0.0, best.max(axis=1))

    def shown(row: int) -> Shown:
        photo: Any = str(run.photos[row])
        record = table.loc[photo]
        share = drawn or bool(record.get("share", False))
        face = read_images([root / record["crop"]], _SIDE)[0]
        picture = overlaid(face if share else blurred(face), np.asarray(heat[photo], np.float32))
        return Shown(
            data_address(picture),
            run.labels[run.truth[row]],
            run.labels[run.predicted[row]],
            float(confidence[row]),
            str(run.subjects[row]),
            not share,
        )

    right = run.predicted == run.truth
    candidates = (run.seeds == run.seed_values[0]) & ~run.no_face
    chosen = {}
    for name, wanted in (("right", right), ("wrong", ~right)):
        rows = np.flatnonzero(candidates & wanted)
        first = rows[np.argsort(-confidence[rows], kind="stable")][:SHOWN]
        known = [row for row in first if run.photos[row] in heat and run.photos[row] in table.index]
        chosen[name] = [shown(int(row)) for row in known]
    return chosen


def face_map(run: Predictions, workdir: Path) -> Map | None:
    """t-SNE (van der Maaten and Hinton 2008) of the features of the model trained on all people.

    At most 2,000 faces are shown. None if the run has no such features, or fewer than ten faces.
    """
    file = workdir / "embedding.npz"
    if not file.is_file():
        return None
    with np.load(file) as stored:
        photos, features = stored["photo"].astype(str), stored["features"]
    of = {photo: row for row, photo in enumerate(run.photos.astype(str))}
    kept = [i for i, photo in enumerate(photos) if photo in of][:_MAX_POINTS]
    rows = [of[photos[i]] for i in kept]
    emotions = [run.labels[run.truth[row]] for row in rows]
    return map_of(features[kept], emotions, [str(run.subjects[row]) for row in rows])


def map_of(
    features: Float[np.ndarray, "n f"], emotions: list[str], people: list[str]
) -> Map | None:
    """t-SNE of at most 30 principal components of the features; None for fewer than ten faces."""
    if len(features) < _MIN_POINTS:
        return None
    centred = features - features.mean(axis=0)
    reduced = PCA(min(30, *centred.shape), random_state=0).fit_transform(centred)
    perplexity = min(30.0, (len(features) - 1) / 3)
    with threadpool_limits(1):  # more threads slow t-SNE down on a busy machine
        places = TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(reduced)
    return Map(
        np.asarray(places, np.float64),
        emotions,
        people,
        _silhouette(reduced, emotions),
        _silhouette(reduced, people),
    )


def _silhouette(features: Float[np.ndarray, "n f"], groups: Sequence[str]) -> float:
    """The silhouette (Rousseeuw 1987) in -1..1, high for separated groups; NaN if undefined."""
    if not 1 < len(set(groups)) < len(groups):
        return float("nan")
    return float(silhouette_score(features, groups))


def blurred(face: UInt8[np.ndarray, "s s 3"]) -> UInt8[np.ndarray, "s s 3"]:
    """A mosaic of 9 × 9 squares, in which a person is hard to recognise."""
    small = cv2.resize(face, (_MOSAIC, _MOSAIC), interpolation=cv2.INTER_AREA)
    return cv2.resize(small, face.shape[1::-1], interpolation=cv2.INTER_NEAREST).astype(np.uint8)


def overlaid(
    face: UInt8[np.ndarray, "s s 3"], heat: Float[np.ndarray, "h w"]
) -> UInt8[np.ndarray, "s s 3"]:
    """The face in grey, overlaid with a heat map in 0..1."""
    side = face.shape[:2][::-1]
    smooth = np.clip(
        cv2.resize(np.asarray(heat, np.float32), side, interpolation=cv2.INTER_CUBIC), 0, 1
    )
    grey = cv2.cvtColor(cv2.cvtColor(face, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    colour = cv2.applyColorMap((255 * smooth).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    part = 0.6 * smooth[..., None]
    return np.rint(grey * (1 - part) + colour * part).astype(np.uint8)


def data_address(picture: UInt8[np.ndarray, "h w 3"]) -> str:
    """The picture as a JPEG in a data: URL, so that the page loads no files."""
    options = [cv2.IMWRITE_JPEG_QUALITY, 82]
    _, data = cv2.imencode(".jpg", np.ascontiguousarray(picture[..., ::-1]), options)
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()
