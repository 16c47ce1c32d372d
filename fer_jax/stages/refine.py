"""refine: keeps the faces on which the detector and the verifier agree, and says why not."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, UInt8
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator
from ml_collections import ConfigDict
from scipy import stats
from sklearn.metrics import roc_auc_score
from tqdm import tqdm

from fer_jax.data import sources
from fer_jax.data.manifest import KEPT, REMOVED, read_manifest, write_manifest
from fer_jax.errors import UserError
from fer_jax.faces import drawing
from fer_jax.faces.images import read_image
from fer_jax.training import model_directory
from fer_jax.workdir import atomic_file, stage, write_json

FACE = 1  # the verifier's class for a face; 0 is everything else
Scorer = Callable[[UInt8[np.ndarray, "n s s 3"]], Float[np.ndarray, " n"]]


@stage(inputs=lambda config: [config.faces, config.verifier])
def run(config: ConfigDict, workdir: Path) -> dict[str, Any]:
    """Scores every crop with the verifier and sets `status` and `reason` in the manifest.

    Raises:
        UserError: no faces to refine, a model that is no verifier, or no validation faces.
    """
    manifest, folder = _read_faces(config.faces)
    scorer, image_size = _load_verifier(config.verifier)

    validation, is_face = _score_validation(scorer, folder, image_size, config.batch)
    threshold = operating_threshold(validation[is_face], config.max_faces_lost)
    figures = quality(validation, is_face, threshold, config.max_faces_lost)
    if figures["note"]:
        print(f"[refine] {figures['note']}", flush=True)

    started = time.perf_counter()
    paths = [folder / crop for crop in manifest["crop"]]
    scores = _score_crops(scorer, paths, image_size, config.batch)
    seconds = time.perf_counter() - started

    refined = judge(manifest, scores, threshold, config.min_detector_score)
    refined["crop"] = [os.path.relpath(path, workdir) for path in paths]
    assert len(refined) == len(manifest), "refine removes no rows"

    write_manifest(workdir / "manifest.parquet", refined)
    operating_point = {"threshold": threshold, "min_detector_score": config.min_detector_score}
    write_json(workdir / "threshold.json", operating_point | figures)
    drawing.write_image(workdir / "removed.png", removed_sheet(refined, workdir, config.sheet))
    with atomic_file(workdir / "scores.png") as temporary:
        score_histogram(scores, validation, is_face, threshold).savefig(temporary, dpi=110)
    return _summary(refined, threshold, figures, len(paths) / max(seconds, 1e-9))


def operating_threshold(face_scores: Float[np.ndarray, " n"], max_faces_lost: float) -> float:
    """The largest threshold below which at most a share `max_faces_lost` of the scores lies.

    Args:
        face_scores: the verifier's probability of "face" for faces that it never saw.
        max_faces_lost: share in [0, 1).

    Returns:
        That score, rounded down to six decimals so that a score's last bits, which change with
        the batch that it was computed in, decide nothing.

    Raises:
        UserError: there are no scores.
    """
    if not len(face_scores):
        raise UserError(
            "refine: the validation split holds no face, so no threshold can be chosen; "
            "extract from more videos, since the split is by video"
        )
    losable = math.floor(max_faces_lost * len(face_scores) + 1e-9)
    return math.floor(float(np.sort(face_scores)[losable]) * 1e6) / 1e6


def quality(
    scores: Float[np.ndarray, " n"],
    is_face: Bool[np.ndarray, " n"],
    threshold: float,
    max_faces_lost: float,
) -> dict[str, Any]:
    """What the verifier does on validation at `threshold`: counts, rates and their intervals.

    Returns:
        `validation` with faces, nonfaces, faces_kept, nonfaces_kept, and recall, precision and
        nonfaces_removed as {value, low, high} (95 %, Wilson 1927; None where there is nothing
        to count), roc_auc; and `note`, a sentence where the faces are too few for the promise.
    """
    passed = scores >= np.float32(threshold)
    faces, nonfaces = int(is_face.sum()), int((~is_face).sum())
    kept, slipped = int((passed & is_face).sum()), int((passed & ~is_face).sum())
    recall = proportion(kept, faces)
    note = ""
    if faces * max_faces_lost < 1:
        note = (
            f"only {faces} validation faces: none of them is lost, which says no more than that "
            f"at least {recall['low']:.1%} of faces are kept (95 %)"
        )
    return {
        "max_faces_lost": max_faces_lost,
        "note": note,
        "validation": {
            "faces": faces,
            "nonfaces": nonfaces,
            "faces_kept": kept,
            "nonfaces_kept": slipped,
            "recall": recall,
            "precision": proportion(kept, kept + slipped),
            "nonfaces_removed": proportion(nonfaces - slipped, nonfaces),
            "roc_auc": float(roc_auc_score(is_face, scores)) if faces and nonfaces else None,
        },
    }


def proportion(successes: int, trials: int) -> dict[str, float | None]:
    """A share and its 95 % Wilson interval; None for all three without trials."""
    if not trials:
        return {"value": None, "low": None, "high": None}
    interval = stats.binomtest(successes, trials).proportion_ci(0.95, method="wilson")
    return {
        "value": successes / trials,
        "low": float(interval.low),
        "high": float(interval.high),
    }


def judge(
    manifest: pd.DataFrame,
    scores: Float[np.ndarray, " n"],
    threshold: float,
    min_detector_score: float,
) -> pd.DataFrame:
    """A copy of the manifest with `verifier_score`, `status` and `reason`.

    A face is removed if either detector says no: reason "detector", "verifier" or
    "detector+verifier". What was removed before stays removed, its reason in front.
    """
    # In the precision that the manifest keeps: a score of 0.9 is no less than 0.9.
    detector = manifest["detector_score"].to_numpy(np.float32) < np.float32(min_detector_score)
    verifier = scores.astype(np.float32) < np.float32(threshold)
    before = manifest["reason"].where(manifest["status"] == REMOVED, "").to_numpy(str)
    now = [np.where(detector, "detector", ""), np.where(verifier, "verifier", "")]
    reasons = ["+".join(filter(None, row)) for row in zip(before, *now, strict=True)]
    status = [REMOVED if reason else KEPT for reason in reasons]
    return manifest.assign(verifier_score=scores, status=status, reason=reasons)


def removed_sheet(manifest: pd.DataFrame, folder: Path, limit: int) -> UInt8[np.ndarray, "h w 3"]:
    """A contact sheet of removed crops, the verifier's surest faces first.

    Where more than `limit` were removed, evenly spaced ones of that order stand for all.
    """
    removed = manifest[manifest["status"] == REMOVED]
    removed = removed.sort_values(["verifier_score", "face_id"], ascending=[False, True])
    title = f"{len(removed)} of {len(manifest)} faces removed"
    if len(removed) > limit:
        removed = removed.iloc[np.linspace(0, len(removed) - 1, limit).round().astype(int)]
        title += f", {limit} of them shown"
    captions = [
        f"{row.reason}\nMTCNN {row.detector_score:.3f}\nverifier {row.verifier_score:.3f}"
        for row in removed.itertuples()
    ]
    crops = [read_image(folder / crop) for crop in removed["crop"]]
    return drawing.contact_sheet(crops, captions, title=title)


def score_histogram(
    scores: Float[np.ndarray, " n"],
    validation: Float[np.ndarray, " m"],
    is_face: Bool[np.ndarray, " m"],
    threshold: float,
) -> Figure:
    """Histograms of the verifier's score: validation above, all crops below, one axis."""
    figure = Figure(figsize=(7.2, 5.2), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    bins = np.linspace(0, 1, 51).tolist()
    groups = [
        (upper, validation[is_face], "#2a78c2", "validation: faces"),
        (upper, validation[~is_face], "#d9603b", "validation: not faces"),
        (lower, scores, "#5b6472", "all extracted crops"),
    ]
    for axes, values, colour, name in groups:
        label = f"{name} ({len(values)})"
        axes.hist(values, bins=bins, color=colour, alpha=0.65, label=label, log=True)
    for axes in (upper, lower):
        line = f"threshold {threshold:.3f}"
        axes.axvline(threshold, color="black", linewidth=1.2, linestyle="--", label=line)
        axes.set(ylabel="crops", xlim=(-0.01, 1.01), ylim=(0.7, None))
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_locator(NullLocator())
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False)
    lower.set_xlabel("verifier's probability of a face")
    return figure


