r"""Measures baselines on the folds of `crossval`: HOG with a linear SVM, and the package `fer`.

    python -m benchmarks floors --method=hog --photographs=WORK/photographs --workdir=WORK/hog

    python -m venv ENV && ENV/bin/pip install -r benchmarks/requirements-fer.txt
    ENV/bin/python -m benchmarks floors --method=fer --photos=PHOTOS/labels.csv \
        --photographs=WORK/photographs --workdir=WORK/fer

Writes predictions.parquet, protocol.json, environment.json and done.json, as the stage `crossval`
does. The folds are those of --config.protocol=leave_one_subject_out, or those of the first seed in
the workdir of `crossval` that --folds-of names. `evaluate` can therefore compare the results
with those of `crossval`:

    python launch.py --config=configs/evaluate.py --config.runs.model=WORK/emotion \
        --config.runs.baseline=WORK/hog --workdir=WORK/evaluation

hog: HOG of the aligned face, grey, 64 × 64 pixels, with 9 orientations, cells of 8 × 8 pixels and
blocks of 2 × 2 cells; a linear SVM whose C is chosen by five-fold cross-validation over the
training people. This method needs scikit-image, which `make .venv/dev` installs
(requirements-dev.txt).

fer: the package's own detector (its Haar cascade) and network on the whole photograph, of which the
largest face counts; the network's seven probabilities are reduced to those of the study's emotions
and normalised to sum to 1. A photograph in which the detector finds no face counts as an error.
This method needs fer 25.10.3, TensorFlow and opencv-contrib-python, in the environment ENV above,
which does not contain JAX.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from pathlib import Path

import numpy as np
import pandas as pd

from fer_jax.environment import git_revision, version  # which import only the standard library

PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
PACKAGES = {"hog": ("scikit-image", "scikit-learn"), "fer": ("fer", "tensorflow-cpu")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--method", choices=("hog", "fer"), required=True)
    parser.add_argument("--photographs", type=Path, required=True)
    parser.add_argument("--photos", type=Path, help="labels.csv of the photographs, for fer")
    parser.add_argument(
        "--folds-of", type=Path, help="finished workdir of crossval whose folds are used"
    )
    parser.add_argument("--workdir", type=Path, required=True)
    flags = parser.parse_args()
    measure(flags)


def measure(flags: argparse.Namespace) -> None:
    """Writes and prints the results of the method in `flags`."""
    table, protocol = with_folds(flags)
    labels = sorted(table["emotion"].unique())
    result = table[["photo", "subject", "emotion", "fold", "seed", "status"]].copy()
    scores = hog_svm(flags, table) if flags.method == "hog" else off_the_shelf(flags, table, labels)
    for column, label in enumerate(labels):
        result[f"prob_{label}"] = scores[:, column].astype(np.float32)
    found = ~np.isnan(scores[:, 0])
    result["status"] = np.where(found, "ok", "no_face")
    best = np.where(found, np.nan_to_num(scores).argmax(1), 0)
    result["predicted"] = [labels[i] if ok else "" for i, ok in zip(best, found, strict=True)]
    write(flags.workdir, flags.method, result, labels, protocol)
    right = float((result["predicted"] == result["emotion"]).mean())
    print(
        f"{flags.method}: {right:.1%} of {len(result)} right, {int((~found).sum())} without a face"
    )


def with_folds(flags: argparse.Namespace) -> tuple[pd.DataFrame, str]:
    """The photographs with the columns `fold` and `seed`, and the name of the protocol.

    With --folds-of, these are the photographs that the named run tested, with the folds of its
    first seed.
    """
    table = pd.read_parquet(flags.photographs / "photographs.parquet")
    if flags.folds_of is None:
        # Numbered as by scikit-learn's LeaveOneGroupOut: people in ascending order.
        people = sorted(table["subject"].unique())
        numbers = [people.index(name) for name in table["subject"]]
        return table.assign(fold=numbers, seed=0), "leave_one_subject_out"
    tested = pd.read_parquet(flags.folds_of / "predictions.parquet")
    first = tested[tested["seed"] == tested["seed"].iloc[0]]
    protocol = json.loads((flags.folds_of / "protocol.json").read_text())["protocol"]
    return table.merge(first[["photo", "fold", "seed"]], on="photo", validate="1:1"), protocol


def hog_svm(flags: argparse.Namespace, table: pd.DataFrame) -> np.ndarray:
    """The softmax of the SVM's decision values [N, C]; NaN if no face was found."""
    import cv2
    from skimage.feature import hog
    from sklearn.model_selection import GridSearchCV, GroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import LinearSVC

    found = np.flatnonzero(table["status"] == "ok")
    features = []
    for crop in table["crop"].iloc[found]:
        grey = cv2.imread(str(flags.photographs / crop), cv2.IMREAD_GRAYSCALE)
        small = cv2.resize(grey, (64, 64), interpolation=cv2.INTER_AREA)
        features.append(hog(small, 9, (8, 8), (2, 2), block_norm="L2-Hys"))
    inputs, targets = np.stack(features), table["emotion"].to_numpy()[found]
    people, folds = (table[name].to_numpy()[found] for name in ("subject", "fold"))
    scores = np.full((len(table), table["emotion"].nunique()), np.nan)
    for fold in np.unique(folds):
        train, test = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        search = GridSearchCV(
            make_pipeline(StandardScaler(), LinearSVC(max_iter=20_000)),
            {"linearsvc__C": PENALTIES},
            cv=GroupKFold(5, shuffle=True, random_state=0),
        ).fit(inputs[train], targets[train], groups=people[train])
        decisions = search.decision_function(inputs[test])
        if decisions.ndim == 1:  # with two emotions: the values of the second one
            decisions = np.stack([-decisions, decisions], axis=1)
        values = np.exp(decisions)
        scores[found[test]] = values / values.sum(1, keepdims=True)
    return scores


