"""Pictures of tasks show the inputs, the answers and the labels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fer_jax.faces.images import read_image
from fer_jax.probes import task_pictures
from fer_jax.tasks.augment import Augment
from fer_jax.tasks.emotion import Emotion
from fer_jax.tasks.jigsaw import Jigsaw
from fer_jax.tasks.rotation import Rotation
from fer_jax.training.learner import Learner

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 12, 12, 3)).astype(np.uint8)
LABELS = np.array([0, 1, 2, 3, 0, 1], np.int32)
PLAIN = {"gap": 0, "normalise_tiles": False, "grey": 0.0, "augment": Augment()}


def shown(task, answers):
    """The pictures of a task for a model whose answers are `answers(targets)`."""
    inputs, targets = task.prepare(
        jax.random.key(0), jnp.asarray(IMAGES), jnp.asarray(LABELS), train=True
    )
    outputs = jax.nn.one_hot(answers(targets), 100)
    return task_pictures.shown(task, inputs, targets, outputs, 6)


@pytest.mark.parametrize("task", [Jigsaw(mode="image", **PLAIN), Jigsaw(mode="tiles", **PLAIN)])
def test_a_puzzle_is_shown_undone_by_the_answer_and_by_the_label(task):
    answered = shown(task, lambda targets: targets.at[2].add(1) % 100)
    assert list(answered.columns) == ["input", "undone by the answer", "undone by the label"]
    assert answered.right.tolist() == [True, True, False, True, True, True]
    for row in range(6):
        np.testing.assert_array_equal(answered.columns["undone by the label"][row], IMAGES[row])
        restored = answered.columns["undone by the answer"][row]
        assert (restored == IMAGES[row]).all() == answered.right[row]
    puzzle = answered.columns["input"][0]
    if task.mode == "image":
        assert puzzle.shape == (12, 12, 3)
    else:  # nine tiles with white between them
        assert puzzle.shape == (14, 14, 3) and (puzzle[[4, 9]] == 255).all()
    assert set(map(tuple, IMAGES[0].reshape(-1, 3))) <= set(map(tuple, puzzle.reshape(-1, 3)))


def test_each_image_shows_another_of_the_four_rotations():
    answered = shown(Rotation(views=4, augment=Augment()), lambda targets: targets)
    assert answered.truths.tolist() == [0, 1, 2, 3, 0, 1]
    for row, turns in enumerate(answered.truths):
        np.testing.assert_array_equal(answered.columns["input"][row], np.rot90(IMAGES[row], turns))
        np.testing.assert_array_equal(answered.columns["undone by the label"][row], IMAGES[row])


class Patches(Emotion):
    """Has two patches and one target per image, like relative patch location, but no `undo`."""

    def prepare(self, key, images, labels, *, train):
        pairs = jnp.stack([images[:, :4, :4], images[:, :4, 8:]], axis=1)
        return pairs.reshape(-1, 4, 4, 3), labels


def test_the_inputs_of_an_example_are_shown_side_by_side():
    answered = shown(Patches(), lambda targets: targets * 0)
    assert answered.columns["input"][1].shape == (4, 9, 3)
    np.testing.assert_array_equal(answered.columns["input"][1][:, 5:], IMAGES[1, :4, 8:])
    assert answered.right.tolist() == (LABELS == 0).tolist() and answered.captioned


def test_a_task_without_classes_shows_its_views():
    views = np.repeat(IMAGES, 2, axis=0).astype(np.float32)
    answered = task_pictures.shown(Patches(), views, (), np.zeros((12, 128)), 6)
    assert answered.right is None and not answered.captioned
    assert answered.columns["input"][0].shape == (12, 25, 3)


class Drawn(Learner):
    """A learner whose model always answers with class 1."""

    def __init__(self):
        self.tasks = {"jigsaw": Jigsaw(), "emotion": Emotion(), "mixed": Emotion(mixup=0.4)}

    def logits(self, weights, name, inputs):
        classes = 100 if name == "jigsaw" else 4
        return jnp.tile(jax.nn.one_hot(1, classes), (len(inputs), 1))


def test_the_picture_marks_every_answer(tmp_path):
    images = np.kron(IMAGES, np.ones((1, 3, 3, 1), np.uint8))
    task_pictures.draw(tmp_path / "tasks.png", Drawn(), {}, images, LABELS)
    picture = read_image(tmp_path / "tasks.png")
    for colour in (task_pictures.RIGHT, task_pictures.WRONG):
        rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        assert (picture == rgb).all(-1).sum() > 500
