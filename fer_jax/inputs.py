"""Checks the inputs of a stage; has few imports, so that a wrong path is reported at once."""

from __future__ import annotations

import os

from fer_jax.errors import UserError
from fer_jax.schemas import Stage

PUBLISHED = ("imagenet", "starter")  # inputs that are not paths: weights with known hashes


def paths_of(config: Stage) -> list[str]:
    """The paths that a stage reads with this config, all of which exist.

    Raises:
        UserError: a required field is not set, or a path does not exist.
    """
    unset = list(config.unset())
    if unset:
        fields = ", and ".join(f"--config.{field} to {what}" for field, what in unset)
        raise UserError(f"{config.stage}: set {fields}")
    paths = [path for path in config.inputs() if path and path not in PUBLISHED]
    require_existing(config.stage, paths)
    return paths


def require_existing(stage: str, paths: list[str]) -> None:
    """Raises `UserError` for the first path that does not exist; a dangling link is accepted."""
    for path in paths:
        if not os.path.lexists(path):
            raise UserError(
                f"{stage}: there is no {path}; correct the path, or run the stage that writes it "
                f"first"
            )
