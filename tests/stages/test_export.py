"""The stage `export`: its files, their description, and models that are refused."""

import importlib.util
import json

import jax
import numpy as np
import pytest
from jax import export as jax_export

from configs import export as export_config
from fer_jax.errors import UserError
from fer_jax.export import answer, formats
from fer_jax.models import starter
from fer_jax.records import Inference
from fer_jax.stages import export
from fer_jax.training import gradients, model_directory, trained_model
from fer_jax.training.trained_model import Model, gradient_kernel, population_response
from fer_jax.workdir import read_json

NEEDED = "needs the converter (requirements-export.txt), which is optional"
ALONE = ("stablehlo",)


def config_for(model, **fields):
    config = export_config.get_config()
    config.update({"model": str(model)} | fields)
    return config


def save(folder, *, backbone=None, arrays=None, **how):
    """Saves the starter with a changed record and additional arrays; returns folder and model."""
    loaded = trained_model.load("starter")
    fields = {"inference": {"emotion": Inference(**how)}}
    fields["backbone"] = loaded.record.backbone.model_copy(update=backbone or {})
    model = Model(loaded.record.model_copy(update=fields), loaded.weights | (arrays or {}))
    model.save(folder)
    return folder, model


@pytest.fixture(scope="module")
def tuned_probe(tmp_path_factory):
    """A model like those of `method = "tuned_probe"`, with five crops and a temperature."""
    shape = (gradients.WIDTH, len(trained_model.load("starter").record.labels["emotion"]))
    kernel = np.random.default_rng(0).normal(0, 0.2, shape).astype(np.float32)
    return save(
        tmp_path_factory.mktemp("trained") / "model",
        arrays={gradient_kernel("emotion"): kernel},
        gradients=True,
        crops=5,
        temperature=1.3,
    )


def noise(count, seed=1):
    return np.random.default_rng(seed).integers(0, 256, (count, 80, 80, 3), np.uint8)


def test_the_onnx_file_gives_the_probabilities_of_the_model(tuned_probe, tmp_path):
    pytest.importorskip("jax2onnx", reason=NEEDED)
    folder, model = tuned_probe
    summary = export.run(config_for(folder, formats=("onnx",)), tmp_path / "out")
    assert 0 < summary["onnx_difference"] < 1e-5
    run = formats.open_onnx(tmp_path / "out" / "model.onnx")
    for faces in (noise(1), noise(3), export.generated_faces(80)):
        found = run(faces)
        expected = model.probabilities("emotion", faces)
        np.testing.assert_allclose(found.probabilities, expected, atol=1e-5)
        features = model.features_of_crops("emotion", faces).mean(axis=1)
        np.testing.assert_allclose(found.features, features, atol=1e-4)

    import onnx

    stored = onnx.load(tmp_path / "out" / "model.onnx")
    assert {item.domain for item in stored.opset_import} == {""}  # standard operators only
    (given,) = stored.graph.input
    dimensions = given.type.tensor_type.shape.dim
    assert given.name == "faces" and dimensions[0].dim_param == "batch"
    assert [item.dim_value for item in dimensions[1:]] == [80, 80, 3]
    assert [item.name for item in stored.graph.output] == ["probabilities", "features"]
    notes = {item.key: json.loads(item.value) for item in stored.metadata_props}
    described = read_json(tmp_path / "out" / "description.json")
    assert described.pop("differences") == {"onnx": summary["onnx_difference"]}
    assert notes == described
    assert described["labels"] == list(model.record.labels["emotion"])
    assert described["crop"] == {"size": 80, "margin": 0.0}
    assert described["inference"]["temperature"] == 1.3


def test_the_stablehlo_file_needs_only_jax(tuned_probe, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    folder, model = tuned_probe
    export.run(config_for(folder, formats=ALONE), tmp_path / "out")
    written = jax_export.deserialize(bytearray((tmp_path / "out/model.stablehlo").read_bytes()))
    assert set(written.platforms) == {"cpu", "cuda", "tpu"}
    for faces in (noise(1), noise(2)):
        found = jax.jit(written.call)(faces)
        expected = model.probabilities("emotion", faces)
        np.testing.assert_allclose(found["probabilities"], expected, atol=1e-5)


def test_the_readme_describes_input_and_output(tmp_path):
    out = tmp_path / "out"
    export.run(config_for("starter", formats=ALONE), out)
    text = (out / "README.md").read_text()
    assert starter.SHA256 in text and "uint8 [batch, 80, 80, 3]" in text and '"surprise"' in text
    assert read_json(out / "description.json")["weights_sha256"] == starter.SHA256
    assert (out / "LICENSE").read_bytes() == (starter.folder() / "LICENSE").read_bytes()
    assert sorted(path.name for path in out.iterdir() if path.name.startswith("model")) == [
        "model.stablehlo"
    ]


def test_a_network_in_bfloat16_is_exported_in_float32(tmp_path):
    folder, _ = save(tmp_path / "model", backbone={"dtype": "bfloat16"})
    summary = export.run(config_for(folder, formats=ALONE), tmp_path / "out")
    assert summary["stablehlo_difference"] < 1e-5
    assert not (tmp_path / "out" / "LICENSE").exists()


def test_a_model_that_was_trained_from_the_starter_keeps_its_licence(tmp_path):
    folder, _ = save(tmp_path / "model")
    record = model_directory.read_record(folder)
    record = record.model_copy(update={"init": model_directory.origin("starter")})
    model_directory.save(tmp_path / "tuned", model_directory.read_weights(folder), record)
    export.run(config_for(tmp_path / "tuned", formats=ALONE), tmp_path / "out")
    licence = (starter.folder() / "LICENSE").read_text()
    assert (tmp_path / "out" / "LICENSE").read_text() == licence


def test_a_file_that_disagrees_with_the_model_is_not_kept(tmp_path, monkeypatch):
    make = answer.make

    def wrong(model):
        function = make(model)
        return lambda crops: function(crops[:, :, ::-1] // 2)

    monkeypatch.setattr(answer, "make", wrong)
    with pytest.raises(UserError, match=r"model\.stablehlo differs from the model by .* not kept"):
        export.run(config_for("starter", formats=ALONE), tmp_path / "out")
    assert not list((tmp_path / "out").glob("*model*"))


def test_a_missing_converter_is_reported_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        UserError, match=r"onnx needs jax2onnx, onnx, onnxruntime; run in the checkout: pip"
    ):
        export.run(config_for("starter"), tmp_path / "out")
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_a_person_relative_model_is_refused(tmp_path):
    response = {population_response("emotion"): np.zeros((2, 7), np.float32)}
    folder, _ = save(tmp_path / "model", arrays=response, reference="mean")
    with pytest.raises(UserError, match="person-relative, so its answer about a face depends on"):
        export.run(config_for(folder, formats=ALONE), tmp_path / "out")


def test_a_model_without_a_record_of_its_crops_is_refused(tmp_path):
    loaded = trained_model.load("starter")
    record = loaded.record.model_copy(update={"faces": None})
    Model(record, loaded.weights).save(tmp_path / "model")
    with pytest.raises(UserError, match="has no record of how its faces were found and cropped"):
        export.run(config_for(tmp_path / "model", formats=ALONE), tmp_path / "out")


def test_a_missing_model_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match=r"set --config\.model to starter, a model directory"):
        export.run(config_for("", formats=ALONE), tmp_path / "out")
