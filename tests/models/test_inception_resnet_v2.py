"""The published network agrees with Keras and timm; smaller variants have the right shapes."""

import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pydantic
import pytest
from flax import nnx

from fer_jax.errors import UserError
from fer_jax.models.backbone import global_mean
from fer_jax.models.inception_resnet_v2 import Settings, scale_channels
from fer_jax.training.state import merge_network, replace_leaves, shapes, split_network
from tests.models.pseudo_weights import layer_paths, pseudo_gamma, pseudo_images, pseudo_random


def make(channels=3, **fields):
    return Settings(**fields).make(channels, dtype=None, rngs=nnx.Rngs(0))


def stage_names(network):
    return tuple(name for name, _ in network.stages())


def stage_outputs(network, x):
    """The output of each stage in inference, and the features, by name."""
    outputs = {}
    for name, stage in network.stages():
        outputs[name] = x = stage(x, train=False)
    return {**outputs, "features": global_mean(x)}


def keras_name(path):
    """The name of a block in Keras, such as "block35_1" for "block35/0"."""
    stage, _, number = path.partition("/")
    return f"{stage}_{int(number) + 1}" if number else stage


FOLDER = Path(__file__).parents[1] / "golden"
GOLDEN = np.load(FOLDER / "inception_resnet_v2.npz")
GOLDEN_TIMM = np.load(FOLDER / "inception_resnet_v2_timm.npz")

# Trainable parameters of each block, and the gammas among them, which timm has and Keras lacks.
PARAMETERS = {
    "stem": (172_672, 400),
    "mixed_5b": (268_320, 528),
    "block35": (123_168, 240),
    "mixed_6a": (2_664_960, 1_280),
    "block17": (1_126_784, 672),
    "mixed_7a": (3_880_960, 2_048),
    "block8": (2_035_424, 864),
    "conv_7b": (3_197_952, 1_536),
}


@pytest.fixture(scope="module")
def published():
    """The network at full size without values; the fixture `weights` has the values."""
    return nnx.eval_shape(lambda: make())


@pytest.fixture(scope="module")
def weights(published):
    """Pseudo-random parameters and statistics of the published network."""
    return fill(published, pseudo_random)


def fill(network, value):
    """The parameters and statistics of a network, with `value(path, shape)` as leaves."""
    return [
        replace_leaves(tree, {path: value(path, shape) for path, shape in shapes(tree).items()})
        for tree in split_network(network)[1:]
    ]


def test_every_block_has_the_published_number_of_parameters(published):
    counts, gammas = {}, {}
    for path, shape in shapes(split_network(published)[1]).items():
        block, *rest = path.split("/")
        if rest[0].isdigit():
            block = f"{block}_{int(rest[0]) + 1}"
        counts[block] = counts.get(block, 0) + math.prod(shape)
        gammas[block] = gammas.get(block, 0) + math.prod(shape) * (rest[-1] == "scale")
    for block, count in counts.items():
        total, gamma = PARAMETERS[block.rsplit("_", 1)[0] if block[:5] == "block" else block]
        assert (block, count, gammas[block]) == (block, total, gamma)
    for block, keras in zip(GOLDEN["blocks"], GOLDEN["parameters"], strict=True):
        assert counts[block] - gammas[block] == keras
    head = 1536 * 1000 + 1000
    assert sum(counts.values()) + head == 55_843_464  # as in timm
    assert sum(counts.values()) - sum(gammas.values()) + head == 55_813_192  # as in Keras


def test_the_paths_of_layers_are_those_of_the_weight_mapping(published):
    ours = {
        path.rsplit("/", 1)[0].removesuffix("/conv")
        for path in shapes(split_network(published)[1])
        if path.endswith("kernel")
    }
    assert ours == set(layer_paths())
    assert len(ours) == 244  # convolutions of keras.applications.InceptionResNetV2


@pytest.fixture(scope="module")
def run(published):
    """A compiled function from weights to the outputs of all blocks, by their names in Keras."""
    graphdef = split_network(published)[0]

    @jax.jit
    def outputs(parameters, statistics):
        network = merge_network(graphdef, parameters, statistics)
        outputs = stage_outputs(network, jnp.asarray(pseudo_images()))
        return {keras_name(path): output for path, output in outputs.items()}

    return outputs


def check_blocks(outputs, golden):
    for i, block in enumerate(golden["blocks"]):
        mean, deviation = golden["mean"][i], golden["deviation"][i]
        assert abs(float(outputs[block].mean()) - mean) < 1e-5 * deviation, block
        assert abs(float(outputs[block].std()) - deviation) < 1e-5 * deviation, block
    np.testing.assert_allclose(
        outputs["features"][:, :64], golden["features"], atol=1e-5 * golden["features"].max()
    )


