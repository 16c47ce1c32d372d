"""Scores of the verifier, a network that distinguishes crops of faces from false detections.

This module chooses a threshold for the scores, measures its errors, and applies it to crops.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from scipy import stats
from sklearn.metrics import roc_auc_score

from fer_jax.data.manifest import KEPT, REMOVED
from fer_jax.errors import UserError

PLAIN_THRESHOLD = 0.5  # selects the more probable class; not fitted to data
_RESAMPLES, _SEED = 2000, 0


@dataclass(frozen=True)
class Scored:
    """The verifier's scores of labelled crops, and the source of each crop.

    Attributes:
        scores: probability of "face", 0..1.
        is_face: whether the crop is labelled as a face.
        sources: the video or folder of each crop; crops of one source are similar.
        ids: the id of each crop in the data set, or an empty sequence.
    """

    scores: Float[np.ndarray, " n"]
    is_face: Bool[np.ndarray, " n"]
    sources: list[str]
    ids: Sequence[str] = ()


def operating_threshold(face_scores: Float[np.ndarray, " n"], max_faces_lost: float) -> float:
    """The largest threshold at which at most a share `max_faces_lost` of the faces is lost.

    A face is lost if its score is below the threshold.

    Args:
        face_scores: the verifier's probability of "face" for held-out faces.
        max_faces_lost: share in [0, 1).

    Returns:
        The threshold, rounded down to six decimals, because the last bits of a score depend on the
        batch in which it was computed.

    Raises:
        UserError: there are no scores.
    """
    if not len(face_scores):
        raise UserError(
            "refine: the validation split contains no faces, so no threshold can be chosen; "
            "extract from more videos, since the split is by video"
        )
    losable = math.floor(max_faces_lost * len(face_scores) + 1e-9)
    return math.floor(float(np.sort(face_scores)[losable]) * 1e6) / 1e6


def quality(scored: Scored, threshold: float) -> dict[str, Any]:
    """Counts, rates and confidence intervals of the verifier on labelled crops at `threshold`.

    Returns:
        The counts faces, nonfaces, faces_kept, nonfaces_kept and sources; recall, precision and
        nonfaces_removed as {value, low, high, by_source: {low, high}} (see `rate`); and roc_auc,
        None if one of the classes is absent.
    """
    scores, is_face = scored.scores, scored.is_face
    passed = scores >= np.float32(threshold)
    faces, nonfaces = int(is_face.sum()), int((~is_face).sum())
    return {
        "faces": faces,
        "nonfaces": nonfaces,
        "sources": len(set(scored.sources)),
        "faces_kept": int((passed & is_face).sum()),
        "nonfaces_kept": int((passed & ~is_face).sum()),
        "recall": rate(passed, is_face, scored.sources),
        "precision": rate(is_face, passed, scored.sources),
        "nonfaces_removed": rate(~passed, ~is_face, scored.sources),
        "roc_auc": float(roc_auc_score(is_face, scores)) if faces and nonfaces else None,
    }


def few_faces_note(measured: dict[str, Any], split: str, max_faces_lost: float) -> str:
    """A note if there are too few faces to estimate the share that is lost, else "".

    Args:
        measured: the result of `quality`.
        split: the name of the split, for the note.
        max_faces_lost: the accepted share of lost faces.
    """
    if measured["faces"] * max_faces_lost >= 1:
        return ""
    return (
        f"only {measured['faces']} {split} faces, of which {measured['faces_kept']} are kept: the "
        f"95 % interval of the share that is kept begins at {measured['recall']['low'] or 0:.1%}"
    )


def doubt_of_sources(test: Scored | None, fewest: int) -> str:
    """The reason for not trusting a verifier that was tested on too few sources, else "".

    Args:
        test: crops of sources that were used neither for training the verifier nor for choosing
            its threshold; None if there are none.
        fewest: the required number of sources of faces.
    """
    faces = zip(test.sources, test.is_face, strict=True) if test else ()
    count = len({source for source, is_face in faces if is_face})
    if count >= fewest:
        return ""
    return (
        f"the number of sources with faces in its test split is {count}, less than "
        f"min_test_sources={fewest} (train it on more videos)"
    )


def doubt_of_removal(confident: int, removed: int, most: float) -> str:
    """The reason for not trusting a verifier that removes too many confident detections, else "".

    Confident detections are those with a high score of MTCNN. A reason is also returned if there
    are none to judge by.

    Args:
        confident: the number of confident detections in sources that the verifier has not seen.
        removed: the number of these that it would remove.
        most: the largest acceptable share.
    """
    if not confident:
        return "there are no confident detections in sources that it has not seen"
    if removed <= most * confident:
        return ""
    return (
        f"it would remove {removed} of {confident} confident detections ({removed / confident:.1%})"
        f" in sources that it has not seen, more than max_removed_of_confident={most:g}"
    )


def rate(
    successes: Bool[np.ndarray, " n"], trials: Bool[np.ndarray, " n"], sources: list[str]
) -> dict[str, Any]:
    """The share of successes among the trials, with two 95 % confidence intervals.

    `low` and `high` are Wilson's interval, which assumes independent crops. `by_source` resamples
    whole sources (cluster bootstrap, percentiles), since crops of one video are similar; its limits
    are None if all trials are from one source. Without trials all values are None. Successes that
    are not among the trials do not count.
    """
    won, tried = (successes & trials).astype(float), trials.astype(float)
    _, place = np.unique(np.asarray(sources, str), return_inverse=True)
    wins, counts = (np.bincount(place, weights=values) for values in (won, tried))
    wins, counts = wins[counts > 0], counts[counts > 0]
    by_source: dict[str, float | None] = {"low": None, "high": None}
    if len(counts) > 1:
        rng = np.random.default_rng([_SEED, len(counts)])
        draws = rng.multinomial(len(counts), np.full(len(counts), 1 / len(counts)), _RESAMPLES)
        low, high = np.percentile(draws @ wins / (draws @ counts), [2.5, 97.5])
        by_source = {"low": float(low), "high": float(high)}
    found, of = int(won.sum()), int(tried.sum())
    if not of:
        return {"value": None, "low": None, "high": None, "by_source": by_source}
    wilson = stats.binomtest(found, of).proportion_ci(0.95, method="wilson")
    interval = {"low": float(wilson.low), "high": float(wilson.high)}
    return {"value": found / of, **interval, "by_source": by_source}


def judge(
    manifest: pd.DataFrame,
    scores: Float[np.ndarray, " n"],
    threshold: float,
    min_detector_score: float,
) -> pd.DataFrame:
    """A copy of the manifest with new values of `verifier_score`, `status` and `reason`.

    A face is removed if its detector score is below `min_detector_score` or its verifier score is
    below `threshold`; the reason is "detector", "verifier" or "detector+verifier". A face that was
    already removed stays so; new reasons follow its old one, as in "small+verifier".
    """
    # Compared as float32, as in the manifest, so that a score of 0.9 is not below the limit 0.9.
    detector = manifest["detector_score"].to_numpy(np.float32) < np.float32(min_detector_score)
    verifier = scores.astype(np.float32) < np.float32(threshold)
    before = manifest["reason"].where(manifest["status"] == REMOVED, "").to_numpy(str)
    now = [np.where(detector, "detector", ""), np.where(verifier, "verifier", "")]
    reasons = ["+".join(filter(None, row)) for row in zip(before, *now, strict=True)]
    status = [REMOVED if reason else KEPT for reason in reasons]
    return manifest.assign(verifier_score=scores, status=status, reason=reasons)
