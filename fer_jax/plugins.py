"""Parts that a config names: one of the package's own modules, or a module of the user's."""

from __future__ import annotations

import importlib
from typing import Any

from fer_jax.errors import UserError


def load(kind: str, name: str, package: str, attribute: str) -> Any:
    """The attribute of the module that `name` names."""
    try:
        module = importlib.import_module(name if "." in name else f"{package}.{name}")
        return getattr(module, attribute)
    except (ImportError, AttributeError) as error:
        raise UserError(f"no {kind} is called {name!r}: {error}") from error
