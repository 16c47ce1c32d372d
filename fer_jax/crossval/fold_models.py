"""What is trained and tested in a fold: a whole network, a head on a frozen one, or nothing at all.

Each kind answers for the people held out, and says what it chose on inner validation people.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float
from sklearn.metrics import log_loss

from fer_jax import outputs, schemas
from fer_jax.crossval.fold import TASK, Answers, Faces, FoldModel, inits
from fer_jax.crossval.frozen_models import AsItIs, LinearProbe
from fer_jax.data import iterators
from fer_jax.data.sources import ArraySource
from fer_jax.metrics import calibration
from fer_jax.records import Inference
from fer_jax.training import inference, model_directory
from fer_jax.training.features import head_leaves
from fer_jax.training.grad_cam import GradCam
from fer_jax.training.learner import Learner, make_tasks
from fer_jax.training.loop import fit, steps_of
from fer_jax.training.state import State, for_use
from fer_jax.workdir import read_json, write_json

_CHOICE = "inner/choice.json"  # in a fold's folder: what was tried on its inner people


def make(config: schemas.Crossval, labels: list[str], mean_size: float) -> FoldModel:
    """The model of `config.method`; `mean_size` is how many faces a fold has to train on."""
    return METHODS[config.method](config, labels, mean_size)


class FineTune:
    """Trains the whole network (or as much as the optimizer lets move) anew in each fold.

    Every fit, also those on inner people, runs through one compiled step.
    """

    wants_inner = True

    def __init__(self, config: schemas.Crossval, labels: list[str], mean_size: float) -> None:
        self.config, self.labels = config, labels
        self.steps = steps_of(config, mean_size)
        tasks = make_tasks(config.tasks.given(), emotion={"classes": tuple(labels)})
        self.learner = Learner(
            config.backbone,
            config.optimizer,
            *tasks,
            steps=self.steps,
            batch_size=config.batch_size,
            accumulate=config.accumulate,
            fsdp=config.fsdp,
        )
        self._inits = inits(config)
        self._backbones: dict[str, dict[str, np.ndarray]] = {}
        if config.init:  # read once; one that does not fit stops us before anything is written
            state = self.learner.init(0)
            for init in self._inits.values():
                self._backbones[init] = model_directory.backbone_leaves(init, state)
        self.chosen_by = "steps and temperature, on inner people" if config.inner.share else ""
        self.facts = {"steps": self.steps}
        self.cam = GradCam(config.backbone.model_dump()) if config.explain else None
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
            outputs.delete_folder(finished / "checkpoints")
        if self.config.save_folds:
            self._save(state, temperature, folder / "model")
        heat = None
        if self.cam:
            heads = for_use(state)["parameters"]["heads"]
            kernel = jax.device_get(heads[TASK]["linear"]["kernel"])
            heat = self.cam(state, kernel, test.source.images, probabilities.argmax(1))
        return Answers(probabilities, temperature, f"steps={steps}" if inner else "", heat)

    def save_everyone(self, faces: Faces, seed: int, workdir: Path) -> None:
        choices = sorted(workdir.glob(f"folds/*/{_CHOICE}"))
        chosen = [_best(read_json(file, tried=list)["tried"]) for file in choices]
        steps = int(np.median([best["steps"] for best in chosen])) if chosen else self.steps
        state = self._fit(faces, seed, workdir / "everyone", steps)
        # Nobody is left to fit a temperature on: the folds' stands for it, as their steps do.
        temperature = float(np.median([b["temperature"] for b in chosen])) if chosen else None
        self._save(state, temperature, workdir / "model")
        outputs.delete_folder(workdir / "everyone" / "checkpoints")

    def _save(self, state: State, temperature: float | None, folder: Path) -> None:
        how = Inference(crops=self.config.test_crops, temperature=temperature or 1.0)
        record = model_directory.describe(
            self.config.backbone,
            self.config.image_size,
            self.learner.tasks,
            init=self.config.init,
            faces=model_directory.read_faces(self.config.photographs),
            inference={TASK: how},
        )
        model_directory.save(folder, state, record)

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
        tried = read_json(file, tried=list)["tried"] if file.exists() else []
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
        init = self._inits[seed]
        if init:
            head = head_leaves(init, TASK, self.labels, state)
            state = self.learner.begin_with(state, {**self._backbones[init], **head})
        batches = iterators.train_iterator(
            faces.source, batch_size=self.config.batch_size, seed=seed
        )
        fitted = fit(
            self.learner,
            state,
            batches,
            steps=steps,
            folder=folder,
            loop=self.config,
        )
        # The first step of the first fit is the one that compiles.
        first = {k: v for k, v in self._speed.items() if k == "first_step_s"}
        self._speed = {**fitted.speed(), **first}
        return fitted.state

    def _predict(self, state: State, faces: Faces) -> Float[np.ndarray, "n c"]:
        """Averaged over crops; the compiled step averages over mirror images."""
        if not len(faces.source):
            return np.zeros((0, len(self.labels)), np.float32)

        def of_view(images: np.ndarray) -> np.ndarray:
            source = ArraySource(images, faces.source.labels, faces.source.ids)
            batches = iterators.eval_batches(source, batch_size=self.config.batch_size)
            return self.learner.predict(state, TASK, batches)

        return inference.averaged(of_view, faces.source.images, self.config.test_crops)


def _best(tried: list[dict[str, Any]]) -> dict[str, Any]:
    return min(tried, key=lambda row: row["log_loss"])


METHODS: dict[str, Any] = {"fine_tune": FineTune, "probe": LinearProbe, "as_is": AsItIs}
