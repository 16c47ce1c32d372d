"""audit: searches for leakage between training and test people, without training anything.

`crossval` runs the same search before it trains. Writes

    leaks/leaks.csv      kind, tested, other, score: one row per suspected pair
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

_SHOWN = 5


@stage(
    doing="doing.audit",
)
def run(config: schemas.Audit, workdir: Path) -> dict[str, Any]:
    """Searches for every kind of leak within each fold, and between pretraining and test people.

    Raises:
        UserError: a leak was found whose kind is not in `config.allow_leaks`.
    """
    photographs = read_photographs(config, workdir / "records")
    folds = photographs.folds(config.protocol, config.folds, config.fold_seed)
    pretraining = leakage.pretraining_of(config.init)
    if config.pool:
        pretraining = replace(pretraining, faces=(*pretraining.faces, config.pool))
    found = leakage.audit(photographs.table, folds, pretraining)
    leakage.write(found, workdir / "leaks")
    for leak in found[:_SHOWN]:
        console.say(f"  {leak.kind}: {leak.tested} and {leak.other} ({leak.score:.2f})")
    if len(found) > _SHOWN:
        console.say(f"  and {len(found) - _SHOWN} more, see leaks/leaks.csv")
    leakage.stop_unless_allowed(found, config.allow_leaks, workdir / "leaks")
    people = photographs.table["subject"].nunique()
    where = f"{console.count(len(photographs.table), 'photograph')} of {people} people"
    console.say(
        f"  {console.count(len(found), 'suspected leak') if found else 'no leaks'} in {where}"
    )
    return {
        "photographs": len(photographs.table),
        "people": people,
        "pretraining_sets": len(pretraining.photographs) + len(pretraining.faces),
        "pretraining_known": pretraining.known,
        "leaks": len(found),
        **{f"leaks_{kind}": number for kind, number in leakage.counts(found).items()},
    }
