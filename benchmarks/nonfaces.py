"""Cuts non-faces out of pictures and videos, for `configs/starter.py`.

    python -m benchmarks nonfaces --pictures DIR --name NAME --split train --out OUT

Up to about 20 crops without a face are cut from each picture, and from each of up to eight frames
of a video: candidates that MTCNN, with lowered thresholds, finds with a score below 0.7; random
places, aligned like a face; and random squares. No crop touches a detection with a score of 0.9 or
more. About half of the crops are reduced to the resolution of small faces, and crops with little
contrast are left out. Writes OUT/nonfaces/SPLIT/NAME/*.jpg.

Detections with a score of 0.9 or more are written to OUT/review/SPLIT/NAME/*.jpg. Most are faces;
some are animals, dolls, drawings and textures. Sort them by hand into OUT/faces/SPLIT/NAME and
OUT/nonfaces/SPLIT/NAME, and leave out what is neither.

--textures and --parts-of write textures and small parts of faces, and need no --pictures:

    python -m benchmarks nonfaces --textures 1500 --parts-of FER2013/train --split train --out OUT
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from benchmarks.refinement import media, part
from fer_jax.errors import UserError
from fer_jax.faces.alignment import align
from fer_jax.faces.drawing import write_image
from fer_jax.faces.images import SUFFIXES, read_image
from fer_jax.faces.mtcnn import Detector, Faces
from fer_jax.faces.negatives import (
    background_landmarks,
    outline_box,
    touches,
    typical_landmarks,
)
from fer_jax.people import texture

EAGER = (0.4, 0.2, 0.02)  # MTCNN's thresholds
SURE, DOUBTED = 0.9, 0.7
SIDE = 320  # pixels; pictures and their parts are resized to this side
CROP = {"size": 80, "margin": 0.0}  # as configs/photographs.py
FLAT = 8  # crops whose values (0..255) have a smaller standard deviation are left out
COARSE = (16, 48)  # range of the side, in pixels, to which crops are reduced
PER_SOURCE = {"candidates": 7, "places": 5, "squares": 4}
BATCH = 16  # views that are searched together


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pictures", type=Path, nargs="*", default=[])
    parser.add_argument("--name", default="pictures", help="name of the source's folder")
    parser.add_argument("--split", choices=("train", "validation", "test"), default="train")
    parser.add_argument("--parts", type=int, default=2, help="random parts of each picture")
    parser.add_argument("--textures", type=int, default=0)
    parser.add_argument("--parts-of", type=Path, help="folder of pictures of faces")
    parser.add_argument("--parts-count", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    if options.pictures:
        from_pictures(options, rng)
    for number in range(options.textures):
        seed = options.seed * 1_000_000 + number
        image = degraded(rng, texture(seed, (80, 80)))
        save(options.out / "nonfaces" / options.split / "textures" / f"{number:05d}.jpg", image)
    if options.parts_of:
        files = sorted(f for f in options.parts_of.rglob("*") if f.suffix.lower() in SUFFIXES)
        for number in range(options.parts_count):
            image = read_image(files[rng.integers(len(files))])
            save(
                options.out / "nonfaces" / options.split / "parts" / f"{number:05d}.jpg",
                part_of_face(rng, image),
            )


def from_pictures(options: argparse.Namespace, rng: np.random.Generator) -> None:
    detector = Detector(thresholds=EAGER)
    pending: list[tuple[str, np.ndarray]] = []
    for source, image in media(options.pictures, whole=True):
        views = [fit(image), *(fit(part(rng, image)) for _ in range(options.parts))]
        pending += [(f"{source}-{number}", view) for number, view in enumerate(views)]
        if len(pending) >= BATCH:
            cut(options, rng, detector, pending[:BATCH])
            pending = pending[BATCH:]
    while pending:
        cut(options, rng, detector, pending[:BATCH])
        pending = pending[BATCH:]


def cut(
    options: argparse.Namespace,
    rng: np.random.Generator,
    detector: Detector,
    views: list[tuple[str, np.ndarray]],
) -> None:
    images = [view for _, view in views]
    padded = images + [np.zeros_like(images[0])] * (BATCH - len(images))
    for (name, view), faces in zip(views, detector.detect(padded), strict=False):
        sure = faces.scores >= SURE
        taken = faces.boxes[sure].astype(float)
        for number in np.flatnonzero(sure):
            crop = align(view, faces.landmarks[number], CROP["size"], CROP["margin"])
            score = int(1000 * faces.scores[number])
            save(
                options.out
                / "review"
                / options.split
                / options.name
                / f"{name}-{number}-{score}.jpg",
                crop,
            )
        for number, crop in enumerate(nonfaces(rng, view, faces, taken, options.parts + 1)):
            if crop.std() >= FLAT:
                file = (
                    options.out
                    / "nonfaces"
                    / options.split
                    / options.name
                    / f"{name}-{number:02d}.jpg"
                )
                save(file, degraded(rng, crop))


def nonfaces(
    rng: np.random.Generator, view: np.ndarray, faces: Faces, taken: np.ndarray, views: int
) -> Iterator[np.ndarray]:
    """Yields crops of a view that touch none of the boxes `taken`.

    `views` is the number of views of the picture, over which PER_SOURCE is distributed.
    """
    most = {kind: -(-count // views) for kind, count in PER_SOURCE.items()}
    rows = np.flatnonzero(faces.scores < DOUBTED)
    rows = [row for row in rows if not touches(outline_box(faces.landmarks[row], 0.0), taken)]
    for row in rows[: most["candidates"]]:
        yield align(view, faces.landmarks[row], CROP["size"], CROP["margin"])
    for _ in range(most["places"]):
        typical = typical_landmarks(rng, view.shape[:2])
        free = background_landmarks(rng, typical, taken, view.shape[:2], 0)
        if free is not None:
            yield align(view, free.astype(np.float32), CROP["size"], CROP["margin"])
    for _ in range(most["squares"]):
        side = int(np.exp(rng.uniform(np.log(40), np.log(SIDE))))
        top, left = rng.integers(SIDE - side + 1, size=2)
        box = np.array([left, top, left + side, top + side], float)
        if not touches(box, taken):
            square = view[top : top + side, left : left + side]
            yield cv2.resize(square, (CROP["size"],) * 2, interpolation=cv2.INTER_AREA)


def part_of_face(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """A random square, with 25 to 42 % of the picture's shorter side as its side, resized."""
    side = int(rng.uniform(0.25, 0.42) * min(image.shape[:2]))
    top, left = (rng.integers(length - side + 1) for length in image.shape[:2])
    square = image[top : top + side, left : left + side]
    return cv2.resize(square, (CROP["size"],) * 2, interpolation=cv2.INTER_LINEAR)


def degraded(rng: np.random.Generator, crop: np.ndarray) -> np.ndarray:
    """The crop, reduced to the resolution of small faces with a probability of one half."""
    if rng.random() < 0.5:
        return crop
    side = int(rng.integers(*COARSE))
    small = cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA)
    return cv2.resize(small, crop.shape[1::-1], interpolation=cv2.INTER_LINEAR)


def fit(image: np.ndarray) -> np.ndarray:
    """The central square of a picture, resized to a side of SIDE pixels."""
    side = min(image.shape[:2])
    top, left = ((length - side) // 2 for length in image.shape[:2])
    square = image[top : top + side, left : left + side]
    return cv2.resize(square, (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def save(file: Path, image: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        write_image(file, image)
    except UserError as error:
        print(f"left out: {error}")


if __name__ == "__main__":
    main()
