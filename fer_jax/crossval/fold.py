"""What a fold is given and what it answers, whatever model is trained in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from fer_jax import schemas
from fer_jax.data.sources import ArraySource

TASK = "emotion"


def inits(config: schemas.Crossval) -> dict[int, str]:
    """The weights that each seed's models begin with: `{seed}` in `config.init` is its number."""
    return {seed: config.init.replace("{seed}", str(seed)) for seed in config.seeds}


@dataclass(frozen=True)
class Faces:
    """Labelled faces, whose they are, and the files in which they lie in full size."""

    source: ArraySource
    people: Sequence[str]
    files: Sequence[str]


@dataclass(frozen=True)
class Answers:
    """Class probabilities [n, C] of the faces tested, and what was chosen for them.

    `temperature` is None where none was fitted; the probabilities are those before it. `heat` says
    where the model looked for the answer that it gave, from 0 to 1; None where nobody asked.
    """

    probabilities: Float[np.ndarray, "n c"]
    temperature: float | None
    chosen: str
    heat: Float[np.ndarray, "n h w"] | None = None


@runtime_checkable
class FoldModel(Protocol):
    """What the stage `crossval` asks of each kind of model."""

    wants_inner: bool  # whether inner validation people are to be set apart for it
    chosen_by: str  # in the report: what was chosen, and on whom
    facts: dict[str, Any]  # for protocol.json

    def run(
        self,
        train: Faces,
        test: Faces,
        inner: tuple[Faces, Faces] | None,
        *,
        seed: int,
        folder: Path,
    ) -> Answers:
        """Trains on `train` and answers for `test`; choices are made by `inner`."""

    def save_everyone(self, faces: Faces, seed: int, workdir: Path) -> None:
        """Writes `workdir/model`, taught by all the faces; no figure is claimed for it."""

    def speed(self) -> dict[str, Any]:
        """For the summary."""
