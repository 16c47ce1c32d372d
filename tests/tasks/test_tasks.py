"""Tests of all tasks in fer_jax/tasks; new tasks are found automatically."""

import importlib
import pkgutil
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import fer_jax.tasks
from fer_jax import tasks
from fer_jax.errors import UserError
from fer_jax.models.network import Network
from fer_jax.schemas.training import Backbone
from fer_jax.tasks.augment import Augment

BATCH, SIZE = 8, 48
TINY = {"width": 0.125, "depth": (0, 0, 0), "stem": "small", "grey": True, "momentum": 0.9}


def found():
    for module in pkgutil.iter_modules(fer_jax.tasks.__path__):
        if hasattr(importlib.import_module(f"fer_jax.tasks.{module.name}"), "TASK"):
            yield module.name


# Fields of further modes by name of the task; with few classes, so that tasks learn fast.
VARIANTS = {
    "rotation": [{}, {"views": 1}],
    "jigsaw": [{"permutations": 8}, {"permutations": 8, "mode": "tiles", "gap": 3}],
    "relative_patch": [{"gap": 3}, {"tile": 20}],
    "vicreg": [
        {"dimensions": 4}
    ],  # 8 images cannot span more dimensions, so the loss would stay high
}
CASES = [(name, fields) for name in found() for fields in VARIANTS.get(name, [{}])]
every_task = pytest.mark.parametrize(("name", "fields"), CASES, ids=lambda case: str(case))


@pytest.fixture(scope="module")
def images():
    """Different smooth pictures with distinct top, bottom, left and right."""
    rng = np.random.default_rng(0)
    coarse = rng.uniform(0, 255, (BATCH, 6, 6, 3))
    smooth = np.array(jax.image.resize(coarse, (BATCH, SIZE, SIZE, 3), "linear"))
    smooth[:, : SIZE // 3] *= 0.3
    return jnp.asarray(smooth.astype(np.uint8))


@pytest.fixture(scope="module")
def labels():
    return jnp.arange(BATCH, dtype=jnp.int32) % 2


def same(a, b):
    return all(jax.tree.leaves(jax.tree.map(lambda x, y: bool((x == y).all()), a, b)))


REAL = jnp.ones(BATCH, bool)


def test_all_tasks_are_found():
    assert set(found()) >= {"rotation", "jigsaw", "verification", "emotion"}
    assert set(found()) >= {"relative_patch", "simclr", "vicreg"}


@every_task
def test_tasks_return_values_per_example_and_depend_only_on_the_key(name, fields, images, labels):
    task = tasks.make(name, **fields)
    network = nnx.eval_shape(lambda: Network(Backbone(**TINY), {name: task}, rngs=nnx.Rngs(0)))
    prepare = jax.jit(task.prepare, static_argnames="train")

    inputs, _ = prepared = prepare(jax.random.key(1), images, labels, train=True)
    assert inputs.shape[0] % BATCH == 0 and inputs.shape[3] == 3
    assert jnp.issubdtype(inputs.dtype, jnp.floating)
    assert 80 < float(inputs.mean()) < 180  # 0..255
    assert same(prepared, prepare(jax.random.key(1), images, labels, train=True))
    assert not same(prepared, prepare(jax.random.key(2), images, labels, train=True))
    evaluated = prepare(jax.random.key(1), images, labels, train=False)
    assert same(evaluated, prepare(jax.random.key(2), images, labels, train=False))

    for task_inputs, task_targets in (prepared, evaluated):
        outputs = nnx.eval_shape(lambda n, x: n(name, x, train=False), network, task_inputs)
        logits = jnp.zeros(outputs.shape)
        given = logits, task_targets, REAL
        values = {"loss": task.loss(*given), **task.metrics(*given)}
        for value in values.values():
            assert value.ndim == 1 and len(value) % BATCH == 0
        if not isinstance(task_targets, tuple):  # tasks that compare views have no classes
            assert int(task_targets.min()) >= 0 and int(task_targets.max()) < outputs.shape[-1]
            np.testing.assert_allclose(values["loss"], np.log(outputs.shape[-1]), rtol=1e-5)


@every_task
def test_the_loss_decreases_on_one_batch(name, fields, images, labels):
    task = tasks.make(name, **fields)
    if task.labels_needed:
        images = images.at[4:].set(jnp.flip(images[:4], 1))
    network = Network(Backbone(**TINY), {name: task}, rngs=nnx.Rngs(0))
    graphdef, *state = nnx.split(network, nnx.Param, nnx.BatchStat)
    parameters, statistics = map(nnx.to_pure_dict, state)
    optimizer = optax.adam(3e-3)

    @jax.jit
    def step(parameters, statistics, optimizer_state):
        inputs, targets = task.prepare(jax.random.key(0), images, labels, train=True)

        def loss(parameters):
            network = nnx.merge(graphdef, parameters, statistics, copy=True)
            outputs = network(name, inputs, train=True, key=jax.random.key(0))
            new = nnx.to_pure_dict(nnx.state(network, nnx.BatchStat))
            given = outputs, targets, REAL
            return task.loss(*given).mean(), (new, task.metrics(*given))

        (value, (new, metrics)), gradient = jax.value_and_grad(loss, has_aux=True)(parameters)
        updates, optimizer_state = optimizer.update(gradient, optimizer_state)
        parameters = optax.apply_updates(parameters, updates)
        return parameters, new, optimizer_state, value, metrics["accuracy"].mean()

    optimizer_state = jax.jit(optimizer.init)(parameters)
    values = []
    for _ in range(25):
        parameters, statistics, optimizer_state, value, accuracy = step(
            parameters, statistics, optimizer_state
        )
        values.append(float(value))
    assert values[-1] < 0.25 * values[0], values
    assert accuracy > 0.9


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("rotatoin", {}, r"no module fer_jax.tasks.rotatoin \(did you mean 'rotation'"),
        ("permutations", {}, "no attribute TASK"),
        ("no_such_package.task", {}, "no module no_such_package.task"),
        ("jigsaw", {"grids": 2}, r"no field grids \(did you mean 'grid'"),
        ("jigsaw", {"grid": 2, "permutations": 25}, "permutations=25 must be at most 24"),
        ("jigsaw", {"grid": 1}, "grid=1 must be greater than or equal to 2"),
        ("jigsaw", {"mode": "pieces"}, "mode='pieces' must be 'tiles' or 'image'"),
        ("jigsaw", {"gap": -1}, "gap=-1 must be greater than or equal to 0"),
        ("rotation", {"views": 2}, "views=2 must be 1 or 4"),
        ("relative_patch", {"augment": {"flip": 0.5}}, "augment.flip=0.5 must be 0"),
        ("simclr", {"temperature": 0.0}, "temperature=0.0 must be greater than 0"),
        ("emotion", {"classes": ["happy", "happy"]}, "must not contain a name twice"),
        ("emotion", {"label_smoothing": 1.0}, "label_smoothing=1.0 must be less than 1"),
        ("emotion", {"augment": {"flips": 1.0}}, "augment.flips does not exist"),
        ("emotion", {"augment": {"flip": 2.0}}, "augment.flip=2.0 must be less than or equal to 1"),
    ],
)
def test_invalid_names_and_fields_are_user_errors(name, fields, message):
    with pytest.raises(UserError, match=message):
        tasks.make(name, **fields)


