"""Three training steps from given weights in float64, for golden/training_steps.npz.

    python -m tests.training.golden_step

This command rewrites the file. Its numbers are from before three refactorings (separate modules for
all blocks, AdamW of Optax, losses of Optax), which preserved them to 1e-12.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from fer_jax.models.network import Network
from fer_jax.schemas.training import Backbone, Optimizer
from fer_jax.tasks.task import make
from fer_jax.training.optimizer import frozen_mask, make_optimizer
from fer_jax.training.state import (
    flatten,
    initial_state,
    replace_leaves,
    shapes,
    split_network,
)
from fer_jax.training.step import make_train_step
from tests.models.pseudo_weights import pseudo_images, pseudo_random

FILE = Path(__file__).parents[1] / "golden" / "training_steps.npz"
CASES = {
    "whole": {"accumulate": 1, "average": 0.999, "freeze": ()},
    "in_parts": {"accumulate": 2, "average": 0.0, "freeze": ("backbone/stem/*", "*/block17/0/*")},
}
STEPS = 3


def train(*, accumulate, average, freeze):
    """Parameters, statistics, running average if any, and metrics after three steps."""
    tasks = {
        "emotion": make("emotion", classes=("a", "b", "c"), label_smoothing=0.1, mixup=0.2),
        "rotation": make("rotation", views=1),
    }
    fields = {"width": 0.125, "depth": (1, 2, 1), "stem": "tiny", "normalise": "per_image"}
    backbone = Backbone(**fields, grey=True, dropout=0.1, momentum=0.9, dtype="")
    settings = Optimizer(
        learning_rate=0.01, warmup=0.1, weight_decay=0.05, clip=1.0, backbone_rate=0.5,
        layer_decay=0.9, freeze=freeze, average=average,
    )  # fmt: skip
    network = nnx.eval_shape(lambda: Network(backbone, tasks, rngs=nnx.Rngs(0)))
    graphdef, *trees = split_network(network)
    parameters, statistics = map(filled, trees)
    frozen = frozen_mask(parameters, freeze)
    optimizer = make_optimizer(
        settings, 20, frozen, [name for name, _ in network.backbone.stages()]
    )
    state = initial_state(parameters, statistics, optimizer, seed=4, averaged=average > 0)
    step = jax.jit(
        make_train_step(
            graphdef, tasks, {"emotion": 1.0, "rotation": 0.5}, optimizer, frozen,
            accumulate=accumulate, average=average,
        )
    )  # fmt: skip
    for _ in range(STEPS):
        state, figures = step(state, batch())
    found = {part: state[part] for part in ("parameters", "statistics", "average") if part in state}
    return flatten({**found, "figures": figures})


def filled(tree):
    values = {path: pseudo_random(path, shape) for path, shape in shapes(tree).items()}
    return jax.tree.map(jnp.float64, replace_leaves(tree, values))


def batch():
    images = (pseudo_images(8, 40) + 1) * 127.5
    return {
        "image": jnp.asarray(images, jnp.float64),
        "label": jnp.arange(8, dtype=jnp.int32) % 3,
        "mask": jnp.arange(8) < 7,
    }


def summary(leaf):
    """The sum, the sum of squares, and five values of an array, float64 [7]."""
    values = np.asarray(leaf, np.float64).ravel()
    some = values[np.linspace(0, values.size - 1, 5).astype(int)]
    return np.array([values.sum(), (values**2).sum(), *some])


def main():
    with jax.enable_x64(True):
        found = {
            f"{case}/{name}": summary(leaf)
            for case, fields in CASES.items()
            for name, leaf in train(**fields).items()
        }
    names = sorted(found)
    np.savez_compressed(FILE, names=names, values=np.stack([found[name] for name in names]))


if __name__ == "__main__":
    main()
