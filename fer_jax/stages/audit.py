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
from fer_jax.crossval.labelled_faces import read_study
from fer_jax.workdir import stage


@stage(
    inputs=lambda config: [config.photographs, config.test_photographs, config.init, config.pool]
)
def run(config: schemas.Audit, workdir: Path) -> dict[str, Any]:
    """Looks for every kind of leak between the folds of a study, and its pretraining.

    Raises:
        UserError: a leak whose kind `config.allow_leaks` does not name.
    """
    study = read_study(config)
    pool = leakage.lineage(config.init)
    if config.pool:
        pool = replace(pool, faces=(*pool.faces, config.pool))
    found = leakage.audit(study.photographs, study.folds(config), pool)
    leakage.write(found, workdir / "leaks")
    for leak in found:
        console.say(f"[audit] {leak.kind}: {leak.tested} and {leak.other} ({leak.score:.2f})")
    leakage.stop_unless_allowed(found, tuple(config.allow_leaks), workdir / "leaks")
    return {
        "photographs": len(study.photographs),
        "people": study.photographs["subject"].nunique(),
        "pretraining_sets": len(pool.photographs) + len(pool.faces),
        "pretraining_known": pool.known,
        "leaks": len(found),
        **{f"leaks_{kind}": number for kind, number in leakage.counts(found).items()},
    }
