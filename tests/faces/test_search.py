"""Detection in pictures that are shrunk before they are searched."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from fer_jax.faces import search
from fer_jax.faces.images import read_image
from fer_jax.faces.mtcnn import Faces
from fer_jax.records import FacePipeline, Search
from fer_jax.schemas.faces import Crop, Detector

GOLDEN = Path(__file__).parents[1] / "golden"


def pipeline(min_face, max_side):
    return FacePipeline(
        detector=Detector(min_face=min_face),
        search=Search(max_side=max_side),
        crop=Crop(size=80, margin=0.0),
    )


def test_faces_of_a_large_picture_are_found_though_it_is_shrunk():
    """40 pixels of the picture are 16 of the reduced one, in which faces have 30 to 45 pixels."""
    faces = read_image(GOLDEN / "three_faces.jpg")
    height, width = faces.shape[:2]
    group = np.full((width * 5 * 3 // 4, width * 5, 3), 128, np.uint8)
    group[:height, :width] = faces
    (found,) = search.find_faces([group], pipeline(40, 2 * width))
    assert len(found) == 3
    sides = (found.boxes[:, 2:] - found.boxes[:, :2]).min(1) * 2 / 5
    assert (sides < 60).all()


@pytest.mark.parametrize(
    ("min_face", "sizes", "expected"),
    [
        (40, [(100, 200)], {40: 1}),
        (40, [(150, 300)], {26: 1}),
        (40, [(1000, 2000)], {20: 1}),
        (15, [(1000, 2000)], {15: 1}),
        (40, [(100, 200), (1000, 2000), (90, 180)], {40: 2, 20: 1}),
    ],
)
def test_the_smallest_face_counts_in_pixels_of_the_picture(monkeypatch, min_face, sizes, expected):
    searched = {}

    class Fake:
        def __init__(self, min_face, **_):
            self.min_face = min_face

        def detect(self, images):
            searched[self.min_face] = len(images)
            one = np.ones(1, np.float32)
            boxes = [np.array([[0, 0, *image.shape[1::-1]]], np.float32) for image in images]
            return [Faces(box, one, np.ones((1, 5, 2), np.float32)) for box in boxes]

    monkeypatch.setattr(search, "Detector", Fake)
    pictures = [cv2.resize(np.zeros((9, 9, 3), np.uint8), size[::-1]) for size in sizes]
    found = search.find_faces(pictures, pipeline(min_face, 200))
    assert searched == expected
    for picture, faces in zip(pictures, found, strict=True):  # in the order of the pictures
        assert faces.boxes[0].tolist() == [0, 0, picture.shape[1], picture.shape[0]]
