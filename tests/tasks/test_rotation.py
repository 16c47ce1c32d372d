"""Rotations are exact, and only the content of the picture reveals them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fer_jax.tasks.augment import Augment
from fer_jax.tasks.rotation import Rotation, all_turns, turned


@pytest.fixture(scope="module")
def images():
    return jnp.asarray(np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8))


def test_four_quarter_turns_are_the_identity(images):
    once = images
    for _ in range(4):
        once = turned(once, jnp.ones(5, jnp.int32))
    np.testing.assert_array_equal(once, images)


def test_turned_agrees_with_rot90(images):
    turns = jnp.array([0, 1, 2, 3, 1])
    for image, turn, result in zip(images, turns, turned(images, turns), strict=True):
        np.testing.assert_array_equal(result, np.rot90(image, int(turn)))


def test_all_turns_of_an_image_are_consecutive(images):
    views, targets = all_turns(images)
    assert views.shape == (20, 8, 8, 3)
    np.testing.assert_array_equal(targets, np.tile(np.arange(4), 5))
    for n, view in enumerate(views):
        np.testing.assert_array_equal(view, np.rot90(images[n // 4], n % 4))


def test_one_view_draws_all_classes(images):
    many = jnp.tile(images, (80, 1, 1, 1))
    task = Rotation(views=1, augment=Augment())
    inputs, targets = task.prepare(jax.random.key(0), many, jnp.zeros(400, jnp.int32), train=True)
    assert min(np.bincount(targets, minlength=4)) > 70
    np.testing.assert_array_equal(inputs, turned(many, targets).astype(jnp.float32))


class Marked(Augment):
    """Simulates artefacts of resampling by a white top row."""

    def unflipped(self, key, images):
        return images.astype(jnp.float32).at[:, 0].set(255)


@pytest.mark.parametrize("views", [1, 4])
def test_artefacts_of_the_augmentation_are_not_rotated(views):
    task = Rotation(views=views, augment=Marked())
    black = jnp.zeros((32, 8, 8, 3), jnp.uint8)
    inputs, targets = task.prepare(jax.random.key(0), black, jnp.zeros(32, jnp.int32), train=True)
    assert set(np.unique(targets)) == {0, 1, 2, 3}
    np.testing.assert_array_equal(inputs, np.broadcast_to(inputs[0], inputs.shape))


def test_mirroring_comes_before_rotation(images):
    """Class 1 of a mirrored image is the rotated mirror image, not the mirrored rotation."""
    task = Rotation(augment=Augment(flip=1.0))
    inputs, _ = task.prepare(jax.random.key(0), images, jnp.zeros(5, jnp.int32), train=True)
    np.testing.assert_array_equal(inputs[1], np.rot90(images[0, :, ::-1]))


def test_images_that_are_not_square_are_refused():
    with pytest.raises(Exception, match="s s 3"):
        Rotation().prepare(
            jax.random.key(0), jnp.zeros((2, 8, 9, 3)), jnp.zeros(2, jnp.int32), train=True
        )


@pytest.mark.parametrize("views", [1, 4])
def test_only_the_target_restores_the_image(views):
    images = jnp.asarray(np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3)), jnp.float32)
    task = Rotation(views=views, augment=Augment())
    inputs, targets = task.prepare(jax.random.key(1), images, jnp.zeros(5, jnp.int32), train=True)
    truth = np.repeat(images, views, axis=0)
    np.testing.assert_array_equal(task.undo(inputs, targets), truth)
    assert (np.asarray(task.undo(inputs, (targets + 1) % 4)) != truth).any((1, 2, 3)).all()
