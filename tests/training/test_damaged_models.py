"""A damaged model directory is refused with an error of one line."""

import json
import shutil

import jax
import numpy as np
import pytest
from flax import nnx
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from fer_jax import records
from fer_jax.errors import UserError
from fer_jax.models import inception_resnet_v2
from fer_jax.models.network import Network
from fer_jax.records import FacePipeline, ModelRecord
from fer_jax.schemas.training import Backbone
from fer_jax.training import model_directory, trained_model
from fer_jax.training.learner import make_tasks
from fer_jax.training.state import split_network
from tests.training.tiny import TinyBackbone

LABELS = ["angry", "happy", "neutral", "sad"]
KERNEL = "parameters/heads/emotion/linear/kernel"
FACES = {
    "detector": {"min_face": 20, "factor": 0.709, "thresholds": [0.6, 0.7, 0.8]},
    "search": {"max_side": 1280},
    "crop": {"size": 80, "margin": 0.0},
}


@pytest.fixture(autouse=True)
def tiny_network(monkeypatch):
    monkeypatch.setattr(inception_resnet_v2, "InceptionResNetV2", TinyBackbone)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A valid model directory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inception_resnet_v2, "InceptionResNetV2", TinyBackbone)
        root = tmp_path_factory.mktemp("photographs")
        pipeline = records.parse(FacePipeline, json.dumps(FACES), "the test")
        records.write(root / records.FACES, pipeline)
        tasks, _ = make_tasks({"emotion": {"classes": LABELS}})
        _, parameters, statistics = split_network(Network(Backbone(), tasks, rngs=nnx.Rngs(0)))
        state = {"parameters": parameters, "statistics": statistics}
        folder = tmp_path_factory.mktemp("model")
        record = model_directory.describe(
            Backbone(), 16, tasks, faces=model_directory.read_faces(root)
        )
        model_directory.save(folder, model_directory.arrays_of(state), record)
    return folder


@pytest.fixture
def folder(original, tmp_path):
    shutil.copytree(original, tmp_path / "copy")
    return tmp_path / "copy"


def crops(count=2):
    return np.random.default_rng(0).integers(0, 256, (count, 20, 20, 3)).astype(np.uint8)


def refused(folder):
    with pytest.raises(UserError) as caught:
        trained_model.load(folder).probabilities("emotion", crops())
    message = str(caught.value)
    assert "\n" not in message and str(folder) in message and len(message) < 500
    return message


def change_record(folder, change):
    fields = json.loads((folder / "model.json").read_text())
    change(fields)
    (folder / "model.json").write_text(json.dumps(fields))


def change_arrays(folder, change, *, old=False):
    """Changes the weights but not their checksums; if `old`, removes the checksums."""
    file = folder / "weights.safetensors"
    with safe_open(file, framework="np") as opened:
        header = opened.metadata()
    arrays = {name: array.copy() for name, array in load_file(file).items()}
    change(arrays)
    save_file(arrays, file, metadata=None if old else header)
    if old:
        change_record(folder, as_format_1)


def as_format_1(fields):
    """Converts the fields of model.json to the format without checksums, in place."""
    faces = fields.pop("faces")
    fields.pop("format")
    for name in ("inference", "init"):
        fields.pop(name)
    fields |= {"detector": faces["detector"], "crop": faces["crop"]}


def test_a_valid_model_answers(folder):
    found = trained_model.load(folder).probabilities("emotion", crops(3))
    assert found.shape == (3, 4) and np.allclose(found.sum(1), 1, atol=1e-6)


def put(array, place, value):
    array.reshape(-1)[place] = value


ARRAY_DAMAGE = {
    "NaN": lambda a: put(a[KERNEL], 0, np.nan),
    "Inf": lambda a: put(a[KERNEL], 0, np.inf),
    "another value": lambda a: put(a[KERNEL], 0, 0.25),
    "integers": lambda a: a.update({KERNEL: a[KERNEL].astype(np.int32)}),
    "half precision": lambda a: a.update({KERNEL: a[KERNEL].astype(np.float16)}),
    "another shape": lambda a: a.update({KERNEL: np.zeros((8, 6), np.float32)}),
    "a missing array": lambda a: a.pop(KERNEL),
    "an additional array": lambda a: a.update(more=np.zeros(3, np.float32)),
}


