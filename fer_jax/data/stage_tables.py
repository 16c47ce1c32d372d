"""Parquet tables of the stages: written with a schema, and checked against it when read."""

from __future__ import annotations

import itertools
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from fer_jax.data.lineage import read_workdir
from fer_jax.errors import UserError
from fer_jax.faces.images import SUFFIXES
from fer_jax.workdir import atomic_file

PHOTOGRAPHS = pa.schema(
    [
        pa.field("photo", pa.string(), nullable=False),  # unique id, such as p01/happy/1.png
        pa.field("subject", pa.string(), nullable=False),
        pa.field("emotion", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),  # "ok" or "no_face"
        pa.field("crop", pa.string(), nullable=False),  # path below the workdir; "" without a face
    ]
)

_PICTURES = SUFFIXES | {".heic"}
_MAX_ENTRIES = 10_000  # entries of a folder that are searched for pictures


def read_photographs(root: str | Path) -> pd.DataFrame:
    """The labelled photographs in a workdir `root` of the stage `photographs`, one per row.

    The columns are those of PHOTOGRAPHS, any others that the stage wrote, `split` ("" if the labels
    have none), `root`, and `file`, the path of the crop (meaningless if there is no face).

    Raises:
        UserError: `root` is not such a workdir, the stage has not finished there, or the table is
            damaged.
    """
    file = Path(root) / "photographs.parquet"
    # The table of an earlier run may still list people who have withdrawn since.
    begun, done = (file.with_name(name).is_file() for name in ("config.json", "done.json"))
    if not file.is_file() or (begun and not done):
        raise UserError(_not_a_workdir(Path(root)))
    table = read_table(file, PHOTOGRAPHS)
    if "split" not in table.columns:  # an older version wrote it
        table["split"] = ""
    files = [str(file.parent / crop) for crop in table["crop"]]
    return table.assign(root=str(root), file=files)


def read_table(file: Path, schema: pa.Schema) -> pd.DataFrame:
    """All columns of a Parquet file; those in `schema` are converted to its types.

    Raises:
        UserError: the file cannot be read or lacks a column of `schema`, a value cannot be
            converted, or a value is missing in a column that is not nullable.
    """
    try:
        if not file.is_file():
            raise ValueError("there is no such file")
        table = pq.read_table(file)
        missing = [name for name in schema.names if name not in table.column_names]
        if missing:
            raise ValueError(f"it lacks the columns {', '.join(missing)}")
        for field in schema:
            column = table[field.name].cast(field.type)
            if column.null_count and not field.nullable:
                raise ValueError(f"the column {field.name} has {column.null_count} empty cells")
            table = table.set_column(table.column_names.index(field.name), field.name, column)
        return table.to_pandas(ignore_metadata=True)
    except Exception as error:  # Arrow raises errors of many types on damaged files
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise UserError(
            f"cannot read the table {file} ({reason}); run the stage that writes it in a new "
            f"workdir"
        ) from error


def write_table(file: Path, frame: pd.DataFrame, schema: pa.Schema) -> None:
    """Writes the columns of `schema` to a Parquet file, atomically.

    Raises:
        ValueError: columns are missing or unknown, or a value is missing or of the wrong type.
    """
    odd = sorted(set(frame.columns) ^ set(schema.names))
    if odd:
        raise ValueError(f"columns missing or unknown: {', '.join(odd)}")
    try:
        table = pa.Table.from_pandas(frame[schema.names], schema, preserve_index=False)
    except (ValueError, TypeError) as error:  # Arrow's errors derive from one or the other
        raise ValueError(f"cannot write {file}: {error}") from error
    with atomic_file(file) as temporary:
        pq.write_table(table, temporary)


def _not_a_workdir(root: Path) -> str:
    """An error message: why `root` has no table of photographs, and what to pass instead."""
    wanted = "a workdir of `photographs`"
    if (root / "photographs" / "photographs.parquet").is_file():
        return f"{root} is not {wanted}, but contains one; pass {root / 'photographs'}"
    if (root / "config.json").is_file():
        workdir = read_workdir(root)
        stage = workdir.stage if workdir else "another stage"
        if stage == "photographs":
            return f"the stage `photographs` has not finished in {root}; run it again first"
        return f"{root} is a workdir of `{stage}`, not {wanted}; pass the workdir of `photographs`"

    files = itertools.islice(root.rglob("*"), _MAX_ENTRIES)
    has_pictures = any(file.suffix.lower() in _PICTURES for file in files)
    if root.is_file() or (root / "labels.csv").is_file() or has_pictures:
        kind = "a file" if root.is_file() else "a folder of photographs"
        return (
            f"{root} is {kind}, not {wanted}; run `python launch.py "
            f"--config=configs/photographs.py --config.photos={root} --workdir=W` first and pass W"
        )
    return f"{root} is not {wanted} (no photographs.parquet); run this stage and pass its --workdir"
