"""The update with gradient accumulation, averaging, frozen parameters and rematerialisation."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from fer_jax.models.network import Network
from fer_jax.schemas.training import Backbone
from fer_jax.tasks.task import make
from fer_jax.training.optimizer import frozen_mask
from fer_jax.training.state import for_use, initial_state, split_network
from fer_jax.training.step import make_eval_step, make_train_step

BACKBONE = {"width": 0.125, "depth": (0, 2, 0), "stem": "tiny", "normalise": "per_image"}
RATE = 0.1


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (8, 32, 32, 3)).astype(np.uint8)
    return {
        "image": jnp.asarray(images),
        "label": jnp.arange(8, dtype=jnp.int32) % 2,
        "mask": jnp.ones(8, bool),
    }


def prepared(*, freeze=(), accumulate=1, average=0.0, **backbone):
    """The compiled update with plain gradient descent, the initial state, and the evaluation."""
    tasks = {"emotion": make("emotion", classes=["a", "b"], augment={})}
    network = Network(Backbone(**BACKBONE, **backbone), tasks, rngs=nnx.Rngs(0))
    graphdef, parameters, statistics = split_network(network)
    optimizer = optax.sgd(RATE)
    frozen = frozen_mask(parameters, freeze)
    update = make_train_step(
        graphdef, tasks, {"emotion": 1.0}, optimizer, frozen, accumulate=accumulate, average=average
    )
    state = initial_state(parameters, statistics, optimizer, seed=0, averaged=average > 0)
    return jax.jit(update), state, make_eval_step(graphdef, tasks)


def assert_close(a, b, tolerance=1e-5):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=tolerance), a, b)


def moved(before, after):
    """The maximum change of each leaf, by path."""
    changes = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), before, after)
    return {jax.tree_util.keystr(path): c for path, c in jax.tree.leaves_with_path(changes)}


@pytest.fixture(scope="module")
def frozen_batchnorm(batch):
    """The state before and after an update with frozen BatchNorm, and the metrics."""
    update, state, _ = prepared(frozen_batchnorm=True)
    return state, *update(state, batch)


def test_frozen_batchnorm_keeps_its_statistics_and_trains_its_scale(frozen_batchnorm):
    before, after, _ = frozen_batchnorm
    assert max(moved(before["statistics"], after["statistics"]).values()) == 0
    scales = {
        k: v for k, v in moved(before["parameters"], after["parameters"]).items() if "scale" in k
    }
    assert min(scales.values()) > 0


def test_accumulated_gradients_equal_those_of_the_whole_batch(batch, frozen_batchnorm):
    _, whole, figures = frozen_batchnorm
    update, state, _ = prepared(frozen_batchnorm=True, accumulate=4)
    parts, part_figures = update(state, batch)
    assert_close(parts["parameters"], whole["parameters"])
    assert_close(part_figures, figures, 1e-4)


def test_rematerialised_blocks_give_the_same_update(batch, frozen_batchnorm):
    _, whole, _ = frozen_batchnorm
    update, state, _ = prepared(frozen_batchnorm=True, remat=True)
    again, _ = update(state, batch)
    assert_close(again["parameters"], whole["parameters"])


def test_a_linear_probe_changes_only_the_head(batch):
    update, state, _ = prepared(frozen_batchnorm=True, freeze=("backbone/*",))
    after, _ = update(state, batch)
    changes = moved(state["parameters"], after["parameters"])
    assert {path for path, change in changes.items() if change} == {
        "['heads']['emotion']['linear']['bias']",
        "['heads']['emotion']['linear']['kernel']",
    }


def test_the_average_follows_the_parameters_and_is_evaluated(batch):
    update, state, evaluate = prepared(average=0.5)
    after, _ = update(state, batch)
    kept = min(0.5, 2 / 11)  # after the first step
    expected = jax.tree.map(
        lambda old, new: kept * old + (1 - kept) * new, state["parameters"], after["parameters"]
    )
    assert_close(after["average"], expected, 1e-6)
    assert for_use(after)["parameters"] is after["average"]
    evaluate = jax.jit(evaluate)
    loss, _ = evaluate(after, batch)["emotion/loss"]
    only_average = {**after, "parameters": jax.tree.map(jnp.zeros_like, after["parameters"])}
    np.testing.assert_allclose(evaluate(only_average, batch)["emotion/loss"][0], loss, rtol=1e-6)
    only_last = {**after, "average": after["parameters"]}
    assert abs(evaluate(only_last, batch)["emotion/loss"][0] - loss) > 1e-3


def two_tasks(inputs_of="", mixup=0.0):
    """Update, initial state and evaluation of emotion and verification on one backbone."""
    tasks = {
        "emotion": make("emotion", classes=["a", "b"], augment={"flip": 0.5}, mixup=mixup),
        "verification": make("verification", augment={}, inputs_of=inputs_of),
    }
    network = Network(Backbone(**BACKBONE, frozen_batchnorm=True), tasks, rngs=nnx.Rngs(0))
    graphdef, parameters, statistics = split_network(network)
    optimizer = optax.sgd(RATE)
    weights = {"emotion": 1.0, "verification": 1.0}
    frozen = frozen_mask(parameters, ())
    update = make_train_step(graphdef, tasks, weights, optimizer, frozen)
    state = initial_state(parameters, statistics, optimizer, seed=0, averaged=False)
    return jax.jit(update), state, jax.jit(make_eval_step(graphdef, tasks))


def mixed_batch(batch):
    """Four faces with an emotion, two faces without, and two non-faces."""
    return {
        **batch,
        "label": jnp.full(8, -1, jnp.int32),
        "label_emotion": jnp.array([0, 1, -1, 0, -1, -1, 1, -1], jnp.int32),
        "label_verification": jnp.array([1, 1, 1, 1, 0, 1, 1, 0], jnp.int32),
    }


def test_each_task_uses_its_own_labels_and_ignores_unlabelled_examples(batch):
    _, state, evaluate = two_tasks()
    mixed = mixed_batch(batch)
    sums = evaluate(state, mixed)
    rows = np.array([0, 1, 3, 6])
    labelled = {name: values[rows] for name, values in batch.items()}
    alone = evaluate(state, {**labelled, "label": mixed["label_emotion"][rows]})
    faces = evaluate(state, {**batch, "label": mixed["label_verification"]})
    assert sums["emotion/loss"][1] == 4 and sums["verification/loss"][1] == 8
    for name in ("loss", "accuracy"):
        assert_close(sums[f"emotion/{name}"], alone[f"emotion/{name}"])
        assert_close(sums[f"verification/{name}"], faces[f"verification/{name}"])


@pytest.mark.parametrize("mixup", [0.0, 0.4])
def test_unlabelled_examples_have_no_gradient(batch, mixup):
    update, state, _ = two_tasks(mixup=mixup)
    unlabelled = {**mixed_batch(batch), "label_emotion": jnp.full(8, -1, jnp.int32)}
    after, figures = update(state, unlabelled)
    changes = moved(state["parameters"]["heads"], after["parameters"]["heads"])
    assert {path.split("'")[1] for path, change in changes.items() if change} == {"verification"}
    assert figures["emotion/loss"] == 0 and np.isfinite(figures["loss"])


def test_a_task_may_use_the_inputs_of_another(batch):
    mixed = mixed_batch(batch)
    _, state, evaluate = two_tasks()
    _, _, sharing = two_tasks(inputs_of="emotion")
    own, shared = evaluate(state, mixed), sharing(state, mixed)
    for name in own:  # without augmentation the inputs are the same
        assert_close(shared[name], own[name])
    update, state, _ = two_tasks(inputs_of="emotion", mixup=0.4)
    _, figures = update(state, mixed)
    assert np.isfinite(figures["loss"])
