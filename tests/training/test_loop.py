"""The loop resumes exactly, compiles once, and computes exact means with padding."""

import json

import jax
import numpy as np
import pytest
from flax import nnx

from configs import pretrain
from fer_jax import console
from fer_jax.data import iterators, sources
from fer_jax.errors import UserError
from fer_jax.models.network import Network
from fer_jax.schemas.training import Backbone, Training
from fer_jax.training import model_directory, step, trained_model
from fer_jax.training.learner import make_tasks
from fer_jax.training.loop import fit, steps_of
from fer_jax.training.state import merge_network, split_network
from tests.training.tiny import make_learner

SIZE = 32
BACKBONE = Backbone(
    width=0.125, depth=(0, 1, 0), stem="tiny", grey=True, normalise="per_image", momentum=0.9
)


def make_config(**fields):
    config = {
        "stage": "train",
        "init": "",
        "epochs": 1.0,
        "workers": 0,
        "backbone": dict(BACKBONE),
        "tasks": {"emotion": {"weight": 1.0, "classes": ("a", "b")}},
        "optimizer": {**pretrain.get_config().optimizer, "learning_rate": 3e-3},
        "batch_size": 8,
        "accumulate": 1,
        "fsdp": 1,
        "log_every": 2,
        "evaluate_every": 0,
        "checkpoint_every_s": 1e9,
    }
    return Training(**config | fields)


@pytest.fixture(scope="module")
def source():
    """Two classes: images with a bright top or a bright bottom."""
    rng = np.random.default_rng(0)
    labels = np.arange(20) % 2
    images = rng.integers(0, 60, (20, SIZE, SIZE, 3)).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[label * SIZE // 2 : (label + 1) * SIZE // 2] += 120
    return sources.ArraySource(images, labels)


@pytest.fixture(scope="module")
def learner():
    config = make_config()
    return make_learner(config, *make_tasks(config.tasks.fields()), 12)


def train(learner, source, folder, steps=12, **fields):
    config = make_config(**fields)
    batches = iterators.TrainIterator(source, batch_size=8, seed=1)
    return fit(learner, learner.init(5), batches, steps=steps, folder=folder, loop=config)


def leaves(state):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(state)]


def test_depths_are_spatial_means_of_stages_and_the_features(learner, source):
    state = learner.init(5)
    found = learner.depths(state, iterators.eval_batches(source, batch_size=8))
    assert list(found) == ["mixed_5b", "mixed_6a", "block17_0", "mixed_7a", "features"]

    def draw(key):
        return Network(BACKBONE, learner.tasks, rngs=nnx.Rngs(key))

    graphdef = split_network(nnx.eval_shape(lambda: draw(jax.random.key(0))))[0]
    network = merge_network(graphdef, state["parameters"], state["statistics"])
    features = nnx.jit(lambda network, images: network.features(images, train=False))
    outputs = nnx.jit(lambda network, images: network.stage_outputs(images, ["block17/0"]))
    images = jax.numpy.asarray(source.images)
    np.testing.assert_allclose(found["features"], features(network, images), atol=1e-5)
    block = outputs(network, images)["block17/0"].mean((1, 2))
    np.testing.assert_allclose(found["block17_0"], block, atol=1e-5)


def test_accumulate_is_the_number_of_parts_of_a_batch(monkeypatch):
    asked = {}
    monkeypatch.setattr(step, "make_train_step", lambda *_, **how: asked.update(how))
    config = make_config(accumulate=4)
    make_learner(config, *make_tasks(config.tasks.fields()), 12)
    assert asked == {"accumulate": 4, "average": config.optimizer.average}


def test_the_loss_decreases_and_every_function_is_compiled_once(learner, source, tmp_path):
    fitted = train(learner, source, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4, 6, 8, 10, 12]
    assert lines[-1]["loss"] < 0.6 * lines[0]["loss"]
    assert fitted.figures["emotion/accuracy"] > 0.9
    with pytest.raises(TypeError):  # another batch shape is not compiled
        learner.train(fitted.state, {k: v[:4] for k, v in next(batches_of(source)).items()})


