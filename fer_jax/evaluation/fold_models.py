"""What is trained and tested in a fold: a whole network, a head on a frozen one, or nothing at all.

Each kind answers for the people held out, and says what it chose on inner validation people.
"""

from __future__ import annotations

import difflib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import Float
from ml_collections import ConfigDict
from sklearn.metrics import log_loss

from fer_jax.data import iterators
from fer_jax.data.sources import ArraySource, read_images
from fer_jax.errors import UserError
from fer_jax.evaluation import calibration, likeness, views
from fer_jax.evaluation.explain import GradCam
from fer_jax.evaluation.probe import Probe, fit_probe
from fer_jax.training import model_directory
from fer_jax.training.features import FrozenBackbone, head_leaves
from fer_jax.training.learner import Learner, make_tasks
from fer_jax.training.loop import fit
from fer_jax.training.state import State
from fer_jax.workdir import read_json, write_json

TASK = "emotion"


@dataclass(frozen=True)
class Faces:
    """Labelled faces, whose they are, and the files in which they lie in full size."""

    source: ArraySource
    people: Sequence[str]
    files: Sequence[str]


@dataclass(frozen=True)
class Answers:
    """Class probabilities [n, C] of the faces tested, and what was chosen for them.

    `temperature` is None where none was fitted; the probabilities are those before it. `heat` says
    where the model looked for the answer that it gave, from 0 to 1; None where nobody asked.
    """

    probabilities: Float[np.ndarray, "n c"]
    temperature: float | None
    chosen: str
    heat: Float[np.ndarray, "n h w"] | None = None


_CHOICE = "inner/choice.json"  # in a fold's folder: what was tried on its inner people


@runtime_checkable
class FoldModel(Protocol):
    """What the stage `crossval` asks of each kind of model."""

    wants_inner: bool  # whether inner validation people are to be set apart for it
    chosen_by: str  # in the report: what was chosen, and on whom
    facts: dict[str, Any]  # for protocol.json

    def run(
        self,
        train: Faces,
        test: Faces,
        inner: tuple[Faces, Faces] | None,
        *,
        seed: int,
        folder: Path,
    ) -> Answers:
        """Trains on `train` and answers for `test`; choices are made by `inner`."""

    def save_everyone(self, faces: Faces, seed: int, workdir: Path) -> None:
        """Writes `workdir/model`, taught by all the faces; no figure is claimed for it."""

    def speed(self) -> dict[str, Any]:
        """For the summary."""


def make(config: ConfigDict, labels: list[str], mean_size: float) -> FoldModel:
    """The model of `config.method`; `mean_size` is how many faces a fold has to train on.

    Raises:
        UserError: an unknown method, or one that needs `config.init`.
    """
    if config.method not in METHODS:
        near = difflib.get_close_matches(config.method, METHODS, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(METHODS)}"
        raise UserError(f"crossval: unknown method '{config.method}'; {hint}")
    return METHODS[config.method](config, labels, mean_size)


