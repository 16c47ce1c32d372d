"""evaluate: computes measures with intervals from predictions, and writes a report.

Reads `predictions.parquet` and `protocol.json` of each crossval workdir in `config.runs`; writes

    metrics.json     every measure of every run, the paired differences, and how the method of the
                     main run's model was selected
    per_person.csv   one row per run and person; within a run, the lowest accuracy comes first
    report.html      these results as a page, in one file
    model_card.md    the intended use of the model, and its limits
    datasheet.md     facts about the photographs, with questions for their owner to answer
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fer_jax import console, schemas
from fer_jax.languages.language import Language, language
from fer_jax.metrics import results
from fer_jax.metrics.predictions import Predictions, read_predictions
from fer_jax.report import gallery, page
from fer_jax.spreadsheets import safe_table
from fer_jax.training import model_directory
from fer_jax.workdir import atomic_file, stage, write_json


@stage(
    doing="doing.evaluate",
)
def run(config: schemas.Evaluate, workdir: Path) -> dict[str, Any]:
    """Computes the measures of every run and writes the report.

    Returns the most important measures and the counts of the run `config.main`, and the path of the
    report.

    Raises:
        UserError: `config.main` has no workdir, predictions are missing or invalid, or a stage in
            `config.context` or `config.runs` has not finished.
    """
    runs = _read_runs(config)
    measured = results.evaluate(runs, config.main, **dict(config.bootstrap))
    main, folder = runs[config.main], Path(config.runs[config.main])
    measured["selection"] = _selection(folder) if main.protocol.method == "auto" else None
    stages = page.read_stages([*config.context, *filter(None, config.runs.values())])
    write_json(workdir / "metrics.json", measured)
    with atomic_file(workdir / "per_person.csv") as path:
        safe_table(results.person_table(measured)).to_csv(path, index=False)
    own = page.read_stage(workdir, "evaluate", {})
    faces = gallery.gallery(main, folder, drawn=page.is_generated(stages))
    words = language(config.language)
    html = page.render(measured, stages, own, faces, gallery.face_map(main, folder), words)
    with atomic_file(workdir / "report.html") as path:
        path.write_text(html, "utf-8")
    for name in ("model_card", "datasheet"):
        with atomic_file(workdir / f"{name}.md") as path:
            path.write_text(page.render_card(name, measured, stages, own), "utf-8")
    console.say(*console.table(_accuracies(measured, words)))
    for other in measured["comparisons"]:
        if not other["comparable"]:
            console.say(f"  {words.for_terminal(page.verdict(other, words))}")
    for stamp in measured["runs"][config.main]["warnings"]:
        shown = results.stamp_words(stamp, words)
        console.warn(f"evaluate: {shown['title']}: {shown['text']}")
    return _summary(measured, workdir / "report.html")


def _accuracies(measured: dict[str, Any], words: Language) -> list[tuple[str, ...]]:
    """The rows of a table: accuracies, and differences from the main run in percentage points."""
    heads = ("message.run", "measure.accuracy", "message.interval", "message.difference")
    rows: list[tuple[str, ...]] = [(*map(words.text, heads), "")]
    comparisons = {other["second"]: other for other in measured["comparisons"]}
    for name, run in measured["runs"].items():
        accuracy = run["accuracy"]
        low, high = (words.number(100 * accuracy[end], 1) for end in ("low", "high"))
        interval = words.text("interval.range", low=low, high=high)
        row = (name, console.percent(accuracy["value"], words), interval)
        rows.append((*row, *_difference(comparisons.get(name), words)))
    chance = measured["runs"][measured["main"]]["chance"]["uniform"]
    return [*rows, (words.text("message.chance"), console.percent(chance, words), "", "", "")]


def _difference(comparison: dict[str, Any] | None, words: Language) -> tuple[str, str]:
    """The difference (other run minus main run) with its interval, and a note on significance.

    The note is empty if the difference is significant; both are empty without a comparison.
    """
    if comparison is None or not comparison["comparable"]:
        return "", ""
    difference = comparison["difference"]["accuracy"]  # main run minus other run
    value, low, high = (0.0 - 100 * difference[end] for end in ("value", "high", "low"))
    shown = {"value": value, "low": low, "high": high}
    signed = {name: words.signed(number, 1) for name, number in shown.items()}
    text = words.for_terminal(words.text("message.gain", **signed))
    return text, "" if low > 0 or high < 0 else words.text("message.not_significant")


def _read_runs(config: schemas.Evaluate) -> dict[str, Predictions]:
    given = {name: folder for name, folder in config.runs.items() if folder}
    return {name: read_predictions(name, Path(folder)) for name, folder in given.items()}


def _selection(folder: Path) -> dict[str, Any] | None:
    """The record of how the final model's method was selected; None without such a record."""
    if not model_directory.is_model(folder):
        return None
    selection = model_directory.read_record(folder).selection
    return selection.model_dump() if selection else None


def _summary(measured: dict[str, Any], report_path: Path) -> dict[str, Any]:
    main = measured["runs"][measured["main"]]
    return {
        "accuracy": main["accuracy"]["value"],
        "low": main["accuracy"]["low"],
        "high": main["accuracy"]["high"],
        "balanced_accuracy": main["balanced_accuracy"]["value"],
        "macro_f1": main["macro_f1"]["value"],
        "chance": main["chance"]["uniform"],
        "people": main["people"],
        "photographs": main["photographs"],
        "no_face": main["no_face"],
        "worst_person": main["worst_person"]["accuracy"],
        "warnings": "; ".join(stamp["title"] for stamp in main["warnings"]) or "none",
        "report": str(report_path),
    }
