"""Recognition of emotions: from a picture to faces, aligned crops and calibrated probabilities.

Cross-validation measures the same pipeline: the model's record says how faces are found, aligned
and classified.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8

from fer_jax import console
from fer_jax.errors import UserError
from fer_jax.faces.alignment import align
from fer_jax.faces.mtcnn import Faces
from fer_jax.faces.search import find_faces, largest
from fer_jax.models import starter
from fer_jax.schemas.faces import Crop
from fer_jax.training import trained_model
from fer_jax.training.person_relative import NEUTRAL, least_faces
from fer_jax.training.trained_model import Model

TASK = "emotion"


class Analysis(NamedTuple):
    """The faces of one picture and, for each face, the probability of each emotion.

    `reference_faces` is, for a person-relative model, the number of faces in the reference of the
    person; it is 0 if the reference is the average person, or if the model is not person-relative.
    """

    faces: Faces
    probabilities: Float[np.ndarray, "n classes"]
    reference_faces: int = 0


class Sighting(NamedTuple):
    """The largest face of one picture, if any, and the logits of its views.

    `others` is the number of smaller faces, which may belong to other people.
    """

    faces: Faces
    logits: Float[np.ndarray, "n views classes"]
    others: int


class Recogniser:
    """Finds the faces in pictures and recognises their emotions.

    Args:
        model: an emotion model whose record says how its faces were found and cropped.
        where: names the model in error messages.
        max_side: pictures whose longer side exceeds this number of pixels are reduced to it for
            detection; if 0, the number in the record is used.

    Attributes:
        where: see the argument.
        labels: the emotions, in the order of the probabilities.
        reference: the kind of reference of a person-relative model; "" for other models.
        faces: how faces are found and cropped.
        folder: the model directory, which may contain a table for abstaining; None for a model that
            was not loaded from a folder.

    Raises:
        UserError: the model has no class names for the task emotion, or no record of how its faces
            were found and cropped.
    """

    folder: Path | None = None

    def __init__(self, model: Model, where: str, *, max_side: int = 0) -> None:
        record = model.record
        check_task(model, TASK, where)
        if record.faces is None:
            raise UserError(
                f"the model {where} has no record of how its faces were found and cropped; "
                "train it on a workdir of the stage photographs"
            )
        self.where, self.folder = where, model.folder
        self.labels = record.labels[TASK]
        self.reference = model.reference(TASK)
        self.faces = record.faces
        self._model = model
        if max_side:
            search = self.faces.search.model_copy(update={"max_side": max_side})
            self.faces = self.faces.model_copy(update={"search": search})

    @classmethod
    def load(cls, model: str | os.PathLike[str] = starter.NAME, *, max_side: int = 0) -> Recogniser:
        """Loads a model.

        Args:
            model: a model directory, a workdir of `train` or `crossval` that contains one, or
                "starter", the network that ships with the package.
            max_side: see the constructor.

        Raises:
            UserError: see the constructor; or there is no model, or it is damaged.
        """
        recogniser = cls(trained_model.load(model), os.fspath(model), max_side=max_side)
        if recogniser.faces.aligned:
            console.warn(
                f"the model {model} was trained on faces that had been cropped elsewhere in an "
                "unknown way; new faces are cropped to the usual template, so the model may be "
                "less accurate than measured"
            )
        return recogniser

    def __call__(self, pictures: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> list[Analysis]:
        """The faces in each picture and their emotions.

        Args:
            pictures: uint8 [H, W, 3] RGB each, of any sizes.

        Raises:
            UserError: `pictures` has another type, or the model is person-relative and there is a
                face.
        """
        found = find_faces(pictures, self.faces)
        crops = aligned_crops(pictures, found, self.faces.crop)
        probabilities = np.zeros((0, len(self.labels)), np.float32)
        if len(crops):
            probabilities = self._model.probabilities(TASK, crops)
        rows = np.split(probabilities, _ends(found))
        return [Analysis(faces, part) for faces, part in zip(found, rows, strict=True)]

    def sightings(self, pictures: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> list[Sighting]:
        """The largest face of each picture, for `relative`; see `__call__`."""
        found = find_faces(pictures, self.faces)
        shown = [largest(faces) if len(faces) else faces for faces in found]
        crops = aligned_crops(pictures, shown, self.faces.crop)
        logits = np.zeros((0, 1, len(self.labels)), np.float32)
        if len(crops):
            features = self._model.features_of_crops(TASK, crops)
            logits = self._model.logits(TASK, features)
        return [
            Sighting(face, part, len(faces) - len(face))
            for face, part, faces in zip(shown, np.split(logits, _ends(shown)), found, strict=True)
        ]

    def relative(
        self, sightings: Sequence[Sighting], people: Sequence[str], neutral: Sequence[bool]
    ) -> list[Analysis]:
        """The answers of a person-relative model, one per sighting.

        Args:
            sightings: the results of `sightings` for all pictures of the people.
            people: the person in each picture.
            neutral: whether each picture is known to show a neutral face. Models with the reference
                "neutral" compute a person's reference from these faces; other models ignore this
                argument.
        """
        if not sightings:
            return []
        shown = [row for row, sighting in enumerate(sightings) if len(sighting.faces)]
        who, known = [people[row] for row in shown], np.array([neutral[row] for row in shown], bool)
        counts = Counter(
            person for person, is_known in zip(who, known, strict=True)
            if is_known or self.reference != NEUTRAL
        )  # fmt: skip
        probabilities = np.zeros((0, len(self.labels)), np.float32)
        if shown:
            logits = np.concatenate([sightings[row].logits for row in shown])
            answers = self._model.relative_answers(TASK, logits, who, known)
            probabilities = self._model.calibrated(TASK, answers)
        rows = np.split(probabilities, _ends([sighting.faces for sighting in sightings]))
        enough = {who for who, number in counts.items() if number >= least_faces(self.reference)}
        return [
            Analysis(sighting.faces, part, counts[person] if person in enough else 0)
            for sighting, part, person in zip(sightings, rows, people, strict=True)
        ]


def aligned_crops(
    pictures: Sequence[UInt8[np.ndarray, "_ _ 3"]], found: Sequence[Faces], crop: Crop
) -> UInt8[np.ndarray, "n s s 3"]:
    """The aligned crops of all faces; `found` contains the faces of each picture."""
    crops = [
        align(picture, landmarks, crop.size, crop.margin)
        for picture, faces in zip(pictures, found, strict=True)
        for landmarks in faces.landmarks
    ]
    return np.stack(crops) if crops else np.zeros((0, crop.size, crop.size, 3), np.uint8)


def _ends(found: Sequence[Faces]) -> Int[np.ndarray, " n"]:
    """The positions at which `np.split` separates the faces of one picture from the next."""
    return np.cumsum([len(faces) for faces in found], dtype=np.int64)[:-1]


def check_task(model: Model, task: str, where: str) -> None:
    """Raises a `UserError` if the model has no class names for `task`; `where` names the model."""
    if not model.record.labels.get(task):
        tasks = ", ".join(model.record.labels) or "none"
        raise UserError(
            f"the model {where} has no class names for the task {task} (tasks with class names: "
            f"{tasks}); choose another model"
        )