class FineTune:
    """Trains the whole network (or as much as the optimizer lets move) anew in each fold.

    Every fit, also those on inner people, runs through one compiled step.
    """

    wants_inner = True

    def __init__(self, config: ConfigDict, labels: list[str], mean_size: float) -> None:
        self.config, self.labels = config, labels
        self.steps = max(config.min_steps, round(config.epochs * mean_size / config.batch_size), 1)
        if self.steps == config.min_steps:
            print(
                f"[{config.stage}] config.min_steps={self.steps} decides, not config.epochs",
                flush=True,
            )
        tasks = make_tasks(config.tasks.to_dict(), emotion={"classes": tuple(labels)})
        self.learner = Learner(config, *tasks, self.steps)
        self._backbone: dict[str, np.ndarray] = {}
        if config.init:  # read once; one that does not fit stops us before anything is written
            self._backbone = model_directory.backbone_leaves(config.init, self.learner.init(0))
        self.chosen_by = "steps and temperature, on inner people" if config.inner.share else ""
        self.facts = {"steps": self.steps}
        self.cam = GradCam(config.backbone.to_dict()) if config.explain else None
        self._speed: dict[str, float] = {}

    def run(
        self,
        train: Faces,
        test: Faces,
        inner: tuple[Faces, Faces] | None,
        *,
        seed: int,
        folder: Path,
    ) -> Answers:
        steps, temperature = self.steps, None
        if inner:
            steps, temperature = self._choose(*inner, seed, folder / _CHOICE)
        state = self._fit(train, seed, folder, steps)
        probabilities = self._predict(state, test)
        for finished in (folder, folder / "inner"):
            shutil.rmtree(finished / "checkpoints", ignore_errors=True)
        heat = None
        if self.cam:
            kernel = jax.device_get(state["parameters"]["heads"][TASK]["linear"]["kernel"])
            heat = self.cam(state, kernel, test.source.images, probabilities.argmax(1))
        return Answers(probabilities, temperature, f"steps={steps}" if inner else "", heat)

    def save_everyone(self, faces: Faces, seed: int, workdir: Path) -> None:
        choices = sorted(workdir.glob(f"folds/*/{_CHOICE}"))
        chosen = [_best(read_json(file)["tried"])["steps"] for file in choices]
        steps = int(np.median(chosen)) if chosen else self.steps
        state = self._fit(faces, seed, workdir / "everyone", steps)
        spec = model_directory.describe(self.config, self.learner.tasks, self.config.photographs)
        model_directory.save(workdir / "model", state, spec)
        shutil.rmtree(workdir / "everyone" / "checkpoints", ignore_errors=True)

    def speed(self) -> dict[str, Any]:
        compiled = self.learner.compile_seconds
        return {
            "steps_per_fold": self.steps,
            **self._speed,
            "compilations": int("train" in compiled),
            "compile_s": round(sum(compiled.values()), 2),
        }

    def _choose(self, train: Faces, validation: Faces, seed: int, file: Path) -> tuple[int, float]:
        """The steps of the least log loss on people not trained on, and the temperature there."""
        # What a killed run has tried already; its checkpoint lies beyond, and cannot go back.
        tried = read_json(file)["tried"] if file.exists() else []
        for share in sorted(self.config.inner.checkpoints)[len(tried) :]:
            steps = max(1, round(share * self.steps))
            probabilities = self._predict(self._fit(train, seed, file.parent, steps), validation)
            temperature = calibration.fit_temperature(probabilities, validation.source.labels)
            tempered = calibration.scale(probabilities, temperature)
            classes = np.arange(len(self.labels))
            loss = float(log_loss(validation.source.labels, tempered, labels=classes))
            tried.append({"log_loss": loss, "steps": steps, "temperature": temperature})
            write_json(file, {"tried": tried})
        best = _best(tried)
        return int(best["steps"]), float(best["temperature"])

    def _fit(self, faces: Faces, seed: int, folder: Path, steps: int) -> State:
        state = self.learner.init(seed)
        if self.config.init:
            head = head_leaves(self.config.init, TASK, self.labels, state)
            state = self.learner.begin_with(state, {**self._backbone, **head})
        batches = iterators.train_iterator(
            faces.source, batch_size=self.config.batch_size, seed=seed
        )
        fitted = fit(
            self.learner,
            state,
            batches,
            steps=steps,
            folder=folder,
            config=self.config,
        )
        # The first step of the first fit is the one that compiles.
        first = {k: v for k, v in self._speed.items() if k == "first_step_s"}
        self._speed = {**fitted.speed(), **first}
        return fitted.state

    def _predict(self, state: State, faces: Faces) -> Float[np.ndarray, "n c"]:
        """Averaged over crops; the compiled step averages over mirror images."""
        if not len(faces.source):
            return np.zeros((0, len(self.labels)), np.float32)
        parts = []
        for images in views.crops(faces.source.images, self.config.test_crops):
            source = ArraySource(images, faces.source.labels, faces.source.ids)
            batches = iterators.eval_batches(source, batch_size=self.config.batch_size)
            parts.append(self.learner.predict(state, TASK, batches))
        return np.mean(parts, axis=0)


def _best(tried: list[dict[str, Any]]) -> dict[str, Any]:
    return min(tried, key=lambda row: row["log_loss"])


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
        if not self.kinds or set(self.kinds) - {"backbone", "gradients"}:
            raise UserError(
                f"crossval: config.features is {self.kinds}; there are backbone and gradients"
            )
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
        if not config.init:
            raise UserError("crossval: the method as_is needs --config.init, an emotion model")
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


METHODS: dict[str, Any] = {"fine_tune": FineTune, "probe": LinearProbe, "as_is": AsItIs}
