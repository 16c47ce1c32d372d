"""The report: one HTML file that needs nothing else, to be read on a screen or on paper.

It holds no script, no face that is not blurred or consented to, and its content security policy
forbids every request. The model card and the datasheet are filled from the same facts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from fer_jax.errors import UserError
from fer_jax.metrics.measures import MEASURES
from fer_jax.records import CrossvalProtocol
from fer_jax.report import plots
from fer_jax.report.gallery import Map, Shown
from fer_jax.workdir import read_json

_MARKDOWN = str.maketrans(
    {
        "&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "\\|", "[": "\\[", "]": "\\]",
        "\r": " ", "\n": " ",
    }
)  # fmt: skip


@dataclass(frozen=True)
class StageRecord:
    """What a finished stage left about itself; `environment` is empty where it left none."""

    stage: str
    folder: str
    summary: Mapping[str, Any]
    config: Mapping[str, Any]
    environment: Mapping[str, Any]


def read_stages(folders: Sequence[str]) -> list[StageRecord]:
    """Reads `done.json`, `config.json`, `environment.json` of each folder, each folder once.

    Raises:
      UserError: a folder holds no finished stage.
    """
    records = []
    for folder in dict.fromkeys(Path(name).absolute() for name in folders):
        if not (folder / "done.json").is_file():
            raise UserError(
                f"evaluate: {folder} holds no finished stage (no done.json); run that stage to "
                "its end, or take the folder out of config.context or config.runs"
            )
        done = read_json(folder / "done.json", stage=str, summary=dict)
        records.append(read_stage(folder, str(done["stage"]), done["summary"]))
    return records


def read_stage(folder: Path, stage: str, summary: Mapping[str, Any]) -> StageRecord:
    """The record of a stage, which may still be running, with its config and environment."""
    files = (folder / "config.json", folder / "environment.json")
    found = (dict(read_json(file)) if file.is_file() else {} for file in files)
    return StageRecord(stage, folder.name, summary, *found)


def render(
    results: Mapping[str, Any],
    stages: Sequence[StageRecord],
    own: StageRecord,
    faces: Mapping[str, Sequence[Shown]] | None = None,
    face_map: Map | None = None,
) -> str:
    """The report as HTML.

    Args:
      results: what `results.evaluate` returned.
      stages: the stages that led to the runs, in order.
      own: the evaluation's own record.
      faces: `gallery.gallery` of the main run, if it has one.
      face_map: `gallery.face_map` of the main run, if it has one.
    """
    return template("report.html.jinja").render(
        faces=faces or {"right": [], "wrong": []},
        face_map=face_map,
        figures=_figures(results, face_map),
        **_facts_of(results, stages, own),
    )


def render_card(
    name: str, results: Mapping[str, Any], stages: Sequence[StageRecord], own: StageRecord
) -> str:
    """`model_card` (Mitchell et al. 2019) or `datasheet` (Gebru et al. 2018), as Markdown."""
    return template(f"{name}.md.jinja").render(**_facts_of(results, stages, own))


def is_generated(stages: Sequence[StageRecord]) -> bool:
    """Whether the people were drawn by a program."""
    return any(record.stage == "render" for record in stages)


def template(name: str) -> jinja2.Template:
    """A template of the report; Markdown and HTML escape what they are filled with."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("fer_jax.report"),
        autoescape=name.endswith(".html.jinja"),
        finalize=_in_markdown if name.endswith(".md.jinja") else None,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for kind in (_percent, _points, _place, _count, _pretty):
        environment.filters[kind.__name__.removeprefix("_")] = kind
    return environment.get_template(name)


