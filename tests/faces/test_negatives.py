import numpy as np

from fer_jax.faces import negatives
from fer_jax.faces.alignment import TEMPLATE
from fer_jax.faces.cascade.boxes import intersection_over_union
from fer_jax.faces.negatives import (
    background_landmarks,
    outline_box,
    touches,
    typical_landmarks,
)


def test_background_crops_avoid_faces_and_stay_in_the_image():
    taken = np.array([[110, 60, 210, 180.0]])
    face = TEMPLATE * 100 + [110, 70]
    places = [
        background_landmarks(np.random.default_rng(seed), face, taken, (240, 320), 0.2)
        for seed in range(40)
    ]
    found = np.stack([place for place in places if place is not None])
    assert len(found) >= 30
    assert (found >= 0).all() and (found <= [319, 239]).all()
    boxes = np.stack([outline_box(place, 0.2) for place in found])
    assert intersection_over_union(boxes, taken).max() == 0
    assert found.mean(1).std(0).min() > 20  # spread over the image
    again = background_landmarks(np.random.default_rng(3), face, taken, (240, 320), 0.2)
    np.testing.assert_array_equal(again, places[3])


def test_the_outline_that_avoids_faces_is_that_of_the_crop(monkeypatch):
    tried = []
    monkeypatch.setattr(negatives, "touches", lambda box, taken: tried.append(box))
    face = TEMPLATE * 100 + [[3, 0], [0, 2], [0, 0], [-4, 0], [0, 1]]
    for seed in range(10):
        rng = np.random.default_rng(seed)
        place = background_landmarks(rng, face, np.zeros((0, 4)), (240, 320), 0.2)
        np.testing.assert_allclose(tried[-1], outline_box(place, 0.2), atol=1e-9)


def test_without_a_free_region_there_are_no_landmarks():
    everything = np.array([[0, 0, 320, 240.0]])
    face = TEMPLATE * 100
    assert background_landmarks(np.random.default_rng(0), face, everything, (240, 320), 0.0) is None


def test_boxes_touch_if_they_share_area():
    others = np.array([[0, 0, 10, 10.0]])
    assert touches(np.array([9.0, 9, 20, 20]), others)
    assert not touches(np.array([10.0, 0, 20, 10]), others)
    assert not touches(np.array([0.0, 0, 1, 1]), others[:0])


def test_typical_landmarks_have_the_size_of_a_typical_face():
    landmarks = typical_landmarks(np.random.default_rng(0), (240, 320))
    assert 240 * 0.2 < np.ptp(landmarks[:, 1]) / np.ptp(TEMPLATE[:, 1]) < 240 * 0.5
