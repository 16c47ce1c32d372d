r"""Selects one of the other methods in each fold, on inner validation people.

    python launch.py --config=configs/emotion.py --config.photographs=WORK/photographs \
        --workdir=WORK/emotion

The candidates, in the order of preference:

    fine_tune     if the network has never learned emotions, that is, if `config.init` is neither
                  an emotion model nor a model whose training began with the weights of the
                  starter, directly or through other models; trained as `config.longer` says
    probe         on features of the frozen backbone and on gradient histograms; without
                  `config.init`, on gradient histograms alone
    as_is         if `config.init` is an emotion model that knows all labels; with the test crops
                  of its record

Here, a person-relative model counts as one that knows no labels.

Each candidate is evaluated by cross-validation over the training people of the fold, in at most
three folds, or on the validation people that the labels define. The selected candidate is the first
one whose log loss is within one standard error, over people, of the lowest (Breiman, Friedman,
Olshen & Stone 1984), since a smaller difference may be due to chance. The criterion is the log loss
and not the accuracy, because on a few dozen photographs candidates often have the same accuracy.
The temperature of the selected candidate is fitted to the same predictions. The method of the final
model is selected by cross-validation over all people. If there is only one person, the first
candidate is used, and no temperature is fitted.

A network that has learned emotions is not trained further: fine-tuning it (`tuned_probe`) takes 16
to 28 times as long, and was not significantly more accurate on real people (docs/experiments.md).

If `config.init` is a model, the backbone in its record is used, and `config.image_size` must be
that of the model; `config.backbone` describes the backbone of weight files and of random weights.

Cost: features of each face, computed once for each candidate, and a few logistic regressions per
fold: with 5 folds, 33 s for 90 photographs and 111 s for 439 on 2 CPU cores. With `fine_tune`, up
to four trainings of the network per fold.
Expect: docs/results.md, "Real people".
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from fer_jax import console, records, schemas
from fer_jax.crossval import protocols
from fer_jax.crossval.labelled_faces import FaceSet
from fer_jax.crossval.method import VALIDATION, Facts
from fer_jax.crossval.methods.as_is import AsItIs
from fer_jax.crossval.methods.fine_tune import FineTune
from fer_jax.crossval.methods.probe import LinearProbe
from fer_jax.crossval.models import NetworkModel
from fer_jax.data import names
from fer_jax.errors import UserError
from fer_jax.metrics import calibration
from fer_jax.recogniser import TASK
from fer_jax.schemas.fields import Section
from fer_jax.training import model_directory

_CHOICE = "inner/choice.json"  # in a fold's folder: the results of the candidates
_INNER_FOLDS = 3
_RECORDED = set(records.Tried.model_fields)  # the fields that the record of the model contains
_LEAST = 1e-12  # a probability of 0 has no finite loss


class Tried(records.Tried):
    """The result of a candidate on inner validation people.

    Attributes:
        temperature: fitted to the predictions for these people; `log_loss` and `losses` are at this
            temperature.
        losses: the log loss of each predicted photograph, in the order of the training faces or, if
            the labels define validation people, of their faces.
    """

    temperature: float
    losses: list[float]


class Choice(Section):
    """The content of `inner/choice.json`: results of the candidates, in order of preference."""

    tried: list[Tried]


class Auto:
    """The method `auto`, which the docstring of this module describes."""

    def __init__(self, config: schemas.Crossval, labels: list[str], mean_size: float) -> None:
        self._classes = len(labels)
        self.candidates = _candidates(config, labels, mean_size)
        chosen = f"{' or '.join(self.candidates)}, and its temperature"
        self.facts = Facts(
            chosen_by=f"{chosen}, by cross-validation over training people, in at most "
            f"{_INNER_FOLDS} folds",
            chosen_on_validation=f"{chosen}, {VALIDATION}",
            frozen=all(one.facts.frozen for one in self.candidates.values()),
            steps=next(iter(self.candidates.values())).facts.steps,
            test_crops_by_choice={
                name: one.facts.test_crops or config.test_crops
                for name, one in self.candidates.items()
            },
        )

    def fit(
        self, train: FaceSet, inner: tuple[FaceSet, FaceSet] | None, *, seed: int, folder: Path
    ) -> NetworkModel:
        """Selects a candidate, and trains it on all of `train`.

        The selection uses `inner` or, if it is None, cross-validation over the people in `train`.
        If `inner` is None and `train` shows only one person, the first candidate is trained.
        """
        trainings = len(self.candidates) * (1 if inner else _INNER_FOLDS) + 1
        with console.Progress(total=trainings, unit="training") as progress:
            tried = self._try_all(train, inner, seed, folder, progress)
            people = inner[1].people if inner else train.people
            best = select(tried, people) if tried else None
            name = best.method if best else next(iter(self.candidates))
            model = self.candidates[name].fit(train, None, seed=seed, folder=folder / name)
        shown = [records.Tried(**one.model_dump(include=_RECORDED)) for one in tried]
        selection = records.Selection(method=name, tried=shown)
        temperature = best.temperature if best else None
        return model.with_temperature(temperature).with_selection(selection)

    def fit_everyone(self, faces: FaceSet, *, seed: int, workdir: Path) -> NetworkModel:
        """Selects a candidate by cross-validation over all people, and trains it on all faces."""
        return self.fit(faces, None, seed=seed, folder=workdir / "everyone")

    def speed(self) -> dict[str, Any]:
        """The result of `speed` of the first candidate."""
        speed: dict[str, Any] = next(iter(self.candidates.values())).speed()
        return speed

    def _try_all(
        self,
        train: FaceSet,
        inner: tuple[FaceSet, FaceSet] | None,
        seed: int,
        folder: Path,
        progress: console.Progress,
    ) -> list[Tried]:
        """The result of each candidate on inner validation people; empty if there are none."""
        if inner:
            sides, truth = [(inner[0], inner[1], np.arange(len(inner[1])))], inner[1].labels
        else:
            sides, truth = _inner_folds(train, seed), train.labels
        if not sides:
            return []
        file = folder / _CHOICE
        # After a run was killed, candidates with a result are not evaluated again.
        tried = records.read(Choice, file).tried if file.exists() else []
        for name in list(self.candidates)[len(tried) :]:
            answers = np.full((len(truth), self._classes), 1 / self._classes)
            for number, (own, others, rows) in enumerate(sides):
                if len(np.unique(own.labels)) > 1:  # one class cannot be trained on
                    place = folder / "inner" / f"{name}_{number}"
                    model = self.candidates[name].fit(own, None, seed=seed, folder=place)
                    answers[rows] = model.probabilities(others)
                progress.update()
            tried.append(_measured(name, answers, truth))
            records.write(file, Choice(tried=tried))
        return tried


def select(tried: list[Tried], people: list[str]) -> Tried:
    """The first candidate whose log loss is within one standard error of the lowest.

    The standard error is that of the difference in log loss, over people.

    Args:
        tried: the results of the candidates in order of preference, at least one.
        people: the person in each predicted photograph.
    """
    best = min(tried, key=lambda one: one.log_loss)
    _, person = np.unique(people, return_inverse=True)
    count = np.bincount(person)
    for one in tried:
        excess = np.subtract(one.losses, best.losses)
        of_people = np.bincount(person, excess - excess.mean()) / len(excess)
        error = float(np.sqrt((of_people**2).sum() * len(count) / max(1, len(count) - 1)))
        if excess.mean() <= error:
            return one
    return best


def _candidates(config: schemas.Crossval, labels: list[str], mean_size: float) -> dict[str, Any]:
    """The candidates by name, in order of preference."""
    known: tuple[str, ...] = ()
    learned = False  # whether the network has learned emotions
    if model_directory.is_model(config.init):
        record = model_directory.read_record(config.init)
        config = config.model_copy(update={"backbone": record.backbone})
        relative = record.inference.get(TASK, records.Inference()).reference
        if not relative:  # a person-relative head needs references
            known = record.labels.get(TASK, ())
        learned = TASK in record.labels or model_directory.began_with_starter(record)
    auxiliary = sorted(config.tasks.named() - {TASK})
    if learned and auxiliary:
        raise UserError(
            f"crossval: --config.method=auto does not train {config.init}, which has learned "
            f"emotions, so {', '.join(auxiliary)} would have no effect; set "
            "--config.method=fine_tune, or leave out auxiliary tasks"
        )
    features = ("backbone", "gradients") if config.init else ("gradients",)
    config = config.model_copy(update={"features": features})
    made: dict[str, Any] = {}
    if not learned:
        made["fine_tune"] = FineTune(_longer(config), labels, mean_size)
    made["probe"] = LinearProbe(config, labels, mean_size)
    if set(labels) <= set(known):
        made["as_is"] = AsItIs(config, labels, mean_size)
    return made


def _longer(config: schemas.Crossval) -> schemas.Crossval:
    """A copy of `config` with the epochs, minimum steps and learning rate of `config.longer`."""
    longer = config.longer
    rate = {"learning_rate": longer.learning_rate}
    return config.model_copy(
        update={
            "epochs": longer.epochs,
            "min_steps": longer.min_steps,
            "optimizer": config.optimizer.model_copy(update=rate),
        }
    )


def _inner_folds(train: FaceSet, seed: int) -> list[tuple[FaceSet, FaceSet, np.ndarray]]:
    """For each inner fold: training faces, validation faces, and the latter's rows in `train`.

    The list is empty if there is only one person.
    """
    people = len({names.key(person) for person in train.people})
    if people < 2:
        return []
    folds = protocols.make_folds(
        train.people,
        [str(label) for label in train.labels],
        protocol="grouped_kfold",
        folds=min(_INNER_FOLDS, people),
        seed=seed,
    )
    return [
        (train.take(fold.train.tolist()), train.take(fold.test.tolist()), fold.test)
        for fold in folds
    ]


def _measured(name: str, answers: Float[np.ndarray, "n c"], truth: np.ndarray) -> Tried:
    temperature = calibration.fit_temperature(answers, truth)
    tempered = calibration.scale(answers, temperature)
    losses = -np.log(np.maximum(tempered[np.arange(len(truth)), truth], _LEAST))
    return Tried(
        method=name,
        log_loss=float(losses.mean()),
        accuracy=float((answers.argmax(axis=1) == truth).mean()),
        temperature=temperature,
        losses=losses.tolist(),
    )


METHOD = Auto
