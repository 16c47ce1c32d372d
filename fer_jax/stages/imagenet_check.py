"""imagenet_check: checks that ImageNet weights are about as accurate as published."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from scipy import stats

from fer_jax import console, schemas
from fer_jax.data import imagenet_pictures
from fer_jax.errors import CheckFailedError, UserError
from fer_jax.faces.images import read_image, resize
from fer_jax.models import imagenet, pretrained
from fer_jax.records import ModelRecord
from fer_jax.schemas.training import Backbone
from fer_jax.training import trained_model
from fer_jax.workdir import stage, write_json

NETWORK = Backbone()  # the defaults are those of the published network
SIZE = 299  # side of the images in pixels
# Side of the central square that is shown, as a fraction of the picture's shorter side. It is the
# same as in the published evaluation.
CENTRE = 0.875
PUBLISHED = 0.803  # top-1 accuracy, keras.io/api/applications
FEWEST = 100  # minimum number of pictures
_TASK = "verification"  # any task that shows the network its images unchanged


@stage(
    doing="doing.imagenet_check",
)
def run(config: schemas.ImagenetCheck, workdir: Path) -> dict[str, Any]:
    """Classifies pictures of ImageNet, and compares the accuracy with `config.min_top1`.

    Returns the result of `judged`, the top-5 accuracy, and the number of pictures without a known
    class. These results are also written to `answer.json`, even if the answer is "no".

    Raises:
        CheckFailedError: the answer is "no", since the whole 95 % interval is below
            `config.min_top1`.
        UserError: the weights have another shape or no head, or there are too few pictures.
    """
    if 0 < config.most < FEWEST:
        raise UserError(
            f"imagenet_check: --config.most={config.most} pictures are too few; set it to "
            f"{FEWEST} or more, or to 0 for all pictures"
        )
    pictures, without_class = imagenet_pictures.labelled_pictures(Path(config.images))
    if len(pictures) < FEWEST:
        raise UserError(
            f"imagenet_check: {config.images} contains {len(pictures)} pictures of known class; "
            f"add pictures until there are at least {FEWEST}"
        )
    if config.most and len(pictures) > config.most:
        rows = np.linspace(0, len(pictures) - 1, config.most).round().astype(int)
        pictures = [pictures[row] for row in rows]
    record = ModelRecord(
        image_size=SIZE,
        backbone=NETWORK,
        tasks={_TASK: {}},
        labels={_TASK: ("nonface", "face")},
    )
    head_file = config.head or config.weights
    if head_file == imagenet.NAME:
        raise UserError(
            f"imagenet_check: {imagenet.NOTOP.name} has no head; set --config.head to the "
            "published file with one"
        )
    model = trained_model.begin(config.weights, record, batch=config.batch)
    classes = len(imagenet_pictures.synsets())
    kernel, bias = pretrained.read_head(Path(head_file), model.width, classes)

    right, right_of_five = 0, 0
    for images, truth in _batches(pictures, config.batch):
        logits = model.pooled(_TASK, images) @ kernel + bias
        best = np.argsort(-logits, axis=1)[:, :5] == truth[:, None]
        right += int(best[:, 0].sum())
        right_of_five += int(best.any(axis=1).sum())
    figures = judged(right, len(pictures), config.min_top1)
    figures |= {"top5": right_of_five / len(pictures), "without_class": without_class}
    write_json(workdir / "answer.json", figures)
    line = (
        f"top-1 {figures['top1']:.1%} of {len(pictures)} pictures (95 % interval "
        f"{figures['low']:.1%} to {figures['high']:.1%}); the published accuracy is {PUBLISHED:.1%}"
    )
    if figures["answer"] == "no":
        raise CheckFailedError(
            f"{config.weights} is less accurate than required: {line}; the interval should reach "
            f"{config.min_top1:.1%}"
        )
    console.say(f"  yes: {line}")
    return figures


def judged(right: int, pictures: int, min_top1: float) -> dict[str, Any]:
    """The accuracy with its 95 % confidence interval (Wilson's), and the answer of the check.

    The answer is "yes" if the upper limit of the interval is at least `min_top1`, else "no".

    Args:
        right: number of pictures whose class had the highest logit.
        pictures: number of all pictures.
        min_top1: the accuracy that is required, 0 to 1.
    """
    interval = stats.binomtest(right, pictures).proportion_ci(0.95, method="wilson")
    return {
        "answer": "yes" if interval.high >= min_top1 else "no",
        "top1": right / pictures,
        "low": float(interval.low),
        "high": float(interval.high),
        "pictures": pictures,
    }


def _batches(
    pictures: list[tuple[Path, int]], size: int
) -> Iterator[tuple[UInt8[np.ndarray, "n s s 3"], np.ndarray]]:
    """Yields the images of up to `size` pictures, and their classes, int [n]."""
    starts = range(0, len(pictures), size)
    with console.Progress(total=len(pictures), unit="picture") as progress:
        for start in starts:
            part = pictures[start : start + size]
            images = np.stack([centre(read_image(file)) for file, _ in part])
            yield images, np.array([number for _, number in part])
            progress.update(len(part))


def centre(image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "s s 3"]:
    """The central square, `CENTRE` of the shorter side, resized to `SIZE` pixels per side."""
    side = max(1, round(CENTRE * min(image.shape[:2])))
    top, left = ((length - side) // 2 for length in image.shape[:2])
    return resize(image[top : top + side, left : left + side], SIZE)
