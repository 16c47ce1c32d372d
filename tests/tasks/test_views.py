"""The losses of tasks that compare views agree with plain loops, and ignore padding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fer_jax import tasks
from fer_jax.tasks.augment import Augment
from fer_jax.tasks.views import two_views

REAL, PADDED, WIDTH = 5, 3, 6
MASK = jnp.arange(REAL + PADDED) < REAL


@pytest.fixture(scope="module")
def outputs():
    """Projections of the two views of 5 images, and of 3 images of padding."""
    drawn = np.random.default_rng(0).normal(size=(2 * (REAL + PADDED), WIDTH))
    return jnp.asarray(drawn * np.linspace(0.3, 3, WIDTH), jnp.float32)


def nt_xent(views, temperature):
    """The loss of each view by equation 1 of Chen et al. 2020, with loops."""
    unit = views / np.linalg.norm(views, axis=1, keepdims=True)
    losses = []
    for i in range(len(unit)):
        partner = i + 1 if i % 2 == 0 else i - 1
        scores = np.exp([unit[i] @ unit[k] / temperature for k in range(len(unit)) if k != i])
        losses.append(-np.log(np.exp(unit[i] @ unit[partner] / temperature) / scores.sum()))
    return np.array(losses)


def vicreg(first, second, weights):
    """The loss by equations 1, 3 and 5 of Bardes et al. 2022; scaled as in the authors' code."""
    count, dimensions = first.shape
    short, off = 0.0, 0.0
    for z in (first, second):
        for i in range(dimensions):
            short += max(0.0, 1 - (z[:, i].var(ddof=1) + 1e-4) ** 0.5) / dimensions / 2
            for j in range(dimensions):
                if i != j:
                    together = (z[:, i] - z[:, i].mean()) * (z[:, j] - z[:, j].mean())
                    off += (together.sum() / (count - 1)) ** 2 / dimensions
    apart = ((first - second) ** 2).sum() / count / dimensions
    return weights[0] * apart + weights[1] * short + weights[2] * off


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_simclr_is_nt_xent_over_real_views(outputs, temperature):
    task = tasks.make("simclr", temperature=temperature)
    loss = np.asarray(task.loss(outputs, (), MASK))[: 2 * REAL]
    wanted = nt_xent(np.asarray(outputs, np.float64)[: 2 * REAL], temperature)
    np.testing.assert_allclose(loss, wanted, rtol=2e-5)


def test_vicreg_is_the_loss_of_the_paper_over_real_views(outputs):
    task = tasks.make("vicreg", invariance=2.0, variance=3.0, covariance=0.5)
    loss = np.asarray(task.loss(outputs, (), MASK))[: 2 * REAL]
    views = np.asarray(outputs, np.float64)[: 2 * REAL].reshape(REAL, 2, WIDTH)
    np.testing.assert_allclose(
        loss.mean(), vicreg(views[:, 0], views[:, 1], (2.0, 3.0, 0.5)), rtol=1e-5
    )


@pytest.mark.parametrize("name", ["simclr", "vicreg"])
def test_padding_is_ignored(outputs, name):
    task = tasks.make(name)
    changed = outputs.at[2 * REAL :].set(outputs[: 2 * PADDED])  # as if they were real images

    def mean(views):
        return (task.loss(views, (), MASK) * jnp.repeat(MASK, 2)).sum() / (2 * REAL)

    np.testing.assert_allclose(mean(outputs), mean(changed), rtol=1e-6)
    for gradient in (jax.grad(mean)(outputs), jax.grad(mean)(changed)):
        assert jnp.isfinite(gradient).all() and (gradient[2 * REAL :] == 0).all()
    found = task.metrics(changed, (), MASK)["accuracy"]
    np.testing.assert_array_equal(
        found[: 2 * REAL], task.metrics(outputs, (), MASK)["accuracy"][: 2 * REAL]
    )


def test_accuracy_is_the_share_of_found_views():
    directions = jnp.repeat(jnp.eye(4), 2, axis=0).at[5].set(jnp.eye(4)[0])  # one view is wrong
    found = tasks.make("simclr").metrics(directions, (), jnp.ones(4, bool))["accuracy"]
    assert found[2] == found[3] == found[6] == found[7] == 1
    assert found[5] == 0


def test_views_of_an_image_are_consecutive():
    images = jnp.arange(4, dtype=jnp.uint8)[:, None, None, None] * jnp.ones((1, 8, 8, 3), jnp.uint8)
    views = two_views(Augment(), jax.random.key(0), images, train=True)
    np.testing.assert_array_equal(views[:, 0, 0, 0], [0, 0, 1, 1, 2, 2, 3, 3])


def test_the_target_is_the_position_of_the_neighbour():
    """The value of each pixel is the number of its tile, so tiles reveal their positions."""
    cells = np.kron(np.arange(9).reshape(3, 3), np.ones((16, 16)))
    images = jnp.asarray(np.tile(cells[None, :, :, None], (64, 1, 1, 3)), jnp.uint8)
    images = images.at[:, 0, 0, 0].set(jnp.arange(64, dtype=jnp.uint8))  # all different
    task = tasks.make("relative_patch", normalise_tiles=False, grey=0.0, augment={})
    labels = jnp.zeros(64, jnp.int32)
    for train in (True, False):
        inputs, targets = task.prepare(jax.random.key(3), images, labels, train=train)
        pairs = np.asarray(inputs).reshape(64, 2, 11, 11, 3)[:, :, 6, 6, 0]
        assert (pairs[:, 0] == 4).all()
        order = np.array([0, 1, 2, 3, 5, 6, 7, 8])
        np.testing.assert_array_equal(pairs[:, 1], order[np.asarray(targets)])
        assert len(np.unique(targets)) == 8
