"""Reads the config of an earlier run from config.json in its workdir."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from fer_jax.errors import UserError


def get_config(path: str = "") -> ConfigDict:
    """The config in the file `path`; its relative paths are relative to the current folder.

    Raises:
        UserError: the file cannot be read, or was not written by a stage.
    """
    try:
        values = json.loads(Path(path).read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"it is not JSON: {error}"
        raise UserError(
            f"cannot load the config {path} ({reason}); pass the config.json of a workdir"
        ) from error
    is_config = isinstance(values, dict) and isinstance(values.get("stage"), str)
    if not is_config or "summary" in values:  # done.json names a stage and has a summary
        raise UserError(
            f"{path} is not a saved config; pass the config.json of a workdir, or a config file in "
            "Python"
        )
    return ConfigDict(_with_tuples(values), allow_dotted_keys=True).lock()


def _with_tuples(value: Any) -> Any:
    """A value with its lists converted to tuples, as in configs, since flags cannot set lists."""
    if isinstance(value, dict):
        return {key: _with_tuples(child) for key, child in value.items()}
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value
