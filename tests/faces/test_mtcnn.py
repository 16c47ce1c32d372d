import json
import sys
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from fer_jax.faces import mtcnn
from fer_jax.faces.cascade import on_device, pyramid
from fer_jax.faces.cascade.boxes import intersection_over_union
from fer_jax.faces.images import read_image
from fer_jax.faces.mtcnn import Detector

GOLDEN = Path(__file__).parents[1] / "golden"
EXPECTED = json.loads((GOLDEN / "mtcnn.json").read_text())


@pytest.fixture(scope="module")
def images():
    return {name: read_image(GOLDEN / name) for name in EXPECTED}


@pytest.fixture(scope="module")
def found(images):
    return dict(zip(images, Detector(min_face=20).detect(list(images.values())), strict=True))


@pytest.mark.parametrize("name", EXPECTED)
def test_faces_agree_with_the_reference_package(found, name):
    faces, expected = found[name], EXPECTED[name]
    expected = sorted(expected, key=lambda face: -face["score"])
    assert len(faces) == len(expected)
    for number, face in enumerate(expected):
        np.testing.assert_allclose(faces.boxes[number], face["box"], atol=0.05)
        np.testing.assert_allclose(faces.landmarks[number], face["landmarks"], atol=0.05)
        assert faces.scores[number] == pytest.approx(face["score"], abs=1e-4)


def test_the_weights_are_read_without_importing_mtcnn_or_tensorflow():
    assert "mtcnn" not in sys.modules
    assert "tensorflow" not in sys.modules


def test_faces_are_sorted_inside_the_image_and_float32(found, images):
    faces, (height, width) = found["three_faces.jpg"], images["three_faces.jpg"].shape[:2]
    assert faces.boxes.dtype == faces.scores.dtype == faces.landmarks.dtype == np.float32
    assert (np.diff(faces.scores) <= 0).all()
    assert (faces.boxes >= 0).all() and (faces.boxes <= np.array([width, height] * 2) - 1).all()
    left, right, nose, mouth_left, mouth_right = faces.landmarks[0]
    assert left[0] < nose[0] < right[0] and mouth_left[0] < mouth_right[0]
    assert max(left[1], right[1]) < nose[1] < min(mouth_left[1], mouth_right[1])


def test_a_larger_min_face_does_not_lose_larger_faces(found, images):
    """mtcnn 1.0.0 finds no faces in this picture for a min_face_size above about 25."""
    sides = found["three_faces.jpg"].boxes[:, 2:] - found["three_faces.jpg"].boxes[:, :2]
    for min_face in (30, 60):
        faces = Detector(min_face=min_face).detect([images["three_faces.jpg"]])[0]
        larger = found["three_faces.jpg"].take(sides.min(1) > 1.5 * min_face)
        assert len(larger) >= 1
        assert (intersection_over_union(larger.boxes, faces.boxes).max(1) > 0.7).all()


def test_boxes_do_not_depend_on_the_sizes_of_other_images(images, found):
    """mtcnn 1.0.0 pads images of a batch to one size, and uses it for its pyramid and patches."""
    for name, image in images.items():
        alone = Detector(min_face=20).detect([image])[0]
        np.testing.assert_allclose(found[name].boxes, alone.boxes, atol=1e-3)
        np.testing.assert_allclose(found[name].landmarks, alone.landmarks, atol=1e-3)


def test_a_floor_adds_candidates_without_changing_faces(images, found):
    faces = Detector(min_face=20).detect(list(images.values()), floor=0.05)
    for name, more in zip(images, faces, strict=True):
        kept = more.take(more.scores > 0.8)
        np.testing.assert_array_equal(kept.boxes, found[name].boxes)
        assert (more.scores > 0.05).all()
    strict = Detector(min_face=20, thresholds=(0.6, 0.7, 0.9999)).detect(list(images.values()))
    assert sum(map(len, strict)) < sum(map(len, faces))


@pytest.mark.parametrize("shape", [(1, 1, 3), (11, 300, 3), (19, 19, 3), (20, 20, 3), (64, 12, 3)])
def test_small_images_have_no_faces(shape):
    faces = Detector(min_face=20).detect([np.full(shape, 128, np.uint8)])[0]
    assert faces.boxes.shape == (0, 4) and faces.landmarks.shape == (0, 5, 2)


def test_every_call_searches_with_the_same_threads(images):
    """The C library keeps the memory of threads that ended, so new ones per call would add up."""

    def searching():
        return {t.ident for t in threading.enumerate() if t.name.startswith("search")}

    detector = Detector(min_face=60)
    detector.detect(list(images.values()))
    before = searching()
    for _ in range(3):
        detector.detect(list(images.values()))
    assert before and before <= searching() and len(searching()) <= mtcnn._THREADS


def test_no_images_give_an_empty_list():
    assert Detector(min_face=20).detect([]) == []


def test_max_faces_keeps_the_best_faces(found, images):
    several = found["three_faces.jpg"]
    assert len(several) == 3
    (two,) = Detector(min_face=20, max_faces=2).detect([images["three_faces.jpg"]])
    np.testing.assert_allclose(two.boxes, several.boxes[:2], atol=1e-3)
    (more,) = Detector(min_face=20, max_faces=1).detect([images["three_faces.jpg"]], floor=0.01)
    assert (more.scores > 0.8).sum() == 1