def off_the_shelf(flags: argparse.Namespace, table: pd.DataFrame, labels: list[str]) -> np.ndarray:
    """The normalised scores of `fer` for the largest face [N, C]; NaN if it finds no face."""
    import cv2
    from fer.fer import FER

    detector = FER()
    scores = np.full((len(table), len(labels)), np.nan)
    for row, photo in enumerate(table["photo"]):
        faces = detector.detect_emotions(cv2.imread(str(flags.photos.parent / photo)))
        if faces:
            largest = max(faces, key=lambda face: face["box"][2] * face["box"][3])
            kept = np.array([largest["emotions"][label] for label in labels]) + 1e-6
            scores[row] = kept / kept.sum()
    return scores


def write(
    workdir: Path, method: str, result: pd.DataFrame, labels: list[str], protocol_name: str
) -> None:
    """Writes the files that `evaluate` reads from a workdir of `crossval`."""
    workdir.mkdir(parents=True, exist_ok=True)
    result.to_parquet(workdir / "predictions.parquet")
    protocol = {
        "protocol": protocol_name,
        "folds": int(result["fold"].nunique()),
        "seeds": [int(result["seed"].iloc[0])],
        "labels": labels,
        "people_disjoint": True,
        "method": {"hog": "HOG + linear SVM", "fer": "fer off the shelf"}[method],
        "init": "random weights" if method == "hog" else "pretrained",
        "pretraining": "" if method == "hog" else "the fer package, trained on FER2013",
        "pretraining_saw_test_people": None if method == "fer" else False,
    }
    (workdir / "protocol.json").write_text(json.dumps(protocol, indent=2))
    environment = {
        "python": platform.python_version(),
        "cpu_count": os.cpu_count(),
        "git_revision": git_revision(),
        "packages": {package: version(package) for package in PACKAGES[method]},
    }
    (workdir / "environment.json").write_text(json.dumps(environment, indent=2))
    done = {"stage": "floor", "summary": {"method": protocol["method"]}}
    (workdir / "done.json").write_text(json.dumps(done))


if __name__ == "__main__":
    main()
