"""The contract of a task, how a config's name becomes one, and the arithmetic that tasks share."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Num, PRNGKeyArray

from fer_jax import plugins
from fer_jax.errors import UserError
from fer_jax.tasks.augment import Augment


@runtime_checkable
class Task(Protocol):
    """A frozen dataclass with pure functions that run on the device inside the compiled step.

    A module of its own holds it, with the module attribute `TASK` naming the class. Its fields are
    the fields of `config.tasks[name]`.

    A task whose loss compares the examples of a batch with each other says so by
    `compares_examples: ClassVar[bool] = True`; then `loss` and `metrics` get the mask `[B]` of the
    real examples as a third argument. The batch is that of all devices and hosts together.

    Optional, for the picture tasks.png: `undo(inputs, answers) -> images`, what the inputs of some
    examples look like if `answers`, a class for each, were true. By the targets it gives the
    images back, as far as they can be. And `classes`, names of the classes.
    """

    labels_needed: ClassVar[bool]  # whether `prepare` reads the labels of the data set

    def head(self, features: int, *, rngs: nnx.Rngs) -> nnx.Module:
        """A module called as `head(features [N, F], train=..., key=...) -> outputs`."""
        ...

    def prepare(
        self,
        key: PRNGKeyArray,
        images: Num[Array, "b h w 3"],
        labels: Int[Array, " b"],
        *,
        train: bool,
    ) -> tuple[Num[Array, "n h2 w2 3"], Any]:
        """Images in 0..255 to the network's inputs and the targets.

        N may be r * B; then example b's r inputs follow each other (index b * r + j). With
        `train=False` the result does not depend on the key.
        """
        ...

    def loss(self, outputs: Any, targets: Any) -> Float[Array, " n"]:
        """Unreduced, one value for each target."""
        ...

    def metrics(self, outputs: Any, targets: Any) -> dict[str, Float[Array, " n"]]:
        """Unreduced, one value for each target and metric."""
        ...


def make(name: str, **fields: Any) -> Task:
    """The task `name` with these fields.

    A name without a dot is a module of `fer_jax.tasks`, any other an importable module; the module
    attribute `TASK` is the task's class. Lists become tuples, and a mapping given as `augment`
    becomes an `Augment`. Raises UserError for an unknown name or field.
    """
    task = plugins.load("task", name, "fer_jax.tasks", "TASK")
    known = [field.name for field in dataclasses.fields(task) if field.init]
    for field in fields:
        if field not in known:
            hint = plugins.did_you_mean(field, known, cutoff=0.0)
            raise UserError(f'task "{name}" has no field {field}{hint}')
    return task(**{field: _plain(field, value) for field, value in fields.items()})


def _plain(field: str, value: Any) -> Any:
    if field == "augment" and isinstance(value, Mapping):
        return Augment.make(value)
    return tuple(value) if isinstance(value, list) else value


def by_content(images: Num[Array, "b h w 3"], choices: int) -> Int[Array, " b"]:
    """A number from 0 to `choices` - 1 for each image, the same whenever this image comes.

    For evaluation: what is asked depends neither on a key nor on an image's place in its batch.
    """
    total = images.astype(jnp.uint32).sum((1, 2, 3), dtype=jnp.uint32)
    mixed = total * jnp.uint32(2654435761)  # Knuth's multiplicative hash, The Art 3, section 6.4
    return ((mixed >> 16) % jnp.uint32(choices)).astype(jnp.int32)


def cross_entropy(
    logits: Float[Array, "n classes"], labels: Int[Array, " n"], smoothing: float = 0.0
) -> Float[Array, " n"]:
    """Softmax cross entropy with label smoothing (Szegedy et al. 2015, section 7).

    The true class has probability 1 - smoothing + smoothing / classes.
    """
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    classes = logits.shape[-1]
    wanted = jax.nn.one_hot(labels, classes, dtype=logits.dtype)
    wanted = wanted * (1 - smoothing) + smoothing / classes
    return -(wanted * jax.nn.log_softmax(logits)).sum(-1)


def accuracy(logits: Float[Array, "n classes"], labels: Int[Array, " n"]) -> Float[Array, " n"]:
    """1 where the largest logit is the label's, else 0."""
    return (logits.argmax(-1) == labels).astype(jnp.float32)
