"""One process of tests/training/test_distributed.py; run as a script, in float64.

    python -m tests.training.topology_run FOLDER COORDINATOR PROCESSES PROCESS RUN...

Each RUN is NAME:DEVICES:FSDP:STEPS[:from=OTHER][:term][:kill] and trains in FOLDER/NAME on DEVICES
devices, optionally from the checkpoints of another run, with SIGTERM to process 0 or SIGKILL to
process 1 after five steps. Process 0 of a finished run writes every leaf of the last state, every
loss and the last metrics to FOLDER/NAME.npz.
"""

import os
import shutil
import signal
import sys
from pathlib import Path

import jax
import numpy as np

from configs import pretrain
from fer_jax import backend
from fer_jax.data import iterators, sources
from fer_jax.errors import TerminatedError
from fer_jax.models import inception_resnet_v2
from fer_jax.schemas import Training
from fer_jax.training import integrity, sharding
from fer_jax.training.learner import make_tasks
from fer_jax.training.loop import fit
from tests.training.tiny import TinyBackbone, make_learner

BATCH, STEPS = 16, 20


def make_config(fsdp):
    return Training(
        stage="train",
        init="",
        epochs=1.0,
        workers=0,
        backbone={"dropout": 0.2, "momentum": 0.9},
        tasks={"rotation": {"weight": 1.0, "views": 1}},
        optimizer={**pretrain.get_config().optimizer, "learning_rate": 3e-3},
        batch_size=BATCH,
        accumulate=1,
        fsdp=fsdp,
        log_every=4,
        evaluate_every=10,
        checkpoint_every_s=1e9,
    )


def source(count, seed):
    images = np.random.default_rng(seed).integers(0, 256, (count, 12, 12, 3)).astype(np.uint8)
    return sources.ArraySource(images)


def on(devices, fsdp):
    auto = jax.sharding.AxisType.Auto
    shape = (devices // fsdp, fsdp)
    chosen = jax.devices()[:devices]
    return jax.make_mesh(shape, ("data", "fsdp"), axis_types=(auto, auto), devices=chosen)


def put_exact_batch(batch, mesh, put=sharding.put_batch):
    """Puts a batch on the devices with images in float64, instead of float32 as in real runs."""
    return put(batch | {"image": batch["image"].astype(np.float64)}, mesh)


def run(folder, name, devices, fsdp, steps, *flags):
    sharding.make_mesh = lambda fsdp: on(devices, fsdp)
    config = make_config(fsdp)
    learner = make_learner(config, *make_tasks(config.tasks.fields()), STEPS)
    state = jax.tree.map(doubled, learner.init(3))
    train, losses = learner.train, []

    def watched(state, batch):
        state, figures = train(state, batch)
        losses.append(float(figures["loss"]))
        if "kill" in flags and len(losses) == 5 and jax.process_index() == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if "term" in flags and len(losses) == 5 and backend.writes():
            os.kill(os.getpid(), signal.SIGTERM)
        return state, figures

    learner.train = watched
    for flag in flags:
        if flag.startswith("from=") and backend.writes() and not (folder / name).exists():
            shutil.copytree(folder / flag.removeprefix("from="), folder / name)
    backend.wait_for_all(f"{name} begins")
    local = sharding.local_batch_size(BATCH)
    validation = source(21, 1)  # the last batch has five

    def evaluate(state):
        batches = iterators.eval_batches(validation, batch_size=local, shard=sharding.shard())
        figures = learner.evaluate(state, batches)
        return figures | {"loss": figures["rotation/loss"]}

    with iterators.TrainIterator(
        source(40, 0), batch_size=local, seed=2, shard=sharding.shard()
    ) as batches:
        fitted = fit(
            learner,
            state,
            batches,
            steps=steps,
            folder=folder / name,
            loop=config,
            evaluate=evaluate,
        )
    leaves = {k: sharding.fetch(v) for k, v in integrity.named_leaves(fitted.state).items()}
    figures = {f"figures/{k}": np.array(v) for k, v in fitted.figures.items()}
    if backend.writes():
        np.savez(folder / f"{name}.npz", losses=np.array(losses), **leaves, **figures)


def doubled(leaf):
    if not jax.numpy.issubdtype(leaf.dtype, jax.numpy.floating):
        return leaf
    return sharding.put(sharding.fetch(leaf).astype(np.float64), leaf.sharding)


def main():
    folder, coordinator, processes, process, *runs = sys.argv[1:]
    if int(processes) > 1:
        backend.prepare(coordinator, int(processes), int(process))
    inception_resnet_v2.InceptionResNetV2 = TinyBackbone
    sharding.put_batch = put_exact_batch
    for described in runs:
        name, devices, fsdp, steps, *flags = described.split(":")
        try:
            with backend.an_error_ends_all():
                run(Path(folder), name, int(devices), int(fsdp), int(steps), *flags)
        except TerminatedError as error:
            print(f"{name}: {error}", flush=True)


if __name__ == "__main__":
    main()
