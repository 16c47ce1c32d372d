"""Fine-tuning, then a logistic regression on backbone features and gradient histograms.

The network is fine-tuned for all training steps. Unless the initial weights of its backbone were
random, the initial and the fine-tuned weights are then averaged, which keeps more of the accuracy
on other data (Wortsman et al. 2022, arXiv:2109.01903). A strongly penalised linear head replaces
the fine-tuned head. The new head also reads histograms of oriented gradients, which show fine lines
that the network may miss.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fer_jax import schemas
from fer_jax.crossval.labelled_faces import FaceSet
from fer_jax.crossval.logistic_head import fit_penalised
from fer_jax.crossval.method import Facts
from fer_jax.crossval.methods.fine_tune import FineTune
from fer_jax.crossval.models import NetworkModel

# Not selected by cross-validation, since the backbone was fine-tuned on all training people.
PENALTY = 1e-3
TUNED = 0.5  # share of the fine-tuned weights in the average


class TunedProbe:
    """The method `tuned_probe`, which the docstring of this module describes."""

    def __init__(self, config: schemas.Crossval, labels: list[str], mean_size: float) -> None:
        self._classes = len(labels)
        self._fine_tune = FineTune(config, labels, mean_size)
        self.facts = Facts(features=("backbone", "gradients"), steps=self._fine_tune.steps)

    def fit(
        self, train: FaceSet, inner: tuple[FaceSet, FaceSet] | None, *, seed: int, folder: Path
    ) -> NetworkModel:
        """Trains for all steps, then fits the head.

        `inner` is ignored: no hyperparameter is selected, and no temperature is fitted.
        """
        tuned = self._fine_tune.fit(train, None, seed=seed, folder=folder)
        weights = tuned.model.weights
        average = {
            path: TUNED * weights[path] + (1 - TUNED) * start
            for path, start in self._fine_tune.start(seed).items()
        }
        model = tuned.with_backbone(average).reading_gradients()
        features = model.features(train)
        head = fit_penalised(features, train.labels, PENALTY, classes=self._classes)
        return model.with_head(head.kernel, head.bias)

    def fit_everyone(self, faces: FaceSet, *, seed: int, workdir: Path) -> NetworkModel:
        """Trains on all faces."""
        return self.fit(faces, None, seed=seed, folder=workdir / "everyone")

    def speed(self) -> dict[str, Any]:
        """The steps, the compilations and the speed of the fine-tuning; see `FineTune.speed`."""
        return self._fine_tune.speed()


METHOD = TunedProbe
