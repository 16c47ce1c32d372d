"""What is tested in a fold without teaching a network: a head on a frozen one, or one as it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from fer_jax import schemas
from fer_jax.crossval.fold import TASK, Answers, Faces
from fer_jax.crossval.logistic_head import Probe, fit_probe
from fer_jax.data.sources import read_images
from fer_jax.errors import UserError
from fer_jax.metrics import calibration
from fer_jax.records import Inference, ModelRecord
from fer_jax.schemas.training import Backbone
from fer_jax.training import gradients, inference, model_directory
from fer_jax.training.features import FrozenBackbone
from fer_jax.training.grad_cam import GradCam
from fer_jax.training.learner import make_tasks
from fer_jax.training.state import State


class LinearProbe:
    """A logistic regression on features of the frozen backbone, which are computed once a face.

    `config.features` may add "gradients", histograms of oriented gradients, which a network
    taught on other faces misses some of.
    """

    wants_inner = False  # it cross-validates over the people of the training side by itself
    chosen_by = "penalty and temperature, by cross-validation over inner people"

    def __init__(self, config: schemas.Crossval, labels: list[str], mean_size: float) -> None:
        self.config, self.labels = config, labels
        self.kinds = tuple(config.features)
        self.backbone = FrozenBackbone(config.init, config.backbone.model_dump())
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
        if self.config.save_folds:
            self._save(probe, folder / "model")
        found = probe.probabilities(self.features(test))
        heat = None
        if self.cam:
            kernel, images = probe.linear()[0][: self._width], test.source.images
            heat = self.cam(self.backbone.state, kernel, images, found.argmax(1))
        return Answers(found, probe.temperature, f"C={probe.c:g}", heat)

    def save_everyone(self, faces: Faces, seed: int, workdir: Path) -> None:
        self._save(self._probe(faces, self.features(faces), seed), workdir / "model")

    def _save(self, probe: Probe, folder: Path) -> None:
        """The network with the head as one linear layer; the gradients' part stands beside it."""
        kernel, bias = probe.linear()
        own = kernel[: self._width]
        if "backbone" not in self.kinds:
            own = np.zeros((self.backbone.width, len(self.labels)))
        how = Inference(
            crops=self.config.test_crops,
            temperature=probe.temperature,
            gradients="gradients" in self.kinds,
        )
        record, state = linear_model(self.config, self.backbone, self.labels, own, bias, how)
        kernels = {TASK: np.asarray(kernel[self._width :])} if how.gradients else {}
        model_directory.save(folder, state, record, kernels)

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
            return inference.mirrored_too(inference.views(images, self.config.test_crops))

        parts = []
        if "backbone" in kinds:
            seen = [self.backbone(view) for view in every(faces.source.images[rows])]
            parts.append(np.stack(seen, axis=1))
            self._width = parts[0].shape[-1]
        if "gradients" in kinds:  # from the files: at 48 pixels fine lines are gone
            images = read_images([faces.files[row] for row in rows], gradients.SIDE)
            parts.append(np.stack([gradients.descriptors(v) for v in every(images)], axis=1))
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

    def __init__(self, config: schemas.Crossval, labels: list[str], mean_size: float) -> None:
        self.config, self.labels = config, labels
        given = model_directory.read_record(config.init)
        if config.image_size != given.image_size:
            raise UserError(
                f"crossval: the model in {config.init} takes {given.image_size} pixels, and "
                f"config.image_size is {config.image_size}: give "
                f"--config.image_size={given.image_size}"
            )
        known = given.labels.get(TASK, ())
        unknown = [label for label in labels if label not in known]
        if unknown:
            raise UserError(
                f"crossval: the model in {config.init} does not know {', '.join(unknown)}; it "
                f"knows {', '.join(known) or 'no emotion'}"
            )
        columns = [known.index(label) for label in labels]
        self.backbone = FrozenBackbone(config.init, {})
        weights = model_directory.read_weights(config.init)
        self.kernel, bias = (
            weights[f"parameters/heads/{TASK}/linear/{name}"][..., columns]
            for name in ("kernel", "bias")
        )
        gradient_kernel = weights.get(model_directory.gradient_kernel(TASK))
        self.gradient_kernels = (
            {} if gradient_kernel is None else {TASK: gradient_kernel[..., columns]}
        )
        self.how = Inference(crops=config.test_crops, gradients=bool(self.gradient_kernels))
        # What is measured is what is saved: the model restricted to these labels.
        self.record, self.state = linear_model(
            config, self.backbone, labels, self.kernel, bias, self.how
        )
        arrays = model_directory.arrays_of(self.state, self.gradient_kernels)
        self.model = model_directory.Model(self.record, arrays, f"the model in {config.init}")
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
        if self.config.save_folds:
            self._save(temperature, folder / "model")
        heat = None
        if self.cam:
            heat = self.cam(self.backbone.state, self.kernel, test.source.images, found.argmax(1))
        return Answers(found, temperature, "", heat)

    def save_everyone(self, faces: Faces, seed: int, workdir: Path) -> None:
        temperature = calibration.fit_temperature(self._predict(faces), faces.source.labels)
        self._save(temperature, workdir / "model")

    def _save(self, temperature: float, folder: Path) -> None:
        how = self.how.model_copy(update={"temperature": temperature})
        record = self.record.model_copy(update={"inference": {TASK: how}})
        model_directory.save(folder, self.state, record, self.gradient_kernels)

    def speed(self) -> dict[str, Any]:
        return {}

    def _predict(self, faces: Faces) -> Float[np.ndarray, "n c"]:
        fine = read_images(faces.files, gradients.SIDE) if self.gradient_kernels else None
        return self.model.of_images(TASK, faces.source.images, fine)


def linear_model(
    config: schemas.Crossval,
    backbone: FrozenBackbone,
    labels: list[str],
    kernel: np.ndarray,
    bias: np.ndarray,
    how: Inference,
) -> tuple[ModelRecord, State]:
    """Record and state of the frozen backbone with a linear head on its features."""
    tasks, _ = make_tasks({TASK: {}}, emotion={"classes": tuple(labels)})
    head: Mapping[str, Any] = {
        TASK: {"linear": {"kernel": np.float32(kernel), "bias": np.float32(bias)}}
    }
    parameters = {**jax.device_get(backbone.state["parameters"]), "heads": head}
    record = model_directory.describe(
        Backbone(**backbone.backbone),
        config.image_size,
        tasks,
        init=config.init,
        faces=model_directory.read_faces(config.photographs),
        inference={TASK: how},
    )
    return record, {**backbone.state, "parameters": parameters}
