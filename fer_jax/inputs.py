"""Checks the inputs of a stage; has few imports, so that a wrong path is reported at once."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from fer_jax.errors import UserError
from fer_jax.schemas import Stage

PUBLISHED = ("imagenet", "starter")  # inputs that are not paths: weights with known hashes
_OWN_DATA = ("input", "photos", "videos")  # fields for the user's own data, which no stage writes


def paths_of(config: Stage) -> list[str]:
    """The paths that a stage reads with this config, all of which exist.

    The names in `PUBLISHED` are not paths, and are left out.

    Raises:
        UserError: a required field is not set, or a path does not exist.
    """
    unset = list(config.unset())
    if unset:
        fields = ", and ".join(f"--config.{field} to {what}" for field, what in unset)
        raise UserError(f"{config.stage}: set {fields}")
    paths = [path for path in config.inputs() if path and path not in PUBLISHED]
    for path in paths:
        if not os.path.lexists(path):
            field = next((name for name, value in _texts(config.model_dump()) if value == path), "")
            advice = "" if field in _OWN_DATA else ", or run the stage that writes it first"
            where = f"--config.{field}" if field else config.stage
            raise UserError(f"{where}: there is no {path}; correct the path{advice}")
    return paths


def require_existing(stage: str, paths: list[str]) -> None:
    """Raises `UserError` for the first path that does not exist; a dangling link is accepted."""
    for path in paths:
        if not os.path.lexists(path):
            raise UserError(f"{stage}: there is no {path}; correct the path")


def _texts(fields: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yields (name, text) of each text field; the name is that of its flag without "--config."."""
    for name, value in fields.items():
        if isinstance(value, Mapping):
            yield from _texts(value, f"{prefix}{name}.")
        elif isinstance(value, str):
            yield f"{prefix}{name}", value
