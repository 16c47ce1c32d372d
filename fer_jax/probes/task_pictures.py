"""The picture tasks.png: the inputs of each task, the model's answers, and the correct answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Int, Num, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from fer_jax.backend import compiler_options
from fer_jax.figures import save_figure
from fer_jax.tasks.task import Task
from fer_jax.training.learner import Learner

EXAMPLES = 6
RIGHT, WRONG = "#2e7d4f", "#c0392b"
_CELL = 1.25  # inches


@dataclass(frozen=True, eq=False)
class Shown:
    """Examples of a task, one per row, as they are drawn.

    Attributes:
        columns: the pictures of each column, uint8 RGB, by the heading of the column.
        answers: the class that the model predicts for each example; None for a task without
            classes.
        truths: the correct class of each example; None for a task without classes.
        names: the names of the classes; empty if they have none.
    """

    columns: dict[str, list[UInt8[np.ndarray, "h w 3"]]]
    answers: Int[np.ndarray, " b"] | None = None
    truths: Int[np.ndarray, " b"] | None = None
    names: tuple[str, ...] = ()

    @property
    def right(self) -> Bool[np.ndarray, " b"] | None:
        """Whether each answer is correct; None for a task without classes."""
        return None if self.answers is None else self.answers == self.truths

    @property
    def captioned(self) -> bool:
        """Whether the answers are shown as text instead of pictures."""
        return self.answers is not None and len(self.columns) == 1


def draw(
    file: Path,
    learner: Learner,
    weights: Mapping[str, Any],
    images: UInt8[np.ndarray, "b s s 3"],
    labels: Int[np.ndarray, " b"],
) -> None:
    """Draws one block per task and one row per image.

    Args:
        file: the picture to write.
        learner: the learner with the tasks.
        weights: `parameters` and `statistics` on this host.
        images: the examples.
        labels: the labels of the examples; -1 for an example without a label.
    """
    blocks = {
        name: shown(task, *_answered(learner, name, weights, images, labels), len(images))
        for name, task in learner.tasks.items()
    }
    widths = [max(1.9, _CELL * sum(_aspects(block))) for block in blocks.values()]
    captions = any(block.captioned for block in blocks.values())
    height = 0.6 + (_CELL + 0.25 * captions) * len(images)
    figure = Figure(figsize=(sum(widths), height), layout="constrained")
    parts = figure.subfigures(1, len(blocks), width_ratios=widths, squeeze=False).ravel()
    for part, (name, block) in zip(parts, blocks.items(), strict=True):
        _draw_block(part, name, block)
    save_figure(figure, file, dpi=120)


def shown(task: Task, inputs: Any, targets: Any, outputs: Any, images: int) -> Shown:
    """Selects what is shown of a task's inputs, targets and outputs for `images` images.

    A task with integer targets, and a row of logits for each, has answers. If it also has a method
    `undo`, its inputs are shown again with the task undone, once according to the answer and once
    according to the label. For a task without answers, only the inputs are shown.
    """
    inputs = np.asarray(inputs)
    if not _are_classes(targets, outputs):
        return Shown({"input": [_mosaic(views) for views in _split(inputs, images)]})
    targets, every = np.asarray(targets), np.asarray(outputs).argmax(-1)
    each = len(targets) // images  # targets per image; of image i, number i % each is shown
    rows = np.arange(images) * each + np.arange(images) % each
    seen = _split(inputs, len(targets))[rows]
    answers, truths = every[rows], targets[rows]
    columns = {"input": [_mosaic(views) for views in seen]}
    undo = getattr(task, "undo", None)
    if undo is not None:
        together = jnp.asarray(seen.reshape(-1, *inputs.shape[1:]))
        for title, by in (("undone by the answer", answers), ("undone by the label", truths)):
            columns[title] = [
                _pixels(image) for image in np.asarray(undo(together, jnp.asarray(by)))
            ]
    return Shown(columns, answers, truths, tuple(getattr(task, "classes", ())))


def _answered(
    learner: Learner,
    name: str,
    weights: Mapping[str, Any],
    images: UInt8[np.ndarray, "b s s 3"],
    labels: Int[np.ndarray, " b"],
) -> tuple[Any, Any, Any]:
    """A task's inputs and targets as in training, and the network's outputs as in inference."""
    task = learner.tasks[name]

    def answer(weights: Any, images: jax.Array, labels: jax.Array) -> tuple[Any, Any, Any]:
        inputs, targets = task.prepare(jax.random.key(0), images, labels, train=True)
        return inputs, targets, learner.logits(weights, name, inputs)

    jitted = jax.jit(answer, compiler_options=compiler_options())
    return jax.device_get(jitted(weights, images, labels))


def _are_classes(targets: Any, outputs: Any) -> bool:
    return (
        getattr(targets, "ndim", 0) == 1
        and np.issubdtype(targets.dtype, np.integer)
        and getattr(outputs, "ndim", 0) == 2
        and len(outputs) == len(targets)
    )


def _split(inputs: Num[np.ndarray, "n h w 3"], parts: int) -> Num[np.ndarray, "p v h w 3"]:
    return inputs.reshape(parts, -1, *inputs.shape[1:])


def _mosaic(views: Num[np.ndarray, "v h w 3"]) -> UInt8[np.ndarray, "h2 w2 3"]:
    """The views of one example in a square grid if their number is a square, else in a row."""
    root = round(len(views) ** 0.5)
    columns = root if root * root == len(views) else len(views)
    space = max(1, views.shape[1] // 16)
    padded = np.pad(_pixels(views), ((0, 0), (0, space), (0, space), (0, 0)), constant_values=255)
    rows = [np.concatenate(list(part), axis=1) for part in np.split(padded, len(views) // columns)]
    return np.concatenate(rows)[:-space, :-space]


def _pixels(images: Any) -> UInt8[np.ndarray, "*shape"]:
    return np.rint(np.clip(np.asarray(images, np.float32), 0, 255)).astype(np.uint8)


def _aspects(block: Shown) -> list[float]:
    """The width of the pictures in each column, in units of their height."""
    return [pictures[0].shape[1] / pictures[0].shape[0] for pictures in block.columns.values()]


def _draw_block(part: SubFigure, name: str, block: Shown) -> None:
    title = name.rsplit(".", 1)[-1]
    if block.right is not None:
        title += f": {block.right.sum()} of {len(block.right)} correct"
    part.suptitle(title, fontsize=10, fontweight="bold")
    count = len(next(iter(block.columns.values())))
    grid = part.subplots(count, len(block.columns), squeeze=False, width_ratios=_aspects(block))
    for column, (heading, pictures) in enumerate(block.columns.items()):
        for row, picture in enumerate(pictures):
            show(grid[row, column], picture)
        if len(block.columns) > 1:
            grid[0, column].set_title(heading, fontsize=8)
    if block.right is None:
        return
    for row, right in enumerate(block.right):
        mark(grid[row, 0 if block.captioned else 1], bool(right))
        if block.captioned:
            grid[row, 0].set_xlabel(
                f"answer {_named(block, block.answers, row)}, "
                f"label {_named(block, block.truths, row)}",
                fontsize=8,
                color=RIGHT if right else WRONG,
            )


def _named(block: Shown, classes: Any, row: int) -> str:
    number = int(classes[row])
    return block.names[number] if 0 <= number < len(block.names) else str(number)


def show(axes: Axes, picture: UInt8[np.ndarray, "h w 3"]) -> None:
    """Draws a picture without ticks or a frame."""
    axes.imshow(picture, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def mark(axes: Axes, right: bool) -> None:
    """Marks a picture as correct or wrong, with a coloured frame and a sign."""
    colour = RIGHT if right else WRONG
    axes.spines[:].set_visible(True)
    axes.spines[:].set_color(colour)
    axes.spines[:].set_linewidth(2.2)
    axes.text(
        0.96, 0.95, "✓" if right else "✗", transform=axes.transAxes, ha="right", va="top",
        color="white", fontsize=8, fontweight="bold",
        bbox={"facecolor": colour, "edgecolor": "none", "boxstyle": "round,pad=0.2"},
    )  # fmt: skip
