"""All layouts of weight files give the same leaves; errors use the names in the file."""

import subprocess

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from fer_jax.errors import UserError
from fer_jax.models import weight_files
from fer_jax.models.network import LUMA, Network
from fer_jax.models.pretrained import layers_in_order, read_backbone, read_head
from fer_jax.schemas.training import Backbone
from fer_jax.training.state import merge_network, replace_leaves, split_network
from tests.models import foreign_files as foreign
from tests.models.pseudo_weights import layer_paths

WANTED = foreign.make_wanted()
TRUTH = foreign.make_truth(WANTED)


def write(folder, layout):
    layers = foreign.keras_layers(TRUTH)
    later = foreign.keras_layers(TRUTH, start=203)
    match layout:
        case "keras 2":
            return foreign.write_keras_layers(folder / "a.h5", layers)
        case "keras 2, not the first":
            return foreign.write_keras_layers(folder / "a.h5", later)
        case "keras 3 .h5":
            whole = "model_weights"
            return foreign.write_keras_layers(folder / "a.h5", layers, colon="", group=whole)
        case "nested .h5":
            inner = "model_weights/inception_resnet_v2"
            return foreign.write_keras_layers(folder / "a.h5", layers, colon="", group=inner)
        case ".weights.h5":
            return foreign.write_keras_containers(folder / "a.weights.h5", later)
        case "nested .weights.h5":
            inner = "layers/functional/layers"
            return foreign.write_keras_containers(folder / "a.weights.h5", later, place=inner)
        case ".keras":
            return foreign.write_keras_containers(folder / "a.keras", layers, archive=True)
        case "timm":
            return foreign.write_timm(folder / "a.safetensors", TRUTH)
        case "ours":
            heads = {"parameters/heads/emotion/linear/bias": np.ones(4, np.float32)}
            save_file(TRUTH | heads, folder / "a.safetensors")
            return folder / "a.safetensors"


LAYOUTS = [
    "keras 2", "keras 2, not the first", "keras 3 .h5", "nested .h5", ".weights.h5",
    "nested .weights.h5", ".keras", "timm", "ours",
]  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_all_layouts_give_the_same_leaves(layout, tmp_path):
    leaves = read_backbone(write(tmp_path, layout), WANTED)
    assert leaves.keys() == WANTED.keys()
    for leaf, values in leaves.items():
        assert values.dtype == np.float32
        np.testing.assert_array_equal(values, TRUTH[leaf], err_msg=leaf)


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "ours"])
def test_all_layouts_give_the_head(layout, tmp_path):
    kernel, bias = read_head(write(tmp_path, layout), 192, 10)
    assert kernel.shape == (192, 10) and bias.shape == (10,)
    assert (kernel == 1).all() and (bias == 1).all()


def test_a_file_without_a_fitting_head_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"no head with 10 classes .*\(found: none\).*notop"):
        read_head(write(tmp_path, "ours"), 192, 10)
    with pytest.raises(UserError, match=r"found: kernel \(192, 10\), bias \(10,\)"):
        read_head(write(tmp_path, "keras 2"), 192, 1000)


def test_layers_are_in_the_order_of_construction():
    assert layers_in_order(sorted(WANTED)) == layer_paths(foreign.DEPTH)
    full = foreign.make_wanted(1.0, (10, 20, 10))
    assert layers_in_order(sorted(full, reverse=True)) == layer_paths()


def test_gamma_is_read_if_the_file_has_it(tmp_path):
    layers = foreign.keras_layers(TRUTH)
    layers["batch_normalization"] = {"gamma": np.full(8, 2.0), **layers["batch_normalization"]}
    path = foreign.write_keras_layers(tmp_path / "a.h5", layers)
    scale = "parameters/backbone/stem/conv_1a/bn/scale"
    np.testing.assert_array_equal(read_backbone(path, WANTED)[scale], np.full(8, 2.0))
    for name in [name for name in layers if "batch" in name or name.endswith("_bn")]:
        layers[name] = {"gamma": np.full(len(layers[name]["beta"]), 3.0), **layers[name]}
    layers["batch_normalization"].pop("gamma")
    layers["batch_normalization"] = {"gamma": np.full(8, 3.0), **layers["batch_normalization"]}
    path = foreign.write_keras_containers(tmp_path / "a.weights.h5", layers)
    leaves = read_backbone(path, WANTED)
    np.testing.assert_array_equal(leaves[scale], np.full(8, 3.0))
    bias = scale.replace("scale", "bias")
    np.testing.assert_array_equal(leaves[bias], TRUTH[bias])


