"""Runs every task on 1 and on 8 devices in float64, for tests/tasks/test_tasks_devices.py.

    python -m tests.tasks.devices_run FILE

Writes FILE, an npz with the keys "CASE/DEVICES/preparedPATH", "…/figuresPATH" and
"…/gradientsPATH", where PATH is a key path of JAX such as "['loss']".
"""

import sys

import jax
import numpy as np
import optax
from flax import nnx

from fer_jax import tasks
from fer_jax.models import inception_resnet_v2, network
from fer_jax.schemas.training import Backbone
from fer_jax.training import sharding
from fer_jax.training.state import initial_state, split_network
from fer_jax.training.step import make_train_step
from tests.tasks.test_tasks import CASES
from tests.training.tiny import TinyBackbone
from tests.training.topology_run import doubled, on, put_exact_batch

BATCH, SIZE = 16, 48
BACKBONE = {"dropout": 0.2, "momentum": 0.9}


def batch():
    """A batch of pictures of noisy squares, of which the last five are padding."""
    rng = np.random.default_rng(0)
    smooth = rng.integers(0, 256, (BATCH, 8, 8, 3)).repeat(6, axis=1).repeat(6, axis=2)
    mask = np.arange(BATCH) < BATCH - 5
    images = (smooth // 2 + rng.integers(0, 128, smooth.shape)).astype(np.uint8)
    return {"image": images, "label": np.arange(BATCH, dtype=np.int32) % 2, "mask": mask}


def measured(name, task, devices):
    """The task's inputs and targets, and the metrics and gradients of a step, by name."""
    mesh = on(devices, 1)
    built = network.Network(Backbone(**BACKBONE), {name: task}, rngs=nnx.Rngs(0))
    graphdef, parameters, statistics = split_network(built)
    gradient_as_update = optax.identity()
    state = initial_state(parameters, statistics, gradient_as_update, seed=3)
    state = jax.tree.map(doubled, sharding.put(state, sharding.state_shardings(state, mesh)))
    frozen = jax.tree.map(lambda _: False, parameters)
    step = make_train_step(graphdef, {name: task}, {name: 1.0}, gradient_as_update, frozen)

    @jax.jit
    def both(state, batch):
        prepared = task.prepare(jax.random.key(5), batch["image"], batch["label"], train=True)
        return prepared, step(state, batch)

    prepared, (after, figures) = both(state, put_exact_batch(batch(), mesh))
    gradients = jax.tree.map(
        lambda new, old: np.asarray(new) - np.asarray(old), after["parameters"], state["parameters"]
    )
    parts = {"prepared": prepared, "figures": figures, "gradients": gradients}
    return {
        f"{part}{jax.tree_util.keystr(path)}": np.asarray(leaf)
        for part, tree in parts.items()
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def main():
    inception_resnet_v2.InceptionResNetV2 = TinyBackbone
    results = {}
    for name, fields in CASES:
        task = tasks.make(name, **fields)
        for devices in (1, 8):
            for leaf, values in measured(name, task, devices).items():
                results[f"{name}{fields}/{devices}/{leaf}"] = values
    np.savez(sys.argv[1], **results)


if __name__ == "__main__":
    main()
