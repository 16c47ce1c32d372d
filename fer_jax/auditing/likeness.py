"""Similarity of aligned faces: whether two are the same picture, or show the same person.

Three comparisons; the first one finds the candidates for the second one:

    descriptors     gradients of every face; nearest neighbours by cosine, also of mirror images
    same_picture    registers one face onto another and correlates their fine structure
    people_alike    compares people by the descriptors of at most 12 faces of each person, in a
                    metric that gives little weight to differences between faces of the same person

The thresholds were set on the 15 Yale people and 30 generated people. docs/experiments.md lists the
values for copies, for other photographs of the same person, and for different people.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, Float32, Int, UInt8
from sklearn.covariance import shrunk_covariance
from sklearn.preprocessing import normalize

from fer_jax.data.sources import read_images
from fer_jax.training.gradients import descriptors

SIZE = 80  # pixels; side of the faces that are compared
SAME_PICTURE = 0.90  # correlation; copies have at least 0.94, different people at most 0.84
SAME_PERSON = 0.92  # cosine between people; different people have at most 0.89
NEAR = 0.45  # cosine between descriptors; below it no copy was found
_DIMENSIONS, _SHRINKAGE = 40, 0.1
_MAX_FACES = 12  # per person

_ROWS = 512  # faces that are compared with all others at once


@dataclass(frozen=True, eq=False)
class Faces:
    """Faces to compare: their files, crops of SIZE x SIZE pixels, and descriptors."""

    files: list[str]
    crops: UInt8[np.ndarray, "n s s 3"]
    features: Float32[np.ndarray, "n f"]

    @classmethod
    def read(cls, files: list[str]) -> Faces:
        """Reads the faces in `files`.

        Raises:
            ImageError: a file cannot be read.
        """
        crops = read_images(files, SIZE)
        return cls(files, crops, descriptors(crops))

    def take(self, rows: Int[np.ndarray, " m"]) -> Faces:
        """The faces at the positions `rows`, in that order."""
        return Faces([self.files[row] for row in rows], self.crops[rows], self.features[rows])


def same_picture(first: UInt8[np.ndarray, "s s 3"], second: UInt8[np.ndarray, "s s 3"]) -> float:
    """Correlation of the fine structure of two faces after registering one onto the other.

    Affine registration by the enhanced correlation coefficient (Evangelidis and Psarakis 2008,
    doi:10.1109/TPAMI.2008.113) aligns crops whose landmarks differ by a pixel or two. The result is
    near 1 for two versions of a picture, even if one is mirrored, and 0 if the registration fails
    or a face is uniform.
    """
    mirrored = np.ascontiguousarray(second[:, ::-1])
    return max(_registered(first, second), _registered(first, mirrored))


def copies(
    faces: Faces, pool: Faces, compared: Callable[[slice], np.ndarray] | None = None
) -> Iterator[tuple[int, int, float]]:
    """Faces whose nearest neighbour in the pool is, after registration, the same picture.

    Args:
        faces: the faces to look for.
        pool: the faces to search; may be `faces`, if `compared` excludes each face itself.
        compared: for a block of faces, which faces of the pool to compare them with, bool
            [block, pool]; None for all.

    Yields:
        A position in `faces`, one in `pool`, and the correlation of these two faces.
    """
    if not len(faces.files) or not len(pool.files):
        return
    both = [pool.features] if faces is pool else [pool.features, faces.features]
    mean = np.concatenate(both).mean(axis=0)
    others = normalize(pool.features - mean).T
    for start in range(0, len(faces.files), _ROWS):
        block = slice(start, start + _ROWS)
        mask = None if compared is None else compared(block)
        if mask is not None and not mask.any():
            continue
        mirrored = descriptors(np.ascontiguousarray(faces.crops[block][:, :, ::-1]))
        views = (faces.features[block], mirrored)
        alike = np.maximum(*(normalize(view - mean) @ others for view in views))
        if mask is not None:
            alike = np.where(mask, alike, -1.0)
        for row, near in enumerate(alike.argmax(axis=1), start=start):
            if alike[row - start, near] < NEAR:
                continue
            score = same_picture(faces.crops[row], pool.crops[near])
            if score >= SAME_PICTURE:
                yield row, int(near), score


def people_alike(
    features: Float32[np.ndarray, "n f"], people: Sequence[str]
) -> tuple[list[str], Float[np.ndarray, "p p"]]:
    """The cosine between every two people, in a metric learned from `features` and `people`.

    Principal components are whitened by the within-person scatter (Fisher's discriminant, with the
    shrinkage of Friedman 1989) and averaged per person. `people` contains the person of each face;
    people with a single face are left out.

    Returns:
        The names, ascending, and the cosines, which are all 0 if fewer than four people have
        several faces.
    """
    names, counts = np.unique(np.asarray(people, dtype=str), return_counts=True)
    kept = [str(name) for name in names[counts > 1]]
    if len(kept) < 4:
        return kept, np.zeros((len(kept), len(kept)))
    chosen = []
    for name in kept:  # evenly spaced faces of each person
        own = np.flatnonzero(np.asarray(people) == name)
        places = np.linspace(0, len(own) - 1, min(len(own), _MAX_FACES))
        chosen.append(own[places.round().astype(int)])
    rows = np.concatenate(chosen)
    owners = np.asarray(people, dtype=str)[rows]
    centred_faces = features[rows] - features[rows].mean(axis=0)
    dimensions = min(_DIMENSIONS, len(rows) // 2)
    _, _, components = np.linalg.svd(centred_faces, full_matrices=False)
    projected = centred_faces @ components[:dimensions].T
    means = np.stack([projected[owners == name].mean(axis=0) for name in kept])
    within = projected - means[np.searchsorted(kept, owners)]
    scatter = within.T @ within / len(within)
    shrunk = shrunk_covariance(scatter.astype(np.float64), _SHRINKAGE)
    whitened = means @ np.linalg.cholesky(np.linalg.inv(shrunk))
    whitened = normalize(whitened - whitened.mean(axis=0))
    return kept, np.asarray(whitened @ whitened.T)


def _registered(first: UInt8[np.ndarray, "s s 3"], second: UInt8[np.ndarray, "s s 3"]) -> float:
    greys = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (first, second))
    one, other = (cv2.GaussianBlur(grey.astype(np.float32), (0, 0), 1) for grey in greys)
    warp = np.eye(2, 3, dtype=np.float32)
    criteria = (cv2.TERM_CRITERIA_COUNT + cv2.TERM_CRITERIA_EPS, 40, 1e-4)
    try:
        everywhere = np.full(one.shape, 255, np.uint8)
        found = cv2.findTransformECC(one, other, warp, cv2.MOTION_AFFINE, criteria, everywhere, 3)
        warp = np.asarray(found[1], np.float32)
    except cv2.error:  # the registration does not converge, since the faces are too different
        return 0.0
    moved = cv2.warpAffine(
        other,
        warp,
        one.shape[::-1],
        flags=cv2.INTER_LINEAR + cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REFLECT,
    )
    edge = len(one) // 10
    inner = (slice(edge, -edge), slice(edge, -edge))
    detail = [_detail(image)[inner].ravel() for image in (one, moved)]
    if min(part.std() for part in detail) == 0:
        return 0.0
    return float(np.corrcoef(detail[0], detail[1])[0, 1])


def _detail(grey: Float32[np.ndarray, "h w"]) -> Float32[np.ndarray, "h w"]:
    """Fine structure with normalised local contrast, hardly affected by lighting and tone."""
    band = cv2.GaussianBlur(grey, (0, 0), 0.8) - cv2.GaussianBlur(grey, (0, 0), 3)
    return band / (np.sqrt(cv2.GaussianBlur(band * band, (0, 0), 6)) + 2)