def test_the_number_of_class_weights_must_match_the_classes():
    task = tasks.make("emotion", class_weights=[1.0, 2.0])
    with pytest.raises(UserError, match="2 class_weights for 4 classes"):
        task.head(8, rngs=nnx.Rngs(0))


def test_config_values_are_converted_to_fields():
    task = tasks.make("emotion", classes=["sad", "glad"], augment={"flip": 0.5})
    assert task.classes == ("sad", "glad")
    assert task.augment == Augment(flip=0.5)


def test_a_users_task_is_loaded_by_its_module_name(tmp_path, monkeypatch):
    (tmp_path / "my_tasks").mkdir()
    (tmp_path / "my_tasks" / "quarter.py").write_text(
        "from fer_jax.tasks.rotation import Rotation as TASK\n"
    )
    (tmp_path / "my_tasks" / "broken.py").write_text("import no_such_thing\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert tasks.make("my_tasks.quarter", views=1).views == 1
    with pytest.raises(ModuleNotFoundError, match="no_such_thing"):
        tasks.make("my_tasks.broken")
    for name in [name for name in sys.modules if name.startswith("my_tasks")]:
        del sys.modules[name]


def test_label_smoothing_and_class_weights_agree_with_optax(labels):
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(BATCH, 2)), jnp.float32)
    plain = tasks.make("emotion", classes=("a", "b"))
    smooth = tasks.make("emotion", classes=("a", "b"), label_smoothing=0.1)
    weighted = tasks.make("emotion", classes=("a", "b"), class_weights=(1.0, 3.0))
    wanted = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    np.testing.assert_allclose(plain.loss(logits, labels, REAL), wanted, rtol=1e-5)
    np.testing.assert_allclose(
        weighted.loss(logits, labels, REAL), wanted * jnp.array([1.0, 3.0])[labels], rtol=1e-5
    )
    soft = optax.smooth_labels(jax.nn.one_hot(labels, 2), 0.1)
    np.testing.assert_allclose(
        smooth.loss(logits, labels, REAL), optax.softmax_cross_entropy(logits, soft), rtol=1e-5
    )
