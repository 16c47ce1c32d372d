"""The backbone of a trained model, which computes features of faces for your own models."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, UInt8

from fer_jax.errors import UserError
from fer_jax.faces.search import find_faces
from fer_jax.models import starter
from fer_jax.recogniser import TASK, aligned_crops
from fer_jax.training import model_directory, trained_model
from fer_jax.training.learner import make_tasks


class Backbone:
    """Computes features of faces with the backbone of a trained model.

    Args:
        model: a model directory, a training workdir that contains one, or "starter".

    Attributes:
        width: number of features.
        image_size: side in pixels to which faces are resized for the network.
        faces: how the training faces were found and cropped; None if unknown.

    Raises:
        UserError: there is no such model, or it is damaged.
    """

    def __init__(self, model: str | os.PathLike[str] = starter.NAME) -> None:
        record = model_directory.read_record(model)
        # The description needs a task with a head, which is not used.
        tasks, _ = make_tasks({TASK: {}}, emotion={"classes": ("-", "+")})
        shown = model_directory.describe(record.backbone, record.image_size, tasks)
        self._where = os.fspath(model)
        self._model = trained_model.begin(self._where, shown)
        self.width = self._model.width
        self.image_size = record.image_size
        self.faces = record.faces

    def features(self, crops: UInt8[np.ndarray, "n s s 3"]) -> Float32[np.ndarray, "n f"]:
        """Pooled features of aligned faces, float32 [n, width].

        Args:
            crops: uint8 RGB [n, s, s, 3] with any side s of at least one pixel; n may be 0.

        Raises:
            ValueError: `crops` has another type or shape.
        """
        trained_model.check_crops(crops)
        if not len(crops):
            return np.zeros((0, self.width), np.float32)
        return self._model.pooled(TASK, trained_model.resized(crops, self.image_size))

    def crops(
        self, pictures: Sequence[UInt8[np.ndarray, "_ _ 3"]]
    ) -> list[UInt8[np.ndarray, "n s s 3"]]:
        """The faces of each picture, uint8 [n, s, s, 3], cropped like the model's training faces.

        The faces of a picture are in descending order of the detector's score.

        Args:
            pictures: uint8 RGB [H, W, 3] each, of any sizes.

        Raises:
            UserError: the model has no record of how faces are cropped, `pictures` has another
                type, or the package `mtcnn` is missing.
        """
        if self.faces is None:
            raise UserError(
                f"the model {self._where} has no record of how its faces were found and "
                "cropped; crop them yourself, and call `features`"
            )
        found = find_faces(pictures, self.faces)
        return [
            aligned_crops([picture], [faces], self.faces.crop)
            for picture, faces in zip(pictures, found, strict=True)
        ]
