"""The steps of training, evaluation and inference: pure functions of trees, for any tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from fer_jax.models.backbone import Backbone, global_mean
from fer_jax.tasks.task import Task, inputs_from
from fer_jax.training.state import State, Tree, for_use, merge_network

Batch = Mapping[str, jax.Array]
Figures = dict[str, jax.Array]


def make_train_step(
    graphdef: nnx.GraphDef[Any],
    tasks: Mapping[str, Task],
    weights: Mapping[str, float],
    optimizer: optax.GradientTransformation,
    frozen: Tree,
    *,
    accumulate: int = 1,
    average: float = 0.0,
) -> Callable[[State, Batch], tuple[State, Figures]]:
    """Makes a function that performs one update on a batch and returns the new state and metrics.

    A batch has `image` uint8 [B, H, W, 3], `label` int32 [B] and `mask` bool [B]. `mask` is False
    for padding. `label_<task>` int32 [B], if present, replaces `label` for that task. Examples with
    label -1 are ignored in the loss and the metrics of tasks that need labels.

    Args:
        graphdef: the structure of the network.
        tasks: the tasks by name.
        weights: each task's weight in the loss.
        optimizer: see `make_optimizer`.
        frozen: marks parameters for which no gradient is computed (see `frozen_mask`).
        accumulate: number of parts of the batch, which are processed one after the other and whose
            gradients are averaged, for larger batches in the same memory. BatchNorm normalises each
            part by its own mean and variance.
        average: decay of the running average of the parameters, 0 for none.
    """

    total_loss = _make_loss(graphdef, tasks, weights, frozen)
    gradient_of = jax.grad(total_loss, has_aux=True)

    def train_step(state: State, batch: Batch) -> tuple[State, Figures]:
        key = jax.random.fold_in(jax.random.key(state["seed"]), state["step"])
        parameters = state["parameters"]
        if accumulate == 1:
            gradients, (statistics, figures) = gradient_of(
                parameters, state["statistics"], key, batch
            )
        else:
            gradients, (statistics, figures) = _in_parts(
                gradient_of, accumulate, parameters, state["statistics"], key, batch
            )
        updates, optimizer_state = optimizer.update(gradients, state["optimizer"], parameters)
        figures["gradient_norm"] = optax.global_norm(gradients)
        new = {
            "step": state["step"] + 1,
            "seed": state["seed"],
            "parameters": optax.apply_updates(parameters, updates),
            "statistics": statistics,
            "optimizer": optimizer_state,
        }
        if average:
            new["average"] = _moved(state["average"], new["parameters"], average, new["step"])
        return new, figures

    return train_step


def _make_loss(
    graphdef: nnx.GraphDef[Any],
    tasks: Mapping[str, Task],
    weights: Mapping[str, float],
    frozen: Tree,
) -> Callable[..., tuple[jax.Array, tuple[Tree, Figures]]]:
    """Makes a function that returns the weighted sum of losses, and (new statistics, metrics)."""

    def total_loss(
        parameters: Tree, statistics: Tree, key: jax.Array, batch: Batch
    ) -> tuple[jax.Array, tuple[Tree, Figures]]:
        held = jax.tree.map(
            lambda leaf, fixed: jax.lax.stop_gradient(leaf) if fixed else leaf, parameters, frozen
        )
        network = merge_network(graphdef, held, statistics)
        figures = _masked_means(_run_tasks(network, tasks, key, batch, train=True))
        loss = sum((weights[name] * figures[f"{name}/loss"] for name in tasks), jnp.zeros(()))
        statistics = nnx.to_pure_dict(nnx.state(network, nnx.BatchStat))
        return loss, (statistics, {"loss": loss, **figures})

    return total_loss


def _in_parts(
    gradient_of: Callable[..., Any],
    parts: int,
    parameters: Tree,
    statistics: Tree,
    key: jax.Array,
    batch: Batch,
) -> tuple[Tree, tuple[Tree, Figures]]:
    """The mean gradients of the parts of a batch, and (new statistics, mean metrics).

    The parts are processed one after the other, and each of them updates the statistics.
    """

    def split(array: jax.Array) -> jax.Array:  # interleaved, so that every device keeps its rows
        return array.reshape(-1, parts, *array.shape[1:]).swapaxes(0, 1)

    def one(carried: tuple[Tree, Tree], part: tuple[jax.Array, Batch]) -> tuple[Any, Figures]:
        total, statistics = carried
        number, rows = part
        part_key = jax.random.fold_in(key, number)
        gradients, (statistics, figures) = gradient_of(parameters, statistics, part_key, rows)
        return (jax.tree.map(jnp.add, total, gradients), statistics), figures

    rows = {name: split(array) for name, array in batch.items()}
    nothing = jax.tree.map(jnp.zeros_like, parameters)
    (total, statistics), figures = jax.lax.scan(
        one, (nothing, statistics), (jnp.arange(parts), rows)
    )
    gradients = jax.tree.map(lambda leaf: leaf / parts, total)
    return gradients, (statistics, {name: values.mean() for name, values in figures.items()})


def _moved(average: Tree, parameters: Tree, decay: float, step: jax.Array) -> Tree:
    """The running average after one more step; it adapts faster in the first steps.

    The decay is min(decay, (1 + step) / (10 + step)), as in TensorFlow's ExponentialMovingAverage.
    """
    kept = jnp.minimum(decay, (1 + step) / (10 + step))
    return jax.tree.map(
        lambda old, new: (old + (1 - kept) * (new - old)).astype(old.dtype), average, parameters
    )


def make_eval_step(
    graphdef: nnx.GraphDef[Any], tasks: Mapping[str, Task]
) -> Callable[[State, Batch], dict[str, tuple[jax.Array, jax.Array]]]:
    """Makes a function that returns (sum, count) of every loss and metric over a batch, by name.

    Padding and, in tasks that need labels, unlabelled examples are left out. Sums and counts can be
    added over batches, so that means do not depend on padding. The random key is the same for every
    batch.
    """

    def eval_step(state: State, batch: Batch) -> dict[str, tuple[jax.Array, jax.Array]]:
        network = merge_network(graphdef, **for_use(state))
        results = _run_tasks(network, tasks, jax.random.key(0), batch, train=False)
        return {
            name: (jnp.sum(values * mask), jnp.sum(mask))
            for name, (values, mask) in results.items()
        }

    return eval_step


def make_features_step(
    graphdef: nnx.GraphDef[Any], task: Task, *, depths: bool = False
) -> Callable[[State, jax.Array], jax.Array]:
    """Makes a function that returns the pooled features [B, F] of images [B, S, S, 3].

    The images are preprocessed as in the evaluation of `task`. With `depths`, the pooled outputs of
    the earlier stages that `backbone.depths` names follow the features. For a task with r inputs
    per image, the result is [B, r * F].
    """

    def features_step(state: State, images: jax.Array) -> jax.Array:
        network = merge_network(graphdef, **for_use(state))
        faces = images.shape[0]  # symbolic in an export, where `len` fails
        labels = jnp.zeros(faces, jnp.int32)
        inputs, _ = task.prepare(jax.random.key(0), images, labels, train=False)
        if not depths:
            return network.features(inputs, train=False).reshape(faces, -1)
        *earlier, features = _pooled_depths(network, inputs).values()
        return jnp.concatenate([features, *earlier], axis=-1).reshape(faces, -1)

    return features_step


def make_head_step(
    graphdef: nnx.GraphDef[Any], task_name: str
) -> Callable[[State, jax.Array], jax.Array]:
    """Makes a function that maps features of the backbone [B, F] to a task's logits [B, C]."""

    def head_step(state: State, features: jax.Array) -> jax.Array:
        network = merge_network(graphdef, **for_use(state))
        rows = features.reshape(-1, network.backbone.features)
        return network.head(task_name, rows, train=False)

    return head_step


