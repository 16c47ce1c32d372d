"""The whole pipeline: the stages of `config.steps` in turn, each in a folder of its own."""

from __future__ import annotations

import re
import shlex
import time
from pathlib import Path
from typing import Any

from fer_jax import console, schemas
from fer_jax.data import removal
from fer_jax.errors import NotApplicableError, UserError
from fer_jax.stages import find_stage
from fer_jax.workdir import stage


@stage(inputs=lambda config: list(config.needed().values()), grows=True, revisits=True)
def run(config: schemas.Pipeline, workdir: Path) -> dict[str, Any]:
    """Runs the steps of `config.order`; one that is done already returns at once.

    In a step's texts, {workdir} stands for the pipeline's own, and {videos}, {photos} and so on
    for its fields of that name: so one step names the folder that an earlier one wrote. A step of
    `config.optional` that cannot be used on these data is left out, with a warning.

    Raises:
        UserError: one of `config.needs`, the fields that the user has to give, is empty; or
            somebody withdrew whose photographs went into earlier results, which `remove` deletes.
    """
    for name, path in config.needed().items():
        if not path:
            raise UserError(f"give --config.{name}, where your own {name} lie")
    config = filled(config, workdir)
    _stop_for_withdrawals(config, workdir)
    summary: dict[str, Any] = {}
    left_out: set[str] = set()
    for number, name in enumerate(config.order, start=1):
        step = config.steps[name]
        if step.stage == "evaluate":
            runs = {run: folder for run, folder in step.runs.items() if folder not in left_out}
            step = step.model_copy(update={"runs": runs})
        console.say("", f"── {number}/{len(config.order)} {name}")
        started = time.time()
        try:
            results = find_stage(step.stage).run(step, workdir / name)
        except NotApplicableError as error:
            if name not in config.optional:
                raise
            console.warn(f"pipeline: the step {name} is left out: {error}")
            left_out.add(str(workdir / name))
            continue
        summary[f"{name}_s"] = results.get("wall_s", round(time.time() - started, 2))
        if step.stage == "evaluate":
            summary |= {key: results[key] for key in ("accuracy", "low", "high", "report")}
        elif step.stage == "crossval" and step.method == "as_is":
            summary["as_is"] = results["accuracy"]
        elif step.stage == "study":
            summary |= {key: value for key, value in results.items() if key != "wall_s"}
    if "report" in summary:
        console.say(
            "",
            f"{summary['accuracy']:.1%} right on people held out "
            f"(95 % interval {summary['low']:.1%} to {summary['high']:.1%})",
            *(
                [f"{summary['as_is']:.1%} with the starter as it is, without training"]
                if "as_is" in summary
                else []
            ),
            f"report: {summary['report']}",
            "",
        )
    return summary


def _stop_for_withdrawals(config: schemas.Pipeline, workdir: Path) -> None:
    steps = [config.steps[name] for name in config.order]
    for photos in [step.photos for step in steps if step.stage == "photographs" and step.photos]:
        people = removal.people_to_remove(Path(photos), workdir) if Path(photos).exists() else []
        if people:
            raise UserError(
                f"pipeline: the consent of {len(people)} people is withdrawn, and {workdir} still "
                f"holds what was made from their photographs; run `python launch.py "
                f"--config=configs/remove.py --config.remove={shlex.quote(people[0])} "
                f"--config.work={shlex.quote(str(workdir))} --workdir=REMOVALS`"
                f"{' for each of them' if len(people) > 1 else ''}, and then this command again "
                f"(--config.photos={shlex.quote(str(photos))} deletes the photographs too)"
            )


def filled(config: schemas.Pipeline, workdir: Path) -> schemas.Pipeline:
    """The config with {workdir} and its own fields replaced in every text; other braces stay."""
    values = config.model_dump(exclude_unset=True)
    places = {"workdir": str(workdir)}

    def fill(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: fill(child) for key, child in value.items()}
        if isinstance(value, tuple):
            return tuple(fill(child) for child in value)
        if isinstance(value, str):
            return re.sub(r"\{(\w+)\}", lambda match: places.get(match[1], match[0]), value)
        return value

    places |= {name: fill(text) for name, text in values.items() if isinstance(text, str)}
    return schemas.Pipeline.model_validate(fill(values))
