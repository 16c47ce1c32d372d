"""Parses the argument after a config's name: the size of the network, and tasks.

The argument of `configs/pretrain.py:full,jigsaw` is "full,jigsaw". The sizes are "small", for two
CPU cores; "base", the size of the starter (see configs/starter.py), three times as wide as "small"
and with more blocks (2.7 million parameters); and "full", the published network, for an
accelerator.
"""

import importlib
from typing import Any

from ml_collections import ConfigDict

from fer_jax import plugins
from fer_jax.errors import UserError

SIZES = ("small", "base", "full")


def parse(
    arg: str | None, default_tasks: tuple[str, ...] = (), default_size: str = "small"
) -> tuple[str, tuple[str, ...]]:
    """The size and the tasks in `arg`: for "full,jigsaw", ("full", ("jigsaw",)).

    If `arg` names no size or no tasks, the defaults are used. Of several sizes, the first counts.
    """
    words = [word.strip() for word in (arg or "").split(",") if word.strip()]
    sizes = [word for word in words if word in SIZES]
    tasks = tuple(word for word in words if word not in SIZES)
    return (sizes or [default_size])[0], tasks or default_tasks


def tasks(names: tuple[str, ...], size: str, weight: float = 1.0) -> ConfigDict:
    """The section `tasks` of a config: each task's weight and its `plain_fields`.

    Some fields have values that depend on `size` instead of the task's defaults.

    Raises:
        UserError: a name is neither that of a task of the package nor dotted.
    """
    known = plugins.names("fer_jax.tasks", "TASK")
    for name in names:
        if name not in known and "." not in name:
            hint = plugins.did_you_mean(name, (*SIZES, *known))
            raise UserError(
                f"{name!r} is neither a size nor a task{hint}; choose from "
                f"{', '.join((*SIZES, *known))}"
            )
    full = size == "full"
    chosen: dict[str, dict[str, Any]] = {
        "rotation": {"views": 1},  # 4: each image in all four rotations, at four times the cost
        # In mode "tiles", each tile needs 75 pixels, so 299 pixels suffice for three per side.
        "jigsaw": {
            "mode": "tiles" if full else "image",
            "gap": 24 if full else 5,
            "permutations": 100 if full else 24,
        },
        # The stem of the sizes small and base needs a side of at least 25 pixels.
        "relative_patch": {"gap": 24 if full else 5, "tile": 0 if full else 32},
    }
    fields = {n: {"weight": weight, **plain_fields(n), **chosen.get(n, {})} for n in names}
    return ConfigDict(fields, allow_dotted_keys=True)


def plain_fields(name: str) -> dict[str, Any]:
    """The fields of a task whose defaults are plain values, so that flags can set them.

    Empty if the module `name` is missing or defines no such fields.
    """
    if "." not in name:
        return dict(plugins.plain_defaults(name, "fer_jax.tasks", "TASK"))
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError:
        return {}  # the stage reports what is missing
    return plugins.plain_defaults_of(getattr(module, "TASK", None))