@pytest.mark.parametrize("golden", [GOLDEN, GOLDEN_TIMM], ids=["keras", "timm"])
def test_golden_numbers_cover_every_block(golden, published):
    assert tuple(golden["blocks"]) == tuple(map(keras_name, stage_names(published)))


def test_every_block_agrees_with_keras(published, weights, run):
    outputs = run(*weights)
    check_blocks(outputs, GOLDEN)
    assert outputs.keys() == {*GOLDEN["blocks"], "features"}
    assert outputs["features"].shape == (2, published.features) == (2, 1536)


def test_every_block_agrees_with_timm_and_its_gammas(published, run):
    def value(path, shape):
        return (pseudo_gamma if path.endswith("scale") else pseudo_random)(path, shape)

    check_blocks(run(*fill(published, value)), GOLDEN_TIMM)


def test_the_features_are_the_mean_of_the_last_stage(published, weights):
    graphdef = split_network(published)[0]

    @jax.jit
    def features(parameters, statistics):
        network = merge_network(graphdef, parameters, statistics)
        return network(jnp.asarray(pseudo_images()), train=False)

    check_features = GOLDEN["features"]
    np.testing.assert_allclose(
        features(*weights)[:, :64], check_features, atol=1e-5 * check_features.max()
    )


@pytest.mark.parametrize(
    ("stem", "size", "sizes"),
    [
        ("full", 75, [7, 3, 1]),
        ("small", 13, [7, 3, 1]),
        ("small", 32, [16, 7, 3]),
        ("tiny", 25, [7, 3, 1]),
        ("tiny", 64, [16, 7, 3]),
        ("micro", 49, [7, 3, 1]),
        ("micro", 96, [12, 5, 2]),
    ],
)
def test_small_variants_have_the_expected_sizes(stem, size, sizes):
    network = nnx.eval_shape(lambda: make(1, width=0.125, depth=(1, 2, 1), stem=stem))
    outputs = nnx.eval_shape(stage_outputs, network, jnp.zeros((2, size, size, 1)))
    if stem == "full" and size == 75:
        assert outputs["stem"].shape[1] == 7
    assert [outputs[name].shape[1] for name in ("mixed_5b", "mixed_6a", "mixed_7a")] == sizes
    assert outputs["features"].shape == (2, network.features) == (2, 192)
    assert stage_names(network)[2:6] == ("block35/0", "mixed_6a", "block17/0", "block17/1")
    with pytest.raises(UserError, match=f'too small for stem "{stem}"'):
        smaller = jnp.zeros((2, size, SMALLEST[stem] - 1, 1))
        nnx.eval_shape(lambda network, x: network(x, train=False), network, smaller)


SMALLEST = {"full": 75, "small": 13, "tiny": 25, "micro": 49}


def test_depth_zero_has_no_blocks():
    network = nnx.eval_shape(lambda: make(width=0.125, depth=(0, 1, 0), stem="tiny"))
    assert stage_names(network) == (
        "stem",
        "mixed_5b",
        "mixed_6a",
        "block17/0",
        "mixed_7a",
        "conv_7b",
    )


def test_the_last_block_has_no_relu():
    network = nnx.eval_shape(lambda: make(width=0.125, depth=(0, 0, 2), stem="tiny"))
    network = merge_network(split_network(network)[0], *fill(network, pseudo_random))
    outputs = nnx.jit(stage_outputs)(network, jnp.ones((2, 32, 32, 3)))
    assert outputs["block8/0"].min() >= 0
    assert [block.factor for block in network.block8] == [0.2, 1.0]
    assert outputs["block8/1"].min() < 0


def test_channel_counts_are_multiples_of_8_and_exact_at_width_1():
    assert [scale_channels(n, 1.0) for n in (32, 48, 80, 1536)] == [32, 48, 80, 1536]
    assert [scale_channels(n, 0.25) for n in (8, 32, 48, 80, 1536)] == [8, 8, 16, 24, 384]


@pytest.mark.parametrize("fields", [{"stem": "large"}, {"depth": (1, 2)}, {"width": 0.0}])
def test_invalid_settings_are_refused(fields):
    with pytest.raises(pydantic.ValidationError, match=next(iter(fields))):
        Settings(**fields)


@pytest.mark.parametrize("depth", [(0, 0, 0), (2, 0, 1)])
def test_depths_are_the_last_stages_of_each_kind(depth):
    network = nnx.eval_shape(lambda: make(1, width=0.125, depth=depth, stem="tiny"))
    ends = {
        (0, 0, 0): ("mixed_5b", "mixed_6a", "mixed_7a"),
        (2, 0, 1): ("mixed_5b", "block35/1", "mixed_6a", "mixed_7a", "block8/0"),
    }
    assert network.depths == ends[depth]
    assert set(network.depths) <= set(stage_names(network))