def batches_of(source):
    return iterators.TrainIterator(source, batch_size=8, seed=1)


def test_a_resumed_run_ends_with_the_same_bits(learner, source, tmp_path):
    whole = train(learner, source, tmp_path / "whole")
    train(learner, source, tmp_path / "cut", steps=7)
    rest = train(learner, source, tmp_path / "cut")
    for a, b in zip(leaves(whole.state), leaves(rest.state), strict=True):
        np.testing.assert_array_equal(a, b)


def test_lines_after_the_last_checkpoint_are_not_repeated(learner, source, tmp_path):
    train(learner, source, tmp_path, steps=4)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"time": 1, "step": 6, "loss": 9.0}\n{"time": 2, "st')
    train(learner, source, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4, 6, 8, 10, 12]
    assert lines[2]["loss"] != 9.0


def test_means_are_exact_with_a_padded_last_batch(learner, source):
    state = learner.init(0)
    ragged = learner.evaluate(state, iterators.eval_batches(source, batch_size=8))
    parts = [
        sources.ArraySource(source.images[[i]], source.labels[[i]]) for i in range(len(source))
    ]
    single = [learner.evaluate(state, iterators.eval_batches(part, batch_size=8)) for part in parts]
    expected = np.mean([figures["emotion/loss"] for figures in single])
    assert ragged["emotion/loss"] == pytest.approx(expected, rel=1e-5)


def test_a_loss_that_is_not_finite_stops_the_run(learner, source, tmp_path):
    state = learner.init(5)
    state["parameters"] = jax.tree.map(lambda leaf: leaf * np.nan, state["parameters"])
    with pytest.raises(UserError, match=r"at step 1, .*\(batch 0 with .*no checkpoint yet"):
        fit(learner, state, batches_of(source), steps=4, folder=tmp_path, loop=make_config())


def test_a_model_directory_predicts_like_the_learner(learner, source, tmp_path):
    fitted = train(learner, source, tmp_path)
    spec = model_directory.describe(BACKBONE, SIZE, learner.tasks)
    model_directory.save(tmp_path / "model", model_directory.arrays_of(fitted.state), spec)
    model = trained_model.load(tmp_path)
    views = (source.images, source.images[:, :, ::-1])
    logits = jax.jit(lambda state, images: learner.logits(state, "emotion", images))
    expected = np.mean([jax.nn.softmax(logits(fitted.state, view)) for view in views], axis=0)
    np.testing.assert_allclose(model.probabilities("emotion", source.images), expected, atol=1e-5)
    assert model.record.labels == {"emotion": ("a", "b")}
    assert (expected.argmax(1) == source.labels).all()


def test_the_error_for_weights_of_another_network_names_them(learner, source, tmp_path):
    spec = model_directory.describe(BACKBONE, SIZE, learner.tasks)
    model_directory.save(tmp_path / "model", model_directory.arrays_of(learner.init(0)), spec)
    config = make_config(backbone={**dict(BACKBONE), "depth": (0, 2, 0)})
    deeper = make_learner(config, *make_tasks(config.tasks.fields()), 2)
    with pytest.raises(UserError, match=r"missing \(parameters/backbone/block17"):
        model_directory.backbone_leaves(tmp_path, deeper.init(0))


@pytest.mark.parametrize(
    ("epochs", "least", "steps"),
    [(2.0, 0, 25), (2.0, 24, 25), (2.0, 300, 300), (0.01, 0, 1)],
)
def test_min_steps_applies_to_few_images(restored_logging, capsys, epochs, least, steps):
    console.configure(verbosity=1)
    assert steps_of(make_config(epochs=epochs, min_steps=least), 100) == steps
    assert ("training for --config.min_steps=300 steps" in capsys.readouterr().out) == (
        steps == 300
    )