def _read_faces(folder: str) -> tuple[pd.DataFrame, Path]:
    """The manifest of an `extract` workdir, and that folder."""
    if not folder:
        raise UserError("refine: give the workdir of `extract` by --config.faces=DIR")
    path = Path(folder).absolute()
    if not (path / "manifest.parquet").is_file():
        raise UserError(f"refine: no manifest.parquet in {path}; run `extract` with it as workdir")
    manifest = read_manifest(path / "manifest.parquet")
    if manifest.empty:
        raise UserError(f"refine: {path / 'manifest.parquet'} holds no face; nothing to refine")
    return manifest, path


def _load_verifier(folder: str) -> tuple[Scorer, int]:
    """A function from crops [n, S, S, 3] to probabilities of "face" [n], and S in pixels."""
    if not folder:
        raise UserError("refine: give the verifier's workdir by --config.verifier=DIR")
    model = model_directory.load(folder)
    if "verification" not in model.spec["labels"]:
        tasks = ", ".join(model.spec["labels"]) or "nothing with labels"
        raise UserError(f"refine: the model in {folder} was taught {tasks}, not verification")

    def score(crops: UInt8[np.ndarray, "n s s 3"]) -> Float[np.ndarray, " n"]:
        return np.asarray(model.probabilities("verification", crops))[:, FACE]

    return score, int(model.spec["image_size"])


