"""audit: searches for leakage between training and test people, without training anything.

`crossval` makes the same search, without `config.pool`, before it trains. The stage writes

    leaks/leaks.csv      kind, tested, other, score: one row per suspected pair
    leaks/leaks.json     the number of pairs of each kind
    leaks/suspects.png   the first pairs side by side, if there are pictures of them
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
from fer_jax.workdir import changed_inputs, stage

_SHOWN = 5  # maximum number of leaks that are printed


def _records_of_run(config: schemas.Audit) -> list[Path]:
    """The files of the audited cross-validations that change if one of these runs is repeated."""
    runs = _crossvals(Path(config.run)) if config.run else {}
    return [step / name for step in runs for name in ("inputs.json", "done.json")]


@stage(
    doing="doing.audit",
    reads=_records_of_run,
)
def run(config: schemas.Audit, workdir: Path) -> dict[str, Any]:
    """Searches for leaks within each fold, and between the pretraining data and test people.

    Raises:
        UserError: a leak was found whose kind is not in `config.allow_leaks`, `config.run` is not
            the workdir of a finished cross-validation or of a pipeline that has one, its
            cross-validations have different folds, or the photographs or models have changed since
            that run began.
    """
    audited: schemas.LabelledFaces = config
    models = [config.init]
    if config.run:
        runs = list(_crossvals(Path(config.run)).values())
        audited, models = runs[0], [init for run in runs for init in run.inits().values()]
    photographs = read_photographs(audited, workdir / "records")
    if isinstance(audited, schemas.Crossval) and audited.reference == NEUTRAL:
        photographs = photographs.with_neutral()
    folds = photographs.folds(audited.protocol, audited.folds, audited.fold_seed)
    pretraining = leakage.pretraining_of(*models)
    if config.pool:
        pretraining = replace(pretraining, faces=(*pretraining.faces, config.pool))
    everything = leakage.audit(photographs.table, folds, pretraining)
    leakage.write(everything, workdir / "leaks")
    found = leakage.unintended(everything, audited.protocol)
    if intended := len(everything) - len(found):
        console.say(
            f"  {console.count(intended, 'pair')} not counted: protocol 'random' has the same "
            "people in train and test"
        )
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


def _crossvals(folder: Path) -> dict[Path, schemas.Crossval]:
    """The workdirs and configs of the cross-validations in `folder`, all with the same folds.

    Raises:
        UserError: there is none, their folds differ, or one of them is not finished, has inputs
            that have changed since it began, or has a config that this version does not accept.
    """
    workdir = read_workdir(folder)
    steps: Sequence[Path] = [folder]
    if workdir and workdir.stage == PIPELINE:
        steps = workdir.inputs.get("order", ())
    found: dict[Path, schemas.Crossval] = {}
    for step in steps:
        own = read_workdir(step)
        if own and own.stage == "crossval":
            made = saved_config.get_config(str(step / "config.json"))
            config = schemas.validated(made)
            assert isinstance(config, schemas.Crossval), "its stage is crossval"
            found[step] = config
    if not found:
        raise UserError(
            f"audit: {folder} contains no cross-validation; set --config.run to the workdir of "
            "crossval (configs/emotion.py) or of a pipeline that has run it"
        )
    if len({_folds_of(run) for run in found.values()}) > 1:
        raise UserError(
            f"audit: the cross-validations in {folder} have different folds; set --config.run to "
            f"one of them: {', '.join(map(str, found))}"
        )
    for step in found:
        if not (step / "done.json").exists():
            raise UserError(f"audit: {step} is not finished; run its command again until it is")
        if changed := changed_inputs(step):
            raise UserError(
                f"audit: {', '.join(changed)} changed since {step} began, or cannot be found from "
                "the current folder; run this command from the folder in which that run was "
                "started, or repeat that run in a new workdir and audit the new one"
            )
    return found


def _folds_of(run: schemas.Crossval) -> tuple[Any, ...]:
    """The fields that determine which photographs are tested in which fold."""
    faces = run.photographs, run.test_photographs, run.reference == NEUTRAL
    return *faces, run.protocol, run.folds, run.fold_seed