def depth_names(backbone: Backbone) -> tuple[str, ...]:
    """Names of the probed depths in metrics, such as "mixed_5b", "block35_0" and "features"."""
    return (*(name.replace("/", "_") for name in backbone.depths), "features")


def make_depths_step(graphdef: nnx.GraphDef[Any]) -> Callable[[State, Batch], dict[str, jax.Array]]:
    """Makes a function that maps a batch to pooled outputs [B, C] by `depth_names`, and `mask`."""

    def depths_step(state: State, batch: Batch) -> dict[str, jax.Array]:
        network = merge_network(graphdef, **for_use(state))
        return {**_pooled_depths(network, batch["image"]), "mask": batch["mask"]}

    return depths_step


def _pooled_depths(network: Any, images: jax.Array) -> dict[str, jax.Array]:
    """Pooled outputs [B, C] by the names of `depth_names`; the features come last."""
    *_, (last, _) = network.backbone.stages()  # the features are the mean of its output
    outputs = network.stage_outputs(images, (*network.backbone.depths, last))
    pooled = [global_mean(outputs[name]) for name in (*network.backbone.depths, last)]
    return dict(zip(depth_names(network.backbone), pooled, strict=True))


def _run_tasks(
    network: Any, tasks: Mapping[str, Task], key: jax.Array, batch: Batch, *, train: bool
) -> dict[str, tuple[jax.Array, jax.Array]]:
    """Losses and metrics per example: {"rotation/loss": (values [N], mask [N]), ...}."""
    keys = {name: jax.random.fold_in(key, place) for place, name in enumerate(sorted(tasks))}
    labels = {name: labels_for(name, batch) for name in tasks}
    prepared = {
        name: task.prepare(
            jax.random.fold_in(keys[name], 0), batch["image"], labels[name], train=train
        )
        for name, task in tasks.items()
    }
    inputs = {
        name: prepared[name][0] for name, task in tasks.items() if inputs_from(task, name) == name
    }
    features = _shared_features(network, inputs, train=train)
    results = {}
    for name, task in tasks.items():
        head_key = jax.random.fold_in(keys[name], 1)
        task_features = features[inputs_from(task, name)]
        outputs = network.head(name, task_features, train=train, key=head_key)
        counts = batch["mask"] & (labels[name] >= 0) if task.labels_needed else batch["mask"]
        answers = outputs, prepared[name][1], counts
        values = {"loss": task.loss(*answers), **task.metrics(*answers)}
        for metric, value in values.items():
            mask = jnp.repeat(counts, value.shape[0] // counts.shape[0])
            results[f"{name}/{metric}"] = (value, mask.astype(value.dtype))
    return results


def labels_for(task: str, batch: Batch) -> jax.Array:
    """The labels [B] of one task: `label_<task>` if the batch has it, else `label`."""
    return batch.get(f"label_{task}", batch["label"])


def _shared_features(
    network: Any, inputs: Mapping[str, jax.Array], *, train: bool
) -> dict[str, jax.Array]:
    """Features by task, with one pass through the backbone for all inputs of the same size."""
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
