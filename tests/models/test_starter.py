"""The model that ships with the package is found by name, verified and stored in float16."""

import hashlib

import numpy as np
import pytest
from flax import nnx
from ml_collections import ConfigDict

from benchmarks.pack_starter import pack
from configs import emotion, pipeline, pretrain, verify
from fer_jax.data import sources
from fer_jax.data.sources import ArraySource
from fer_jax.errors import UserError
from fer_jax.models import starter
from fer_jax.models.network import Network
from fer_jax.schemas.training import Backbone
from fer_jax.stages import train
from fer_jax.training import model_directory, trained_model
from fer_jax.training.learner import make_tasks
from fer_jax.training.state import split_network
from fer_jax.workdir import stage

EMOTIONS = ("angry", "happy", "neutral")
BACKBONE = Backbone(
    width=0.125, depth=(0, 0, 0), stem="tiny", grey=True, normalise="per_image", momentum=0.9
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A workdir with a model for the tasks `emotion` and `verification`."""
    tasks, _ = make_tasks(
        {"emotion": {"classes": EMOTIONS}, "verification": {"inputs_of": "emotion"}}
    )
    network = Network(BACKBONE, tasks, rngs=nnx.Rngs(0))
    _, parameters, statistics = split_network(network)
    workdir = tmp_path_factory.mktemp("starter")
    arrays = model_directory.arrays_of({"parameters": parameters, "statistics": statistics})
    model_directory.save(workdir / "model", arrays, model_directory.describe(BACKBONE, 32, tasks))
    return workdir


@pytest.fixture
def shipped(trained, tmp_path, monkeypatch):
    """The folder of a small model that replaces the starter."""
    pack(trained, tmp_path / "shipped", None, 2.0)
    content = (tmp_path / "shipped" / "weights.safetensors").read_bytes()
    monkeypatch.setattr(starter, "_FOLDER", tmp_path / "shipped")
    monkeypatch.setattr(starter, "SHA256", hashlib.sha256(content).hexdigest())
    starter.folder.cache_clear()
    yield tmp_path / "shipped"
    starter.folder.cache_clear()


def test_the_starter_is_a_model_for_both_tasks(shipped, trained):
    assert model_directory.is_model("starter") and model_directory.find("starter") == shipped
    model, before = trained_model.load("starter"), trained_model.load(trained)
    crops = np.random.default_rng(0).integers(0, 256, (3, 40, 40, 3)).astype(np.uint8)
    assert model.record.labels["emotion"] == EMOTIONS
    assert model.record.inference["emotion"].temperature == 2.0
    assert model.probabilities("emotion", crops).shape == (3, 3)
    faces = [m.probabilities("verification", crops) for m in (model, before)]
    np.testing.assert_allclose(*faces, atol=0.01)  # half precision


def test_kernels_are_stored_in_float16_and_read_as_float32(shipped, trained):
    small, large = (
        (folder / "weights.safetensors").stat().st_size for folder in (shipped, trained / "model")
    )
    assert small < 0.65 * large
    weights, exact = (model_directory.read_weights(path) for path in ("starter", trained))
    assert weights.keys() == exact.keys()
    for name, array in weights.items():
        assert array.dtype == np.float32
        if name.endswith("kernel"):
            np.testing.assert_allclose(array, exact[name], rtol=1e-3, atol=1e-6)
        else:
            np.testing.assert_array_equal(array, exact[name])


def test_training_starts_from_the_starter(shipped, trained):
    weights = model_directory.read_weights(trained)
    network = Network(BACKBONE, {}, rngs=nnx.Rngs(1))
    _, parameters, statistics = split_network(network)
    leaves = model_directory.backbone_leaves(
        "starter", {"parameters": parameters, "statistics": statistics}
    )
    assert leaves.keys() == {name for name in weights if name.split("/")[1] == "backbone"}
    assert all(np.isfinite(array).all() for array in leaves.values())
    origin = model_directory.origin("starter")
    assert (origin.name, origin.sha256) == ("shipped", starter.SHA256)


def test_a_stage_does_not_treat_starter_as_a_path(tmp_path, monkeypatch):
    @stage(inputs=lambda config: [config.init])
    def run(config, workdir):
        return {"steps": 1}

    monkeypatch.chdir(tmp_path)
    config = ConfigDict({"stage": "example", "init": "starter"}).lock()
    assert run(config, tmp_path / "w")["steps"] == 1


def test_modified_or_missing_weights_are_refused(shipped, monkeypatch):
    monkeypatch.setattr(starter, "SHA256", "0" * 64)
    starter.folder.cache_clear()
    with pytest.raises(UserError, match=r"SHA-256 .* but that of this version is 0000"):
        trained_model.load("starter")
    monkeypatch.setattr(starter, "_FOLDER", shipped / "nowhere")
    with pytest.raises(UserError, match=r"lacks the weights of the starter .*--config\.model"):
        trained_model.load("starter")


def test_pretraining_starts_from_the_starter(shipped, tmp_path, monkeypatch):
    """With a learning rate near zero, the saved parameters are those of the starter."""
    (tmp_path / "data").mkdir()
    images = np.random.default_rng(2).integers(0, 256, (16, 32, 32, 3)).astype(np.uint8)
    monkeypatch.setattr(sources, "open_source", lambda *args, **kwargs: ArraySource(images))
    config = pretrain.get_config("base,rotation").unlock()
    assert "starter" not in config.init  # pretraining starts from random weights by default
    config.update({"init": "starter", "batch_size": 8, "epochs": 1.0})
    config.backbone.update({"width": BACKBONE.own.width, "depth": BACKBONE.own.depth})
    config.data.update({"root": str(tmp_path / "data"), "image_size": 32})
    config.optimizer.learning_rate = 1e-9
    summary = train.run(config.lock(), tmp_path / "run")
    assert (summary["init"], summary["init_sha256"]) == ("shipped", starter.SHA256)
    saved, shared = (model_directory.read_weights(path) for path in (tmp_path / "run", "starter"))
    names = [name for name in saved if name.startswith("parameters/backbone/")]
    assert len(names) > 20
    for name in names:
        np.testing.assert_allclose(saved[name], shared[name], atol=1e-6, err_msg=name)
    assert "parameters/heads/rotation/linear/kernel" in saved


def test_a_verifier_of_size_base_starts_from_the_starter_by_default():
    assert verify.get_config("base").init == "starter"
    assert pipeline.get_config("base").steps.verify.init == "starter"
    assert verify.get_config("base").optimizer.learning_rate == 2e-4
    for size in ("small", "full"):
        assert verify.get_config(size).init == ""


@pytest.mark.parametrize("config", [verify, pretrain, emotion])
def test_the_size_base_is_that_of_the_starter(config):
    base = config.get_config("base")
    size = base.image_size if config is emotion else base.data.image_size
    assert size == model_directory.read_record("starter").image_size
    backbone = Backbone(**base.backbone.to_dict())
    network = nnx.eval_shape(lambda: Network(backbone, {}, rngs=nnx.Rngs(0)))
    _, parameters, statistics = split_network(network)
    state = {"parameters": parameters, "statistics": statistics}
    leaves = model_directory.backbone_leaves("starter", state)
    assert sum(leaf.size for leaf in leaves.values()) > 1_000_000
