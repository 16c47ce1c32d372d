"""refine: marks crops that the detector or the verifier rejects as removed, with the reason."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, UInt8
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from fer_jax import console, records, schemas
from fer_jax.data import builders, sources
from fer_jax.data.manifest import HARD, KEPT, REMOVED, read_manifest, read_negatives, write_manifest
from fer_jax.errors import UserError
from fer_jax.faces import drawing, overview
from fer_jax.faces.images import read_image
from fer_jax.faces.verdicts import (
    PLAIN_THRESHOLD,
    Scored,
    doubt_of_removal,
    doubt_of_sources,
    few_faces_note,
    judge,
    operating_threshold,
    quality,
)
from fer_jax.figures import save_figure
from fer_jax.languages.language import ENGLISH, Language, spoken
from fer_jax.models import starter
from fer_jax.recogniser import check_task
from fer_jax.training import model_directory, trained_model
from fer_jax.workdir import stage, write_json

TASK = "verification"
Images = UInt8[np.ndarray, "n s s 3"]
FACE = 1  # the verifier's class for a face; 0 is everything else


class Note(NamedTuple):
    """A limitation of a result: the text "note.<key>" of a language, filled with `values`."""

    key: str
    values: Mapping[str, str]

    def text(self, words: Language) -> str:
        return words.text(f"note.{self.key}", **self.values)


@dataclass(frozen=True)
class Examined:
    """The scores of a verifier, and whether the verifier can be trusted.

    Attributes:
        name: "own" for the user's verifier, "starter" for the one that ships with the package, or
            "none", which removes nothing.
        model: the verifier.
        threshold: crops with a lower probability of "face" are removed.
        scores: probability of "face" of each crop of the manifest.
        validation, test: scores of labelled crops; None without such a split. The user's verifier
            was trained on neither, and its threshold was chosen on the validation split.
        confident: number of detections with a high score of MTCNN, in sources that were used
            neither to train this verifier nor to choose its threshold.
        confident_removed: number of these detections that the verifier rejects.
        doubt: why the verifier cannot be trusted; "" if it can.
        notes: limitations of the scores or of the measures on labelled crops.
        seconds: time for scoring all crops of the manifest, in seconds.
    """

    name: str
    model: trained_model.Model
    threshold: float
    scores: Float[np.ndarray, " n"]
    validation: Scored | None
    test: Scored | None
    confident: int
    confident_removed: int
    doubt: str
    notes: tuple[Note, ...]
    seconds: float


class HeldOut(NamedTuple):
    """The scores of the labelled crops on which a verifier is measured.

    Attributes:
        validation, test: scores of the crops of each split; None without such a split.
        same: whether the crops are from the manifest that is refined.
        notes: the reason if labelled crops could not be read.
    """

    validation: Scored | None
    test: Scored | None
    same: bool
    notes: tuple[Note, ...]


@stage(
    doing="doing.refine",
)
def run(config: schemas.Refine, workdir: Path) -> dict[str, Any]:
    """Scores every crop with the verifier, and writes a manifest with new `status` and `reason`.

    With `use_verifier="auto"`, a verifier that cannot be trusted (see `_examine`) is replaced by
    the starter's; if that one also removes too many confident detections, only the detector's
    score decides. The reasons are printed, and are in `threshold.json` and in the summary.

    Raises:
        UserError: there are no faces to refine, the model is not a verifier, or there are no
            validation faces.
    """
    manifest, folder = _read_faces(config.faces)
    chosen, doubts = _choose(config, manifest, folder, workdir)
    threshold, test = chosen.threshold, chosen.test
    figures = _figures(chosen, config.max_faces_lost)
    for note in chosen.notes:
        console.say(f"  {note.text(spoken())}")

    refined = judge(manifest, chosen.scores, threshold, config.min_detector_score)
    paths = [folder / crop for crop in manifest["crop"]]
    # The system resolves links before "..", so a path relative to a linked folder would be wrong.
    real, own = folder.resolve(), workdir.resolve()
    refined["crop"] = [os.path.relpath(real / crop, own) for crop in manifest["crop"]]
    assert len(refined) == len(manifest), "refine removes no rows"

    write_manifest(workdir / "manifest.parquet", refined)
    used = {"verifier": chosen.name, "not_trusted": doubts}
    operating_point = {"threshold": threshold, "min_detector_score": config.min_detector_score}
    confident = {"confident": chosen.confident, "confident_removed": chosen.confident_removed}
    write_json(workdir / "threshold.json", used | operating_point | confident | figures)
    cut = model_directory.read_faces(folder)
    if cut:
        records.write(workdir / records.FACES, cut)
    shown = refined.assign(path=paths)
    doubted = _doubted(chosen.model, folder, config.batch)
    drawing.write_image(workdir / "removed.png", removed_sheet(shown, config.sheet))
    # A threshold of 0 removes nothing, but does not say that all candidates are faces.
    sheet = disagreements(shown, doubted, threshold or PLAIN_THRESHOLD, config.sheet)
    drawing.write_image(workdir / "disagreements.png", sheet)
    measured, split = (test, "test") if test else (chosen.validation, "validation")
    histogram = score_histogram(chosen.scores, measured, split, threshold)
    save_figure(histogram, workdir / "scores.png", dpi=110)
    counts = _counts(refined)
    _print_result(counts)
    return {
        **counts,
        "verifier": chosen.name,
        **({"not_trusted": "; ".join(doubts.values())} if doubts else {}),
        "threshold": threshold,
        **confident,
        **_rates(figures, "validation", "recall", "precision"),
        **_rates(figures, "test", "recall", "nonfaces_removed"),
        "faces_per_s": round(len(manifest) / max(chosen.seconds, 1e-9), 1),
    }


def _choose(
    config: schemas.Refine, manifest: pd.DataFrame, folder: Path, workdir: Path
) -> tuple[Examined, dict[str, str]]:
    """The verifier to use, and the reasons against verifiers that cannot be trusted, by name.

    If neither can be trusted with `use_verifier="auto"`, the starter is returned with the name
    "none" and a threshold of 0, so that it removes nothing.
    """
    names = ("own", "starter") if config.use_verifier == "auto" else (config.use_verifier,)
    doubts: dict[str, str] = {}
    for name in names:
        examined = _examine(name, config, manifest, folder, workdir)
        if not examined.doubt:
            return examined, doubts
        doubts[name] = examined.doubt
        whose = "the starter's verifier" if name == "starter" else f"the verifier {config.verifier}"
        if config.use_verifier != "auto":
            instead = f"is used only because of --config.use_verifier={name}"
        elif name == "own":
            instead = "is replaced by the starter's verifier and its threshold"
        else:
            instead = "removes nothing here; only MTCNN's score decides"
        console.warn(f"refine: {whose} cannot be trusted ({examined.doubt}) and {instead}")
    if config.use_verifier != "auto":
        return examined, doubts
    return dataclasses.replace(examined, name="none", threshold=0.0, confident_removed=0), doubts


def _examine(
    name: str, config: schemas.Refine, manifest: pd.DataFrame, folder: Path, workdir: Path
) -> Examined:
    """Scores all crops with a verifier and decides whether it can be trusted.

    The user's verifier must keep nearly all of MTCNN's confident detections in sources that were
    used neither to train it nor to choose its threshold, and there must be enough such sources. The
    starter was trained on none of the sources, and must keep nearly all confident detections, if
    there are any.
    """
    own = name == "own"
    where = config.verifier if own else starter.NAME
    verifier = trained_model.load(where)
    check_task(verifier, TASK, where)
    held_out = _score_held_out(verifier, config, folder, workdir, strict=own)
    started = time.perf_counter()
    scores = _score_crops(verifier, [folder / crop for crop in manifest["crop"]], config.batch)
    seconds = time.perf_counter() - started
    threshold, notes, unseen = PLAIN_THRESHOLD, held_out.notes, np.ones(len(manifest), bool)
    if own:
        threshold, notes = _own_threshold(held_out, config.max_faces_lost)
        if held_out.same:
            unseen = manifest["crop"].isin(held_out.test.ids if held_out.test else []).to_numpy()
    sure = (manifest["status"] == KEPT) & (manifest["detector_score"] >= config.confident_score)
    confident = sure.to_numpy() & unseen
    refused = confident & (scores.astype(np.float32) < np.float32(threshold))
    counts = int(confident.sum()), int(refused.sum())
    notes += _margin_notes(verifier, where, folder)
    doubts = [doubt_of_sources(held_out.test, config.min_test_sources)] if own else []
    if own or counts[0]:
        doubts.append(doubt_of_removal(*counts, config.max_removed_of_confident))
    return Examined(
        name, verifier, threshold, scores, held_out.validation, held_out.test, *counts,
        doubt=", and ".join(filter(None, doubts)), notes=notes, seconds=seconds,
    )  # fmt: skip


def _margin_notes(verifier: trained_model.Model, where: str, folder: Path) -> tuple[Note, ...]:
    """A note if the verifier was trained on faces with another margin than in `folder`."""
    cuts = [verifier.record.faces, model_directory.read_faces(folder)]
    margins = [cut.crop.margin for cut in cuts if cut and not cut.aligned]
    if len(set(margins)) < 2:
        return ()
    trained, scored = (f"{margin:g}" for margin in margins)
    return (Note("other_margin", {"verifier": where, "trained": trained, "scored": scored}),)


def _own_threshold(held_out: HeldOut, max_faces_lost: float) -> tuple[float, tuple[Note, ...]]:
    """The threshold of the user's verifier, and a note if no test split is left to measure it.

    It is at most `PLAIN_THRESHOLD`: the scores of validation faces are often all close to 1, and a
    threshold that high rejects faces of other sources.

    Raises:
        UserError: there are no validation faces.
    """
    if held_out.validation is None:
        raise UserError(
            "refine: the training data of the verifier have no validation split; train it on more "
            "sources"
        )
    faces = held_out.validation.scores[held_out.validation.is_face]
    threshold = min(operating_threshold(faces, max_faces_lost), PLAIN_THRESHOLD)
    return threshold, () if held_out.test else (Note("same_faces", {}),)


def removed_sheet(faces: pd.DataFrame, limit: int) -> UInt8[np.ndarray, "h w 3"]:
    """A contact sheet of removed crops by descending verifier score, with video and time.

    Args:
        faces: rows of a manifest with `path`, the file of the crop.
        limit: the maximum number of crops; evenly spaced ones if there are more.
    """
    removed = faces[faces["status"] == REMOVED]
    removed = removed.sort_values(["verifier_score", "face_id"], ascending=[False, True])
    shown = overview.evenly(removed, limit)
    title = f"{len(removed)} of {len(faces)} faces removed"
    title += overview.how_many_shown(removed, shown)
    captions = [
        f"{reason}\n{overview.place_of(video, time_s)}"
        for reason, video, time_s in shown[["reason", "video", "time_s"]].itertuples(index=False)
    ]
    return _sheet(shown.assign(caption=captions), title)


def disagreements(
    faces: pd.DataFrame, doubted: pd.DataFrame, threshold: float, limit: int
) -> UInt8[np.ndarray, "h w 3"]:
    """A contact sheet of crops on which MTCNN and the verifier disagree most.

    It shows detections of MTCNN that the verifier rejects, then candidates that MTCNN rejected and
    the verifier accepts.

    Args:
        faces: rows of a manifest with `path`, the file of the crop.
        doubted: the candidates, with the columns path, detector_score and verifier_score.
        threshold: the verifier accepts a candidate with at least this score.
        limit: the maximum number of crops, half of them of each kind.
    """
    reason = faces["reason"]
    refused = faces[reason.str.endswith("verifier") & ~reason.str.contains("detector")]
    accepted = doubted[doubted["verifier_score"] >= threshold]
    title = f"{len(refused)} faces rejected by the verifier, {len(accepted)} others accepted"
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
    scores: Float[np.ndarray, " n"], measured: Scored | None, split: str, threshold: float
) -> Figure:
    """Histograms of the verifier's score: held-out crops above, all crops below.

    Without held-out crops (`measured` is None) only all crops are shown.
    """
    figure = Figure(figsize=(7.2, 5.2), layout="constrained")
    *upper, lower = figure.subplots(2 if measured else 1, 1, sharex=True, squeeze=False)[:, 0]
    bins = np.linspace(0, 1, 51).tolist()
    groups = [(lower, scores, "#5b6472", "all extracted crops")]
    if measured:
        faces, others = (measured.scores[kind] for kind in (measured.is_face, ~measured.is_face))
        groups += [
            (upper[0], faces, "#2a78c2", f"{split}: faces"),
            (upper[0], others, "#d9603b", f"{split}: not faces"),
        ]
    for axes, values, colour, name in groups:
        label = f"{name} ({len(values)})"
        axes.hist(values, bins=bins, color=colour, alpha=0.65, label=label, log=True)
    for axes in (*upper, lower):
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
    """The manifest of an `extract` workdir, and the absolute path of the workdir."""
    path = Path(folder).absolute()
    if not (path / "manifest.parquet").is_file():
        raise UserError(
            f"refine: {path} contains no manifest.parquet; set --config.faces to the workdir of a "
            f"finished run of extract"
        )
    manifest = read_manifest(path / "manifest.parquet")
    if manifest.empty:
        raise UserError(
            f"refine: {path / 'manifest.parquet'} contains no faces; extract other videos first"
        )
    return manifest, path


def _score_held_out(
    verifier: trained_model.Model,
    config: schemas.Refine,
    folder: Path,
    workdir: Path,
    *,
    strict: bool,
) -> HeldOut:
    """The scores of `verifier` on the validation and test splits of the user's verifier's data set.

    If this data set is not known, the splits are those of `folder`. If crops cannot be read, an
    error is raised if `strict`; otherwise the result has a note about it.
    """
    root, data_dir, variant = folder, None, None
    trained_on = Path(config.verifier) / records.DATA
    if config.verifier and trained_on.is_file():
        data = records.read(schemas.Data, trained_on)
        root = Path(data.place)
        if data.given_folders:
            variant = builders.config_with("face_verification", **data.given_folders)
            data_dir = workdir / "records"
    elif config.verifier and (Path(config.verifier) / "done.json").is_file():
        console.warn(
            f"refine: {config.verifier} does not record its training data (older versions did "
            f"not), so the verifier is evaluated on {folder}; if it was trained on other "
            f"data, train it again"
        )
    found: dict[str, Scored | None] = {"validation": None, "test": None}
    notes: tuple[Note, ...] = ()
    for split in found:
        try:
            source = sources.open_source(
                "face_verification", variant, split, root, verifier.record.image_size,
                data_dir=data_dir,
            )  # fmt: skip
            found[split] = _score_source(verifier, source, config.batch)
        except sources.NoSplitError:
            continue
        except UserError as error:
            if strict:
                raise
            notes = (Note("not_measured", {"error": str(error)}),)
            break
    same = root.is_dir() and root.samefile(folder)
    return HeldOut(found["validation"], found["test"], same, notes)


def _score_source(
    verifier: trained_model.Model, source: sources.RecordSource | sources.ArraySource, batch: int
) -> Scored:
    is_face: list[bool] = []
    ids: list[str] = []

    def batches() -> Iterator[Images]:
        for start in range(0, len(source), batch):
            examples = [source[i] for i in range(start, min(start + batch, len(source)))]
            is_face.extend(bool(example["label"] == FACE) for example in examples)
            ids.extend(example["id"] for example in examples)
            yield np.stack([example["image"] for example in examples])

    scores = _scores(verifier, batches())
    # The first two parts of an id name the shard, the folder or the texture.
    origins = ["/".join(name.split("/")[:2]) for name in ids]
    return Scored(scores, np.array(is_face, bool), origins, ids)


def _score_crops(
    verifier: trained_model.Model, paths: Sequence[Path], batch: int
) -> Float[np.ndarray, " n"]:
    """The verifier's scores of the crops at `paths`, which are read in batches."""
    size = verifier.record.image_size

    def batches() -> Iterator[Images]:
        with console.Progress(total=len(paths), unit="face") as progress:
            for start in range(0, len(paths), batch):
                part = paths[start : start + batch]
                yield sources.read_images(part, size)
                progress.update(len(part))

    return _scores(verifier, batches())


