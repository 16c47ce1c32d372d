import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from fer_jax.models.network import Network
from fer_jax.schemas.training import Backbone
from fer_jax.training.grad_cam import GradCam
from fer_jax.training.state import merge_network, random_state, split_network

BACKBONE = Backbone(width=0.125, depth=(0, 0, 0), stem="tiny", grey=True)


def drawn():
    """A network and its state, in which all weights are random."""

    def draw(key):
        return Network(BACKBONE, {}, rngs=nnx.Rngs(key))

    graphdef = split_network(nnx.eval_shape(lambda: draw(0)))[0]
    state = random_state(draw, 0)
    return merge_network(graphdef, **state), state


def test_grad_cam_agrees_with_its_definition():
    network, state = drawn()
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, 48, 48, 3)).astype(np.uint8)
    kernel = rng.normal(size=(192, 4)).astype(np.float32)
    heat = GradCam(BACKBONE)(state, kernel, images, np.array([0, 3, 1]))
    assert heat.shape == (3, 12, 12)

    # The deepest map of at least 7 pixels is that of mixed_5b; the rest of the network follows.
    maps = network.stage_outputs(jnp.asarray(images), ["mixed_5b"])["mixed_5b"]

    def logit(maps, place, name):
        for layer in (network.backbone.mixed_6a, network.backbone.mixed_7a):
            maps = layer(maps, train=False)
        features = network.backbone.conv_7b(maps, train=False).mean((1, 2))
        return (features @ kernel)[place, name]

    for place, name in enumerate((0, 3, 1)):
        gradient = np.asarray(jax.grad(logit)(maps, place, name))[place]
        expected = np.maximum((gradient.mean((0, 1)) * np.asarray(maps)[place]).sum(-1), 0)
        np.testing.assert_allclose(heat[place], expected / expected.max(), atol=1e-4)


def test_no_images_give_no_maps():
    _, state = drawn()
    none = GradCam(BACKBONE)(
        state, np.zeros((192, 4)), np.zeros((0, 48, 48, 3), np.uint8), np.zeros(0, int)
    )
    assert len(none) == 0


def test_grad_cam_uses_the_running_average(monkeypatch):
    explained = []
    cam = GradCam(BACKBONE)
    monkeypatch.setattr(
        cam,
        "_compiled",
        lambda own, weights, images: (
            explained.append(own["parameters"]["backbone"])
            or np.zeros((len(images), 7, 7), np.float32)
        ),
    )
    images, classes = np.zeros((1, 48, 48, 3), np.uint8), np.zeros(1, int)
    state = {"parameters": {"backbone": 1}, "statistics": {"backbone": 2}}
    cam(state, np.zeros((192, 4)), images, classes)
    cam({**state, "average": {"backbone": 3}}, np.zeros((192, 4)), images, classes)
    assert explained == [1, 3]