def _facts_of(
    results: Mapping[str, Any], stages: Sequence[StageRecord], own: StageRecord
) -> dict[str, Any]:
    """What all templates are filled from."""
    main = results["runs"][results["main"]]
    return {
        "results": results,
        "main": main,
        "protocol": CrossvalProtocol.model_validate(main["protocol"]),
        "generated": is_generated(stages),
        "uninformed": {
            "log_loss": float(np.log(len(results["labels"]))),
            "brier": 1.0 - 1.0 / len(results["labels"]),
        },
        "measures": MEASURES,
        "comparisons": [{**other, "verdict": verdict(other)} for other in results["comparisons"]],
        "stages": stages,
        "photographs": next((r.summary for r in stages if r.stage == "photographs"), {}),
        "records": [*stages, own],
        "versions": own.environment,
        "made": datetime.now(UTC).strftime("%d %B %Y, %H:%M UTC"),
    }


def verdict(comparison: Mapping[str, Any]) -> str:
    """What a paired comparison allows to say, in one sentence."""
    first, second = comparison["first"], comparison["second"]
    if not comparison["comparable"]:
        return f"{first} and {second} are not compared: {comparison['reason']}."
    difference = comparison["difference"]["accuracy"]
    interval = f"95 % interval {_points(difference['low'])} to {_points(difference['high'])}"
    size = f"{_points(abs(difference['value'])).lstrip('+')} points of accuracy"
    ahead, behind = (first, second) if difference["value"] >= 0 else (second, first)
    if difference["low"] > 0 or difference["high"] < 0:
        return f"{ahead} is better than {behind} by {size} ({first} − {second}: {interval})."
    if difference["value"] == 0:
        return f"{first} and {second} are equally accurate ({first} − {second}: {interval})."
    return (
        f"{ahead} is ahead of {behind} by {size}, which these people cannot tell from no "
        f"difference ({first} − {second}: {interval})."
    )


def _figures(results: Mapping[str, Any], face_map: Map | None) -> dict[str, str]:
    main = results["runs"][results["main"]]
    accuracy = {row["subject"]: row["accuracy"] for row in main["per_person"]}
    other, other_name = None, ""
    for name in [c["second"] for c in results["comparisons"] if c["comparable"]][:1]:
        people = {row["subject"]: row for row in results["runs"][name]["per_person"]}
        other = np.asarray([people[who]["accuracy"] for who in accuracy], np.float64)
        other_name = name
    chance, sure = main["chance"]["uniform"], main["calibration"]
    reached = np.asarray([*accuracy.values()], np.float64)
    drawn = {
        "confusion": plots.confusion(np.asarray(main["confusion"], np.float64), results["labels"]),
        "people": plots.people([*accuracy], reached, chance, other),
        "reliability": plots.reliability(sure["reliability"]),
        "coverage": plots.coverage(sure["coverage"], chance),
    }
    if face_map is not None:
        for name, groups in (("emotion", face_map.emotions), ("person", face_map.people)):
            drawn[f"by_{name}"] = plots.embedding(face_map.places, groups, f"by-{name}")
    return {**{name: Markup(svg) for name, svg in drawn.items()}, "other_name": other_name}


def _in_markdown(value: Any) -> Any:
    """Text that neither HTML, a link, an image nor a table's columns can come out of."""
    if not isinstance(value, str):
        return value
    return value.translate(_MARKDOWN)


def _percent(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{100 * value:.{digits}f}\u202f%"


def _points(value: float) -> str:
    """A difference of shares in percentage points, signed, with a true minus."""
    return f"{100 * value:+.1f}".replace("-", "−")


def _place(value: float) -> str:
    """A share as a CSS length; clamped, since a difference may leave the strip."""
    return f"{100 * min(max(value, 0.0), 1.0):.2f}%"


def _count(value: int | float) -> str:
    """A count, which is fractional where it is an average over seeds."""
    return f"{value:.0f}" if float(value).is_integer() else f"{value:.1f}"


def _pretty(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "–"}[value]
    if isinstance(value, int):
        return f"{value:,}".replace(",", "\u202f")
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, str):
        return value
    return json.dumps(value, indent=2, ensure_ascii=False)
