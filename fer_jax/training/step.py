"""The training step and the evaluation step: pure functions of trees, for any set of tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from fer_jax.tasks.task import Task
from fer_jax.training.state import State, merge_network

Batch = Mapping[str, jax.Array]
Figures = dict[str, jax.Array]


def make_train_step(
    graphdef: nnx.GraphDef[Any],
    tasks: Mapping[str, Task],
    weights: Mapping[str, float],
    optimizer: optax.GradientTransformation,
) -> Callable[[State, Batch], tuple[State, Figures]]:
    """One update. The batch holds `image` uint8 [B,H,W,3], `label` int32 [B], `mask` bool [B]."""

    def train_step(state: State, batch: Batch) -> tuple[State, Figures]:
        key = jax.random.fold_in(jax.random.key(state["seed"]), state["step"])

        def total_loss(parameters: Any) -> tuple[jax.Array, tuple[Any, Figures]]:
            network = merge_network(graphdef, parameters, state["statistics"])
            figures = _masked_means(_run_tasks(network, tasks, key, batch, train=True))
            loss = sum((weights[name] * figures[f"{name}/loss"] for name in tasks), jnp.zeros(()))
            statistics = nnx.to_pure_dict(nnx.state(network, nnx.BatchStat))
            return loss, (statistics, {"loss": loss, **figures})

        gradient_of = jax.value_and_grad(total_loss, has_aux=True)
        (_, (statistics, figures)), gradients = gradient_of(state["parameters"])
        updates, optimizer_state = optimizer.update(
            gradients, state["optimizer"], state["parameters"]
        )
        figures["gradient_norm"] = optax.global_norm(gradients)
        return {
            "step": state["step"] + 1,
            "seed": state["seed"],
            "parameters": optax.apply_updates(state["parameters"], updates),
            "statistics": statistics,
            "optimizer": optimizer_state,
        }, figures

    return train_step


def make_eval_step(
    graphdef: nnx.GraphDef[Any], tasks: Mapping[str, Task]
) -> Callable[[State, Batch], dict[str, tuple[jax.Array, jax.Array]]]:
    """Sums and counts of every task's loss and metrics over the batch's real examples.

    Sums add up over batches, so a mean is exact however the last batch is padded. What a task
    draws at random when it evaluates depends on the image's place in the pass only.
    """

    def eval_step(state: State, batch: Batch) -> dict[str, tuple[jax.Array, jax.Array]]:
        network = merge_network(graphdef, state["parameters"], state["statistics"])
        results = _run_tasks(network, tasks, jax.random.key(0), batch, train=False)
        return {
            name: (jnp.sum(values * mask), jnp.sum(mask))
            for name, (values, mask) in results.items()
        }

    return eval_step


def make_predict_step(
    graphdef: nnx.GraphDef[Any], task_name: str, task: Task
) -> Callable[[State, Batch], jax.Array]:
    """Class probabilities [B, C] of one task, averaged over each image and its mirror image."""

    def predict_step(state: State, batch: Batch) -> jax.Array:
        network = merge_network(graphdef, state["parameters"], state["statistics"])

        def logits(images: jax.Array) -> jax.Array:
            inputs, _ = task.prepare(jax.random.key(0), images, batch["label"], train=False)
            return network.head(task_name, network.features(inputs, train=False), train=False)

        images = batch["image"]
        both = jax.nn.softmax(logits(images)) + jax.nn.softmax(logits(images[:, :, ::-1]))
        return both / 2

    return predict_step


def _run_tasks(
    network: Any, tasks: Mapping[str, Task], key: jax.Array, batch: Batch, *, train: bool
) -> dict[str, tuple[jax.Array, jax.Array]]:
    """Per example: {"rotation/loss": (values [N], mask [N])} and so on for every metric."""
    keys = {name: jax.random.fold_in(key, place) for place, name in enumerate(sorted(tasks))}
    prepared = {
        name: task.prepare(
            jax.random.fold_in(keys[name], 0), batch["image"], batch["label"], train=train
        )
        for name, task in tasks.items()
    }
    inputs = {name: task_inputs for name, (task_inputs, _) in prepared.items()}
    features = _shared_features(network, inputs, train=train)
    results = {}
    for name, task in tasks.items():
        head_key = jax.random.fold_in(keys[name], 1)
        outputs = network.head(name, features[name], train=train, key=head_key)
        targets = prepared[name][1]
        values = {"loss": task.loss(outputs, targets), **task.metrics(outputs, targets)}
        for metric, value in values.items():
            mask = jnp.repeat(batch["mask"], value.shape[0] // batch["mask"].shape[0])
            results[f"{name}/{metric}"] = (value, mask.astype(value.dtype))
    return results


def _shared_features(
    network: Any, inputs: Mapping[str, jax.Array], *, train: bool
) -> dict[str, jax.Array]:
    """One pass through the backbone for all tasks whose inputs have the same size."""
    features: dict[str, jax.Array] = {}
    for shape in dict.fromkeys(images.shape[1:] for images in inputs.values()):
        names = [name for name, images in inputs.items() if images.shape[1:] == shape]
        dtype = jnp.result_type(*(inputs[name].dtype for name in names))
        together = jnp.concatenate([inputs[name].astype(dtype) for name in names])
        ends = [0]
        for name in names:
            ends.append(ends[-1] + inputs[name].shape[0])
        all_features = network.features(together, train=train)
        for place, name in enumerate(names):
            features[name] = all_features[ends[place] : ends[place + 1]]
    return features


def _masked_means(results: Mapping[str, tuple[jax.Array, jax.Array]]) -> Figures:
    return {
        name: jnp.sum(values * mask) / jnp.maximum(jnp.sum(mask), 1)
        for name, (values, mask) in results.items()
    }