@pytest.mark.parametrize(
    ("damage", "old"),
    # Without checksums, modified values are not detected, and arrays may be in half precision.
    [
        (d, old)
        for d in ARRAY_DAMAGE
        for old in (False, True)
        if not old or d not in ("another value", "half precision")
    ],
)
def test_damaged_arrays_are_refused(folder, damage, old):
    change_arrays(folder, ARRAY_DAMAGE[damage], old=old)
    message = refused(folder)
    assert ("more" if damage == "an additional array" else KERNEL) in message


def test_flipped_bits_are_refused(folder):
    file = folder / "weights.safetensors"
    content = bytearray(file.read_bytes())
    start = 8 + int.from_bytes(content[:8], "little")
    rng = np.random.default_rng(3)
    for place in rng.integers(start, len(content), 50):
        content[place] ^= 1 << int(rng.integers(8))
    file.write_bytes(content)
    assert "checksum" in refused(folder)


@pytest.mark.parametrize("place", range(0, 400, 40))
def test_a_damaged_header_is_refused(folder, place):
    file = folder / "weights.safetensors"
    content = bytearray(file.read_bytes())
    content[place] ^= 0x15
    file.write_bytes(content)
    refused(folder)


RECORD_DAMAGE = {
    "six labels for four outputs": (lambda f: f["labels"]["emotion"].extend(["x", "y"]), "outputs"),
    "duplicate labels": (lambda f: f["labels"].update(emotion=["sad"] * 4), "duplicates: sad"),
    "swapped labels": (lambda f: f["labels"]["emotion"].reverse(), "labels of emotion"),
    "an empty label": (lambda f: f["labels"]["emotion"].__setitem__(0, ""), "labels.emotion="),
    "no crop": (lambda f: f["faces"]["crop"].update(size=0), "faces.crop.size"),
    "a margin of text": (lambda f: f["faces"]["crop"].update(margin="0.1"), "faces.crop.margin"),
    "a huge picture": (lambda f: f.update(image_size=100_000), "image_size"),
    "no picture": (lambda f: f.update(image_size=0), "image_size"),
    "a threshold of 7": (
        lambda f: f["faces"]["detector"].update(thresholds=[0.6, 0.7, 7.0]), "thresholds",
    ),
    "two thresholds": (
        lambda f: f["faces"]["detector"].update(thresholds=[0.6, 0.7]), "thresholds",
    ),
    "a temperature of 0": (
        lambda f: f["inference"].update(emotion={"temperature": 0.0}), "inference.emotion",
    ),
    "another margin": (lambda f: f["faces"]["crop"].update(margin=0.5), "not the one"),
    "an unknown field": (lambda f: f.update(imagesize=3), "imagesize"),
    "no tasks": (lambda f: f.pop("tasks"), "tasks"),
    "a task of text": (lambda f: f["tasks"].update(emotion="x"), "tasks.emotion"),
    "a field that no task has": (lambda f: f["tasks"]["emotion"].update(colour=1), "colour"),
    "a field that no network has": (lambda f: f["backbone"].update(size=1), "size"),
    "a list": (lambda f: f["labels"].clear(), "labels of emotion"),
}  # fmt: skip


@pytest.mark.parametrize("damage", RECORD_DAMAGE)
def test_a_damaged_record_is_refused(folder, damage):
    change, words = RECORD_DAMAGE[damage]
    change_record(folder, change)
    message = refused(folder)
    assert words in message or "is not the one that was saved with the weights" in message


# A record of format 1 has no temperature, and any margin is valid.
OLD_RECORD_DAMAGE = [d for d in RECORD_DAMAGE if d not in ("a temperature of 0", "another margin")]


