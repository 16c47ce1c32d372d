import cv2
import numpy as np

from fer_jax.faces.alignment import TEMPLATE
from fer_jax.faces.quality import brightness, hash_distance, perceptual_hash, sharpness, yaw
from fer_jax.people import photograph


def test_sharpness_decreases_with_blur():
    face = photograph(3, "happy", 0)
    values = [
        sharpness(cv2.GaussianBlur(face, (0, 0), s)) if s else sharpness(face) for s in (0, 1, 3)
    ]
    assert values[0] > 2 * values[1] > 8 * values[2]
    assert sharpness(np.full((9, 9, 3), 7, np.uint8)) == 0


def test_brightness_is_the_mean_luma():
    colour = np.zeros((4, 4, 3), np.uint8)
    colour[..., 1] = 255  # green has the weight 0.587
    assert brightness(colour) == 150
    assert brightness(np.full((4, 4, 3), 255, np.uint8)) == 255


def test_yaw_depends_on_the_nose_and_not_on_roll_size_or_position():
    frontal = TEMPLATE.copy()
    frontal[2, 0] = (frontal[:2, 0].mean() + frontal[3:, 0].mean()) / 2
    assert abs(yaw(frontal * 100)) < 0.5
    turned = frontal + np.array([[0, 0]] * 2 + [[0.1, 0]] + [[0, 0]] * 2)
    assert 20 < yaw(turned * 100) < 40
    mirrored = (turned * [-1, 1])[[1, 0, 2, 4, 3]]
    np.testing.assert_allclose(yaw(mirrored), -yaw(turned))
    angle = 0.5
    tilt = 3 * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    np.testing.assert_allclose(yaw(turned @ tilt.T + 9), yaw(turned))
    assert yaw(np.zeros((5, 2))) == 90


def test_hashes_are_close_only_for_versions_of_a_picture():
    face = photograph(3, "happy", 0)
    value = perceptual_hash(face)
    assert 0 <= value < 2**64
    _, data = cv2.imencode(".jpg", face, [cv2.IMWRITE_JPEG_QUALITY, 40])
    darker = (cv2.imdecode(data, cv2.IMREAD_COLOR) * 0.8).astype(np.uint8)
    assert hash_distance(value, perceptual_hash(darker)) <= 6
    others = [perceptual_hash(photograph(person, "sad", 1)) for person in range(4, 9)]
    assert min(hash_distance(value, other) for other in others) >= 12
    assert hash_distance(0, 2**64 - 1) == 64
