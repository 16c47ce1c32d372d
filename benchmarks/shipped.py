"""Checks that `predict` with the model of each fold gives the answers of cross-validation.

    python -m benchmarks shipped --photos=WORK/render/photographs --run=W

`W` is a workdir of `crossval` that was run with --config.save_folds, and `--photos` the folder of
the original photographs. The model of each fold predicts the photographs of the fold's test people.
Prints the largest difference of a calibrated probability. The exit code is 1 if it is above 1e-5 or
if a photograph is missing; one in which `predict` finds several faces counts as missing.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from configs import predict as predict_config
from fer_jax.stages import predict

BOUND = 1e-5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True)
    flags = parser.parse_args()
    table = pd.read_parquet(flags.run / "predictions.parquet").query("status == 'ok'")
    worst, missing = 0.0, 0
    for (seed, fold), rows in table.set_index("photo").groupby(["seed", "fold"]):
        name = f"seed{seed}_fold{fold}"
        with tempfile.TemporaryDirectory() as folder:
            fold_of_run = flags.run / "folds" / name
            found = shipped(fold_of_run, flags.photos, list(rows.index), Path(folder))
        measured = rows[[column for column in rows if column.startswith("calibrated_")]]
        columns = [column.replace("calibrated_", "prob_") for column in measured]
        both = found.index.intersection(rows.index)
        missing += len(rows) - len(both)
        differences = found.loc[both, columns].to_numpy() - measured.loc[both].to_numpy()
        worst = max(worst, float(np.abs(differences).max(initial=0.0)))
    people = table["subject"].nunique()
    print(
        f"{len(table)} photographs of {people} people, {missing} missing; "
        f"largest difference {worst:.1e}"
    )
    sys.exit(int(worst > BOUND or missing > 0))


def shipped(fold: Path, photos: Path, names: list[str], folder: Path) -> pd.DataFrame:
    """Predicts photographs with the model of a fold; leaves out those without exactly one face."""
    for name in names:
        (folder / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(photos / name, folder / "in" / name)
    config = predict_config.get_config()
    config.update({"model": str(fold / "model"), "input": str(folder / "in"), "annotate": False})
    predict.run(config, folder / "out")
    found = pd.read_csv(folder / "out" / "predictions.csv").dropna(subset=["emotion"])
    return found.drop_duplicates("source", keep=False).set_index("source")


if __name__ == "__main__":
    main()
