"""A logistic regression on features of the frozen backbone, which are computed once per face.

`config.features` may add "gradients", histograms of oriented gradients, which show fine lines that
a network trained on other faces misses.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from fer_jax import schemas
from fer_jax.crossval.labelled_faces import FaceSet
from fer_jax.crossval.logistic_head import fit_head
from fer_jax.crossval.method import Facts
from fer_jax.crossval.models import FrozenBackbone, NetworkModel


class LinearProbe:
    """See the head of this file."""

    def __init__(self, config: schemas.Crossval, labels: list[str], mean_size: float) -> None:
        self._classes = len(labels)
        self._reads_network = "backbone" in config.features
        self.backbone = FrozenBackbone(config, labels, gradients="gradients" in config.features)
        # Inner people are set apart by the cross-validation within `fit_head`.
        self.facts = Facts(
            chosen_by="penalty and temperature, by cross-validation over inner people",
            frozen=True,
            features=tuple(config.features),
        )

    def fit(
        self, train: FaceSet, inner: tuple[FaceSet, FaceSet] | None, *, seed: int, folder: Path
    ) -> NetworkModel:
        """Fits the head, with the penalty and temperature that are best for inner people."""
        head = fit_head(
            self._features(train),
            train.labels,
            train.people,
            classes=self._classes,
            seed=seed,
            validation=(self._features(inner[1]), inner[1].labels) if inner else None,
        )
        kernel = head.kernel
        if not self._reads_network:
            kernel = np.concatenate([np.zeros((self.backbone.width, self._classes)), kernel])
        return self.backbone.with_head(
            kernel, head.bias, temperature=head.temperature, chosen=f"C={head.c:g}"
        )

    def fit_everyone(self, faces: FaceSet, *, seed: int, workdir: Path) -> NetworkModel:
        """Fits the head on all faces."""
        return self.fit(faces, None, seed=seed, folder=workdir)

    def speed(self) -> dict[str, Any]:
        """The number of faces whose features were computed."""
        return {"features_of": len(self.backbone.features)}

    def _features(self, faces: FaceSet) -> Float[np.ndarray, "n views f"]:
        features = self.backbone.features(faces)
        return features if self._reads_network else features[..., self.backbone.width :]


METHOD = LinearProbe