def _scores(verifier: trained_model.Model, batches: Iterable[Images]) -> Float[np.ndarray, " n"]:
    """The probability of "face" of every image."""
    parts = [verifier.probabilities(TASK, images)[:, FACE] for images in batches]
    return np.concatenate([*parts, np.zeros(0, np.float32)])


def _figures(chosen: Examined, max_faces_lost: float) -> dict[str, Any]:
    """The measures on both splits for threshold.json, and a note on their limitations."""
    figures: dict[str, Any] = {
        "max_faces_lost": max_faces_lost,
        "validation": quality(chosen.validation, chosen.threshold) if chosen.validation else None,
        "test": quality(chosen.test, chosen.threshold) if chosen.test else None,
    }
    split = "test" if chosen.test else "validation"
    few = few_faces_note(figures[split], split, max_faces_lost) if figures[split] else ""
    notes = [note.text(ENGLISH) for note in chosen.notes]
    return figures | {"note": "; ".join(filter(None, (*notes, few)))}


def _rates(figures: dict[str, Any], split: str, *names: str) -> dict[str, float | None]:
    """The measures `names` on a split, for the summary; empty without that split."""
    measured = figures[split]
    return {f"{split}_{name}": measured[name]["value"] for name in names} if measured else {}


def _doubted(verifier: trained_model.Model, folder: Path, batch: int) -> pd.DataFrame:
    """The candidates that MTCNN rejected: columns path, detector_score and verifier_score."""
    columns = ["path", "detector_score", "verifier_score"]
    file = folder / "negatives.parquet"
    if not file.is_file():
        return pd.DataFrame(columns=columns)
    table = read_negatives(file)
    table = table[table["kind"] == HARD]
    paths = [folder / crop for crop in table["crop"]]
    scores = _score_crops(verifier, paths, batch)
    return table.assign(path=paths, verifier_score=scores)[columns]


def _print_result(counts: Mapping[str, int]) -> None:
    """Prints the numbers of `_counts`."""
    words = spoken()
    reasons = [
        words.text(f"result.{name}", number=words.count(counts[name]))
        for name in ("removed_by_verifier", "removed_by_detector", "removed_by_both")
        if counts[name]
    ]
    console.result(
        "refine_removed" if reasons else "refine",
        kept=words.count(counts["kept"]),
        faces=words.count(counts["faces"], "face"),
        reasons=words.listing(reasons),
        file="removed.png",
    )


def _counts(refined: pd.DataFrame) -> dict[str, int]:
    """The numbers of kept and removed faces; each removed face is counted under one reason."""
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
