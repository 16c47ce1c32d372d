"""Fine-tuning: trains the network, except for frozen parameters, in each fold.

All fits, including those for the selection of hyperparameters, share one compiled train step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import log_loss

from fer_jax import console, outputs, schemas
from fer_jax.crossval.labelled_faces import FaceSet
from fer_jax.crossval.method import VALIDATION, Facts
from fer_jax.crossval.models import NetworkModel, record_of, with_inference
from fer_jax.data import iterators
from fer_jax.metrics import calibration
from fer_jax.recogniser import TASK
from fer_jax.training import model_directory
from fer_jax.training.learner import Learner, make_tasks
from fer_jax.training.loop import fit, steps_of
from fer_jax.training.state import State
from fer_jax.training.trained_model import Model
from fer_jax.workdir import read_json, write_json

_HEAD = tuple(f"parameters/heads/{TASK}/linear/{name}" for name in ("kernel", "bias"))
_CHOICE = "inner/choice.json"  # in a fold's folder: the result of each number of steps


class FineTune:
    """The method `fine_tune`, which the docstring of this module describes."""

    def __init__(self, config: schemas.Crossval, labels: list[str], mean_size: float) -> None:
        self.config, self.labels = config, labels
        self.steps = steps_of(config, mean_size)
        tasks, weights = make_tasks(config.tasks.fields(), emotion={"classes": tuple(labels)})
        self.learner = Learner(
            config.backbone, config.optimizer, tasks, weights, config, steps=self.steps
        )
        self._inits = config.inits()
        # Read here, so that the run stops before anything is written if the weights do not fit.
        state = self.learner.init(0) if config.init else {}
        self._backbones = {
            init: model_directory.backbone_leaves(init, state)
            for init in set(self._inits.values()) - {""}
        }
        self.facts = Facts(
            chosen_by="steps and temperature, on inner validation people"
            if config.inner.share
            else "",
            chosen_on_validation=f"steps and temperature, {VALIDATION}",
            wants_inner=True,
            steps=self.steps,
        )
        self._heads = {init: _known_head(init) for init in self._backbones}
        self._models: dict[str, Model] = {}
        self._speed: dict[str, float] = {}

    def fit(
        self, train: FaceSet, inner: tuple[FaceSet, FaceSet] | None, *, seed: int, folder: Path
    ) -> NetworkModel:
        """Trains on `train`, with the number of steps and the temperature selected on `inner`.

        If `inner` is None, it trains for all `self.steps` steps, and no temperature is fitted.
        """
        chosen: dict[str, Any] = {"steps": self.steps, "temperature": None}
        trainings = 1 + len(self.config.inner.checkpoints) * (inner is not None)
        with console.Progress(total=trainings, unit="training") as progress:
            if inner:
                chosen = self._choose(*inner, seed, folder / _CHOICE, progress)
            model = self._train(train, seed, folder, chosen["steps"], chosen["temperature"])
        for finished in (folder, folder / "inner"):
            outputs.delete_folder(finished / "checkpoints")
        text = f"steps={chosen['steps']}" if inner else ""
        return NetworkModel(model, chosen["temperature"], text)

    def fit_everyone(self, faces: FaceSet, *, seed: int, workdir: Path) -> NetworkModel:
        """Trains on all faces, with the folds' median number of steps and median temperature.

        If nothing was selected in the folds, it trains for all `self.steps` steps, and no
        temperature is fitted.
        """
        choices = [_best(_tried(file)) for file in sorted(workdir.glob(f"folds/*/{_CHOICE}"))]
        steps, temperature = self.steps, None
        if choices:
            steps = int(np.median([choice["steps"] for choice in choices]))
            temperature = float(np.median([choice["temperature"] for choice in choices]))
        model = self._train(faces, seed, workdir / "everyone", steps, temperature)
        outputs.delete_folder(workdir / "everyone" / "checkpoints")
        return NetworkModel(model, temperature)

    def start(self, seed: int) -> Mapping[str, np.ndarray]:
        """The initial weights of the backbone for `seed`, by path; empty if they are random."""
        return self._backbones.get(self._inits[seed], {})

    def speed(self) -> dict[str, Any]:
        """The steps per fold, the compilations and their time, and the speed of the last fit.

        `first_step_s` is that of the first fit, since only its first step compiles.
        """
        compiled = self.learner.compile_seconds
        return {
            "steps_per_fold": self.steps,
            **self._speed,
            "compilations": int("train" in compiled),
            "compile_s": round(sum(compiled.values()), 2),
        }

    def _choose(
        self,
        train: FaceSet,
        validation: FaceSet,
        seed: int,
        file: Path,
        progress: console.Progress,
    ) -> dict[str, Any]:
        """The `steps`, `temperature` and `log_loss` of the best result on `validation`."""
        # After a run was killed, numbers of steps with a result are not tried again: the
        # checkpoint is that of a later step.
        tried = _tried(file)
        for share in sorted(self.config.inner.checkpoints)[len(tried) :]:
            steps = max(1, round(share * self.steps))
            model = NetworkModel(self._train(train, seed, file.parent, steps, None))
            probabilities = model.probabilities(validation)
            temperature = calibration.fit_temperature(probabilities, validation.labels)
            tempered = calibration.scale(probabilities, temperature)
            classes = np.arange(len(self.labels))
            loss = float(log_loss(validation.labels, tempered, labels=classes))
            tried.append({"log_loss": loss, "steps": steps, "temperature": temperature})
            write_json(file, {"tried": tried})
            progress.update()
        return _best(tried)

    def _train(
        self, faces: FaceSet, seed: int, folder: Path, steps: int, temperature: float | None
    ) -> Model:
        state = self.learner.init(seed)
        init = self._inits[seed]
        if init:
            leaves = self._backbones[init] | _head_leaves(self._heads[init], self.labels, state)
            state = self.learner.begin_with(state, leaves)
        batches = iterators.TrainIterator(
            faces.source, batch_size=self.config.batch_size, seed=seed
        )
        fitted = fit(self.learner, state, batches, steps=steps, folder=folder, loop=self.config)
        # The first step of the first fit is the one that compiles.
        first = {k: v for k, v in self._speed.items() if k == "first_step_s"}
        self._speed = {**fitted.speed(), **first}
        return self._model(init, fitted.state, temperature)

    def _model(self, init: str, state: State, temperature: float | None) -> Model:
        """A model with the weights of `state`; models with the same `init` compile only once."""
        weights = model_directory.arrays_of(state)
        if init not in self._models:
            record = record_of(self.config, self.config.backbone, self.learner.tasks, init)
            self._models[init] = Model(record, weights, batch=self.config.batch_size)
        base = self._models[init]
        return base.replaced(with_inference(base.record, temperature=temperature or 1.0), weights)


def _tried(file: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = read_json(file, tried=list)["tried"] if file.exists() else []
    return found


def _best(tried: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return min(tried, key=lambda row: row["log_loss"])


@dataclass(frozen=True)
class _Head:
    """The linear head of an emotion model: arrays by path, and the class of each column."""

    arrays: Mapping[str, np.ndarray]
    labels: tuple[str, ...]


def _known_head(path: str) -> _Head:
    """The head of the emotion model at `path`; empty if `path` is not an emotion model."""
    if not model_directory.is_model(path):
        return _Head({}, ())
    weights = model_directory.read_weights(path)
    places = {place: weights[place] for place in _HEAD if place in weights}
    return _Head(places, model_directory.read_record(path).labels.get(TASK, ()))


def _head_leaves(
    known: _Head, labels: Sequence[str], state: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """The head's arrays for `labels`, by path; for classes that `known` lacks, those of `state`.

    Empty if `known` has no arrays, or if its number of inputs differs from that in `state`.
    """
    leaves: dict[str, np.ndarray] = {}
    for place, own in zip(_HEAD, _own_head(state), strict=True):
        if place not in known.arrays or known.arrays[place].shape[:-1] != own.shape[:-1]:
            return {}
        merged = np.array(own)
        for position, label in enumerate(labels):
            if label in known.labels:
                merged[..., position] = known.arrays[place][..., known.labels.index(label)]
        leaves[place] = merged
    return leaves


def _own_head(state: Mapping[str, Any]) -> tuple[Any, Any]:
    linear = state["parameters"]["heads"][TASK]["linear"]
    return linear["kernel"], linear["bias"]


METHOD = FineTune
