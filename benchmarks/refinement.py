"""Measures verifiers on candidates of MTCNN from sources that were not used for training.

    python -m benchmarks refinement --one-face DIR... --no-face DIR... --workdir=work/refinement

Runs MTCNN with lowered thresholds on pictures and videos that show one face each (the best
candidate is the face; candidates that do not overlap with it are non-faces, the others are left
out) and on others that show none (no candidate is a face). Divides the sources (a source is a
video, a subfolder or a single picture) into folds. For each fold, trains a verifier on the other
folds with configs/verify.py, chooses the threshold on the validation split of that training, and
scores the fold. Prints the area under the ROC curve, the faces lost and non-faces removed at the
thresholds, and the same for thresholds on MTCNN's score alone.

For training only: --also-faces, a folder of pictures of faces, cropped like those of `extract`;
--also-no-face, folders of pictures without faces, from whose parts MTCNN's candidates (thresholds
lowered further) and random places are cropped.

--choose scores no fold. It prints the results on the validation and test splits of each
training run. Use it to choose settings. --set changes any fields of configs/verify.py, as in
`--set min_steps=600 optimizer.average=0.99`.
"""

from __future__ import annotations

import argparse
import ast
import copy
import functools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from ml_collections import ConfigDict
from sklearn.metrics import roc_auc_score

from benchmarks.measure_starter import face_scores
from configs import extract, verify
from fer_jax.data import builders, sources
from fer_jax.errors import UserError
from fer_jax.faces.alignment import align
from fer_jax.faces.cascade.boxes import intersection_over_union
from fer_jax.faces.drawing import contact_sheet, write_image
from fer_jax.faces.images import SUFFIXES, read_image
from fer_jax.faces.mtcnn import Detector, Faces
from fer_jax.faces.negatives import background_landmarks, typical_landmarks
from fer_jax.faces.verdicts import operating_threshold, rate
from fer_jax.faces.video import VideoError, list_videos, sample_frames
from fer_jax.stages import train
from fer_jax.training import trained_model

LOWERED = (0.5, 0.4, 0.05)  # MTCNN's thresholds
EAGER = (0.4, 0.2, 0.02)  # MTCNN's thresholds on pictures for training only
CROP = extract.get_config().crop
MORE = "more-"  # prefix of the names of sources for training only
FRAMES = 8  # maximum number of frames of each video
SIDE = 480  # pixels; larger pictures are shrunk
MOST = 60  # maximum number of non-faces per source
PARTS, RANDOM = 16, 20  # per picture for training only: searched parts, random places
FLAT = 8  # crops whose values (0..255) have a smaller standard deviation are left out

