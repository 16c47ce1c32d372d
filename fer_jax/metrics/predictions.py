"""Reading and checking the predictions of a cross-validation run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from jaxtyping import Bool, Float, Int

from fer_jax import records
from fer_jax.data.stage_tables import read_table
from fer_jax.errors import UserError
from fer_jax.records import CrossvalProtocol

_SUM_TOLERANCE = 1e-3  # of the sum of a row's probabilities, which may be float16
COLUMNS = ("photo", "subject", "emotion", "fold", "seed", "status")


@dataclass(frozen=True, eq=False)
class Predictions:
    """The predictions of a run: N rows, each a photograph tested with one seed; C classes.

    Every seed tests the same photographs, each once. `truth` and `predicted` are positions in
    `labels`. If no face was found, `predicted` is C, which is always wrong, and the probabilities
    are NaN. `temperatures` are those of the models; None if none was fitted. `chosen` is
    `TrainedModel.chosen` of the model, "" if nothing was selected; None for runs of older versions.
    """

    name: str
    labels: tuple[str, ...]
    photos: np.ndarray
    subjects: np.ndarray
    folds: Int[np.ndarray, " N"]
    seeds: Int[np.ndarray, " N"]
    truth: Int[np.ndarray, " N"]
    predicted: Int[np.ndarray, " N"]
    probabilities: Float[np.ndarray, "N C"]
    protocol: CrossvalProtocol
    temperatures: Float[np.ndarray, " N"] | None = None
    chosen: np.ndarray | None = None

    @property
    def no_face(self) -> Bool[np.ndarray, " N"]:
        """For each row, whether no face was found."""
        return self.predicted == len(self.labels)

    @property
    def seed_values(self) -> list[int]:
        """The seeds, ascending."""
        return [int(seed) for seed in np.unique(self.seeds)]

    @property
    def people(self) -> list[str]:
        """The people, ascending."""
        return [str(person) for person in np.unique(self.subjects)]

    @property
    def choices(self) -> dict[str, int]:
        """The number of folds, over all seeds, in which each value of `chosen` was selected.

        Empty if nothing was selected.
        """
        if self.chosen is None:
            return {}
        table = pd.DataFrame({"fold": self.folds, "seed": self.seeds, "chosen": self.chosen})
        counts = table.drop_duplicates(["fold", "seed"])["chosen"].value_counts()
        return {str(what): int(count) for what, count in counts.items() if what}

    @property
    def photographs(self) -> int:
        """The number of distinct photographs."""
        return len(np.unique(self.photos))

    def people_in_several_folds(self) -> list[str]:
        """The people who are tested in several folds of a seed, so they may also be trained on."""
        table = pd.DataFrame({"who": self.subjects, "seed": self.seeds, "fold": self.folds})
        folds = table.groupby(["who", "seed"])["fold"].nunique()
        return sorted({str(who) for who, _ in folds[folds > 1].index})


def read_predictions(name: str, workdir: Path) -> Predictions:
    """Reads `predictions.parquet` and `protocol.json` of a crossval workdir.

    Raises:
        UserError: a file is missing or damaged, or the table is invalid (see `from_table`).
    """
    path = workdir / "predictions.parquet"
    if not path.is_file():
        raise UserError(
            f"run '{name}': there is no predictions.parquet in {workdir}; replace this folder "
            "by the workdir of a finished cross-validation (configs/emotion.py)"
        )
    protocol = records.read(CrossvalProtocol, workdir / "protocol.json")
    return from_table(name, read_table(path, _schema(protocol.labels)), protocol, str(path))


def _schema(labels: Sequence[Any]) -> pa.Schema:
    """The required columns and their types; rows without a face have null probabilities."""
    numbers = {"fold": pa.int64(), "seed": pa.int64()}
    fields = [pa.field(c, numbers.get(c, pa.string()), nullable=False) for c in COLUMNS]
    return pa.schema([*fields, *(pa.field(f"prob_{label}", pa.float64()) for label in labels)])


def from_table(
    name: str, table: pd.DataFrame, protocol: CrossvalProtocol, where: str
) -> Predictions:
    """Checks a table of predictions and converts it to arrays.

    Args:
        name: the name of the run.
        table: the content of `predictions.parquet`.
        protocol: the content of `protocol.json`.
        where: names the table in error messages.

    Raises:
        UserError: columns are missing, or their values are invalid; the message lists the faults.
    """
    labels = tuple(protocol.labels)
    scores = [f"prob_{label}" for label in labels]
    missing = [column for column in (*COLUMNS, *scores) if column not in table.columns]
    if missing:
        raise UserError(
            f"{where}: the columns {', '.join(missing)} are missing; run crossval again in a new "
            f"workdir"
        )
    faults = _faults(table, labels, scores)
    if faults:
        raise UserError(f"{where}: {'; '.join(faults)}; run crossval again in a new workdir")
    probabilities = table[scores].to_numpy(np.float64)
    found = (table["status"] == "ok").to_numpy()
    # argmax of a row of NaN is meaningless: the answer "no face" replaces it.
    best = np.argmax(np.where(found[:, None], probabilities, 0.0), axis=1)
    return Predictions(
        name=name,
        labels=labels,
        photos=table["photo"].astype(str).to_numpy(object),
        subjects=table["subject"].astype(str).to_numpy(object),
        folds=table["fold"].to_numpy(np.int64),
        seeds=table["seed"].to_numpy(np.int64),
        truth=table["emotion"].map({label: i for i, label in enumerate(labels)}).to_numpy(np.int64),
        predicted=np.where(found, best, len(labels)).astype(np.int64),
        probabilities=probabilities,
        protocol=protocol,
        temperatures=(
            table["temperature"].to_numpy(np.float64) if _has_temperatures(table) else None
        ),
        chosen=table["chosen"].astype(str).to_numpy(object) if "chosen" in table else None,
    )


def _has_temperatures(table: pd.DataFrame) -> bool:
    return "temperature" in table.columns and bool(table["temperature"].notna().any())


def _faults(table: pd.DataFrame, labels: tuple[str, ...], scores: list[str]) -> list[str]:
    """The faults of the table, in words."""
    if table.empty:
        return ["the table is empty"]
    values = table.loc[table["status"] == "ok", scores].to_numpy(np.float64)
    finite = np.isfinite(values).all(axis=1)
    in_range = ((values >= 0) & (values <= 1)).all(axis=1)
    whole = np.abs(values.sum(axis=1) - 1) <= _SUM_TOLERANCE
    owners = table.groupby("photo")["subject"].nunique()
    listed = {
        "emotions outside the labels": sorted(set(table["emotion"].astype(str)) - set(labels)),
        "unknown status": sorted(set(table["status"].astype(str)) - {"ok", "no_face"}),
        "photographs with several subjects": owners[owners > 1].index.astype(str).tolist()[:3],
    }
    counted = {
        "photographs with a face but without finite probabilities": (~finite).sum(),
        "photographs whose probabilities are not between 0 and 1, or do not sum to 1": (
            finite & ~(in_range & whole)
        ).sum(),
        "photographs tested twice with the same seed": table.duplicated(["photo", "seed"]).sum(),
    }
    if _has_temperatures(table):
        odd = ~(table["temperature"] > 0)
        counted["photographs whose temperature is missing or not positive"] = odd.sum()
    faults = [f"{what} ({', '.join(names)})" for what, names in listed.items() if names]
    faults += [f"{number} {what}" for what, number in counted.items() if number]
    if table.groupby("seed")["photo"].agg(frozenset).nunique() > 1:
        faults.append("the seeds test different photographs")
    return faults
