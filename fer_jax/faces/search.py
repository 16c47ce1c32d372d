"""Face detection in pictures of any size."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import UInt8

from fer_jax.errors import UserError
from fer_jax.faces.mtcnn import Detector, Faces
from fer_jax.records import FacePipeline, Search

Image = UInt8[np.ndarray, "_ _ 3"]
_SMALLEST = 20  # pixels: the detector finds few faces below this


def find_faces(images: Sequence[Image], pipeline: FacePipeline) -> list[Faces]:
    """Finds the faces in each picture, best first, in pixels of the picture.

    `pipeline.search` says whether large pictures are reduced, and small ones enlarged, before they
    are searched. In a reduced picture, the smallest faces to find are smaller than `min_face` by
    the same factor, but not below 20 pixels (or `min_face`, if that is less). In an enlarged
    picture, `min_face` is in pixels of the enlarged picture. With a `border`, pictures in which no
    face is found are searched again with their edges extended, to find faces that fill a picture.

    Args:
        images: uint8 [H, W, 3] RGB each, of any sizes.
        pipeline: the settings of the detector, and the sizes at which pictures are searched.

    Raises:
        UserError: `images` is not a list of such pictures, or the package `mtcnn` is missing.
    """
    _check(images)
    found = _detect(images, pipeline, border=0.0)
    if pipeline.search.border > 0:
        again = [i for i, faces in enumerate(found) if not len(faces)]
        second = _detect([images[i] for i in again], pipeline, pipeline.search.border)
        for i, faces in zip(again, second, strict=True):
            found[i] = faces
    return found


def largest(faces: Faces) -> Faces:
    """Only the face with the largest box; there must be at least one face."""
    sides = faces.boxes[:, 2:] - faces.boxes[:, :2]
    return faces.take([int(np.argmax(sides[:, 0] * sides[:, 1]))])


def scaled(image: Image, search: Search) -> Image:
    """The picture, resized for the search; unchanged if it already has the required size."""
    short, long = min(image.shape[:2]), max(image.shape[:2])
    scale = search.enlarge_to / short if short < search.enlarge_below else 1.0
    if search.max_side:
        scale = min(scale, search.max_side / long)
    if scale == 1:
        return image
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return cv2.resize(image, (width, height), interpolation=method)


def _check(images: Sequence[Image]) -> None:
    wanted = "pass a list of pictures, each uint8 [H, W, 3] in RGB"
    if isinstance(images, np.ndarray) and images.ndim == 3:
        raise UserError(f"one picture was passed without a list; {wanted}")
    if not isinstance(images, Sequence | np.ndarray) or isinstance(images, str | bytes):
        raise UserError(f"pictures cannot be of the type {type(images).__name__}; {wanted}")
    for number, image in enumerate(images):
        if not isinstance(image, np.ndarray):
            raise UserError(f"picture {number} is of the type {type(image).__name__}; {wanted}")
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise UserError(f"picture {number} is {image.dtype} {list(image.shape)}; {wanted}")


def _detect(images: Sequence[Image], pipeline: FacePipeline, border: float) -> list[Faces]:
    borders = [round(border * min(image.shape[:2])) for image in images]
    framed = [
        cv2.copyMakeBorder(image, width, width, width, width, cv2.BORDER_REPLICATE)
        for image, width in zip(images, borders, strict=True)
    ]
    views = [scaled(image, pipeline.search) for image in framed]
    results = []
    for image, frame, view, width, faces in zip(
        images, framed, views, borders, _detect_views(views, framed, pipeline), strict=True
    ):
        scale = np.array(view.shape[1::-1]) / np.array(frame.shape[1::-1])
        # The origin of boxes is the corner of the first pixel, that of landmarks its centre.
        boxes = faces.boxes / np.tile(scale, 2) - width
        landmarks = (faces.landmarks + 0.5) / scale - 0.5 - width
        limits = np.tile(image.shape[1::-1], 2)
        results.append(Faces(np.clip(boxes, 0, limits), faces.scores, landmarks))
    return results


def _detect_views(
    views: Sequence[Image], framed: Sequence[Image], pipeline: FacePipeline
) -> list[Faces]:
    """The faces in `views`, in pixels of the views; `framed` are the pictures before resizing."""
    settings = pipeline.detector
    smallest = [
        settings.min_face
        if len(view) >= len(frame)
        else max(min(settings.min_face, _SMALLEST), settings.min_face * len(view) // len(frame))
        for view, frame in zip(views, framed, strict=True)
    ]
    found: dict[int, Faces] = {}
    for min_face in set(smallest):
        detector = Detector(**(settings.model_dump() | {"min_face": min_face}))
        rows = [row for row, own in enumerate(smallest) if own == min_face]
        found |= zip(rows, detector.detect([views[row] for row in rows]), strict=True)
    return [found[row] for row in range(len(views))]