Score = Callable[[np.ndarray], np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--one-face", type=Path, nargs="+", required=True)
    parser.add_argument("--no-face", type=Path, nargs="+", required=True)
    parser.add_argument("--also-faces", type=Path, help="folder of faces, only for training")
    parser.add_argument(
        "--also-no-face",
        type=Path,
        nargs="*",
        default=[],
        help="folders of pictures without faces, only for training",
    )
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--only", type=int, nargs="*", help="run only these folds")
    parser.add_argument("--name", default="verify", help="name of the folder of each training run")
    parser.add_argument(
        "--choose", action="store_true", help="score no fold; print results of each training run"
    )
    parser.add_argument(
        "--set",
        nargs="*",
        default=[],
        metavar="FIELD=VALUE",
        help="values for fields of configs/verify.py",
    )
    options = parser.parse_args()
    work = options.workdir.absolute()

    if not (work / "crops.parquet").exists():
        collect(options.one_face, options.no_face, work)
    if options.also_no_face and not (work / "more").exists():
        collect_more(options.also_no_face, work / "more")
    crops = pd.read_parquet(work / "crops.parquet")
    crops["fold"] = deal(crops, options.folds)
    print(crops.groupby(["is_face"]).agg(crops=("file", "size"), sources=("source", "nunique")))
    fields = dict(field.split("=", 1) for field in options.set)
    config = verify.get_config()
    config.update_from_flattened_dict({k: ast.literal_eval(v) for k, v in fields.items()})
    crops["verifier"], crops["threshold"] = np.nan, np.nan
    for fold in options.only or range(options.folds):
        held = crops["fold"] == fold
        folder = lay_out(crops[~held], work, work / f"fold{fold}", options.also_faces)
        score, threshold = teach(config, folder, folder / options.name)
        if not options.choose:
            files = [work / file for file in crops.loc[held, "file"]]
            images = sources.read_images(files, config.data.image_size)
            crops.loc[held, "verifier"], crops.loc[held, "threshold"] = score(images), threshold
    if options.choose:
        return
    crops = crops[crops["verifier"].notna()]
    crops.to_parquet(work / f"scored_{options.name}.parquet")
    report(crops)
    sheet(crops, work)


def collect(one_face: list[Path], no_face: list[Path], work: Path) -> None:
    """Crops the candidates that `labels` yields; writes the crops and a table of them.

    The table contains at most MOST non-faces per source.
    """
    detector = Detector(thresholds=LOWERED)
    rows = []
    for shows_face, folders in ((True, one_face), (False, no_face)):
        for source, image in media(folders):
            views = [image] if shows_face else [image, image[:, ::-1], np.rot90(image).copy()]
            for faces, view in zip(detector.detect(views), views, strict=True):
                for number, is_face in labels(faces, shows_face):
                    crop = align(view, faces.landmarks[number], CROP["size"], CROP["margin"])
                    kind = "faces" if is_face else "nonfaces"
                    file = work / kind / source / f"{len(rows):06d}.png"
                    write_image(file, crop)
                    score = float(faces.scores[number])
                    rows.append((str(file.relative_to(work)), source, is_face, score))
    table = pd.DataFrame(rows, columns=["file", "source", "is_face", "mtcnn"])
    shuffled = table.sample(frac=1, random_state=0)
    kept = shuffled["is_face"] | (shuffled.groupby(["source", "is_face"]).cumcount() < MOST)
    shuffled[kept].sort_index().to_parquet(work / "crops.parquet")


def collect_more(folders: list[Path], target: Path) -> None:
    """Crops candidates and random places in pictures without a face, for training only."""
    detector, rng = Detector(thresholds=EAGER), np.random.default_rng(0)
    for source, image in media(folders, whole=True):
        views = [fit(image), *(part(rng, image) for _ in range(PARTS))]
        places = [
            (view, points)
            for view, faces in zip(views, detector.detect(views), strict=True)
            for points in faces.landmarks
        ]
        chosen = rng.permutation(len(places))[:MOST]
        places = [places[i] for i in chosen]
        for _ in range(RANDOM):
            view = views[rng.integers(1, len(views))]
            typical = typical_landmarks(rng, view.shape[:2])
            free = background_landmarks(rng, typical, np.zeros((0, 4)), view.shape[:2], 0)
            places += [(view, free)] if free is not None else []
        for number, (view, points) in enumerate(places):
            crop = align(view, points.astype(np.float32), CROP["size"], CROP["margin"])
            if crop.std() < FLAT:
                continue
            write_image(target / source / f"{number:04d}.png", crop)


def part(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """A random square of a picture, resized to a side of SIDE pixels.

    The side before resizing is at most s, the picture's shorter side, and at least the larger of
    s / 10 and 96 pixels; if s is below 96 pixels, it is s.
    """
    shorter = min(image.shape[:2])
    side = int(np.exp(rng.uniform(np.log(min(shorter, max(shorter / 10, 96))), np.log(shorter))))
    top, left = (rng.integers(length - side + 1) for length in image.shape[:2])
    cut = image[top : top + side, left : left + side]
    method = cv2.INTER_AREA if side > SIDE else cv2.INTER_LINEAR
    return cv2.resize(cut, (SIDE, SIDE), interpolation=method)


def labels(faces: Faces, shows_face: bool) -> Iterator[tuple[int, bool]]:
    """Yields the index of each candidate, and whether it is a face; doubtful ones are left out."""
    if not len(faces):
        return
    overlap = intersection_over_union(faces.boxes[:1].astype(float), faces.boxes.astype(float))[0]
    for number in range(len(faces)):
        if not shows_face:
            yield number, False
        elif number == 0:
            yield number, True
        elif overlap[number] < 0.02:
            yield number, False


def media(folders: list[Path], whole: bool = False) -> Iterator[tuple[str, np.ndarray]]:
    """Yields the pictures, and up to FRAMES frames of each video, with the name of their source.

    Unless `whole`, they are fitted into squares of one size, so that the detector is compiled once.
    Damaged files are left out, with a message.
    """
    sized = (lambda image: image) if whole else fit
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.suffix.lower() in SUFFIXES:
                inner = path.relative_to(folder)
                name = inner.parts[0] if len(inner.parts) > 1 else inner.stem
                try:
                    yield f"{folder.name}-{name}", sized(read_image(path))
                except UserError as error:
                    print(f"left out: {error}")
        try:
            videos = list_videos(folder)
        except UserError:
            continue
        for path in videos:
            try:
                frames = [frame.image for frame in sample_frames(path, 0.5)]
            except VideoError as error:
                print(f"left out: {error}")
                continue
            chosen = np.unique(np.linspace(0, len(frames) - 1, FRAMES).astype(int))
            yield from ((f"{folder.name}-{path.stem}", sized(frames[i])) for i in chosen)


def fit(image: np.ndarray) -> np.ndarray:
    """The picture at the top left of a grey square of SIDE pixels; a larger picture is shrunk."""
    scale = min(1, SIDE / max(image.shape[:2]))
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)[:SIDE, :SIDE]
    square = np.full((SIDE, SIDE, 3), 128, np.uint8)
    square[: small.shape[0], : small.shape[1]] = small
    return square


def deal(crops: pd.DataFrame, folds: int) -> np.ndarray:
    """The fold of each crop's source; sources with and without faces are distributed separately."""
    fold = {}
    with_faces = set(crops.loc[crops["is_face"], "source"])
    for group in (with_faces, set(crops["source"]) - with_faces):
        names = np.random.default_rng(0).permutation(sorted(group))
        fold |= {name: number % folds for number, name in enumerate(names)}
    return crops["source"].map(fold).to_numpy()


def lay_out(crops: pd.DataFrame, work: Path, folder: Path, also_faces: Path | None) -> Path:
    """Writes the folders `faces` and `nonfaces` for a training run, with one subfolder per source.

    Existing folders are used unchanged, so another set of pictures needs another --workdir.
    """
    if (folder / "faces").exists():
        return folder
    for file in crops["file"]:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(work / file, folder / file)
    for number, file in enumerate(sorted(also_faces.iterdir()) if also_faces else ()):
        album = folder / "faces" / f"{MORE}{number % 50}"
        album.mkdir(exist_ok=True)
        shutil.copy(file, album / file.name)
    for source in (work / "more").glob("*"):
        shutil.copytree(source, folder / "nonfaces" / f"{MORE}{source.name}")
    return folder


def teach(config: ConfigDict, data: Path, workdir: Path) -> tuple[Score, float]:
    """Trains a verifier on the sources in `data`; returns its scoring function and its threshold.

    Prints its results on the validation and test splits, without textures: for the sources that the
    folds are made of ("ours"), for those of --also-faces and --also-no-face ("further"), and for
    both.
    """
    config = copy.deepcopy(config)
    folders = {kind: str(data / kind) for kind in ("faces", "nonfaces")}
    config.update(folders)
    train.run(config, workdir)
    model = trained_model.load(workdir)

    score = functools.partial(face_scores, model)
    variant = builders.config_with("face_verification", **folders)
    rows = []
    for split in ("validation", "test"):
        held = sources.open_source(
            "face_verification", variant, split, folders["faces"], config.data.image_size,
            data_dir=workdir / "records", cache=True,
        )  # fmt: skip
        for name, label, value in zip(held.ids, held.labels, score(held.images), strict=True):
            rows.append((split, name.split("/")[1], name.startswith("texture"), label == 1, value))
    table = pd.DataFrame(rows, columns=["split", "source", "texture", "is_face", "score"])
    faces = table["is_face"] & (table["split"] == "validation")
    threshold = operating_threshold(table.loc[faces, "score"].to_numpy(), 0.01)
    table = table[~table["texture"]]
    print(f"\n{workdir}: threshold {threshold:.4f}, chosen on {faces.sum()} faces")
    more = table["source"].str.startswith(MORE)
    for what, part in (("ours", table[~more]), ("further", table[more]), ("both", table)):
        yes, passes = part["is_face"], part["score"] >= threshold
        if yes.nunique() == 2:
            print(
                f"  held out of the training, {what:7}: {(~passes & yes).sum()} of {yes.sum()} "
                f"faces lost, {(~passes & ~yes).sum() / (~yes).sum():.1%} of {(~yes).sum()} "
                f"non-faces of {part.loc[~yes, 'source'].nunique()} sources removed, "
                f"AUC {roc_auc_score(yes, part['score']):.4f}",
                flush=True,
            )
    return score, threshold


def report(crops: pd.DataFrame) -> None:
    face = crops["is_face"].to_numpy()
    print("\nfold  faces  lost  nonfaces  removed  AUC verifier  AUC MTCNN")
    for fold, part in [*crops.groupby("fold"), ("all", crops)]:
        passes = (part["verifier"] >= part["threshold"]).to_numpy()
        yes = part["is_face"].to_numpy()
        print(
            f"{fold!s:4}  {yes.sum():5d}  {(~passes & yes).sum():4d}  {(~yes).sum():8d}  "
            f"{(~passes & ~yes).sum():7d}  {roc_auc_score(yes, part['verifier']):12.4f}  "
            f"{roc_auc_score(yes, part['mtcnn']):9.4f}"
        )
    names = crops["source"].tolist()
    passes = (crops["verifier"] >= crops["threshold"]).to_numpy()
    for what, trials in (("faces kept", face), ("non-faces removed", ~face)):
        won = passes if what == "faces kept" else ~passes
        print(f"{what}, at the threshold chosen on validation: {rate(won, trials, names)}")
    cut = operating_threshold(crops.loc[face, "verifier"].to_numpy(), 0.01)
    removed = (crops["verifier"].to_numpy() < cut) & ~face
    print(f"at 1 % of these faces lost: {rate(removed, ~face, names)} of non-faces removed")

    print("\nMTCNN's score alone, and together with the verifier at its threshold:")
    for least in (0.0, 0.7, 0.8, 0.9, 0.95, 0.99):
        alone = (crops["mtcnn"] >= least).to_numpy()
        both = alone & passes
        print(
            f"  at least {least:4.2f}: faces lost {(~alone & face).mean() / face.mean():6.1%}, "
            f"non-faces removed {(~alone & ~face).mean() / (~face).mean():6.1%};  with the "
            f"verifier {(~both & face).mean() / face.mean():6.1%}, "
            f"{(~both & ~face).mean() / (~face).mean():6.1%}"
        )


def sheet(crops: pd.DataFrame, work: Path) -> None:
    """Writes contact sheets of faces with low scores and of non-faces with high ones.

    The sheets show real people, so they stay in the workdir.
    """
    wrong = [
        crops[crops["is_face"]].sort_values("verifier").head(48),
        crops[~crops["is_face"]].sort_values("verifier", ascending=False).head(48),
        crops[crops["is_face"]].sort_values("mtcnn").head(48),
    ]
    for name, part in zip(("faces", "nonfaces", "low"), wrong, strict=True):
        captions = [
            f"{r.source[-16:]}\nMTCNN {r.mtcnn:.3f}\nverifier {r.verifier:.3f}"
            for r in part.itertuples()
        ]
        images = [read_image(work / file) for file in part["file"]]
        write_image(work / f"worst_{name}.png", contact_sheet(images, captions, title=name))


if __name__ == "__main__":
    main()
