"""refine: keeps the faces on which the detector and the verifier agree, and gives reasons."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
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
from fer_jax.recogniser import check_task
from fer_jax.training import model_directory, trained_model
from fer_jax.workdir import stage, write_json

TASK = "verification"
Images = UInt8[np.ndarray, "n s s 3"]
FACE = 1  # the verifier's class for a face; 0 is everything else


@stage(inputs=lambda config: [config.faces, config.verifier])
def run(config: schemas.Refine, workdir: Path) -> dict[str, Any]:
    """Scores every crop with the verifier and sets `status` and `reason` in the manifest.

    Raises:
        UserError: no faces to refine, a model that is not a verifier, or no validation faces.
    """
    manifest, folder = _read_faces(config.faces)
    if not config.verifier:
        raise UserError("refine: give the verifier's workdir by --config.verifier=DIR")
    verifier = trained_model.load(config.verifier)
    check_task(verifier, TASK, config.verifier)

    validation, test = _score_held_out(verifier, config, folder, workdir)
    if validation is None:
        raise UserError("refine: the verifier's data have no validation split; train it again")
    threshold = operating_threshold(validation.scores[validation.is_face], config.max_faces_lost)
    figures = _figures(validation, test, threshold, config.max_faces_lost)
    if figures["note"]:
        console.say(f"[refine] {figures['note']}")

    started = time.perf_counter()
    paths = [folder / crop for crop in manifest["crop"]]
    scores = _score_crops(verifier, paths, config.batch)
    speed = len(paths) / max(time.perf_counter() - started, 1e-9)

    refined = judge(manifest, scores, threshold, config.min_detector_score)
    refined["crop"] = [os.path.relpath(path, workdir) for path in paths]
    assert len(refined) == len(manifest), "refine removes no rows"

    write_manifest(workdir / "manifest.parquet", refined)
    operating_point = {"threshold": threshold, "min_detector_score": config.min_detector_score}
    write_json(workdir / "threshold.json", operating_point | figures)
    cut = model_directory.read_faces(folder)
    if cut:
        records.write(workdir / model_directory.FACES, cut)
    shown = refined.assign(path=paths)
    doubted = _doubted(verifier, folder, config.batch)
    drawing.write_image(workdir / "removed.png", removed_sheet(shown, config.sheet))
    sheet = disagreements(shown, doubted, threshold, config.sheet)
    drawing.write_image(workdir / "disagreements.png", sheet)
    measured, split = (test, "test") if test else (validation, "validation")
    histogram = score_histogram(scores, measured, split, threshold)
    save_figure(histogram, workdir / "scores.png", dpi=110)
    return {
        **_counts(refined),
        "threshold": threshold,
        "validation_recall": figures["validation"]["recall"]["value"],
        "validation_precision": figures["validation"]["precision"]["value"],
        **(
            {
                "test_recall": figures["test"]["recall"]["value"],
                "test_nonfaces_removed": figures["test"]["nonfaces_removed"]["value"],
            }
            if test
            else {}
        ),
        "faces_per_s": round(speed, 1),
    }


def removed_sheet(faces: pd.DataFrame, limit: int) -> UInt8[np.ndarray, "h w 3"]:
    """A contact sheet of removed crops by falling verifier score; evenly spaced ones of many.

    Args:
        faces: rows of a manifest with `path`, the file of the crop.
        limit: the most crops to show.
    """
    removed = faces[faces["status"] == REMOVED]
    title = f"{len(removed)} of {len(faces)} faces removed"
    removed = removed.sort_values(["verifier_score", "face_id"], ascending=[False, True])
    if len(removed) > limit:
        removed = removed.iloc[np.linspace(0, len(removed) - 1, limit).round().astype(int)]
        title += f", {limit} of them shown"
    return _sheet(removed.assign(caption=removed["reason"]), title)


def disagreements(
    faces: pd.DataFrame, doubted: pd.DataFrame, threshold: float, limit: int
) -> UInt8[np.ndarray, "h w 3"]:
    """A contact sheet of crops on which MTCNN and the verifier disagree most.

    Faces of MTCNN that the verifier refuses come first, then the candidates (`doubted`: path,
    detector_score, verifier_score) that MTCNN refused and the verifier accepts.
    """
    reason = faces["reason"]
    refused = faces[reason.str.endswith("verifier") & ~reason.str.contains("detector")]
    accepted = doubted[doubted["verifier_score"] >= threshold]
    title = f"{len(refused)} faces refused by the verifier, {len(accepted)} others taken for faces"
    refused = refused.sort_values(["verifier_score", "path"]).head(limit // 2)
    accepted = accepted.sort_values(["detector_score", "path"]).head(limit // 2)
    rows = pd.concat([refused.assign(caption="verifier: no"), accepted.assign(caption="MTCNN: no")])
    return _sheet(rows, title)


def _sheet(rows: pd.DataFrame, title: str) -> UInt8[np.ndarray, "h w 3"]:
    captions = [
        f"{row.caption}\nMTCNN {row.detector_score:.3f}\nverifier {row.verifier_score:.3f}"
        for row in rows.itertuples()
    ]
    return drawing.contact_sheet([read_image(path) for path in rows["path"]], captions, title=title)


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


def _score_held_out(
    verifier: trained_model.Model, config: schemas.Refine, folder: Path, workdir: Path
) -> tuple[Scored | None, Scored | None]:
    """The verifier's scores of its own validation and test splits; None without such a split."""
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
                "face_verification", variant, split, root, verifier.record.image_size,
                data_dir=data_dir,
            )  # fmt: skip
        except sources.NoSplitError:
            found.append(None)
            continue
        found.append(_score_source(verifier, source, config.batch))
    return found[0], found[1]