def test_grey_and_colour_networks_agree_on_grey_pictures(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 75, 75, 3))
    grey = np.repeat((pixels @ np.array(LUMA))[..., None], 3, -1).astype(np.float32)
    path = write(tmp_path, "keras 2")
    outputs = []
    for is_grey in (False, True):
        backbone = {"width": foreign.WIDTH, "depth": (1, 0, 0), "grey": is_grey}
        network = nnx.eval_shape(lambda b=backbone: Network(Backbone(**b), {}, rngs=nnx.Rngs(0)))
        graphdef, parameters, statistics = split_network(network)
        leaves = read_backbone(path, foreign.make_wanted(channels=1 if is_grey else 3))
        state = replace_leaves({"parameters": parameters, "statistics": statistics}, leaves)

        def run(state, x, graphdef=graphdef):
            network = merge_network(graphdef, state["parameters"], state["statistics"])
            return network.stage_outputs(x, ["block35/0"])["block35/0"]

        outputs.append(jax.jit(run)(state, jnp.asarray(grey)))
    np.testing.assert_allclose(outputs[1], outputs[0], atol=2e-5 * np.abs(outputs[0]).max())


@pytest.mark.parametrize("layout", [".weights.h5", "timm", "ours"])
def test_a_grey_first_kernel_is_the_sum_over_colours(layout, tmp_path):
    kernel = "parameters/backbone/stem/conv_1a/conv/kernel"
    leaves = read_backbone(write(tmp_path, layout), foreign.make_wanted(channels=1))
    np.testing.assert_allclose(leaves[kernel], TRUTH[kernel].sum(2, keepdims=True), atol=1e-6)


def test_tensors_that_do_not_fit_are_listed_by_their_names_in_the_file(tmp_path):
    layers = foreign.keras_layers(TRUTH, start=3)
    del layers["conv2d_12"]
    layers["conv2d_99"] = {"kernel": np.ones((1, 1, 8, 8))}
    layers["block8_2_conv"]["bias"] = np.ones(7)
    path = foreign.write_keras_layers(tmp_path / "a.h5", layers)
    with pytest.raises(UserError) as error:
        read_backbone(path, WANTED)
    message = str(error.value)
    assert "1 missing (conv2d_12/kernel)" in message
    assert "1 unknown (conv2d_99/kernel)" in message
    width = WANTED["parameters/backbone/block8/1/projection/bias"]
    assert f"1 of another shape (block8_2_conv/bias (7,), expected {width})" in message


def test_shapes_of_timm_kernels_are_reported_in_timms_order(tmp_path):
    path = foreign.write_timm(tmp_path / "a.safetensors", TRUTH)
    tensors = load_file(path)
    del tensors["repeat.0.branch1.1.bn.running_var"]
    tensors["conv2d_2b.conv.weight"] = np.ones((8, 8, 3, 1), np.float32)
    save_file(tensors, path)
    with pytest.raises(UserError, match=r"missing \(repeat.0.branch1.1.bn.running_var\)") as error:
        read_backbone(path, WANTED)
    assert "conv2d_2b.conv.weight (8, 8, 3, 1), expected (8, 8, 3, 3)" in str(error.value)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"stem": "tiny"}, 'set config.backbone to stem="full", width=1.0, depth=(10, 20, 10)'),
        ({"width": 1.0}, "set config.backbone to depth=(10, 20, 10)"),
        ({"depth": (10, 20, 10)}, "set config.backbone to width=1.0"),
    ],
)
def test_the_error_for_another_size_names_the_fields_to_set(fields, words, tmp_path):
    path = write(tmp_path, ".weights.h5")
    with pytest.raises(UserError, match=r"configs/emotion\.py:full") as error:
        read_backbone(path, foreign.make_wanted(**fields))
    assert words in str(error.value)


