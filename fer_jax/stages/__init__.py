"""The stages by name: each is a module here with a function `run(config, workdir)`."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from types import ModuleType

from fer_jax.errors import UserError


def find_stage(name: str) -> ModuleType:
    """The module of the stage `name`.

    Raises:
        UserError: there is no such stage.
    """
    known = sorted(module.name for module in pkgutil.iter_modules(__path__))
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"the stages are {', '.join(known)}"
        raise UserError(f"there is no stage {name!r} (config.stage); {hint}")
    return importlib.import_module(f"{__name__}.{name}")
