"""The interface of tasks, how a task is made from a config, and functions that tasks share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, Num, PRNGKeyArray
from pydantic import ValidationError
from pydantic.dataclasses import is_pydantic_dataclass

from fer_jax import plugins
from fer_jax.errors import UserError
from fer_jax.schemas.validation import explain
from fer_jax.tasks.augment import Augment


@runtime_checkable
class Task(Protocol):
    """A frozen dataclass with pure functions that run on the device inside the compiled step.

    Each task has its own module, whose attribute `TASK` is the class. The fields of the dataclass
    are the fields of `config.tasks[name]`.

    A task whose loss compares the examples of a batch with each other declares
    `compares_examples: ClassVar[bool] = True`, so that `accumulate` cannot make parts of a single
    example. The batch is that of all devices and hosts.

    A task can use the inputs of another task, if it has a field `inputs_of: str` with the name of
    that task, which must make one input per image. There is then one pass through the backbone
    for both. `prepare` still returns the targets.

    Two members are optional: `classes`, the names of the classes; and, for the picture tasks.png,
    `undo(inputs, answers) -> images`, the images that result if `answers` are the true classes. If
    `answers` are the targets, these are the original images, as far as possible.
    """

    labels_needed: ClassVar[bool]  # whether `prepare` reads the labels of the data set

    def head(self, features: int, *, rngs: nnx.Rngs) -> nnx.Module:
        """A module that is called as `head(features [N, F], train=..., key=...) -> outputs`."""
        ...

    def prepare(
        self,
        key: PRNGKeyArray,
        images: Num[Array, "b h w 3"],
        labels: Int[Array, " b"],
        *,
        train: bool,
    ) -> tuple[Num[Array, "n h2 w2 3"], Any]:
        """Converts images in 0..255 to inputs of the network and targets.

        There may be r inputs per image (n = r * b), which are then consecutive rows: input j of
        image i is row i * r + j. With `train=False`, the result does not depend on the key.
        """
        ...

    def loss(self, outputs: Any, targets: Any, mask: Bool[Array, " b"]) -> Float[Array, " n"]:
        """The unreduced loss: n is a multiple of b, and the values of an example are consecutive.

        `mask` is False for padding and, if `labels_needed`, for unlabelled examples. Their loss is
        not used, but a loss that compares examples must exclude them from the comparison.
        """
        ...

    def metrics(
        self, outputs: Any, targets: Any, mask: Bool[Array, " b"]
    ) -> dict[str, Float[Array, " n"]]:
        """The unreduced metrics by name, with values in the same order as in `loss`."""
        ...


def make(name: str, **fields: Any) -> Task:
    """The task `name` with these fields.

    A name without a dot is a module in `fer_jax.tasks`, a dotted name any importable module; its
    attribute `TASK` is the task's class. Lists are converted to tuples, and a mapping for `augment`
    to an `Augment`.

    Raises:
        UserError: there is no such task, or a field is unknown or invalid.
    """
    kind = plugins.load("task", name, "fer_jax.tasks", "TASK")
    try:
        given = fields
        if not is_pydantic_dataclass(kind):  # other dataclasses do not convert values
            given = {field: _plain(field, value) for field, value in fields.items()}
        task: Task = plugins.build("task", name, "fer_jax.tasks", "TASK", given)
    except ValidationError as error:
        raise UserError(f'task "{name}": {explain(error, fields)}') from error
    return task


def inputs_from(task: Task, name: str) -> str:
    """The name of the task whose inputs `task` uses: `inputs_of` if set, else `name`."""
    return getattr(task, "inputs_of", "") or name


def _plain(field: str, value: Any) -> Any:
    if field == "augment" and isinstance(value, Mapping):
        return Augment(**value)
    return tuple(value) if isinstance(value, list) else value


def by_content(images: Num[Array, "b h w 3"], choices: int) -> Int[Array, " b"]:
    """For each image, a number from 0 to `choices` - 1 that depends only on the sum of its pixels.

    In evaluation, targets must depend neither on a key nor on the position in the batch.
    """
    total = images.astype(jnp.uint32).sum((1, 2, 3), dtype=jnp.uint32)
    mixed = total * jnp.uint32(2654435761)  # multiplicative hash: Knuth, vol. 3, section 6.4
    return ((mixed >> 16) % jnp.uint32(choices)).astype(jnp.int32)


def cross_entropy(
    logits: Float[Array, "n classes"], labels: Int[Array, " n"], smoothing: float = 0.0
) -> Float[Array, " n"]:
    """Softmax cross entropy with label smoothing (Szegedy et al. 2015, section 7).

    The true class has probability 1 - smoothing + smoothing / classes.
    """
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    wanted = jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    return optax.losses.softmax_cross_entropy(logits, optax.losses.smooth_labels(wanted, smoothing))


def accuracy(logits: Float[Array, "n classes"], labels: Int[Array, " n"]) -> Float[Array, " n"]:
    """1 if the largest logit is that of the label, else 0."""
    return (logits.argmax(-1) == labels).astype(jnp.float32)


def classification_loss(
    self: Any, outputs: Float[Array, "n classes"], targets: Int[Array, " n"], mask: Any
) -> Float[Array, " n"]:
    """The method `loss` of a task whose targets are classes: `loss = classification_loss`."""
    return cross_entropy(outputs, targets, getattr(self, "label_smoothing", 0.0))


def classification_metrics(
    self: Any, outputs: Float[Array, "n classes"], targets: Int[Array, " n"], mask: Any
) -> dict[str, Float[Array, " n"]]:
    """The method `metrics` of a task whose targets are classes."""
    return {"accuracy": accuracy(outputs, targets)}