def test_twice_the_smallest_face_finds_the_same_large_faces(found, images):
    """For a `min_face` of 40 or more, the pyramid is computed from the image at half its size."""
    for name in EXPECTED:
        (faces,) = Detector(min_face=40).detect([images[name]])
        assert len(faces) == len(found[name])
        for box, landmarks, score in zip(
            found[name].boxes, found[name].landmarks, found[name].scores, strict=True
        ):
            overlap = intersection_over_union(box[None].astype(float), faces.boxes.astype(float))[0]
            same = int(overlap.argmax())
            assert overlap[same] > 0.85
            side = box[2] - box[0]
            assert np.abs(faces.landmarks[same] - landmarks).max() < 0.06 * side
            assert faces.scores[same] == pytest.approx(score, abs=0.02)


COARSE = Detector(min_face=60, factor=0.5, thresholds=(0.4, 0.3, 0.8))  # few levels to compile


def test_the_program_for_accelerators_finds_the_same_faces(images):
    image = images["three_faces.jpg"]
    several = [image, np.zeros((11, 40, 3), np.uint8), image[:, ::-1]]
    whole = COARSE.detect(several, floor=0.05, whole_on_device=True)
    host = COARSE.detect(several, floor=0.05, whole_on_device=False)
    assert list(map(len, whole)) == list(map(len, host))
    assert len(host[0]) >= 2 <= len(host[2]) and not len(host[1])
    for one, other in zip(whole, host, strict=True):
        np.testing.assert_allclose(one.boxes, other.boxes, atol=0.01)
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-4)
        np.testing.assert_allclose(one.landmarks, other.landmarks, atol=0.01)


def test_images_with_too_many_candidates_are_processed_on_the_host(images, monkeypatch):
    image = images["three_faces.jpg"]
    (expected,) = COARSE.detect([image], whole_on_device=False)
    on_device.candidates.clear_cache()
    monkeypatch.setattr(on_device, "SQUARES", 1)
    assert bool(COARSE._start([image]).overflow[0])
    (faces,) = COARSE.detect([image], whole_on_device=True)
    np.testing.assert_array_equal(faces.boxes, expected.boxes)
    on_device.candidates.clear_cache()


def test_faces_are_bitwise_independent_of_the_other_images(images):
    """Otherwise the crops of `predict` and of the stage `photographs` would differ."""
    names = ("one_face.jpg", "three_faces.jpg", "no_face.jpg")
    together = Detector(min_face=20).detect([images[name] for name in names] * 3)
    for name, faces in zip(names * 3, together, strict=True):
        (alone,) = Detector(min_face=20).detect([images[name]])
        for part in ("boxes", "scores", "landmarks"):
            np.testing.assert_array_equal(getattr(faces, part), getattr(alone, part))


def test_another_video_of_the_same_size_does_not_recompile(images):
    image = images["one_face.jpg"]
    rng = np.random.default_rng(0)
    Detector(min_face=20).detect([image])
    warm = mtcnn._propose_cells._cache_size()
    for seed in range(3):
        noise = rng.integers(-9, 9, image.shape)
        Detector(min_face=20).detect(
            [np.clip(np.roll(image, seed * 20, 1) + noise, 0, 255).astype(np.uint8)]
        )
    assert mtcnn._propose_cells._cache_size() == warm
    assert mtcnn._cut_and_apply._cache_size() <= 2 * 3  # two networks, and images of three sizes


@pytest.mark.parametrize("min_face", [20, 40])
def test_faces_do_not_depend_on_the_side_of_the_tiles(images, min_face, monkeypatch):
    """With other tiles, the levels of the pyramid are at other places in the mosaic."""
    picture = images["three_faces.jpg"]
    sizes = [(160, 120), (240, 320), (211, 317), (360, 640), (480, 480)]
    pictures = [cv2.resize(picture, size[::-1], interpolation=cv2.INTER_AREA) for size in sizes]
    detector = Detector(min_face=min_face)
    found = detector.detect(pictures, floor=0.3, whole_on_device=False)
    assert sum(map(len, found)) > len(sizes)
    monkeypatch.setattr(pyramid, "TILE", 256)
    monkeypatch.setattr(pyramid, "_TILE_STEP", 246)
    pyramid.mosaic.cache_clear()
    expected = detector.detect(pictures, floor=0.3, whole_on_device=False)
    pyramid.mosaic.cache_clear()
    for faces, other in zip(found, expected, strict=True):
        assert len(faces) == len(other)
        np.testing.assert_allclose(faces.boxes, other.boxes, atol=0.01)
        np.testing.assert_allclose(faces.scores, other.scores, atol=1e-4)
        np.testing.assert_allclose(faces.landmarks, other.landmarks, atol=0.01)


def test_pictures_of_all_sizes_share_one_program_of_the_first_network():
    mtcnn._propose_cells.clear_cache()
    sizes = [(60, 90), (240, 320), (320, 240), (360, 640), (700, 300)]
    pictures = [np.full((*size, 3), 128, np.uint8) for size in sizes]
    for min_face in (20, 40):
        Detector(min_face=min_face).detect(pictures, whole_on_device=False)
    assert mtcnn._propose_cells._cache_size() == 1


def test_invalid_settings_are_refused():
    for settings in (
        {"min_face": 0},
        {"factor": 1.0},
        {"thresholds": (0.6, 0.7)},
        {"max_faces": -1},
    ):
        with pytest.raises(ValueError):
            Detector(**settings)
