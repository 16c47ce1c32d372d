import cv2
import numpy as np
import pytest

from fer_jax.faces.alignment import TEMPLATE, align, crop_outline, similarity, template_points


def test_similarity_recovers_rotation_scale_and_translation():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(5, 2)) * 40
    linear = 1.7 * np.array([[np.cos(0.6), -np.sin(0.6)], [np.sin(0.6), np.cos(0.6)]])
    found = similarity(points, points @ linear.T + [30, -7])
    np.testing.assert_allclose(found, np.c_[linear, [30, -7]], atol=1e-9)


def test_similarity_is_least_squares_without_reflection():
    rng = np.random.default_rng(1)
    source, target = rng.normal(size=(2, 5, 2))
    found = similarity(source, target)
    assert np.linalg.det(found[:, :2]) > 0
    np.testing.assert_allclose(found[0, 0], found[1, 1])
    np.testing.assert_allclose(found[0, 1], -found[1, 0])

    def error(transform):
        return ((source @ transform[:, :2].T + transform[:, 2] - target) ** 2).sum()

    for a, b, x, y in rng.normal(0, 0.05, (200, 4)):
        assert error(found + np.array([[a, -b, x], [b, a, y]])) >= error(found)
    mirrored = similarity(source, source * [-1, 1])
    assert np.linalg.det(mirrored[:, :2]) > 0


def test_landmarks_at_one_point_are_refused():
    with pytest.raises(ValueError, match="at the same point"):
        similarity(np.ones((5, 2)), TEMPLATE)


def test_the_template_is_that_of_arcface():
    np.testing.assert_allclose(template_points(112, 0.0)[0], [38.2946, 51.6963])
    np.testing.assert_allclose(template_points(112, 0.0)[4], [70.7299, 92.2041])
    # A margin of 0.5 halves the face and does not move the centre.
    np.testing.assert_allclose(
        template_points(112, 0.5) - 55.5, (template_points(112, 0.0) - 55.5) / 2
    )


@pytest.mark.parametrize("scale", [0.7, 1.0, 6.0])
@pytest.mark.parametrize("margin", [0.0, 0.3])
def test_aligned_landmarks_match_the_template(scale, margin):
    angle = 0.4
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    landmarks = (TEMPLATE - 0.5) * 112 @ turn.T + [450, 440]
    image = np.zeros((900, 900, 3), np.uint8)
    for x, y in landmarks:
        cv2.circle(image, (round(x * 16), round(y * 16)), int(4 * scale * 16), (255,) * 3, -1, 8, 4)
    crop = align(image, landmarks, 112, margin).astype(float)[..., 0]
    y, x = np.mgrid[:112, :112]
    for expected in template_points(112, margin):
        near = crop * (np.hypot(x - expected[0], y - expected[1]) < 8)
        centre = (near * x).sum() / near.sum(), (near * y).sum() / near.sum()
        np.testing.assert_allclose(centre, expected, atol=0.5)


def test_shrinking_averages_pixels():
    checks = (np.indices((800, 800)).sum(0) % 2 * 255).astype(np.uint8)
    crop = align(np.repeat(checks[..., None], 3, 2), TEMPLATE * 700 + 50, 64, 0.0)
    assert crop.std() < 6 and abs(crop.mean() - 127.5) < 3


def test_pixels_outside_the_image_are_reflected():
    image = np.full((100, 100, 3), 200, np.uint8)
    assert align(image, TEMPLATE * 80 + [-30, -30], 64, 0.3).min() == 200


def test_the_outline_encloses_the_crop():
    outline = crop_outline(TEMPLATE * 100 + [20, 40] - 0.5, 0.25)
    np.testing.assert_allclose(
        outline, [[-5.5, 14.5], [144.5, 14.5], [144.5, 164.5], [-5.5, 164.5]]
    )
