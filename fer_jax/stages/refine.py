"""refine: keeps the faces on which the detector and the verifier agree, and says why not."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, UInt8
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator
from tqdm import tqdm

from fer_jax import console, records, schemas
from fer_jax.data import builders, sources
from fer_jax.data.manifest import HARD, REMOVED, read_manifest, read_negatives, write_manifest
from fer_jax.errors import UserError
from fer_jax.faces import drawing
from fer_jax.faces.images import read_image
from fer_jax.faces.verdicts import Scored, few_faces_note, judge, operating_threshold, quality
from fer_jax.figures import save_figure
from fer_jax.training import model_directory, trained_model
from fer_jax.workdir import stage, write_json

FACE = 1  # the verifier's class for a face; 0 is everything else
Scorer = Callable[[UInt8[np.ndarray, "n s s 3"]], Float[np.ndarray, " n"]]


@stage(inputs=lambda config: [config.faces, config.verifier])
def run(config: schemas.Refine, workdir: Path) -> dict[str, Any]:
    """Scores every crop with the verifier and sets `status` and `reason` in the manifest.

    Raises:
        UserError: no faces to refine, a model that is no verifier, or no validation faces.
    """
    manifest, folder = _read_faces(config.faces)
    scorer, image_size = _load_verifier(config.verifier)

    validation, test = _score_held_out(scorer, config, folder, workdir, image_size)
    if validation is None:
        raise UserError("refine: the verifier's data have no validation split; train it anew")
    threshold = operating_threshold(validation.scores[validation.is_face], config.max_faces_lost)
    figures = _figures(validation, test, threshold, config.max_faces_lost)
    if figures["note"]:
        console.say(f"[refine] {figures['note']}")

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
    cut = model_directory.read_faces(folder)
    if cut:
        records.write(workdir / model_directory.FACES, cut)
    drawing.write_image(workdir / "removed.png", removed_sheet(refined, workdir, config.sheet))
    doubted = _doubted(scorer, folder, image_size, config.batch)
    sheet = disagreements(refined, workdir, doubted, threshold, config.sheet)
    drawing.write_image(workdir / "disagreements.png", sheet)
    measured, name = (test, "test") if test else (validation, "validation")
    histogram = score_histogram(scores, measured, name, threshold)
    save_figure(histogram, workdir / "scores.png", dpi=110)
    return _summary(refined, threshold, figures, len(paths) / max(seconds, 1e-9))


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


def disagreements(
    manifest: pd.DataFrame,
    folder: Path,
    doubted: pd.DataFrame,
    threshold: float,
    limit: int,
) -> UInt8[np.ndarray, "h w 3"]:
    """A contact sheet of what MTCNN and the verifier see differently, the widest apart first.

    First the faces of MTCNN that the verifier refuses, then the candidates (`doubted`: path,
    detector_score, verifier_score) that MTCNN refused and the verifier takes for faces.
    """
    refused = manifest[manifest["reason"].str.endswith("verifier")]
    refused = refused[~refused["reason"].str.contains("detector")]
    refused = refused.assign(path=[folder / crop for crop in refused["crop"]], by="verifier: no")
    taken = doubted[doubted["verifier_score"] >= threshold].assign(by="MTCNN: no")
    chosen = [
        refused.sort_values(["verifier_score", "path"]).head(limit // 2),
        taken.sort_values(["detector_score", "path"]).head(limit // 2),
    ]
    rows = [row for part in chosen for row in part.itertuples()]
    captions = [
        f"{row.by}\nMTCNN {row.detector_score:.3f}\nverifier {row.verifier_score:.3f}"
        for row in rows
    ]
    title = f"{len(refused)} faces refused by the verifier, {len(taken)} others taken for faces"
    crops = [read_image(str(row.path)) for row in rows]
    return drawing.contact_sheet(crops, captions, title=title)


def score_histogram(
    scores: Float[np.ndarray, " n"], measured: Scored, split: str, threshold: float
) -> Figure:
    """Histograms of the verifier's score: held-out crops above, all crops below, one axis."""
    figure = Figure(figsize=(7.2, 5.2), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    bins = np.linspace(0, 1, 51).tolist()
    groups = [
        (upper, measured.scores[measured.is_face], "#2a78c2", f"{split}: faces"),
        (upper, measured.scores[~measured.is_face], "#d9603b", f"{split}: not faces"),
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
    model = trained_model.load(folder)
    if "verification" not in model.record.labels:
        tasks = ", ".join(model.record.labels) or "no task"
        raise UserError(f"refine: the model in {folder} was trained on {tasks}, not verification")

    def score(crops: UInt8[np.ndarray, "n s s 3"]) -> Float[np.ndarray, " n"]:
        return np.asarray(model.probabilities("verification", crops))[:, FACE]

    return score, model.record.image_size


def _score_held_out(
    scorer: Scorer, config: schemas.Refine, folder: Path, workdir: Path, image_size: int
) -> tuple[Scored | None, Scored | None]:
    """The verifier's scores on its own validation and test splits; None where there is none."""
    root, data_dir, variant = folder, None, None
    trained_on = Path(config.verifier) / records.DATA
    if trained_on.is_file():
        data = records.read(schemas.Data, trained_on)
        root = Path(data.place)
        if data.given_folders:
            variant = builders.config_with("face_verification", **data.given_folders)
            data_dir = workdir / "records"
    elif (Path(config.verifier) / "done.json").is_file():
        console.warn(
            f"refine: {config.verifier} was written by an older version and does not say what it "
            f"was trained on, so the verifier is measured on {folder}; if it was trained on other "
            f"data, train it again"
        )
    found: list[Scored | None] = []
    for split in ("validation", "test"):
        try:
            source = sources.open_source(
                "face_verification", variant, split, root, image_size, data_dir=data_dir
            )
        except sources.NoSplitError:
            found.append(None)
            continue
        found.append(_score_source(scorer, source, config.batch))
    return found[0], found[1]


def _score_source(
    scorer: Scorer, source: sources.RecordSource | sources.ArraySource, batch: int
) -> Scored:
    scores, is_face = np.zeros(len(source), np.float32), np.zeros(len(source), bool)
    for start in range(0, len(source), batch):
        rows = np.arange(start, min(start + batch, len(source)))
        examples = source.batch(rows)
        scores[rows], is_face[rows] = scorer(examples["image"]), examples["label"] == FACE
    # The first two parts of an id name the shard, the folder or the texture.
    ids = (source[i]["id"] for i in range(len(source)))
    return Scored(scores, is_face, ["/".join(name.split("/")[:2]) for name in ids])


def _figures(
    validation: Scored, test: Scored | None, threshold: float, max_faces_lost: float
) -> dict[str, Any]:
    """What threshold.json says: the figures of both splits, and a note on what they do not say."""
    figures: dict[str, Any] = {
        "max_faces_lost": max_faces_lost,
        "validation": quality(validation, threshold),
        "test": quality(test, threshold) if test else None,
    }
    if test:
        note = few_faces_note(figures["test"], "test", max_faces_lost)
    else:
        note = (
            "too few sources for a test split: the threshold was chosen on the faces that it is "
            "measured on"
        )
        few = few_faces_note(figures["validation"], "validation", max_faces_lost)
        note = f"{note}; {few}" if few else note
    return figures | {"note": note}


def _doubted(scorer: Scorer, folder: Path, image_size: int, batch: int) -> pd.DataFrame:
    """The candidates that MTCNN refused, with path, its score and the verifier's."""
    file = folder / "negatives.parquet"
    columns = ["path", "detector_score", "verifier_score"]
    if not file.is_file():
        return pd.DataFrame(columns=columns)
    table = read_negatives(file)
    table = table[table["kind"] == HARD]
    paths = [folder / crop for crop in table["crop"]]
    scores = _score_crops(scorer, paths, image_size, batch)
    return table.assign(path=paths, verifier_score=scores)[columns]


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
        **(
            {
                "test_recall": figures["test"]["recall"]["value"],
                "test_nonfaces_removed": figures["test"]["nonfaces_removed"]["value"],
            }
            if figures["test"]
            else {}
        ),
        "faces_per_s": round(speed, 1),
    }
