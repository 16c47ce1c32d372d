"""The stage `imagenet_check`: weights that classify correctly pass, others fail."""

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from configs import imagenet_check as check_config
from fer_jax import failures
from fer_jax.data import imagenet_pictures
from fer_jax.errors import CheckFailedError, UserError
from fer_jax.models.network import Network
from fer_jax.schemas.training import Backbone
from fer_jax.stages import imagenet_check
from fer_jax.training.state import merge_network, replace_leaves, split_network
from fer_jax.workdir import read_json
from tests.models import foreign_files as foreign

TRUTH = foreign.make_truth(foreign.make_wanted())
NETWORK = Backbone(width=foreign.WIDTH, depth=foreign.DEPTH)
# The number of pictures, their side, and the side of the central crop (0.875 * 88), in pixels.
COUNT, SIDE, SHOWN = 20, 88, 77


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Makes the network small and the required number of pictures low."""
    monkeypatch.setattr(imagenet_check, "NETWORK", NETWORK)
    monkeypatch.setattr(imagenet_check, "SIZE", SHOWN)
    monkeypatch.setattr(imagenet_check, "FEWEST", COUNT)


@pytest.fixture(scope="module")
def pictures():
    """Pictures of coloured squares, uint8 [20, 88, 88, 3]."""
    coarse = np.random.default_rng(0).integers(0, 256, (COUNT, 4, 4, 3)).astype(np.uint8)
    return np.repeat(np.repeat(coarse, SIDE // 4, 1), SIDE // 4, 2)


@pytest.fixture
def folder(tmp_path, pictures):
    """One picture in each of 20 class folders, and one without a class."""
    for synset, picture in zip(imagenet_pictures.synsets()[::50], pictures, strict=True):
        (tmp_path / "images" / synset).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "images" / synset / "a.png"), picture[..., ::-1])
    cv2.imwrite(str(tmp_path / "images" / "unknown.png"), pictures[0])
    return tmp_path / "images"


@pytest.fixture(scope="module")
def head(pictures):
    """A head that answers with the class of the picture whose features are nearest."""
    network = nnx.eval_shape(lambda: Network(NETWORK, {}, rngs=nnx.Rngs(0)))
    graphdef, parameters, statistics = split_network(network)
    state = replace_leaves({"parameters": parameters, "statistics": statistics}, TRUTH)

    def features(state, x):
        network = merge_network(graphdef, state["parameters"], state["statistics"])
        return network.features(x, train=False)

    first = (SIDE - SHOWN) // 2
    shown = pictures[:, first : first + SHOWN, first : first + SHOWN]
    found = np.asarray(jax.jit(features)(state, jnp.asarray(shown)), np.float64)
    mean, centred = found.mean(0), found - found.mean(0)
    kernel, bias = np.zeros((found.shape[1], 1000)), np.full(1000, -1e9)
    kernel[:, ::50] = centred.T
    bias[::50] = -centred @ mean - (centred**2).sum(1) / 2
    return {"kernel": kernel.astype(np.float32), "bias": bias.astype(np.float32)}


def check(weights, images, workdir, **fields):
    config = check_config.get_config().unlock()
    config.update({"weights": str(weights), "images": str(images), "batch": 8} | fields)
    return imagenet_check.run(config.lock(), workdir)


def test_weights_that_classify_correctly_pass(tmp_path, folder, head, capsys):
    layers = foreign.keras_layers(TRUTH) | {"predictions": head}
    file = foreign.write_keras_layers(tmp_path / "a.h5", layers)
    summary = check(file, folder, tmp_path / "w")
    assert (summary["answer"], summary["top1"], summary["pictures"]) == ("yes", 1.0, COUNT)
    assert summary["without_class"] == 1
    assert "yes: top-1 100.0% of 20 pictures" in capsys.readouterr().out


def test_random_weights_fail(tmp_path, folder):
    """The head is random, and comes from another file than the backbone."""
    rng = np.random.default_rng(1)
    backbone = foreign.write_timm(tmp_path / "b.safetensors", TRUTH, head=False)
    kernel = rng.normal(size=(1000, 192)).astype(np.float32)
    other = {"classif.weight": kernel, "classif.bias": np.zeros(1000, np.float32)}
    save_file(load_file(backbone) | other, tmp_path / "head.safetensors")
    with pytest.raises(CheckFailedError, match="is less accurate than required: top-1 0") as no:
        check(backbone, folder, tmp_path / "w", head=str(tmp_path / "head.safetensors"))
    assert read_json(tmp_path / "w" / "answer.json")["answer"] == "no"
    assert not (tmp_path / "w" / "done.json").exists()  # the same command answers no again
    assert failures.report(no.value) == 1


@pytest.mark.parametrize(
    ("right", "pictures", "answer"),
    [(80, 100, "yes"), (72, 100, "yes"), (70, 100, "no"), (39_800, 50_000, "yes"),
     (39_000, 50_000, "no"), (1, 1000, "no")],
)  # fmt: skip
def test_the_answer_uses_the_wilson_interval(right, pictures, answer):
    """By hand, the upper limit is 79.9 % for 72 of 100 and 78.1 % for 70; 79 % is required."""
    assert imagenet_check.judged(right, pictures, 0.79)["answer"] == answer


def test_classes_are_read_from_names(tmp_path, pictures):
    names = {
        "n01440764_tench.png": 0, "n15075141/x.png": 999, "val/ILSVRC2012_val_00000001.png": 65,
        "other/x.png": None,
    }  # fmt: skip
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / name), pictures[0])
    found, without = imagenet_pictures.labelled_pictures(tmp_path)
    assert {str(file.relative_to(tmp_path)): number for file, number in found} == {
        name: number for name, number in names.items() if number is not None
    }
    assert without == 1


def test_missing_weights_or_pictures_are_user_errors(tmp_path, folder, pictures):
    layers = foreign.keras_layers(TRUTH, head=False)
    file = foreign.write_keras_layers(tmp_path / "notop.h5", layers)
    with pytest.raises(UserError, match=r"no head with 1000 classes .*notop"):
        check(file, folder, tmp_path / "w")
    (tmp_path / "few").mkdir()
    cv2.imwrite(str(tmp_path / "few" / "n01440764_1.png"), pictures[0])
    cases = [
        (
            file,
            tmp_path / "few",
            "1 pictures of known class; add pictures until",
        ),
        ("imagenet", folder, r"notop\.h5 has no head"),
        ("", folder, "set --config.weights to a weight file"),
    ]
    for weights, images, message in cases:
        with pytest.raises(UserError, match=message):
            check(weights, images, tmp_path / "w")
    with pytest.raises(UserError, match=r"--config\.most=19 pictures are too few"):
        check(file, folder, tmp_path / "w", most=19)
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match="no picture below"):
        check(file, tmp_path / "none", tmp_path / "w")
