"""Training and evaluation of a network on its tasks, compiled once for one batch shape."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import jax
import numpy as np

from fer_jax import tasks as task_modules
from fer_jax.backend import compiler_options, run_once_options
from fer_jax.models.keys import keys, structure
from fer_jax.models.network import Network
from fer_jax.schemas.training import Backbone, Batches, Optimizer
from fer_jax.tasks.task import Task
from fer_jax.training import flops, sharding, step
from fer_jax.training.optimizer import frozen_mask, make_optimizer
from fer_jax.training.state import (
    State,
    for_use,
    initial_state,
    merge_network,
    replace_leaves,
    split_network,
)

HostBatch: TypeAlias = dict[str, np.ndarray]


def make_tasks(
    described: Mapping[str, Mapping[str, Any]], **derived: Any
) -> tuple[dict[str, Task], dict[str, float]]:
    """Makes tasks and their loss weights from descriptions.

    Args:
        described: fields by task, e.g. {"rotation": {"weight": 1.0, "views": 4}}; a missing
            `weight` is 1.
        derived: fields that depend on the data, by task, such as `emotion={"classes": labels}`;
            they take precedence over those in `described`.

    Raises:
        UserError: a task does not exist, or one of its fields is unknown or invalid.
    """
    tasks, weights = {}, {}
    for name, given in described.items():
        fields = {**given, **derived.get(name, {})}
        weights[name] = float(fields.pop("weight", 1.0))
        tasks[name] = task_modules.make(name, **fields)
    return tasks, weights


class Learner:
    """Trains and evaluates a network.

    `train`, `evaluate` and `depths` are each compiled once, on the first call, for the shape of its
    batch. Another shape is an error, not a second compilation, so that all folds of a
    cross-validation use the same program.

    Args:
        backbone: the settings of the backbone.
        optimizer: the settings of the optimizer.
        tasks: the tasks by name.
        weights: each task's weight in the loss.
        batches: the batch size, and how a batch is divided into parts and between devices.
        steps: the length of the learning-rate schedule, in training steps.

    Attributes:
        flops_per_step: floating-point operations of one update on all devices; 0 before the first
            call of `train`.
        compile_seconds: seconds of compilation by function: "train", "evaluate" and "depths".
        frozen: marks the parameters that are not trained (see `frozen_mask`).
        depth_names: names of the arrays that `depths` returns, shallow to deep.

    Raises:
        UserError: the batch or the parameters cannot be divided between the devices, or a pattern
            in `optimizer.freeze` matches no parameter.
    """

    flops_per_step = 0

    def __init__(
        self,
        backbone: Backbone,
        optimizer: Optimizer,
        tasks: Mapping[str, Task],
        weights: Mapping[str, float],
        batches: Batches,
        *,
        steps: int,
    ) -> None:
        self.tasks = dict(tasks)
        self.batch_size = batches.batch_size
        self.mesh = sharding.make_mesh(batches.fsdp)
        sharding.check_batch_size(batches.batch_size, self.mesh)
        self._make = lambda rngs: Network(backbone, self.tasks, rngs=rngs)
        self._averaged = optimizer.average > 0
        abstract = structure(self._make)
        self.depth_names = step.depth_names(abstract.backbone)
        stages = [name for name, _ in abstract.backbone.stages()]
        self._graphdef, parameters, _ = split_network(abstract)
        self.frozen = frozen_mask(parameters, optimizer.freeze)
        self._optimizer = make_optimizer(optimizer, steps, self.frozen, stages)
        self._functions: dict[str, Callable[..., Any]] = {
            "train": step.make_train_step(
                self._graphdef,
                self.tasks,
                weights,
                self._optimizer,
                self.frozen,
                accumulate=batches.accumulate,
                average=optimizer.average,
            ),
            "evaluate": step.make_eval_step(self._graphdef, self.tasks),
            "depths": step.make_depths_step(self._graphdef),
        }
        self._compiled: dict[str, Any] = {}
        self.compile_seconds: dict[str, float] = {}
        self._initial: Any = None

    def init(self, seed: int) -> State:
        """A state at step 0 with random weights; each array is created on its devices."""

        def initial(seed: jax.Array) -> State:
            _, parameters, statistics = split_network(self._make(keys(jax.random.key(seed))))
            return initial_state(
                parameters, statistics, self._optimizer, seed, averaged=self._averaged
            )

        if self._initial is None:
            shape = jax.eval_shape(initial, np.uint32(seed))
            shardings = sharding.state_shardings(shape, self.mesh)
            self._initial = jax.jit(
                initial, out_shardings=shardings, compiler_options=run_once_options()
            )
        state: State = self._initial(np.uint32(seed))
        return state

    def begin_with(self, state: State, leaves: Mapping[str, np.ndarray]) -> State:
        """A copy of the initial `state`, with `leaves` (arrays by path) instead of random weights.

        The running average of the parameters, if there is one, starts with the same values.
        """
        arrays = dict(leaves)
        if "average" in state:
            arrays |= {
                path.replace("parameters/", "average/", 1): array
                for path, array in leaves.items()
                if path.startswith("parameters/")
            }
        state = replace_leaves(state, arrays)
        return sharding.put(state, sharding.state_shardings(state, self.mesh))

    def train(self, state: State, batch: HostBatch) -> tuple[State, dict[str, jax.Array]]:
        """The state after one update, and metrics of the update; `state` must not be used again."""
        # On CPU nothing is donated, since a checkpoint may still be saved from the same memory.
        donated = () if jax.default_backend() == "cpu" else (0,)
        compiled = self._compile("train", state, batch, donated)
        return compiled(state, sharding.put_batch(batch, self.mesh))

    def evaluate(self, state: State, batches: Iterable[HostBatch]) -> dict[str, float]:
        """The loss and metrics of every task by name, as means over the examples of all batches.

        Padding is not counted, nor are unlabelled examples in tasks that need labels. A mean over
        no examples is 0.
        """
        totals: dict[str, np.ndarray] = {}
        for batch in batches:
            compiled = self._compile("evaluate", state, batch)
            sums = compiled(state, sharding.put_batch(batch, self.mesh))
            for name, pair in sums.items():
                totals[name] = totals.get(name, np.zeros(2)) + np.asarray(pair, np.float64)
        return {name: float(total / max(count, 1)) for name, (total, count) in totals.items()}

    def depths(self, state: State, batches: Iterable[HostBatch]) -> dict[str, np.ndarray]:
        """The pooled outputs float32 [n, C] of all examples, by `depth_names`.

        Padding is left out. `batches` are this process's parts of the batches (see
        `iterators.eval_batches`); the result contains the outputs of all processes.
        """
        parts: dict[str, list[np.ndarray]] = {name: [] for name in self.depth_names}
        for batch in batches:
            compiled = self._compile("depths", state, batch)
            outputs = compiled(state, sharding.put_batch(batch, self.mesh))
            mask = sharding.fetch(outputs["mask"])
            for name in parts:
                parts[name].append(sharding.fetch(outputs[name])[mask])
        return {name: np.concatenate(rows) for name, rows in parts.items()}

    def logits(self, state: State, task: str, images: jax.Array) -> jax.Array:
        """The outputs of a task's head in inference; JAX can trace the call.

        `images` [N, h, w, 3] are inputs that the task's `prepare` has returned.
        """
        network = merge_network(self._graphdef, **for_use(state))
        return network(task, images, train=False)

    def _compile(
        self,
        name: str,
        state: State,
        batch: HostBatch,
        donated: tuple[int, ...] = (),
    ) -> Any:
        if name not in self._compiled:
            started = time.perf_counter()
            shardings = sharding.state_shardings(state, self.mesh)
            outputs = (shardings, None) if name == "train" else None
            jitted = jax.jit(self._functions[name], donate_argnums=donated, out_shardings=outputs)
            traced = jitted.trace(state, sharding.put_batch(batch, self.mesh))
            if name == "train":
                self.flops_per_step = flops.count_program(traced.jaxpr.jaxpr)
            lowered = traced.lower()
            self._compiled[name] = lowered.compile(compiler_options=compiler_options())
            self.compile_seconds[name] = time.perf_counter() - started
        return self._compiled[name]
