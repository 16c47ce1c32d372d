"""The published network: its parameters, its numbers, and its smaller variants."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fer_jax.errors import UserError
from fer_jax.models.inception_resnet_v2 import InceptionResNetV2, scale_channels
from tests.models.pseudo_weights import layer_paths, pseudo_gamma, pseudo_images, pseudo_random

FOLDER = Path(__file__).parents[1] / "golden"
GOLDEN = np.load(FOLDER / "inception_resnet_v2.npz")
GOLDEN_TIMM = np.load(FOLDER / "inception_resnet_v2_timm.npz")

# Trainable parameters of each block, and BatchNorm's gammas, which timm has and Keras leaves out.
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


def paths_of(state):
    return {"/".join(map(str, path)): leaf for path, leaf in nnx.to_flat_state(state)}


@pytest.fixture(scope="module")
def published():
    """The network at full size with pseudo-random weights, made without drawing any others."""
    network = nnx.eval_shape(lambda: InceptionResNetV2(rngs=nnx.Rngs(0)))
    graphdef, state = nnx.split(network)
    flat = [
        (path, leaf.replace(jnp.asarray(pseudo_random("/".join(map(str, path)), leaf.shape))))
        for path, leaf in nnx.to_flat_state(state)
    ]
    return nnx.merge(graphdef, nnx.from_flat_state(flat))


def test_parameters_of_every_block(published):
    counts, gammas = {}, {}
    for path, leaf in paths_of(nnx.state(published, nnx.Param)).items():
        block, *rest = path.split("/")
        if rest[0].isdigit():
            block = f"{block}_{int(rest[0]) + 1}"
        counts[block] = counts.get(block, 0) + leaf.size
        gammas[block] = gammas.get(block, 0) + leaf.size * (rest[-1] == "scale")
    for block, count in counts.items():
        total, gamma = PARAMETERS[block.rsplit("_", 1)[0] if block[:5] == "block" else block]
        assert (block, count, gammas[block]) == (block, total, gamma)
    for block, keras in zip(GOLDEN["blocks"], GOLDEN["parameters"], strict=True):
        assert counts[block] - gammas[block] == keras
    head = 1536 * 1000 + 1000
    assert sum(counts.values()) + head == 55_843_464  # timm's
    assert sum(counts.values()) - sum(gammas.values()) + head == 55_813_192  # Keras's trainable


def test_layers_have_the_paths_that_weights_are_mapped_by(published):
    ours = {
        path.rsplit("/", 1)[0].removesuffix("/conv")
        for path in paths_of(nnx.state(published, nnx.Param))
        if path.endswith("kernel")
    }
    assert ours == set(layer_paths())
    assert len(ours) == 244  # convolutions of keras.applications.InceptionResNetV2


@pytest.fixture(scope="module")
def run(published):
    """The outputs of all blocks for given weights; compiled once."""
    graphdef, _ = nnx.split(published)
    return jax.jit(
        lambda state: nnx.merge(graphdef, state).intermediates(jnp.asarray(pseudo_images()))
    )


def check_blocks(outputs, golden):
    for i, block in enumerate(golden["blocks"]):
        mean, deviation = golden["mean"][i], golden["deviation"][i]
        assert abs(float(outputs[block].mean()) - mean) < 1e-5 * deviation, block
        assert abs(float(outputs[block].std()) - deviation) < 1e-5 * deviation, block
    np.testing.assert_allclose(
        outputs["features"][:, :64], golden["features"], atol=1e-5 * golden["features"].max()
    )


@pytest.mark.parametrize("golden", [GOLDEN, GOLDEN_TIMM], ids=["keras", "timm"])
def test_golden_numbers_are_of_every_block(golden, published):
    assert tuple(golden["blocks"]) == published.block_names


def test_every_block_agrees_with_keras(published, run):
    outputs = run(nnx.state(published))
    check_blocks(outputs, GOLDEN)
    assert outputs.keys() == {*published.block_names, "features"}
    assert outputs["features"].shape == (2, published.features) == (2, 1536)


def test_every_block_agrees_with_timm_which_has_gammas(published, run):
    flat = [
        (path, leaf.replace(jnp.asarray(pseudo_gamma("/".join(map(str, path)), leaf.shape))))
        if path[-1] == "scale"
        else (path, leaf)
        for path, leaf in nnx.to_flat_state(nnx.state(published))
    ]
    outputs = run(nnx.from_flat_state(flat))
    check_blocks(outputs, GOLDEN_TIMM)


@pytest.mark.parametrize(
    ("stem", "size", "shapes"),
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
def test_small_variants(stem, size, shapes):
    network = nnx.eval_shape(
        lambda: InceptionResNetV2(0.125, (1, 2, 1), stem, channels=1, rngs=nnx.Rngs(0))
    )
    outputs = nnx.eval_shape(
        InceptionResNetV2.intermediates, network, jnp.zeros((2, size, size, 1))
    )
    if stem == "full" and size == 75:
        assert outputs["stem"].shape[1] == 7
    assert [outputs[name].shape[1] for name in ("mixed_5b", "mixed_6a", "mixed_7a")] == shapes
    assert outputs["features"].shape == (2, network.features) == (2, 192)
    assert network.block_names[2:6] == ("block35_1", "mixed_6a", "block17_1", "block17_2")
    with pytest.raises(UserError, match=f'too small for stem "{stem}"'):
        smaller = jnp.zeros((2, size, SMALLEST[stem] - 1, 1))
        nnx.eval_shape(lambda network, x: network(x, train=False), network, smaller)


SMALLEST = {"full": 75, "small": 13, "tiny": 25, "micro": 49}


def test_depth_zero_has_no_blocks():
    network = InceptionResNetV2(0.125, (0, 1, 0), "tiny", rngs=nnx.Rngs(0))
    assert network.block_names == (
        "stem",
        "mixed_5b",
        "mixed_6a",
        "block17_1",
        "mixed_7a",
        "conv_7b",
    )


def test_last_block_keeps_the_sign():
    network = InceptionResNetV2(0.125, (0, 0, 2), "tiny", rngs=nnx.Rngs(0))
    run = nnx.jit(lambda network, x: network.intermediates(x, ["block8_1", "block8_2"]))
    outputs = run(network, jnp.ones((2, 32, 32, 3)))
    assert outputs["block8_1"].min() >= 0
    assert network.block8[0].factor == 0.2 and network.block8[1].factor == 1.0
    assert outputs["block8_2"].min() < 0


def test_channels_are_multiples_of_eight_and_exact_at_width_one():
    assert [scale_channels(n, 1.0) for n in (32, 48, 80, 1536)] == [32, 48, 80, 1536]
    assert [scale_channels(n, 0.25) for n in (8, 32, 48, 80, 1536)] == [8, 8, 16, 24, 384]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"stem": "large"}, 'stem "large" is unknown'),
        ({"depth": (1, 2)}, "three counts"),
        ({"width": 0.0}, "above 0"),
    ],
)
def test_wrong_fields(fields, message):
    with pytest.raises(UserError, match=message):
        InceptionResNetV2(**fields, rngs=nnx.Rngs(0))


def test_unknown_block_is_named():
    network = InceptionResNetV2(0.125, (0, 0, 0), "tiny", rngs=nnx.Rngs(0))
    with pytest.raises(UserError, match="no block block9"):
        network.intermediates(jnp.ones((1, 32, 32, 3)), ["block9"])


@pytest.mark.parametrize("depth", [(0, 0, 0), (2, 0, 1)])
def test_depths_end_each_stage_and_can_be_asked_for(depth):
    network = nnx.eval_shape(
        lambda: InceptionResNetV2(0.125, depth, "tiny", channels=1, rngs=nnx.Rngs(0))
    )
    ends = {
        (0, 0, 0): ("mixed_5b", "mixed_6a", "mixed_7a", "features"),
        (2, 0, 1): ("mixed_5b", "block35_2", "mixed_6a", "mixed_7a", "block8_1", "features"),
    }
    assert network.depths == ends[depth]
    assert set(network.depths) <= {*network.block_names, "features"}
