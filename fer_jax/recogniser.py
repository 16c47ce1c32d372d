"""From a picture to its faces, their aligned crops, and calibrated probabilities.

This is the pipeline that cross-validation measures: the model's record says how faces are found,
aligned and classified.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from fer_jax.errors import UserError
from fer_jax.faces.alignment import align
from fer_jax.faces.mtcnn import Faces
from fer_jax.faces.search import find_faces, make_detector
from fer_jax.training.trained_model import Model

TASK = "emotion"


class Analysis(NamedTuple):
    """The faces of one picture and the probability [n, classes] of each emotion."""

    faces: Faces
    probabilities: Float[np.ndarray, "n classes"]


class Recogniser:
    """Finds the faces of pictures and recognises their emotions.

    Args:
        model: an emotion model whose record says how its faces were found and cropped.
        where: names the model in errors.
        max_side: pixels; 0 searches at the size of the record, another number at that size.

    Raises:
        UserError: a model of other tasks, or one that does not know how its faces were cropped.
    """

    def __init__(self, model: Model, where: str, *, max_side: int = 0) -> None:
        record = model.record
        check_task(model, TASK, where)
        if record.faces is None:
            raise UserError(
                f"the model in {where} does not say how its faces were found and cropped; train "
                "it on a workdir of the stage photographs"
            )
        self.labels = record.labels[TASK]
        self.faces = record.faces
        self._model = model
        self._detector = make_detector(record.faces.detector)
        self._search = record.faces.search
        if max_side:
            self._search = self._search.model_copy(update={"max_side": max_side})

    def __call__(self, pictures: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> list[Analysis]:
        """The faces of each picture and their emotions.

        Args:
            pictures: uint8 [H, W, 3] RGB each, of any sizes.
        """
        found = find_faces(pictures, self._detector, self._search)
        crop = self.faces.crop
        crops = [
            align(picture, landmarks, crop.size, crop.margin)
            for picture, faces in zip(pictures, found, strict=True)
            for landmarks in faces.landmarks
        ]
        probabilities = np.zeros((0, len(self.labels)), np.float32)
        if crops:
            probabilities = self._model.probabilities(TASK, np.stack(crops))
        ends = np.cumsum([len(faces) for faces in found])
        rows = np.split(probabilities, ends[:-1])
        return [Analysis(faces, part) for faces, part in zip(found, rows, strict=True)]


def check_task(model: Model, task: str, where: str) -> None:
    """Raises a `UserError` if the model in `where` has no classes for `task`."""
    if not model.record.labels.get(task):
        tasks = ", ".join(model.record.labels) or "no task"
        raise UserError(f"the model in {where} was trained on {tasks}, not {task}")
