"""Emotions from faces: self-supervised pretraining, and evaluation on held-out people, in JAX.

The public names are those in `__all__`; docs/python.md explains them by example. They are imported
when they are first used, so that `import fer_jax` itself is fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"
__all__ = [
    "Backbone",
    "Recogniser",
    "UserError",
    "builders",
    "config",
    "detect",
    "draw",
    "load_backbone",
    "read",
    "run",
    "tasks",
    "timeline",
]
_HOMES = {
    "Backbone": "fer_jax.features",
    "Recogniser": "fer_jax.recogniser",
    "UserError": "fer_jax.errors",
    "builders": "fer_jax.data",
    "config": "fer_jax.api",
    "detect": "fer_jax.api",
    "draw": "fer_jax.showing",
    "load_backbone": "fer_jax.api",
    "read": "fer_jax.api",
    "run": "fer_jax.api",
    "timeline": "fer_jax.showing",
}

if TYPE_CHECKING:
    from fer_jax import tasks
    from fer_jax.api import config, detect, load_backbone, read, run
    from fer_jax.data import builders
    from fer_jax.errors import UserError
    from fer_jax.features import Backbone
    from fer_jax.recogniser import Recogniser
    from fer_jax.showing import draw, timeline


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in ("builders", "tasks"):
        home = _HOMES.get(name, __name__)
        return importlib.import_module(f"{home}.{name}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
