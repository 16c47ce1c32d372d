"""Jigsaw puzzles: distant permutations, cutting, shuffling and restoring tiles."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fer_jax.errors import UserError
from fer_jax.tasks.augment import Augment
from fer_jax.tasks.jigsaw import Jigsaw, assemble, cut, normalised, shuffle, unshuffle
from fer_jax.tasks.permutations import distant_permutations, smallest_distance


@pytest.fixture(scope="module")
def images():
    return jnp.asarray(np.random.default_rng(0).integers(0, 256, (6, 24, 24, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    ("items", "count", "distance"),
    [(9, 100, 6), (9, 24, 7), (9, 8, 8), (4, 24, 2), (4, 4, 4), (16, 100, 12)],
)
def test_permutations_have_large_pairwise_distances(items, count, distance):
    chosen = distant_permutations(items, count)
    assert chosen.shape == (count, items)
    assert (np.sort(chosen, axis=1) == np.arange(items)).all()
    assert (chosen[0] == np.arange(items)).all()
    assert smallest_distance(chosen) >= distance


def test_permutations_are_reproducible_and_cached():
    chosen = distant_permutations(9, 100)
    assert chosen is distant_permutations(9, 100)
    assert chosen[1].tolist() == SECOND and chosen[99].tolist() == LAST
    with pytest.raises(ValueError, match="read-only"):
        chosen[0, 0] = 5


SECOND = [2, 5, 4, 0, 8, 3, 1, 6, 7]
LAST = [2, 8, 4, 6, 0, 5, 3, 1, 7]


def test_too_many_permutations_are_refused():
    with pytest.raises(UserError, match="use 2 to 24"):
        distant_permutations(4, 25)


def test_assembling_restores_an_image_cut_without_gap(images):
    np.testing.assert_array_equal(assemble(cut(images, 3, 0, None)), images)
    np.testing.assert_array_equal(cut(images, 2, 0, None)[0, 1], images[0, :12, 12:])


def test_unshuffle_inverts_shuffle(images):
    tiles = cut(images, 3, 2, jax.random.key(0))
    chosen = jnp.asarray(distant_permutations(9, 6), jnp.int32)
    shuffled = shuffle(tiles, chosen)
    np.testing.assert_array_equal(shuffled[3, 5], tiles[3, chosen[3, 5]])
    np.testing.assert_array_equal(unshuffle(shuffled, chosen), tiles)


def test_tiles_have_random_positions_in_their_cells():
    """The values of each pixel are its coordinates, so tiles reveal their positions."""
    y, x = np.mgrid[:24, :24].astype(np.float32)
    images = jnp.asarray(np.tile(np.stack([y, x, 0 * x], -1), (200, 1, 1, 1)))
    tiles = np.asarray(cut(images, 3, 3, jax.random.key(0)))
    assert tiles.shape == (200, 9, 5, 5, 3)
    corner = tiles[:, :, 0, 0, :2] - 8 * np.stack(np.divmod(np.arange(9), 3), -1)
    assert set(np.unique(corner)) == {0, 1, 2, 3}
    counts = np.unique(corner.reshape(-1, 2), axis=0, return_counts=True)[1]
    assert len(counts) == 16 and counts.min() > 70  # 1800 draws of 16 positions
    np.testing.assert_array_equal(tiles[:, :, 4, 2, 0] - tiles[:, :, 0, 0, 0], 4)
    centred = np.asarray(cut(images, 3, 3, None))
    assert (centred[:, :, 0, 0, 0] % 8 == 1).all()


def test_sides_that_are_not_multiples_of_the_grid_are_cropped(images):
    tiles = cut(images[:, :23, :23], 3, 1, None)
    assert tiles.shape == (6, 9, 6, 6, 3)
    np.testing.assert_array_equal(tiles[0, 0], images[0, 1:7, 1:7])


def test_evaluation_targets_depend_only_on_the_image():
    rng = np.random.default_rng(3)
    many = jnp.asarray(rng.integers(0, 256, (600, 24, 24, 3), dtype=np.uint8))
    task, labels = Jigsaw(permutations=24), jnp.zeros(600, jnp.int32)
    inputs, targets = task.prepare(jax.random.key(0), many, labels, train=False)
    assert set(np.unique(targets)) == set(range(24))
    assert np.bincount(targets).min() > 8  # 25 expected
    part = slice(17, 40)
    again, same = task.prepare(jax.random.key(1), many[part], labels[part], train=False)
    np.testing.assert_array_equal(same, targets[part])
    np.testing.assert_array_equal(again, inputs[part])


def test_a_gap_as_large_as_a_cell_is_refused(images):
    with pytest.raises(UserError, match="too small for gap=8"):
        cut(images, 3, 8, None)


def test_normalised_channels_have_the_same_mean_and_deviation(images):
    shaded = images.astype(jnp.float32) * jnp.linspace(0.2, 1, 24)[None, :, None, None]
    tinted = shaded * jnp.array([1.0, 0.6, 0.3])
    tiles = normalised(cut(tinted, 3, 2, None))
    np.testing.assert_allclose(tiles.mean((2, 3)), 127.5, atol=1e-2)
    np.testing.assert_allclose(tiles.std((2, 3)), 50, atol=1e-2)


def test_a_uniform_channel_stays_uniform(images):
    flat = images.astype(jnp.float32).at[..., 1].set(7.0).at[:, :8, :8].set(0.0)
    tiles = normalised(cut(flat, 3, 2, None))
    np.testing.assert_array_equal(tiles[..., 1], 127.5)
    np.testing.assert_array_equal(tiles[:, 0], 127.5)
    np.testing.assert_allclose(tiles[:, 1:, ..., 2].std((2, 3)), 50, atol=1e-2)


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("mode", ["tiles", "image"])
def test_the_target_solves_the_puzzle(images, mode, train):
    task = Jigsaw(mode=mode, gap=0, normalise_tiles=False, grey=0.0, augment=Augment())
    inputs, targets = task.prepare(jax.random.key(3), images, jnp.zeros(6, jnp.int32), train=train)
    assert inputs.shape == ((54, 8, 8, 3) if mode == "tiles" else (6, 24, 24, 3))
    tiles = inputs.reshape(6, 9, 8, 8, 3) if mode == "tiles" else cut(inputs, 3, 0, None)
    chosen = jnp.asarray(distant_permutations(9, 100), jnp.int32)[targets]
    np.testing.assert_array_equal(assemble(unshuffle(tiles, chosen)), images)


@pytest.mark.parametrize("mode", ["tiles", "image"])
def test_only_the_target_restores_the_image(images, mode):
    task = Jigsaw(mode=mode, gap=0, normalise_tiles=False, grey=0.0, augment=Augment())
    inputs, targets = task.prepare(jax.random.key(3), images, jnp.zeros(6, jnp.int32), train=True)
    np.testing.assert_array_equal(task.undo(inputs, targets), images)
    wrong = np.asarray(task.undo(inputs, (targets + 1) % 100))
    assert (wrong != images).any((1, 2, 3)).all()


def test_grey_is_the_share_of_puzzles_without_colour():
    colour = jnp.asarray(np.random.default_rng(0).uniform(0, 255, (300, 12, 12, 3)), jnp.float32)
    task = Jigsaw(grid=2, permutations=4, gap=0, normalise_tiles=False, grey=0.3)
    inputs, _ = task.prepare(jax.random.key(0), colour, jnp.zeros(300, jnp.int32), train=True)
    grey = np.ptp(np.asarray(inputs), axis=-1).max((1, 2)) < 1e-3
    assert 0.2 < grey.mean() < 0.4
    inputs, _ = task.prepare(jax.random.key(0), colour, jnp.zeros(300, jnp.int32), train=False)
    assert (np.ptp(np.asarray(inputs), axis=-1).max((1, 2)) > 1).all()


def test_a_task_that_is_always_grey_is_grey_in_evaluation(images):
    for train in (True, False):
        labels = jnp.zeros(6, jnp.int32)
        inputs, _ = Jigsaw(gap=2).prepare(jax.random.key(0), images, labels, train=train)
        assert np.ptp(np.asarray(inputs), axis=-1).max() < 1e-3