def _score_source(
    verifier: trained_model.Model, source: sources.RecordSource | sources.ArraySource, batch: int
) -> Scored:
    is_face: list[bool] = []
    origins: list[str] = []

    def batches() -> Iterator[Images]:
        for start in range(0, len(source), batch):
            examples = [source[i] for i in range(start, min(start + batch, len(source)))]
            is_face.extend(bool(example["label"] == FACE) for example in examples)
            # The first two parts of an id name the shard, the folder or the texture.
            origins.extend("/".join(example["id"].split("/")[:2]) for example in examples)
            yield np.stack([example["image"] for example in examples])

    scores = _scores(verifier, batches())
    return Scored(scores, np.array(is_face, bool), origins)


def _score_crops(
    verifier: trained_model.Model, paths: Sequence[Path], batch: int
) -> Float[np.ndarray, " n"]:
    """The verifier's scores of the crops at `paths`; holds one batch of them at a time."""
    starts = tqdm(range(0, len(paths), batch), desc="refine", unit="batch", disable=None)
    size = verifier.record.image_size
    return _scores(verifier, (sources.read_images(paths[i : i + batch], size) for i in starts))


def _scores(verifier: trained_model.Model, batches: Iterable[Images]) -> Float[np.ndarray, " n"]:
    """The probability of "face" of every image."""
    parts = [verifier.probabilities(TASK, images)[:, FACE] for images in batches]
    return np.concatenate([*parts, np.zeros(0, np.float32)])


def _figures(
    validation: Scored, test: Scored | None, threshold: float, max_faces_lost: float
) -> dict[str, Any]:
    """The content of threshold.json: the figures of both splits, and a note on their limits."""
    figures: dict[str, Any] = {
        "max_faces_lost": max_faces_lost,
        "validation": quality(validation, threshold),
        "test": quality(test, threshold) if test else None,
    }
    split = "test" if test else "validation"
    note = few_faces_note(figures[split], split, max_faces_lost)
    if not test:
        untested = (
            "too few sources for a test split: the threshold was chosen on the faces that it is "
            "measured on"
        )
        note = f"{untested}; {note}" if note else untested
    return figures | {"note": note}


def _doubted(verifier: trained_model.Model, folder: Path, batch: int) -> pd.DataFrame:
    """The candidates that MTCNN refused: path, detector_score, verifier_score."""
    columns = ["path", "detector_score", "verifier_score"]
    file = folder / "negatives.parquet"
    if not file.is_file():
        return pd.DataFrame(columns=columns)
    table = read_negatives(file)
    table = table[table["kind"] == HARD]
    paths = [folder / crop for crop in table["crop"]]
    scores = _score_crops(verifier, paths, batch)
    return table.assign(path=paths, verifier_score=scores)[columns]


def _counts(refined: pd.DataFrame) -> dict[str, int]:
    """How many faces were removed; the three reasons exclude each other."""
    detector = refined["reason"].str.split("+").map(lambda parts: "detector" in parts)
    verifier = refined["reason"].str.split("+").map(lambda parts: "verifier" in parts)
    removed = refined["status"] == REMOVED
    return {
        "faces": len(refined),
        "kept": int((~removed).sum()),
        "removed": int(removed.sum()),
        "removed_by_detector": int((detector & ~verifier).sum()),
        "removed_by_verifier": int((verifier & ~detector).sum()),
        "removed_by_both": int((detector & verifier).sum()),
    }
