"""study: tabulates the gain of each method over a reference in many cross-validations.

Reads the crossval workdirs in `config.runs`, by setting and method; writes

    study.csv   one row per setting and method
    study.md    the same in Markdown
    study.png   gains with their intervals
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from fer_jax import console, schemas
from fer_jax.metrics.predictions import read_predictions
from fer_jax.report import comparison
from fer_jax.workdir import atomic_file, stage


@stage(
    doing="doing.study",
)
def run(config: schemas.Study, workdir: Path) -> dict[str, Any]:
    """Compares, within each setting, every method with `config.reference`.

    Raises:
        UserError: the predictions of a run are missing or invalid, or two runs of a setting differ
            in photographs, people, emotions, person-relative references, folds or seeds.
    """
    tables = []
    for setting in config.settings:
        runs = {method: config.runs[setting][method] for method in config.methods}
        found = {name: read_predictions(name, Path(folder)) for name, folder in runs.items()}
        tables.append(comparison.table(setting, found, config.reference, **dict(config.bootstrap)))
    rows = pd.concat(tables, ignore_index=True)
    with atomic_file(workdir / "study.csv") as path:
        rows.to_csv(path, index=False)
    text = comparison.markdown(rows, config.reference)
    with atomic_file(workdir / "study.md") as path:
        path.write_text(text, "utf-8")
    comparison.draw(rows, config.reference, workdir / "study.png")
    console.say(*text.splitlines())
    return {"rows": len(rows), **comparison.best(rows, config.reference)}
