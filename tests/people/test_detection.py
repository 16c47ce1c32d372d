"""A face detector for real people finds generated faces."""

import numpy as np

from fer_jax.faces.mtcnn import Detector
from fer_jax.people import EMOTIONS, photograph


def test_mtcnn_finds_generated_faces_at_their_positions():
    photographs = [
        photograph(person, EMOTIONS[person % 4], 3, (240, 320)) for person in range(1, 25)
    ]
    found = Detector(min_face=40).detect(photographs)
    counts = np.array([len(faces.scores) for faces in found])
    assert (counts >= 1).mean() >= 0.95 and (counts > 1).sum() <= 1
    # The eyes are above the mouth, and the face is near the centre of the picture.
    for faces in found:
        for landmarks in faces.landmarks[:1]:
            left_eye, right_eye, nose, *mouth = landmarks
            assert 30 < right_eye[0] - left_eye[0] < 75
            assert left_eye[1] < nose[1] < min(corner[1] for corner in mouth)
            assert 80 < nose[0] < 240