def test_there_is_no_hint_for_the_published_size(tmp_path):
    with pytest.raises(UserError, match="of another shape") as error:
        read_backbone(write(tmp_path, "timm"), foreign.make_wanted(1.0, (10, 20, 10)))
    assert "configs/" not in str(error.value)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".ckpt", ".pkl", ".npy"])
def test_pickles_are_refused_with_the_command_that_converts_them(suffix, tmp_path):
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    with pytest.raises(UserError, match=r"weights_only=True") as error:
        read_backbone(path, WANTED)
    assert f"'{tmp_path}/weights.safetensors'" in str(error.value)
    assert "\n" not in str(error.value)


def test_the_conversion_command_is_valid_shell_and_python(tmp_path):
    line = weight_files.conversion(tmp_path / "a model.pth")
    shown = subprocess.run(
        ["sh", "-c", line.replace("python -c", "printf %s")], capture_output=True, text=True
    )
    compile(shown.stdout, "line", "exec")
    assert f"'{tmp_path}/a model.safetensors'" in shown.stdout


@pytest.mark.parametrize("name", ["a.h5", "a.weights.h5", "a.keras", "a.safetensors"])
def test_damaged_files_are_user_errors(name, tmp_path):
    (tmp_path / name).write_bytes(b"\x89HDF nothing of the kind" * 9)
    with pytest.raises(UserError, match=f"cannot read the weights in .*{name}"):
        read_backbone(tmp_path / name, WANTED)


def test_an_unknown_suffix_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match=r"not a weight file; use one that ends in \.h5"):
        read_backbone(tmp_path / "a.onnx", WANTED)


def test_tensors_with_nan_are_refused(tmp_path):
    layers = foreign.keras_layers(TRUTH)
    layers["conv2d_4"]["kernel"] = np.full_like(layers["conv2d_4"]["kernel"], np.nan)
    path = foreign.write_keras_layers(tmp_path / "a.h5", layers)
    with pytest.raises(UserError, match=r"with NaN or Inf.*1 in total, such as conv2d_4/kernel"):
        read_backbone(path, WANTED)


def test_a_file_with_two_networks_is_refused(tmp_path):
    layers = foreign.keras_layers(TRUTH)
    path = foreign.write_keras_containers(tmp_path / "a.weights.h5", layers)
    with h5py.File(path, "a") as file:
        file["layers/functional/layers/batch_normalization/vars/0"] = np.ones(8)
    with pytest.raises(UserError, match="contains 2 networks"):
        read_backbone(path, WANTED)


def test_a_tensor_that_occurs_twice_is_refused(tmp_path):
    path = foreign.write_keras_layers(tmp_path / "a.h5", foreign.keras_layers(TRUTH))
    with h5py.File(path, "a") as file:
        file["second/conv2d_4/kernel:0"] = np.ones((3, 3, 16, 24))
    with pytest.raises(UserError, match="contains conv2d_4/kernel twice"):
        read_backbone(path, WANTED)


def test_bfloat16_tensors_are_read(tmp_path):
    layers = foreign.keras_layers(TRUTH, head=False)
    path = foreign.write_keras_containers(tmp_path / "a.weights.h5", layers)
    kernel = TRUTH["parameters/backbone/stem/conv_1a/conv/kernel"]
    with h5py.File(path, "a") as file:
        half = np.asarray(jnp.asarray(kernel, jnp.bfloat16))
        del file["layers/conv2d/vars/0"]
        dataset = file.create_dataset("layers/conv2d/vars/0", data=half)
        dataset.attrs["dtype"] = "bfloat16"
    read = read_backbone(path, WANTED)["parameters/backbone/stem/conv_1a/conv/kernel"]
    np.testing.assert_array_equal(read, half.astype(np.float32))
