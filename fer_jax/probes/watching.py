"""Probes during pretraining: how well features at several depths predict emotions.

Two probes classify the features of labelled photographs, and are tested on held-out people: nearest
neighbours and logistic regression. They neither train the network nor select a checkpoint.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from threadpoolctl import threadpool_limits

from fer_jax.console import count
from fer_jax.crossval import protocols
from fer_jax.crossval.labelled_faces import FaceSet, LabelledPhotographs
from fer_jax.data import iterators, stage_tables
from fer_jax.errors import UserError
from fer_jax.schemas import Probe
from fer_jax.training import sharding
from fer_jax.training.learner import Learner
from fer_jax.training.state import State
from fer_jax.workdir import read_metrics

TEMPERATURE = 0.07  # of neighbours' votes (Wu et al. 2018, arXiv:1805.01978, section 3.4)
# scikit-learn's C on standardised features; fixed, so that steps, depths and runs are comparable.
PENALTY = 0.01


@dataclass(frozen=True, eq=False)
class Watched:
    """Labelled faces for the probes, with person-disjoint folds.

    Attributes:
        faces: the faces.
        emotions: the emotion of each face.
        folds: the folds in which the probes are trained and tested.
        neighbours: number of nearest neighbours that vote.
    """

    faces: FaceSet
    emotions: list[str]
    folds: list[protocols.Fold]
    neighbours: int

    def features(self, learner: Learner, state: State) -> dict[str, Float[np.ndarray, "n c"]]:
        """The features of the faces by depth, from shallow to deep.

        With several processes, all must call this together.
        """
        local = sharding.local_batch_size(learner.batch_size)
        batches = iterators.eval_batches(
            self.faces.source, batch_size=local, shard=sharding.shard()
        )
        return learner.depths(state, batches)

    def figures(self, learner: Learner, state: State) -> dict[str, float]:
        """The accuracies of both probes at each depth, and the share of the most common emotion.

        With several processes, all must call this together.
        """
        features, labels = self.features(learner, state), self.faces.labels
        found = probe(features, labels, self.folds, neighbours=self.neighbours)
        return {**found, "probe/chance": float(np.bincount(labels).max() / len(labels))}

    def summary(self, workdir: Path) -> dict[str, int | float]:
        """Entries for done.json: the numbers of photographs and people, and accuracies at step 0.

        There are no accuracies if `metrics.jsonl` in the workdir has none at step 0.
        """
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
    """The labelled faces in `config.photographs` and their folds; None if the field is "".

    The field names a workdir of the stage `photographs`. Photographs without a face and those in
    the split "test" are excluded. If more than `config.most` photographs remain, people are
    drawn with `seed` (see `draw_people`). The number of folds is `config.folds`, but at most the
    number of people. The faces are squares of `image_size` pixels, and their records are written to
    the folder `records`.

    Raises:
        UserError: `config.photographs` is not such a workdir, or the selected photographs show
            fewer than two people or emotions.
    """
    if not config.photographs:
        return None
    table = stage_tables.read_photographs(config.photographs)
    table = table[(table["status"] == "ok") & (table["split"] != protocols.TEST)]
    table = table[table["subject"].isin(draw_people(table["subject"].tolist(), config.most, seed))]
    people, emotions = table["subject"].nunique(), table["emotion"].nunique()
    if people < 2 or emotions < 2:
        raise UserError(
            f"--config.probe.photographs={config.photographs} needs at least two people and two "
            f"emotions, but the selected photographs (with a face, not in the test split, "
            f"at most about {config.most}) show {count(people, 'person', 'people')} and "
            f"{count(emotions, 'emotion')}; use a workdir of other photographs"
        )
    photographs = LabelledPhotographs(table, image_size, records)
    folds = photographs.folds("grouped_kfold", min(config.folds, people), seed)
    faces = photographs.faces(photographs.with_face())
    return Watched(faces, photographs.emotions, folds, config.neighbours)


def draw_people(people: Sequence[str], most: int, seed: int) -> set[str]:
    """Randomly chosen people, with at most `most` photographs in total.

    People are considered in random order. The first two are always included, even if they have more
    than `most` photographs; a later person is left out if the total would exceed `most`.

    Args:
        people: the person in each photograph.
        most: the maximum number of photographs.
        seed: determines the order in which people are considered.
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
    """The accuracies of both probes on held-out people.

    "probe/knn/DEPTH" is the accuracy of a vote of the nearest `neighbours` by cosine similarity s,
    with weights exp(s / 0.07) as in Wu et al. 2018 (arXiv:1805.01978), on raw features.
    "probe/linear/DEPTH" is the accuracy of multinomial logistic regression with C = 0.01 on
    standardised features.

    Args:
        features: the features of each photograph, by depth.
        labels: the label of each photograph.
        folds: person-disjoint folds in which each photograph is tested once.
        neighbours: number of neighbours that vote; all if the training split has fewer.

    Returns:
        The accuracies by the names above. An accuracy is NaN if features at its depth are not
        finite; the training loop then stops the run with a message.
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
    with threadpool_limits(1):  # threads slow down fits as small as these
        for fold in folds:
            given = answer(features[fold.train], labels[fold.train], features[fold.test])
            right += int((given == labels[fold.test]).sum())
    return right / len(labels)


def _neighbours(count: int) -> _Answer:
    from sklearn.neighbors import KNeighborsClassifier  # importing takes 1 s; only probes need it

    def answer(known: np.ndarray, labels: np.ndarray, asked: np.ndarray) -> np.ndarray:
        model = KNeighborsClassifier(min(count, len(known)), metric="cosine", weights=_votes)
        return model.fit(known, labels).predict(asked)

    return answer


def _votes(distances: Float[np.ndarray, "m k"]) -> Float[np.ndarray, "m k"]:
    """The weights of the votes, divided by each row's largest, which does not change the result."""
    return np.exp((distances.min(axis=1, keepdims=True) - distances) / TEMPERATURE)


def _linear(known: np.ndarray, labels: np.ndarray, asked: np.ndarray) -> np.ndarray:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if len(np.unique(labels)) < 2:
        return np.full(len(asked), labels[0])
    model = make_pipeline(StandardScaler(), LogisticRegression(C=PENALTY, max_iter=200))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(known, labels).predict(asked)