@pytest.mark.parametrize("damage", OLD_RECORD_DAMAGE)
def test_a_damaged_record_without_checksums_is_refused(folder, damage):
    change, words = RECORD_DAMAGE[damage]
    change_record(folder, change)
    change_arrays(folder, lambda arrays: None, old=True)
    assert words in refused(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe{", b'{"a": NaN}'])
def test_a_file_that_is_not_a_record_is_refused(folder, content):
    (folder / "model.json").write_bytes(content)
    assert "model.json" in refused(folder)


def test_weights_without_checksums_are_refused(folder):
    """The weights have no checksums, although the format requires them."""
    file = folder / "weights.safetensors"
    save_file(load_file(file), file)
    assert "has no checksums" in refused(folder)


def test_an_old_model_is_loaded_with_a_warning_about_checksums(folder, capsys):
    before = trained_model.load(folder)
    change_arrays(folder, lambda arrays: None, old=True)
    old = trained_model.load(folder)
    printed = capsys.readouterr().err.splitlines()
    assert len(printed) == 1 and "older version without checksums" in printed[0]
    expected = before.probabilities("emotion", crops())
    np.testing.assert_array_equal(old.probabilities("emotion", crops()), expected)
    assert old.record.faces.search.border == 0.25  # the values of earlier versions


def test_weights_that_are_not_finite_are_not_saved(folder, tmp_path):
    model = trained_model.load(folder)
    state = jax.tree.map(lambda leaf: leaf * np.nan, model._state)
    with pytest.raises(UserError, match=r"not saved.*not finite"):
        model_directory.save(tmp_path / "new", model_directory.arrays_of(state), model.record)
    assert not list((tmp_path / "new").iterdir())


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (crops() / np.float32(255), "float32"),
        (crops().astype(np.float64), "float64"),
        (crops()[..., 0], r"shape \[2, 20, 20\]"),
        (crops()[..., :1], r"shape \[2, 20, 20, 1\]"),
        (crops()[:, :10], r"shape \[2, 10, 20, 3\]"),
        (crops()[0], r"shape \[20, 20, 3\]"),
        (np.zeros((1, 0, 0, 3), np.uint8), "no pixels"),
    ],
)
def test_invalid_crops_are_refused(folder, given, words):
    model = trained_model.load(folder)
    with pytest.raises(ValueError, match=f"{words}.*pass uint8 RGB crops") as caught:
        model.probabilities("emotion", given)
    assert "\n" not in str(caught.value)


def test_arrays_are_saved_correctly_in_any_memory_order(folder, tmp_path):
    model = trained_model.load(folder)
    linear = model._state["parameters"]["heads"]["emotion"]["linear"]
    linear["kernel"] = np.asfortranarray(np.arange(32, dtype=np.float32).reshape(8, 4))
    model_directory.save(tmp_path / "new", model_directory.arrays_of(model._state), model.record)
    np.testing.assert_array_equal(
        model_directory.read_weights(tmp_path / "new")[KERNEL], linear["kernel"]
    )


def test_no_crops_give_no_answers_and_an_unknown_task_is_refused(folder):
    model = trained_model.load(folder)
    assert model.probabilities("emotion", crops(0)).shape == (0, 4)
    with pytest.raises(UserError, match="no classes for the task verification"):
        model.probabilities("verification", crops())


def test_training_does_not_start_from_a_damaged_model(folder):
    state = trained_model.load(folder)._state
    change_arrays(folder, ARRAY_DAMAGE["another value"])
    for path in (folder, folder / "weights.safetensors"):
        with pytest.raises(UserError, match="checksum"):
            model_directory.backbone_leaves(path, state)


def test_a_record_is_read_back_as_written(folder):
    record = model_directory.read_record(folder)
    assert isinstance(record, ModelRecord) and record.labels["emotion"] == tuple(LABELS)
    assert record == records.parse(ModelRecord, record.model_dump_json(), "it")
