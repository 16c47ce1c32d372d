"""A logistic regression on features that are computed once per face, without training a network.

`config.features` names the inputs: "backbone", the features of the frozen backbone; "gradients",
histograms of oriented gradients, which show fine lines that a network trained on other faces may
miss; and "depths", the pooled outputs of earlier stages of the backbone. With `config.reference`,
the features of a face are relative to those of other faces of the same person
(`fer_jax.training.person_relative`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from fer_jax import schemas
from fer_jax.crossval.labelled_faces import FaceSet
from fer_jax.crossval.logistic_head import fit_head
from fer_jax.crossval.method import VALIDATION, Facts
from fer_jax.crossval.models import FrozenBackbone, NetworkModel
from fer_jax.training.person_relative import NEUTRAL, class_balanced_mean, least_faces, shrunk


class LinearProbe:
    """The method `probe`, which the docstring of this module describes."""

    def __init__(self, config: schemas.Crossval, labels: list[str], mean_size: float) -> None:
        self._classes = len(labels)
        self._reads_network = "backbone" in config.features
        self._reference = config.reference
        self.backbone = FrozenBackbone(
            config,
            labels,
            depths="depths" in config.features,
            gradients="gradients" in config.features,
            reference=config.reference,
        )
        # `fit_head` holds out inner validation people itself, so `wants_inner` is not needed.
        self.facts = Facts(
            chosen_by="penalty and temperature, by cross-validation over training people",
            chosen_on_validation=f"penalty and temperature, {VALIDATION}",
            frozen=True,
            features=tuple(config.features),
        )

    def fit(
        self, train: FaceSet, inner: tuple[FaceSet, FaceSet] | None, *, seed: int, folder: Path
    ) -> NetworkModel:
        """Fits the head on `train`, with penalty and temperature selected on validation people.

        These are the people of the second part of `inner` or, if it is None, of inner folds of
        `train`. With `config.reference`, the references of training and validation people are
        computed with their labels, and those of test people without labels.
        """
        features, shown, population = self._relative(train)
        validation = None
        if inner:
            tested, asked, _ = self._relative(inner[1])
            validation = tested, asked.labels
        head = fit_head(
            features,
            shown.labels,
            shown.people,
            classes=self._classes,
            seed=seed,
            validation=validation,
        )
        kernel = head.kernel
        if not self._reads_network:
            kernel = np.concatenate([np.zeros((self.backbone.width, self._classes)), kernel])
        return self.backbone.with_head(
            kernel,
            head.bias,
            temperature=head.temperature,
            chosen=f"C={head.c:g}",
            population=population,
        )

    def fit_everyone(self, faces: FaceSet, *, seed: int, workdir: Path) -> NetworkModel:
        """Fits the head on all faces."""
        return self.fit(faces, None, seed=seed, folder=workdir)

    def speed(self) -> dict[str, Any]:
        """The number of faces whose features were computed."""
        return {"features_of": len(self.backbone.features)}

    def _relative(
        self, faces: FaceSet
    ) -> tuple[Float[np.ndarray, "n views f"], FaceSet, Float[np.ndarray, "views g"] | None]:
        """The inputs of the head, the faces that they belong to, and the mean reference.

        Neutral reference photographs are excluded. Without `config.reference`, the mean is None.
        """
        features = self.backbone.features(faces)
        if not self._reference:
            return self._read(features), faces, None
        people, known = np.array(faces.people), faces.known_neutral
        means, counts = {}, {}
        for person in np.unique(people):
            rows = (people == person) & (known if self._reference == NEUTRAL else True)
            means[person] = class_balanced_mean(features[rows], faces.labels[rows])
            counts[person] = int(rows.sum())
        population = np.mean(list(means.values()), axis=0)
        least = least_faces(self._reference)
        references = {
            who: shrunk(mean, counts[who], population) if counts[who] >= least else population
            for who, mean in means.items()
        }
        relative = features - np.stack([references[person] for person in people])
        rows = np.flatnonzero(~known)
        return self._read(relative[rows]), faces.take(rows.tolist()), population

    def _read(self, features: Float[np.ndarray, "n views g"]) -> Float[np.ndarray, "n views f"]:
        return features if self._reads_network else features[..., self.backbone.width :]


METHOD = LinearProbe
