"""pipeline: runs the stages of `config.steps` one after the other, each in its own folder."""

from __future__ import annotations

import re
import shlex
import time
from pathlib import Path
from typing import Any

from fer_jax import console, schemas
from fer_jax.data import removal
from fer_jax.errors import NotApplicableError, UserError
from fer_jax.faces import drawing
from fer_jax.languages.language import Language, language
from fer_jax.stages import find_stage
from fer_jax.workdir import stage


@stage(grows=True, revisits=True)
def run(config: schemas.Pipeline, workdir: Path) -> dict[str, Any]:
    """Runs the steps of `config.order`; a finished one returns at once.

    In the text fields of a step, {workdir} is replaced by the workdir of the pipeline, so that a
    step can read the folder of an earlier step, and {videos}, {photos} and so on are replaced by
    the pipeline's fields of these names. A step of `config.optional` that does not apply to these
    data is left out, with a warning.

    Raises:
        UserError: a person whose photographs are in earlier results has withdrawn consent, or a
            step failed.
    """
    config = filled(config, workdir)
    words = language(config.language)
    if any(config.steps[name].stage == "predict" for name in config.order):
        drawing.check_text_layout(words)  # an error should come before hours of work
    _stop_for_withdrawals(config, workdir)
    summary: dict[str, Any] = {}
    left_out: set[str] = set()
    ran = 0
    for number, name in enumerate(config.order, start=1):
        step = config.steps[name]
        if step.stage == "evaluate":
            runs = {run: folder for run, folder in step.runs.items() if folder not in left_out}
            step = step.model_copy(update={"runs": runs})
        label = words.text("message.step", number=number, count=len(config.order), name=name)
        started, before = time.time(), _finished_at(workdir / name)
        try:
            results = find_stage(step.stage).run(step, workdir / name, label)
        except NotApplicableError as error:
            if name not in config.optional:
                raise
            console.warn(words.text("message.left_out", name=name, reason=error))
            left_out.add(str(workdir / name))
            continue
        ran += before is None or _finished_at(workdir / name) != before
        summary[f"{name}_s"] = results.get("wall_s", round(time.time() - started, 2))
        if step.stage == "evaluate":
            kept = ("accuracy", "low", "high", "warnings", "report")
            summary |= {key: results[key] for key in kept}
        elif step.stage == "crossval" and step.method == "as_is":
            summary["as_is"] = results["accuracy"]
        elif step.stage == "study":
            summary |= {key: value for key, value in results.items() if key != "wall_s"}
    pictures = [workdir / name / "overview.jpg" for name in config.order]
    shown = [file for file in pictures if ran and file.is_file()]
    first, *others = _closing(summary, shown, workdir, words)
    again = words.text("message.pipeline_finished", result=first)
    console.say(*(["", first] if ran else [again]), *others)
    return summary


def _finished_at(folder: Path) -> int | None:
    """The time at which a stage finished, in nanoseconds since the epoch; None if it did not."""
    file = folder / "done.json"
    return file.stat().st_mtime_ns if file.is_file() else None


def _closing(
    summary: dict[str, Any], pictures: list[Path], workdir: Path, words: Language
) -> list[str]:
    """The last lines to print: accuracy, pictures and report.

    Without a report, only the folder of the results.
    """
    if "report" not in summary:
        return [words.text("message.results", folder=workdir)]
    values = {
        "accuracy": console.percent(summary["accuracy"], words),
        "low": words.number(100 * summary["low"], 1),
        "high": console.percent(summary["high"], words),
    }
    unwarned = summary["warnings"] == "none"
    return [
        words.text("message.accuracy" if unwarned else "message.accuracy_warned", **values),
        *(words.text("message.picture", file=file) for file in pictures),
        words.text("message.report", file=summary["report"]),
    ]


def _stop_for_withdrawals(config: schemas.Pipeline, workdir: Path) -> None:
    steps = [config.steps[name] for name in config.order]
    for photos in [step.photos for step in steps if step.stage == "photographs" and step.photos]:
        people = removal.people_to_remove(Path(photos), workdir) if Path(photos).exists() else []
        if people:
            raise UserError(
                f"pipeline: the consent of {console.count(len(people), 'person', 'people')} is "
                f"withdrawn, and {workdir} still contains data from their photographs; run "
                f"`python launch.py --config=configs/remove.py "
                f"--config.remove={shlex.quote(people[0])} "
                f"--config.work={shlex.quote(str(workdir))} --workdir=REMOVALS`"
                f"{' for each of them' if len(people) > 1 else ''}, and then this command again "
                f"(--config.photos={shlex.quote(str(photos))} deletes the photographs too)"
            )


def filled(config: schemas.Pipeline, workdir: Path) -> schemas.Pipeline:
    """The config with {workdir} and {name} replaced in all texts.

    {name} stands for any text field of the pipeline, which replaces it; other braces are kept.
    """
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
