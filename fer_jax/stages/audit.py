"""Stage audit: are the people who will be tested really unseen? Looks, trains nothing.

The same search runs before every `crossval`. Writes

    leaks/leaks.csv      kind, tested, other, score: one row a suspect pair
    leaks/suspects.png   the pairs side by side
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from fer_jax import console, schemas
from fer_jax.auditing import leakage
from fer_jax.crossval.labelled_faces import read_photographs
from fer_jax.workdir import stage


@stage(
    inputs=lambda config: [config.photographs, config.test_photographs, config.init, config.pool]
)
def run(config: schemas.Audit, workdir: Path) -> dict[str, Any]:
    """Looks for every kind of leak between the folds, and with the pretraining.

    Raises:
        UserError: a leak whose kind `config.allow_leaks` does not name.
    """
    photographs = read_photographs(config, workdir / "records")
    folds = photographs.folds(config.protocol, config.folds, config.fold_seed)
    pretraining = leakage.pretraining_of(config.init)
    if config.pool:
        pretraining = replace(pretraining, faces=(*pretraining.faces, config.pool))
    found = leakage.audit(photographs.table, folds, pretraining)
    leakage.write(found, workdir / "leaks")
    for leak in found:
        console.say(f"[audit] {leak.kind}: {leak.tested} and {leak.other} ({leak.score:.2f})")
    leakage.stop_unless_allowed(found, config.allow_leaks, workdir / "leaks")
    return {
        "photographs": len(photographs.table),
        "people": photographs.table["subject"].nunique(),
        "pretraining_sets": len(pretraining.photographs) + len(pretraining.faces),
        "pretraining_known": pretraining.known,
        "leaks": len(found),
        **{f"leaks_{kind}": number for kind, number in leakage.counts(found).items()},
    }
