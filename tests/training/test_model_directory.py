"""Sources of initial weights (`config.init`), and the recorded origin of a model's weights."""

import hashlib

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from safetensors.numpy import save_file

from configs import pretrain
from fer_jax.errors import UserError
from fer_jax.models import imagenet
from fer_jax.records import Origin
from fer_jax.schemas import validated
from fer_jax.schemas.training import Backbone
from fer_jax.training import model_directory
from fer_jax.training.learner import make_tasks
from fer_jax.workdir import stage
from tests.models import foreign_files as foreign
from tests.training import tiny

BACKBONE = Backbone(width=foreign.WIDTH, depth=foreign.DEPTH)


def make_learner(average=0.0):
    config = pretrain.get_config().unlock()
    config.tasks = {"emotion": {"weight": 1.0, "classes": ("a", "b")}}
    config.backbone = dict(BACKBONE)
    config.batch_size = 8
    config.data.image_size = 75
    config.optimizer.average = average
    record = validated(config)
    return tiny.make_learner(record, *make_tasks(record.tasks.fields()), 2)


@pytest.fixture(scope="module")
def learner():
    return make_learner()


def described(learner, init=""):
    return model_directory.describe(BACKBONE, 75, learner.tasks, init=init)


@pytest.fixture(scope="module")
def state(learner):
    return learner.init(0)


@pytest.fixture(scope="module")
def truth():
    return foreign.make_truth(foreign.make_wanted())


@pytest.fixture
def keras_file(truth, tmp_path):
    layers = foreign.keras_layers(truth)
    return foreign.write_keras_layers(tmp_path / "weights_notop.h5", layers)


@pytest.fixture
def published(keras_file, monkeypatch):
    """A small Keras file in place of the published one, which `init = "imagenet"` names."""
    content = keras_file.read_bytes()
    known = imagenet.NOTOP._replace(size=len(content), md5=hashlib.md5(content).hexdigest())
    monkeypatch.setattr(imagenet, "NOTOP", known)
    monkeypatch.setenv("FER_JAX_IMAGENET", str(keras_file))
    return keras_file


def check(leaves, truth):
    assert leaves.keys() == truth.keys()
    for leaf, values in leaves.items():
        np.testing.assert_array_equal(values, truth[leaf], err_msg=leaf)


def test_training_can_start_from_a_weight_file(state, truth, keras_file):
    check(model_directory.backbone_leaves(str(keras_file), state), truth)


def test_training_can_start_from_the_published_weights(learner, state, truth, published):
    leaves = model_directory.backbone_leaves("imagenet", state)
    check(leaves, truth)
    begun = learner.begin_with(learner.init(0), leaves)
    bias = begun["parameters"]["backbone"]["conv_7b"]["bn"]["bias"]
    np.testing.assert_array_equal(bias, truth["parameters/backbone/conv_7b/bn/bias"])


def test_the_running_average_starts_with_the_same_weights(state, truth, keras_file):
    averaging = make_learner(average=0.9)
    leaves = model_directory.backbone_leaves(str(keras_file), state)
    begun = averaging.begin_with(averaging.init(0), leaves)
    for part in ("parameters", "average"):
        bias = begun[part]["backbone"]["conv_7b"]["bn"]["bias"]
        np.testing.assert_array_equal(bias, truth["parameters/backbone/conv_7b/bn/bias"])


def test_the_origin_of_weights_is_recorded(learner, state, truth, published, tmp_path):
    digest = hashlib.sha256(published.read_bytes()).hexdigest()
    begun = learner.begin_with(state, model_directory.backbone_leaves("imagenet", state))
    first = described(learner, "imagenet")
    assert first.init == Origin(name="weights_notop.h5", sha256=digest)
    model_directory.save(tmp_path / "pretrain" / "model", model_directory.arrays_of(begun), first)
    check(model_directory.backbone_leaves(tmp_path / "pretrain", state), truth)

    second = described(learner, str(tmp_path / "pretrain"))
    weights = (tmp_path / "pretrain" / "model" / "weights.safetensors").read_bytes()
    assert second.init == Origin(
        name="pretrain", sha256=hashlib.sha256(weights).hexdigest(), init=first.init
    )
    assert str(tmp_path) not in second.model_dump_json()  # a model may be passed on
    assert described(learner).init is None


def test_our_weights_are_read_without_the_record(learner, state, tmp_path):
    record = described(learner)
    model_directory.save(tmp_path / "m", model_directory.arrays_of(state), record)
    file = tmp_path / "m" / "weights.safetensors"
    leaves = model_directory.backbone_leaves(file, state)
    parts = {part: {"backbone": state[part]["backbone"]} for part in ("parameters", "statistics")}
    check(leaves, model_directory.flatten(jax.device_get(parts)))


def test_damaged_weights_without_the_record_are_refused(learner, state, tmp_path):
    model_directory.save(tmp_path, model_directory.arrays_of(state), described(learner))
    (tmp_path / "weights.safetensors").write_bytes(b"\x09")
    with pytest.raises(UserError, match="cannot read the weights in"):
        model_directory.backbone_leaves(tmp_path, state)


def test_a_path_without_a_model_is_a_user_error(state, tmp_path):
    with pytest.raises(UserError, match=f"no model in {tmp_path}.*weight file"):
        model_directory.backbone_leaves(tmp_path, state)


def test_safetensors_of_another_network_are_refused(state, tmp_path):
    save_file({"layer.weight": np.ones(3, np.float32)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match=r"1 unknown \(layer.weight\)"):
        model_directory.backbone_leaves(tmp_path / "other.safetensors", state)


def test_a_stage_does_not_treat_imagenet_as_a_path(tmp_path, monkeypatch):
    @stage(inputs=lambda config: [config.init])
    def run(config, workdir):
        return {"steps": 1}

    def config(init):
        return ConfigDict({"stage": "example", "init": init}).lock()

    monkeypatch.chdir(tmp_path)
    assert run(config("imagenet"), tmp_path / "w")["steps"] == 1
    with pytest.raises(UserError, match="there is no imagenett"):
        run(config("imagenett"), tmp_path / "v")


def test_saving_a_state_twice_gives_the_same_bytes(learner, state, tmp_path):
    record = described(learner)
    files = []
    for number in range(6):
        model_directory.save(tmp_path / str(number), model_directory.arrays_of(state), record)
        files.append((tmp_path / str(number) / "weights.safetensors").read_bytes())
    assert len(set(files)) == 1
