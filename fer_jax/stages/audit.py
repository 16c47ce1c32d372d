"""audit: searches for leakage between training and test people, without training anything.

`crossval` runs the same search before it trains. Writes

    leaks/leaks.csv      kind, tested, other, score: one row per suspected pair
    leaks/suspects.png   the pairs side by side
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fer_jax import console, saved_config, schemas
from fer_jax.auditing import leakage
from fer_jax.crossval.labelled_faces import read_photographs
from fer_jax.data.lineage import PIPELINE, read_workdir
from fer_jax.errors import UserError
from fer_jax.training.person_relative import NEUTRAL
from fer_jax.workdir import stage

_SHOWN = 5


@stage(
    doing="doing.audit",
)
def run(config: schemas.Audit, workdir: Path) -> dict[str, Any]:
    """Searches for every kind of leak within each fold, and between pretraining and test people.

    Raises:
        UserError: a leak was found whose kind is not in `config.allow_leaks`, or `config.run` is
            not the workdir of a cross-validation or of a pipeline that has one.
    """
    audited: schemas.LabelledFaces = config
    models = [config.init]
    if config.run:
        runs = _crossvals(Path(config.run))
        audited, models = runs[0], [init for run in runs for init in run.inits().values()]
    photographs = read_photographs(audited, workdir / "records")
    if isinstance(audited, schemas.Crossval) and audited.reference == NEUTRAL:
        photographs = photographs.with_neutral()
    folds = photographs.folds(audited.protocol, audited.folds, audited.fold_seed)
    pretraining = leakage.pretraining_of(*models)
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


def _crossvals(folder: Path) -> Sequence[schemas.Crossval]:
    """The configs of the cross-validations in a workdir, which all have the same folds.

    Raises:
        UserError: there is none, their folds differ, or one belongs to another version.
    """
    workdir = read_workdir(folder)
    steps: Sequence[Path] = [folder]
    if workdir and workdir.stage == PIPELINE:
        steps = workdir.inputs.get("order", ())
    found: dict[str, schemas.Crossval] = {}
    for step in steps:
        own = read_workdir(step)
        if own and own.stage == "crossval":
            made = saved_config.get_config(str(step / "config.json"))
            config = schemas.validated(made)
            assert isinstance(config, schemas.Crossval), "its stage is crossval"
            found[str(step)] = config
    if not found:
        raise UserError(
            f"audit: {folder} contains no cross-validation; set --config.run to the workdir of "
            "crossval (configs/emotion.py) or of a pipeline that has run it"
        )
    if len({_folds_of(run) for run in found.values()}) > 1:
        raise UserError(
            f"audit: the cross-validations in {folder} have different folds; set --config.run to "
            f"one of them: {', '.join(found)}"
        )
    return list(found.values())


def _folds_of(run: schemas.Crossval) -> tuple[Any, ...]:
    """What decides which photographs are tested in which fold."""
    faces = run.photographs, run.test_photographs, run.reference == NEUTRAL
    return *faces, run.protocol, run.folds, run.fold_seed
