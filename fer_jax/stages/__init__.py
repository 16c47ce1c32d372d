"""Finds stages by name: a stage is a module of this package with `run(config, workdir)`."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

from fer_jax.errors import UserError
from fer_jax.plugins import did_you_mean


def find_stage(name: str) -> ModuleType:
    """The module of the stage `name`.

    Raises:
        UserError: there is no such stage.
    """
    known = sorted(module.name for module in pkgutil.iter_modules(__path__))
    if name not in known:
        raise UserError(
            f"there is no stage {name!r} (config.stage){did_you_mean(name, known)}; choose from "
            f"{', '.join(known)}"
        )
    return importlib.import_module(f"{__name__}.{name}")
