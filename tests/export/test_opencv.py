"""Resizing and conversion to grey equal those of OpenCV, bit for bit."""

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fer_jax.export import opencv
from fer_jax.faces.images import resize
from fer_jax.people import photograph


def pictures(side):
    """Pictures of noise, a face, a chequerboard, black, grey and white, [n, side, side, 3]."""
    noise = np.random.default_rng(side).integers(0, 256, (6, side, side, 3), np.uint8)
    face = cv2.resize(photograph(1, "happy", 0)[40:200, 80:240], (side, side))
    steps = np.kron(np.indices((side, side)).sum(0) % 2 * 255, np.ones((1, 1))).astype(np.uint8)
    flat = [np.full((side, side, 3), level, np.uint8) for level in (0, 128, 255)]
    return np.stack([*noise, face, np.repeat(steps[..., None], 3, axis=2), *flat])


def resized(images, side, interpolation):
    return np.stack([cv2.resize(i, (side, side), interpolation=interpolation) for i in images])


@pytest.mark.parametrize(
    ("length", "side"),
    [
        (80, 48), (80, 64), (72, 32), (96, 48), (112, 48), (144, 48), (192, 48), (77, 48), (64, 48),
        (320, 299), (160, 48), (96, 80), (100, 99),  # these have sums that end in one half
    ],
)  # fmt: skip
def test_shrinking_equals_area_interpolation_of_opencv(length, side):
    images = pictures(length)
    found = np.asarray(jax.jit(opencv.by_area, static_argnums=1)(jnp.asarray(images), side))
    np.testing.assert_array_equal(found, resized(images, side, cv2.INTER_AREA))


@pytest.mark.parametrize(
    ("length", "side"), [(43, 48), (58, 64), (29, 32), (269, 299), (32, 48), (48, 96), (80, 299)]
)
def test_enlarging_equals_linear_interpolation_of_opencv(length, side):
    images = pictures(length)
    found = np.asarray(jax.jit(opencv.bilinear, static_argnums=1)(jnp.asarray(images), side))
    np.testing.assert_array_equal(found, resized(images, side, cv2.INTER_LINEAR))


@pytest.mark.parametrize(("length", "side"), [(80, 48), (48, 48), (40, 48)])
def test_resizing_equals_that_of_crops_in_training(length, side):
    images = pictures(length)
    expected = np.stack([resize(image, side) for image in images])
    found = np.asarray(opencv.resize(jnp.asarray(images), side))
    np.testing.assert_array_equal(found, expected)


def test_grey_equals_that_of_opencv():
    images = np.random.default_rng(0).integers(0, 256, (4, 256, 256, 3), np.uint8)
    expected = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in images]
    np.testing.assert_array_equal(np.asarray(opencv.grey(jnp.asarray(images))), expected)
