"""The task emotion: mixup blends images and labels with the same weight."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pydantic import ValidationError

from fer_jax.tasks.augment import Augment
from fer_jax.tasks.emotion import Emotion, Mixed

IMAGES = jnp.broadcast_to(jnp.arange(6.0)[:, None, None, None] * 40, (6, 4, 4, 3))
LABELS = jnp.array([0, 1, 2, 3, 0, 1])
REAL = jnp.ones(6, bool)


def mixed(key):
    task = Emotion(augment=Augment(), mixup=0.4)
    return task, *task.prepare(key, IMAGES, LABELS, train=True)


def test_mixup_blends_images_and_labels_with_the_same_weight():
    _, inputs, targets = mixed(jax.random.key(0))
    assert isinstance(targets, Mixed)
    assert float(targets.share.min()) >= 0.5 and float(targets.share.min()) < 0.99
    share = targets.share[:, None, None, None]
    np.testing.assert_allclose(inputs, IMAGES * share + IMAGES[::-1] * (1 - share), rtol=1e-6)
    np.testing.assert_array_equal(targets.others, LABELS[::-1])


def test_the_loss_is_the_cross_entropy_with_blended_labels():
    task, _, targets = mixed(jax.random.key(1))
    logits = jax.random.normal(jax.random.key(2), (6, 4))
    wanted = np.zeros((6, 4))
    wanted[range(6), targets.labels] += np.asarray(targets.share)
    wanted[range(6), targets.others] += 1 - np.asarray(targets.share)
    expected = -(wanted * np.asarray(jax.nn.log_softmax(logits))).sum(1)
    np.testing.assert_allclose(task.loss(logits, targets, REAL), expected, rtol=1e-5)
    certain = 10 * jax.nn.one_hot(LABELS, 4)
    assert task.metrics(certain, targets, REAL)["accuracy"].mean() == 1


def test_evaluation_has_no_mixup():
    task = Emotion(mixup=0.4)
    inputs, targets = task.prepare(jax.random.key(0), IMAGES, LABELS, train=False)
    np.testing.assert_array_equal(inputs, IMAGES)
    np.testing.assert_array_equal(targets, LABELS)


def test_a_negative_mixup_is_refused():
    with pytest.raises(ValidationError, match="greater than or equal to 0"):
        Emotion(mixup=-0.1)
