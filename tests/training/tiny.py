"""A learner and a backbone that are small and compile quickly."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from fer_jax.data import iterators, sources
from fer_jax.models.layers import BatchNorm
from fer_jax.schemas import Loop
from fer_jax.training import sharding
from fer_jax.training.learner import Learner
from fer_jax.training.loop import fit

STEPS = 12


def make_learner(config, tasks, weights, steps):
    """The learner for a training config."""
    return Learner(config.backbone, config.optimizer, tasks, weights, config, steps=steps)


class TinyBackbone(nnx.Module):
    """One convolution with BatchNorm, which replaces `inception_resnet_v2.InceptionResNetV2`."""

    features = 8
    depths = ()

    def __init__(self, settings, channels, *, dtype=None, rngs):
        self.conv = nnx.Conv(channels, self.features, (3, 3), 2, use_bias=False, rngs=rngs)
        self.norm = BatchNorm(self.features, momentum=settings.momentum)

    def stages(self):
        return [("conv", lambda x, train: self.conv(x)), ("norm", self.norm)]

    def __call__(self, x, *, train):
        return jax.nn.relu(self.norm(self.conv(x), train=train)).mean((1, 2))


class TinyLearner(Learner):
    """A linear model of mean colours, with momentum, and noise keyed by the step."""

    def __init__(self, width=16):
        self.mesh = sharding.make_mesh()
        self.compile_seconds = {}
        self.frozen = {"head": {0: {"kernel": False}}}
        self.width = width
        self.after = None  # called with the number of each step

    def init(self, seed):
        weights = jax.random.normal(jax.random.key(seed), (3, self.width))
        state = {
            "step": jnp.zeros((), jnp.int32),
            "seed": jnp.asarray(seed, jnp.uint32),
            "parameters": {"head": {0: {"kernel": weights}}},
            "statistics": {"mean": jnp.zeros(3), "half": jnp.ones(2, jnp.bfloat16)},
            "optimizer": ({"momentum": jnp.zeros_like(weights)}, ()),
        }
        return sharding.put(state, sharding.state_shardings(state, self.mesh))

    def train(self, state, batch):
        state, figures = _train(state, sharding.put_batch(batch, self.mesh))
        if self.after:
            self.after(int(state["step"]))
        return state, figures

    def evaluate(self, state, batches):
        total = np.zeros(2)
        for batch in batches:
            inputs = batch["image"].mean((1, 2)) / 255
            outputs = (inputs @ np.asarray(state["parameters"]["head"][0]["kernel"])).mean(1)
            total += (((outputs - batch["label"]) ** 2) * batch["mask"]).sum(), batch["mask"].sum()
        return {"tiny/loss": total[0] / total[1], "loss": total[0] / total[1]}


@jax.jit
def _train(state, batch):
    key = jax.random.fold_in(jax.random.key(state["seed"]), state["step"])

    def loss(kernel):
        inputs = batch["image"].mean((1, 2)) / 255
        inputs += 0.1 * jax.random.normal(key, inputs.shape)
        return (((inputs @ kernel).mean(1) - batch["label"]) ** 2).mean()

    kernel = state["parameters"]["head"][0]["kernel"]
    value, gradient = jax.value_and_grad(loss)(kernel)
    momentum = 0.9 * state["optimizer"][0]["momentum"] + gradient
    return state | {
        "step": state["step"] + 1,
        "parameters": {"head": {0: {"kernel": kernel - 0.1 * momentum}}},
        "statistics": state["statistics"] | {"mean": batch["image"].mean((0, 1, 2))},
        "optimizer": ({"momentum": momentum}, ()),
    }, {"loss": value, "gradient_norm": jnp.sqrt((gradient**2).sum())}


def make_source():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (20, 4, 4, 3)).astype(np.uint8)
    return sources.ArraySource(images, np.arange(20) % 2, [f"face{i}" for i in range(20)])


def train(
    folder, learner=None, *, steps=STEPS, width=16, evaluated=True, before=None, best=None, **fields
):
    """Runs `fit` with the tiny learner; `fields` override those of the loop."""
    learner = learner or TinyLearner(width)
    settings = {"log_every": 3, "evaluate_every": 0, "checkpoint_every_s": 1e9, "batch_size": 8}
    source = make_source()
    with iterators.TrainIterator(source, batch_size=8, seed=1) as batches:
        return fit(
            learner,
            learner.init(5),
            batches,
            steps=steps,
            folder=folder,
            loop=Loop(**settings | fields),
            evaluate=(lambda state: learner.evaluate(state, eval_batches(source)))
            if evaluated
            else None,
            before=before,
            best=best,
        )


def eval_batches(source):
    return iterators.eval_batches(source, batch_size=8)


def leaves(state):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(state)]


def assert_same_bits(a, b):
    for one, other in zip(leaves(a), leaves(b), strict=True):
        assert one.dtype == other.dtype
        assert one.tobytes() == other.tobytes()
