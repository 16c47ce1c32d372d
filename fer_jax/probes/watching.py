"""Probes during pretraining: what the features know about emotions, at several depths.

Labelled photographs pass through the backbone as it is, and two probes answer for held-out people:
the nearest neighbours, which have nothing to learn, and a linear head. Neither trains the network,
and neither chooses anything.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from fer_jax.crossval import protocols
from fer_jax.crossval.labelled_faces import FaceSet, LabelledPhotographs
from fer_jax.data import iterators, stage_tables
from fer_jax.errors import UserError
from fer_jax.schemas import Probe
from fer_jax.training import sharding
from fer_jax.training.learner import Learner
from fer_jax.training.state import State
from fer_jax.workdir import read_metrics

TEMPERATURE = 0.07  # of a neighbour's vote (Wu et al. 2018, arXiv:1805.01978, section 3.4)
# scikit-learn's C on standardised features. Fixed, so that steps, depths and runs compare.
PENALTY = 0.01


@dataclass(frozen=True, eq=False)
class Watched:
    """Labelled faces to probe, and the folds that keep people apart."""

    faces: FaceSet
    emotions: list[str]
    folds: list[protocols.Fold]
    neighbours: int

    def features(self, learner: Learner, state: State) -> dict[str, Float[np.ndarray, "n c"]]:
        """By depth, shallow to deep. All processes must call it, and all get the same."""
        local = sharding.local_batch_size(learner.batch_size)
        batches = iterators.eval_batches(
            self.faces.source, batch_size=local, shard=sharding.shard()
        )
        return learner.depths(state, batches)

    def figures(self, learner: Learner, state: State) -> dict[str, float]:
        """Accuracies of both probes at each depth, and the share of the commonest emotion."""
        features, labels = self.features(learner, state), self.faces.labels
        found = probe(features, labels, self.folds, neighbours=self.neighbours)
        return {**found, "probe/chance": float(np.bincount(labels).max() / len(labels))}

    def summary(self, workdir: Path) -> dict[str, int | float]:
        """For done.json: counts, and the accuracies before the first step, from metrics.jsonl."""
        lines = read_metrics(workdir)
        first: dict[str, float] = next((line for line in lines if line.get("step") == 0), {})
        before = {
            name.replace("validation/", "start/", 1): value
            for name, value in first.items()
            if name.startswith("validation/probe/") and not name.endswith("/chance")
        }
        people = len(set(self.faces.people))
        return {"probe_photographs": len(self.faces), "probe_people": people, **before}


def read_watched(config: Probe, image_size: int, seed: int, records: Path) -> Watched | None:
    """The photographs of `config.photographs`, a workdir of the stage `photographs`; None for "".

    Photographs without a face are left out, and so are those whose `split` is "test", since they
    are tested on in the end. Of more than `config.most`, whole people are drawn by `seed` until no
    other fits. There are `config.folds` folds, or as many as people. The records of the faces go to
    the folder `records`.

    Raises:
        UserError: no table there, or fewer than two people or emotions in it.
    """
    if not config.photographs:
        return None
    table = stage_tables.read_photographs(config.photographs)
    table = table[(table["status"] == "ok") & (table["split"] != protocols.TEST)]
    table = table[table["subject"].isin(draw_people(table["subject"].tolist(), config.most, seed))]
    people, emotions = table["subject"].nunique(), table["emotion"].nunique()
    if people < 2 or emotions < 2:
        raise UserError(
            f"config.probe.photographs={config.photographs} shows {people} people and "
            f"{emotions} emotions; probes need two of each"
        )
    photographs = LabelledPhotographs(table, image_size, records)
    folds = photographs.folds("grouped_kfold", min(config.folds, people), seed)
    faces = photographs.faces(photographs.with_face())
    return Watched(faces, photographs.emotions, folds, config.neighbours)


def draw_people(people: Sequence[str], most: int, seed: int) -> set[str]:
    """People with `most` photographs or fewer together, in an order drawn by `seed`; at least two.

    `people` names the person of each photograph; all of them are taken if there is room.
    """
    names, counts = np.unique(np.asarray(people), return_counts=True)
    taken: set[str] = set()
    photographs = 0
    for place in np.random.default_rng(seed).permutation(len(names)):
        if len(taken) < 2 or photographs + counts[place] <= most:
            taken.add(str(names[place]))
            photographs += int(counts[place])
    return taken


def probe(
    features: Mapping[str, Float[np.ndarray, "n _"]],
    labels: Int[np.ndarray, " n"],
    folds: Sequence[protocols.Fold],
    *,
    neighbours: int,
) -> dict[str, float]:
    """Accuracies of both probes on people that they have not seen.

    "probe/knn/DEPTH": a vote of the `neighbours` nearest by cosine similarity s, each with weight
    exp(s / 0.07) as in Wu et al. 2018 (arXiv:1805.01978), on features as they are.
    "probe/linear/DEPTH": multinomial logistic regression with C = 0.01 on standardised features.

    Args:
        features: of each photograph, by depth.
        labels: of each photograph.
        folds: each photograph is tested once.
        neighbours: all of them, if fewer are trained on.

    NaN for a depth whose features are not finite: the loop then stops the run, and says where.
    """
    kinds = {"knn": _neighbours(neighbours), "linear": _linear}
    return {
        f"probe/{kind}/{depth}": _accuracy(answer, np.asarray(values, np.float64), labels, folds)
        for kind, answer in kinds.items()
        for depth, values in features.items()
    }


_Answer = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def _accuracy(
    answer: _Answer,
    features: Float[np.ndarray, "n c"],
    labels: Int[np.ndarray, " n"],
    folds: Sequence[protocols.Fold],
) -> float:
    if not np.isfinite(features).all():
        return float("nan")
    right = 0
    with threadpool_limits(1):  # fits as small as these only wait for each other's threads
        for fold in folds:
            given = answer(features[fold.train], labels[fold.train], features[fold.test])
            right += int((given == labels[fold.test]).sum())
    return right / len(labels)


def _neighbours(count: int) -> _Answer:
    def answer(known: np.ndarray, labels: np.ndarray, asked: np.ndarray) -> np.ndarray:
        model = KNeighborsClassifier(min(count, len(known)), metric="cosine", weights=_votes)
        return model.fit(known, labels).predict(asked)

    return answer


def _votes(distances: Float[np.ndarray, "m k"]) -> Float[np.ndarray, "m k"]:
    """Relative to the nearest neighbour's, which changes no election."""
    return np.exp((distances.min(axis=1, keepdims=True) - distances) / TEMPERATURE)


def _linear(known: np.ndarray, labels: np.ndarray, asked: np.ndarray) -> np.ndarray:
    if len(np.unique(labels)) < 2:
        return np.full(len(asked), labels[0])
    model = make_pipeline(StandardScaler(), LogisticRegression(C=PENALTY, max_iter=200))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(known, labels).predict(asked)
