"""What is tested in a fold without teaching a network: a head on a frozen one, or one as it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float
from ml_collections import ConfigDict

from fer_jax.data.sources import read_images
from fer_jax.errors import UserError
from fer_jax.evaluation import calibration, likeness, views
from fer_jax.evaluation.explain import GradCam
from fer_jax.evaluation.fold import TASK, Answers, Faces
from fer_jax.evaluation.probe import Probe, fit_probe
from fer_jax.training import model_directory
from fer_jax.training.features import FrozenBackbone
from fer_jax.training.learner import make_tasks


class LinearProbe:
    """A logistic regression on features of the frozen backbone, which are computed once a face.

    `config.features` may add "gradients", histograms of oriented gradients, which a network
    taught on other faces misses some of.
    """

    wants_inner = False  # it cross-validates over the people of the training side by itself
    chosen_by = "penalty and temperature, by cross-validation over inner people"

    def __init__(self, config: ConfigDict, labels: list[str], mean_size: float) -> None:
        self.config, self.labels = config, labels
        self.kinds = tuple(config.features)
        self.backbone = FrozenBackbone(config.init, config.backbone.to_dict())
        self.cam = None
        if config.explain and "backbone" in self.kinds:
            self.cam = GradCam(self.backbone.backbone)
        self.facts: dict[str, Any] = {"frozen": True, "features": list(self.kinds)}
        self._features: dict[str, np.ndarray] = {}
        self._width = 0  # of the backbone's part, which stands first

    def run(
        self,
        train: Faces,
        test: Faces,
        inner: tuple[Faces, Faces] | None,
        *,
        seed: int,
        folder: Path,
    ) -> Answers:
        validation = (self.features(inner[1]), inner[1].source.labels) if inner else None
        probe = self._probe(train, self.features(train), seed, validation)
        if not len(test.source):
            return Answers(np.zeros((0, len(self.labels))), probe.temperature, f"C={probe.c:g}")
        found = probe.probabilities(self.features(test))
        heat = None
        if self.cam:
            kernel, images = probe.linear()[0][: self._width], test.source.images
            heat = self.cam(self.backbone.state, kernel, images, found.argmax(1))
        return Answers(found, probe.temperature, f"C={probe.c:g}", heat)

    def save_everyone(self, faces: Faces, seed: int, workdir: Path) -> None:
        """A model directory holds a network, so its head is one on the backbone's features alone,
        even where the folds had gradients beside them."""
        features = self.features(faces)
        if "backbone" not in self.kinds:
            features = self._looked(faces, np.arange(len(faces.files)), ("backbone",))
        elif len(self.kinds) > 1:
            features = features[..., : self._width]
        kernel, bias = self._probe(faces, features, seed).linear()
        save_linear(self.config, self.backbone, self.labels, kernel, bias, workdir / "model")

    def speed(self) -> dict[str, Any]:
        return {"features_of": len(self._features)}

    def features(self, faces: Faces) -> Float[np.ndarray, "n views f"]:
        """Of each face, its crops and their mirror images."""
        missing = [i for i, name in enumerate(faces.source.ids) if name not in self._features]
        if missing:
            looked = self._looked(faces, np.array(missing), self.kinds)
            for row, index in enumerate(missing):
                self._features[faces.source.ids[index]] = looked[row]
        return np.stack([self._features[name] for name in faces.source.ids])

    def _looked(self, faces: Faces, rows: np.ndarray, kinds: tuple[str, ...]) -> np.ndarray:
        def every(images: np.ndarray) -> list[np.ndarray]:
            return views.mirrored_too(views.crops(images, self.config.test_crops))

        parts = []
        if "backbone" in kinds:
            seen = [self.backbone(view) for view in every(faces.source.images[rows])]
            parts.append(np.stack(seen, axis=1))
            self._width = parts[0].shape[-1]
        if "gradients" in kinds:  # from the files: at 48 pixels fine lines are gone
            images = read_images([faces.files[row] for row in rows], likeness.SIDE)
            parts.append(np.stack([likeness.descriptors(v) for v in every(images)], axis=1))
        return np.concatenate(parts, axis=-1)

    def _probe(
        self, faces: Faces, features: np.ndarray, seed: int, validation: Any = None
    ) -> Probe:
        return fit_probe(
            features,
            faces.source.labels,
            faces.people,
            classes=len(self.labels),
            seed=seed,
            validation=validation,
        )


class AsItIs:
    """The emotion model at `config.init` without any training, restricted to these labels.

    The people trained on serve for the temperature only.
    """

    wants_inner = False
    chosen_by = "temperature, on the people not held out"

    def __init__(self, config: ConfigDict, labels: list[str], mean_size: float) -> None:
        self.config, self.labels = config, labels
        self.model = model_directory.load(config.init)
        size = self.model.spec["image_size"]
        if config.image_size != size:
            raise UserError(
                f"crossval: the model in {config.init} looks at {size} pixels, and "
                f"config.image_size is {config.image_size}: give --config.image_size={size}"
            )
        known = self.model.spec["labels"].get(TASK, [])
        unknown = [label for label in labels if label not in known]
        if unknown:
            raise UserError(
                f"crossval: the model in {config.init} does not know {', '.join(unknown)}; it "
                f"knows {', '.join(known) or 'no emotion'}"
            )
        self.columns = [known.index(label) for label in labels]
        self.backbone = FrozenBackbone(config.init, {})
        weights = model_directory.read_weights(config.init)
        place = f"parameters/heads/{TASK}/linear/"
        self.kernel, self.bias = (weights[place + n][..., self.columns] for n in ("kernel", "bias"))
        self.cam = GradCam(self.backbone.backbone) if config.explain else None
        self.facts: dict[str, Any] = {"frozen": True}

    def run(
        self,
        train: Faces,
        test: Faces,
        inner: tuple[Faces, Faces] | None,
        *,
        seed: int,
        folder: Path,
    ) -> Answers:
        temperature = calibration.fit_temperature(self._predict(train), train.source.labels)
        found = self._predict(test)
        heat = None
        if self.cam:
            heat = self.cam(self.backbone.state, self.kernel, test.source.images, found.argmax(1))
        return Answers(found, temperature, "", heat)

    def save_everyone(self, faces: Faces, seed: int, workdir: Path) -> None:
        folder = workdir / "model"
        save_linear(self.config, self.backbone, self.labels, self.kernel, self.bias, folder)

    def speed(self) -> dict[str, Any]:
        return {}

    def _predict(self, faces: Faces) -> Float[np.ndarray, "n c"]:
        if not len(faces.source):
            return np.zeros((0, len(self.labels)))
        looked = views.crops(faces.source.images, self.config.test_crops)
        mean = np.mean([self.model.probabilities(TASK, view) for view in looked], axis=0)
        shared = mean[:, self.columns].astype(np.float64)
        return shared / shared.sum(axis=1, keepdims=True)


def save_linear(
    config: ConfigDict,
    backbone: FrozenBackbone,
    labels: list[str],
    kernel: np.ndarray,
    bias: np.ndarray,
    folder: Path,
) -> None:
    """Writes the frozen backbone with a linear head as a model directory."""
    tasks, _ = make_tasks({TASK: {}}, emotion={"classes": tuple(labels)})
    state = backbone.state
    head: Mapping[str, Any] = {
        TASK: {"linear": {"kernel": np.float32(kernel), "bias": np.float32(bias)}}
    }
    parameters = {**jax.device_get(state["parameters"]), "heads": head}
    with_backbone = ConfigDict({**config.to_dict(), "backbone": backbone.backbone})
    spec = model_directory.describe(with_backbone, tasks, config.photographs)
    model_directory.save(folder, {**state, "parameters": parameters}, spec)
