"""Checkpoints of the train state and of the data iterator together, by Orbax."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from fer_jax.training.state import State

logging.getLogger("absl").setLevel(logging.WARNING)  # Orbax tells every step of every save


class Checkpoints:
    """The newest `keep` checkpoints in a folder; saving runs in the background."""

    def __init__(self, folder: Path, *, keep: int = 2) -> None:
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep, enable_async_checkpointing=True, create=True
        )
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options)

    def save(self, state: State, iterator_state: dict[str, Any]) -> None:
        """Saves both under the state's step; returns before the files are written."""
        self._manager.save(
            int(state["step"]),
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(state), iterator=ocp.args.JsonSave(iterator_state)
            ),
        )

    def restore(self, like: State) -> tuple[State, dict[str, Any]] | None:
        """The newest checkpoint in the shapes and shardings of `like`, or None if none is there."""
        step = self._manager.latest_step()
        if step is None:
            return None
        abstract = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(np.shape(leaf), leaf.dtype, sharding=leaf.sharding),
            like,
        )
        restored = self._manager.restore(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardRestore(abstract), iterator=ocp.args.JsonRestore()
            ),
        )
        return restored["state"], restored["iterator"]

    def latest_step(self) -> int:
        """The step of the newest checkpoint; 0 if there is none."""
        return self._manager.latest_step() or 0

    def close(self) -> None:
        """Waits until everything is written."""
        self._manager.wait_until_finished()
        self._manager.close()