def _score_validation(
    scorer: Scorer, folder: Path, image_size: int, batch: int
) -> tuple[Float[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
    """The verifier's scores on the validation split, and which of its crops are faces."""
    source = sources.open_source("face_verification", None, "validation", folder, image_size)
    scores, is_face = np.zeros(len(source), np.float32), np.zeros(len(source), bool)
    for start in range(0, len(source), batch):
        rows = np.arange(start, min(start + batch, len(source)))
        examples = source.batch(rows)
        scores[rows], is_face[rows] = scorer(examples["image"]), examples["label"] == FACE
    return scores, is_face


def _score_crops(
    scorer: Scorer, paths: Sequence[Path], image_size: int, batch: int
) -> Float[np.ndarray, " n"]:
    """The verifier's scores of the crops at `paths`, in their order; holds one batch at a time."""
    scores = np.zeros(len(paths), np.float32)
    with tqdm(total=len(paths), desc="refine", unit="face", disable=None) as bar:
        for start in range(0, len(paths), batch):
            chunk = paths[start : start + batch]
            scores[start : start + len(chunk)] = scorer(sources.read_images(chunk, image_size))
            bar.update(len(chunk))
    return scores


def _summary(
    refined: pd.DataFrame, threshold: float, figures: dict[str, Any], speed: float
) -> dict[str, Any]:
    """The stage's figures; the three reasons exclude each other."""
    reasons = refined["reason"].str.split("+")
    detector = reasons.apply(lambda parts: "detector" in parts)
    verifier = reasons.apply(lambda parts: "verifier" in parts)
    removed = refined["status"] == REMOVED
    return {
        "faces": len(refined),
        "kept": int((~removed).sum()),
        "removed": int(removed.sum()),
        "removed_by_detector": int((detector & ~verifier).sum()),
        "removed_by_verifier": int((verifier & ~detector).sum()),
        "removed_by_both": int((detector & verifier).sum()),
        "threshold": threshold,
        "validation_recall": figures["validation"]["recall"]["value"],
        "validation_precision": figures["validation"]["precision"]["value"],
        "faces_per_s": round(speed, 1),
    }
