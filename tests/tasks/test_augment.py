"""Augmentation has the requested strengths and probabilities, and depends only on the key."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pydantic import ValidationError

from fer_jax.tasks.augment import (
    Augment,
    placed,
    random_colour,
    random_erase,
    random_flip,
    random_grey,
)

ALL = Augment(
    flip=0.5, zoom=0.2, shift=0.1, turn=10.0, brightness=0.2, contrast=0.2, saturation=0.3,
    grey=0.2, erase=0.5,
)  # fmt: skip
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def images():
    return jnp.asarray(np.random.default_rng(0).integers(0, 256, (300, 16, 16, 3), dtype=np.uint8))


def place(images, scale=1.0, right=0.0, down=0.0, degrees=0.0):
    values = (scale, right, down, np.deg2rad(degrees))
    return placed(images, *(jnp.full(len(images), value, jnp.float32) for value in values))


def test_the_default_changes_nothing(images):
    np.testing.assert_array_equal(Augment()(KEY, images), images.astype(jnp.float32))
    np.testing.assert_array_equal(ALL.evaluation(images), images.astype(jnp.float32))


def test_augmentation_depends_only_on_the_key(images):
    augment = jax.jit(ALL)
    once = augment(KEY, images)
    assert once.shape == images.shape and once.dtype == jnp.float32
    assert float(once.min()) >= 0 and float(once.max()) <= 255
    np.testing.assert_array_equal(once, augment(KEY, images))
    other = augment(jax.random.key(1), images)
    assert ((once != other).any((1, 2, 3))).all()


def test_flip_has_the_requested_probability(images):
    flipped = random_flip(KEY, images, 0.3)
    assert flipped.dtype == jnp.uint8
    mirrored = (flipped == images[:, :, ::-1]).all((1, 2, 3))
    same = (flipped == images).all((1, 2, 3))
    assert (mirrored ^ same).all()
    assert 0.22 < float(mirrored.mean()) < 0.38


def test_shifts_by_whole_pixels_and_quarter_turns_are_exact(images):
    images = images[:4].astype(jnp.float32)
    np.testing.assert_allclose(place(images), images, atol=1e-3)
    moved = place(images, right=3.0, down=-2.0)
    np.testing.assert_allclose(moved[:, :14, 3:], images[:, 2:, :13], atol=1e-3)
    np.testing.assert_allclose(
        moved[:, 5, 0], images[:, 7, 0], atol=1e-3
    )  # the border is replicated
    np.testing.assert_allclose(place(images, degrees=90), np.rot90(images, 1, (1, 2)), atol=1e-2)


def test_scaling_is_about_the_centre():
    y, x = np.mgrid[:17, :17] - 8.0
    ramp = jnp.asarray(np.stack([x, y, x + y], -1)[None], jnp.float32)
    np.testing.assert_allclose(place(ramp, scale=2.0), ramp / 2, atol=1e-4)


def test_strengths_limit_the_random_values():
    """The shift of each image is measured on a ramp."""
    x = np.tile(np.arange(32.0)[None, None, :, None], (400, 32, 1, 3))
    moved = Augment(shift=0.125)(KEY, jnp.asarray(x, jnp.float32))
    right = 16 - np.asarray(moved)[:, 16, 16, 0]
    assert -4 <= right.min() < -3.8 and 3.8 < right.max() <= 4
    assert abs(right.mean()) < 0.4


def test_brightness_and_contrast_have_the_requested_ranges(images):
    grey = jnp.full((300, 4, 4, 3), 127.5, jnp.float32)
    lit = np.asarray(random_colour(KEY, grey, 0.2, 0.5, 0.5))
    assert np.ptp(lit, axis=(1, 2, 3)).max() < 1e-3
    shift = lit[:, 0, 0, 0] - 127.5
    assert -25.5 <= shift.min() < -24 and 24 < shift.max() <= 25.5
    faded = random_colour(KEY, images.astype(jnp.float32), 0.0, 0.5, 0.0)
    ratio = np.asarray(faded.std((1, 2, 3)) / images.astype(jnp.float32).std((1, 2, 3)))
    assert 0.49 < ratio.min() < 0.6


def test_grey_images_are_the_luma(images):
    result = np.asarray(random_grey(KEY, images.astype(jnp.float32), 0.25))
    grey = np.ptp(result, axis=-1).max((1, 2)) < 1e-3
    assert 0.17 < grey.mean() < 0.33
    luma = np.asarray(images) @ [0.299, 0.587, 0.114]
    np.testing.assert_allclose(result[grey][..., 0], luma[grey], atol=1e-2)


def test_erased_squares_have_the_requested_sides():
    y, x = np.mgrid[:32, :32]
    board = np.where((x + y) % 2, 200.0, 100.0)[None, ..., None]
    images = jnp.asarray(np.tile(board, (400, 1, 1, 3)), jnp.float32)
    erased = np.asarray(random_erase(KEY, images, 0.5))[..., 0]
    area = (erased == 150).sum((1, 2))
    assert set(np.unique(erased)) == {100, 150, 200}
    assert 0.42 < (area > 0).mean() < 0.58
    sides = np.sqrt(area[area > 0])
    assert 3 <= sides.min() < 6 and 10 < sides.max() <= 13


@pytest.mark.parametrize(
    ("strengths", "message"),
    [
        ({"flop": 1.0}, "flop\n  Unexpected keyword argument"),
        ({"zoom": 1.5}, "zoom\n  Input should be less than 1"),
        ({"turn": 90.0}, "turn\n  Input should be less than or equal to 45"),
    ],
)
def test_invalid_strengths_are_refused(strengths, message):
    with pytest.raises(ValidationError, match=message):
        Augment(**strengths)


def test_mirroring_can_be_applied_separately(images):
    only = Augment(flip=1.0)
    np.testing.assert_array_equal(only.unflipped(KEY, images), images.astype(jnp.float32))
    np.testing.assert_array_equal(only.flipped(KEY, images), images[:, :, ::-1])
