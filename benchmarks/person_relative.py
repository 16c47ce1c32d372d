"""Measures the gain from a reference for each person, for docs/person_relative.md.

    python -m benchmarks person_relative --photographs WORK/people1 WORK/people2 --seeds 3

Each folder is a workdir of the stage `photographs`. The features of a photograph are those of the
network `--init`, the outputs of its earlier stages and a histogram of oriented gradients. In each
of five folds of whole people, a logistic regression (C = 0.01) is fitted to the features
themselves, to those relative to each person's mean, and to those relative to a neutral photograph.
The rows differ in the photographs from which the reference of a test person is made. Labels of test
people are used only to compose the mixtures, to find the neutral photograph, and to count errors.

Prints a Markdown table: accuracy, averaged over seeds and draws, with the 95 % interval over people
of `fer_jax.metrics.bootstrap`.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from configs import probe as probe_config
from fer_jax.crossval.labelled_faces import FaceSet, read_photographs
from fer_jax.crossval.models import FrozenBackbone
from fer_jax.metrics import bootstrap
from fer_jax.schemas import validated
from fer_jax.training.person_relative import (
    NEUTRAL,
    class_balanced_mean,
    relative_answers,
    shrunk,
)

C = 0.01
SHARES = (0.7, 0.8, 0.9)  # of neutral photographs in a mixture
REPEATED = 10  # times that each photograph of a single emotion occurs in the reference


class Head(NamedTuple):
    """A linear head, and its response, without the bias, to the training people's mean reference.

    The response is 0 if the head reads the features themselves.
    """

    kernel: np.ndarray
    bias: np.ndarray
    population: np.ndarray


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photographs", nargs="+", required=True)
    parser.add_argument("--init", default="starter")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--draws", type=int, default=5)
    flags = parser.parse_args()
    columns = {}
    for folder in flags.photographs:
        columns[Path(folder).name] = measure(folder, flags.init, flags.seeds, flags.draws)
        print(f"measured {folder}", flush=True)
    names = list(dict.fromkeys(row for column in columns.values() for row in column))
    print(f"| reference | {' | '.join(columns)} |")
    print("|---|" + "---|" * len(columns))
    for name in names:
        print(f"| {name} | {' | '.join(column.get(name, '') for column in columns.values())} |")


def measure(folder: str, init: str, seeds: int, draws: int) -> dict[str, str]:
    """The accuracy on the people in `folder` with its interval, as text, for each reference."""
    config = probe_config.get_config()
    config.update({"photographs": folder, "init": init, "protocol": "grouped_kfold"})
    checked = validated(config)
    with TemporaryDirectory() as records:
        photographs = read_photographs(checked, Path(records))
        faces = photographs.faces(photographs.with_face())
        backbone = FrozenBackbone(checked, photographs.labels, depths=True, gradients=True)
        features = np.float64(backbone.features(faces))
    place = {photo: row for row, photo in enumerate(faces.photos)}
    right: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        for fold in photographs.folds("grouped_kfold", 5, seed):
            train, test = (
                np.array([place[photo] for photo in photographs.table["photo"].iloc[rows]])
                for rows in (photographs.with_face(fold.train), photographs.with_face(fold.test))
            )
            for name, person, hits in fold_hits(
                features, faces, photographs.labels, train, test, rng, draws
            ):
                right[name][person].append(float(hits))
    return {name: accuracy([np.mean(hits) for hits in who.values()]) for name, who in right.items()}


def accuracy(by_person: list[float]) -> str:
    """The mean of `by_person`, the accuracy of each person, in percent with its interval."""
    hits = np.array(by_person)
    counts = np.stack([hits, 1 - hits], axis=-1)[:, None]  # one class, and its errors
    found = bootstrap.estimate(counts, samples=10_000, seed=0)["accuracy"]
    return f"{100 * found.value:.1f} ({100 * found.low:.1f} to {100 * found.high:.1f})"


def fold_hits(
    features: np.ndarray,
    faces: FaceSet,
    labels: list[str],
    train: np.ndarray,
    test: np.ndarray,
    rng: np.random.Generator,
    draws: int,
) -> Iterator[tuple[str, str, float]]:
    """Yields the reference, the person and the share of correct answers, for all test people."""
    people, neutral = np.array(faces.people), labels.index(NEUTRAL)
    plain = fit(features[train], faces.labels[train], len(labels), 0 * features[0])
    relative = fit_relative(features, faces.labels, people, train, len(labels), None)
    from_neutral = fit_relative(features, faces.labels, people, train, len(labels), neutral)
    for person in np.unique(people[test]):
        own = test[people[test] == person]
        truth, shown = faces.labels[own], features[own]

        def hits(
            head: Head,
            rows: np.ndarray,
            *,
            tested: np.ndarray | None = None,
            known: np.ndarray | None = None,
            reference: str = NEUTRAL,
            instead: np.ndarray | None = None,
            shown: np.ndarray = shown,
            truth: np.ndarray = truth,
        ) -> float:
            """The accuracy on the photographs `rows`, or on those of them that `tested` selects.

            `known` selects the photographs that make the reference; by default none for a neutral
            reference, and all for others. `instead` replaces the population's reference.
            """
            answers = relative_answers(
                shown[rows] @ head.kernel,
                ["p"] * len(rows),
                np.full(len(rows), reference != NEUTRAL) if known is None else known,
                reference=reference,
                bias=head.bias,
                population=head.population if instead is None else instead,
            )
            right = answers.argmax(axis=1) == truth[rows]
            return float(right[slice(None) if tested is None else tested].mean())

        everything = np.arange(len(own))
        yield "none: one photograph alone", person, hits(plain, everything)
        yield "the average person", person, hits(relative, everything)
        for reference in ("mean", "balanced"):
            name = f"all photographs, {reference}"
            yield name, person, hits(relative, everything, reference=reference)
        for count in (2, 4):
            for _ in range(draws if count < len(own) else 0):
                known = np.isin(everything, rng.choice(everything, count, replace=False))
                right = hits(relative, everything, tested=~known, known=known, reference="mean")
                yield f"{count} other photographs, mean", person, right
        for one in np.flatnonzero(truth == neutral):
            known = everything == one
            if len(own) > 1:
                name = "one neutral photograph, not tested"
                yield name, person, hits(from_neutral, everything, tested=~known, known=known)
                name = "none, on the same photographs"
                yield name, person, hits(plain, everything[~known])
        for emotion in np.unique(truth):
            same = np.flatnonzero(truth == emotion)
            rows = np.repeat(same, REPEATED)
            if len(same) > 1:
                tested = np.arange(0, len(rows), REPEATED)
                right = hits(relative, rows, tested=tested, reference="balanced")
                yield "one emotion only, balanced", person, right
        is_neutral = truth == neutral
        for share in SHARES if is_neutral.any() and not is_neutral.all() else ():
            times = round(share / (1 - share) * (~is_neutral).sum() / is_neutral.sum())
            rows = np.repeat(everything, np.where(is_neutral, max(1, times), 1))
            first = np.unique(rows, return_index=True)[1]
            mixture = shown[rows]
            name = f"{share:.0%} neutral"
            for reference in ("mean", "balanced"):
                yield (
                    f"{name}, {reference}", person,
                    hits(relative, rows, tested=first, reference=reference),
                )  # fmt: skip
            for kind, middle in (
                ("median", np.median(mixture, axis=0)),
                ("trimmed mean (20 %)", stats.trim_mean(mixture, 0.2, axis=0)),
            ):
                instead = shrunk(middle @ relative.kernel, len(rows), relative.population)
                yield f"{name}, {kind}", person, hits(relative, everything, instead=instead)
                if share == max(SHARES):
                    name_neutral = f"{name}, {kind} as a neutral photograph"
                    stand_in = shrunk(middle @ from_neutral.kernel, 1, from_neutral.population)
                    yield name_neutral, person, hits(from_neutral, everything, instead=stand_in)


def fit_relative(
    features: np.ndarray,
    labels: np.ndarray,
    people: np.ndarray,
    train: np.ndarray,
    classes: int,
    neutral: int | None,
) -> Head:
    """Fits a head to features relative to each person's class-balanced mean.

    If `neutral` is a class, they are relative to the person's first photograph of this class, which
    is left out, as are people without one.
    """
    means, counts, kept = {}, {}, []
    for person in np.unique(people[train]):
        own = train[people[train] == person]
        first = own[labels[own] == neutral][:1]
        if neutral is None:
            means[person], counts[person] = (
                class_balanced_mean(features[own], labels[own]),
                len(own),
            )
        elif len(first):
            means[person], counts[person] = features[first[0]], 1
        if person in means:
            kept += [row for row in own if row not in first]
    rows, population = np.array(kept), np.mean(list(means.values()), axis=0)
    references = {who: shrunk(means[who], counts[who], population) for who in means}
    relative = features[rows] - np.stack([references[person] for person in people[rows]])
    return fit(relative, labels[rows], classes, population)


def fit(features: np.ndarray, labels: np.ndarray, classes: int, population: np.ndarray) -> Head:
    """Fits a head to faces and their mirror images; a class without examples is never chosen."""
    views = features[:, :: features.shape[1] // 2]
    model = make_pipeline(StandardScaler(), LogisticRegression(C=C / 2, max_iter=200))
    model.fit(views.reshape(-1, views.shape[-1]), labels.repeat(2))
    scaler, regression = model
    rows, intercept = regression.coef_, regression.intercept_
    if len(regression.classes_) == 2:
        rows, intercept = (np.concatenate([-array, array]) / 2 for array in (rows, intercept))
    kernel, bias = np.zeros((features.shape[-1], classes)), np.full(classes, -1e4)
    kernel[:, regression.classes_] = (rows / scaler.scale_).T
    bias[regression.classes_] = intercept - (rows / scaler.scale_) @ scaler.mean_
    return Head(kernel, bias, population @ kernel)


if __name__ == "__main__":
    main()
