"""The two sizes that the configs know: one for two CPU cores, one for an accelerator."""

import dataclasses
import importlib
from typing import Any

from fer_jax.errors import UserError

SIZES = ("small", "full")

# How faces are sought in photographs and in videos.
DETECTOR = {"min_face": 20, "factor": 0.709, "thresholds": (0.6, 0.7, 0.8)}

# Of every backbone, off as in fer_jax/models/network.py; they stand here so that flags can set them
# (docs/architecture.md, "Fine-tuning").
SWITCHES = {"frozen_batchnorm": False, "remat": False, "dtype": "auto"}


def network(size: str) -> dict[str, Any]:
    """Backbone, pixels and batch size.

    "small" has the blocks of Inception-ResNet-v2, fewer and narrower, behind a stem for small
    images, and sees grey faces with their own contrast. "full" is the published network.
    """
    if size == "small":
        return {
            "image_size": 48,
            "crop": {"size": 80, "margin": 0.0},
            "batch_size": 64,
            "backbone": {
                "width": 0.125,
                "depth": (1, 1, 1),
                "stem": "tiny",
                "grey": True,
                "normalise": "per_image",
                "dropout": 0.2,
                "momentum": 0.9,
                **SWITCHES,
            },
        }
    if size == "full":
        return {
            "image_size": 299,
            "crop": {"size": 320, "margin": 0.1},
            "batch_size": 64,
            "backbone": {
                "width": 1.0,
                "depth": (10, 20, 10),
                "stem": "full",
                "grey": False,
                "normalise": "inception",
                "dropout": 0.2,
                "momentum": 0.99,
                **SWITCHES,
            },
        }
    raise UserError(f"unknown size {size!r}; there are {', '.join(SIZES)}")


def parse(arg: str | None, default_tasks: tuple[str, ...] = ()) -> tuple[str, tuple[str, ...]]:
    """ "full,jigsaw" as ("full", ("jigsaw",)); the size is "small" where none is named."""
    words = [word.strip() for word in (arg or "").split(",") if word.strip()]
    sizes = [word for word in words if word in SIZES]
    tasks = tuple(word for word in words if word not in SIZES)
    return (sizes or ["small"])[0], tasks or default_tasks


def in_turn(tasks: tuple[str, ...]) -> list[tuple[str, ...]]:
    """("rotation", "then", "jigsaw") as [("rotation",), ("jigsaw",)]: what is taught together."""
    groups: list[list[str]] = [[]]
    for word in tasks:
        if word == "then":
            groups.append([])
        else:
            groups[-1].append(word)
    if not all(groups):
        raise UserError(f"`then` stands between tasks, not as in {','.join(tasks)}")
    return [tuple(group) for group in groups]


def optimizer(learning_rate: float) -> dict[str, Any]:
    """AdamW's fields; see fer_jax/training/optimizer.py."""
    return {
        "learning_rate": learning_rate,
        "warmup": 0.1,
        "weight_decay": 0.02,
        "clip": 1.0,
        "backbone_rate": 1.0,
        "layer_decay": 1.0,
        "freeze": (),  # e.g. ("backbone/*",) with backbone.frozen_batchnorm for a linear probe
        "average": 0.0,  # decay of a running average of the parameters, e.g. 0.999
    }


def task(name: str, size: str, weight: float = 1.0) -> dict[str, Any]:
    """A task's weight and its plain fields, with what suits the size of network."""
    full = size == "full"
    chosen: dict[str, dict[str, Any]] = {
        "rotation": {"views": 1},  # 4: every image in all four rotations, four times the cost
        # Tiles that pass the backbone one by one need 75 pixels each: three of them fit into 299.
        "jigsaw": {
            "mode": "tiles" if full else "image",
            "gap": 24 if full else 5,
            "permutations": 100 if full else 24,
        },
        # The small network's stem wants 25 pixels.
        "relative_patch": {"gap": 24 if full else 5, "tile": 0 if full else 32},
    }
    return {"weight": weight, **own_fields(name), **chosen.get(name, {})}


def own_fields(name: str) -> dict[str, Any]:
    """The plain fields of a task, with their defaults, so that flags can set them."""
    try:
        module = importlib.import_module(name if "." in name else f"fer_jax.tasks.{name}")
    except ModuleNotFoundError:
        return {}  # the stage says what is missing
    kind = getattr(module, "TASK", None)
    fields = dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else ()
    return {f.name: f.default for f in fields if isinstance(f.default, bool | int | float | str)}


def loop() -> dict[str, Any]:
    """How often a run logs, evaluates (0: at its end) and saves, and over what it is spread.

    `accumulate` passes a batch in so many parts; `fsdp` devices share one copy of the parameters.
    """
    return {
        "log_every": 10,
        "evaluate_every": 0,
        "checkpoint_every_s": 20.0,
        "accumulate": 1,
        "fsdp": 1,
        "workers": 0,
        "wandb": "",  # a project of Weights & Biases; needs pip install 'fer_jax[wandb]'
    }
