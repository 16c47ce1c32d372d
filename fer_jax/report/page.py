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
from fer_jax.report import plots
from fer_jax.report.gallery import Map, Shown
from fer_jax.workdir import read_json

_FEW_PEOPLE = 10
_PROTOCOL_WORDS = {
    "leave_one_subject_out": "Leave one subject out",
    "grouped_kfold": "k-fold by people",
    "random": "k-fold at random",
    "fixed_split": "A fixed split",
    "cross_set": "Trained on one set, tested on another",
}
_METHOD_WORDS = {
    "fine_tune": "the whole network is trained",
    "probe": "a linear head on the frozen backbone",
    "as_is": "an emotion model without further training",
}
# In this order: the ampersand of an entity is none of the text.
_MARKDOWN = (
    ("&", "&amp;"),
    ("<", "&lt;"),
    (">", "&gt;"),
    ("|", "\\|"),
    ("[", "\\["),
    ("]", "\\]"),
    ("\r", " "),
)
_MEASURE_WORDS = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro-F1",
}


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
        records.append(
            StageRecord(
                stage=str(done["stage"]),
                folder=folder.name,
                summary=done["summary"],
                config=_read_if_present(folder / "config.json"),
                environment=_read_if_present(folder / "environment.json"),
            )
        )
    return records


def read_own(workdir: Path) -> StageRecord:
    """The record of the evaluation itself, which is still under way."""
    return StageRecord(
        stage="evaluate",
        folder=workdir.name,
        summary={},
        config=_read_if_present(workdir / "config.json"),
        environment=_read_if_present(workdir / "environment.json"),
    )


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
    return _template("report.html.jinja").render(
        faces=faces or {"right": [], "wrong": []},
        face_map=face_map,
        figures=_figures(results) | _map_figures(face_map),
        **_facts_of(results, stages, own),
    )


def render_card(
    name: str, results: Mapping[str, Any], stages: Sequence[StageRecord], own: StageRecord
) -> str:
    """`model_card` (Mitchell et al. 2019) or `datasheet` (Gebru et al. 2018), as Markdown."""
    return _template(f"{name}.md.jinja").render(**_facts_of(results, stages, own))


def is_generated(stages: Sequence[StageRecord]) -> bool:
    """Whether the people were drawn by a program."""
    return any(record.stage == "render" for record in stages)


def _template(name: str) -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("fer_jax.report"),
        autoescape=name.endswith(".html.jinja"),
        finalize=_in_markdown if name.endswith(".md.jinja") else None,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": _percent,
        "points": _points,
        "place": _place,
        "count": _count,
        "pretty": _pretty,
    }
    return environment.get_template(name)


def _facts_of(
    results: Mapping[str, Any], stages: Sequence[StageRecord], own: StageRecord
) -> dict[str, Any]:
    """What all templates are filled from."""
    main = results["runs"][results["main"]]
    generated = is_generated(stages)
    return {
        "results": results,
        "main": main,
        "protocol": _protocol_facts(main, generated),
        "seen": _seen(main["protocol"]),
        "generated": generated,
        "uninformed": {
            "log_loss": float(np.log(len(results["labels"]))),
            "brier": 1.0 - 1.0 / len(results["labels"]),
        },
        "few_people": main["people"] < _FEW_PEOPLE,
        "measure_words": _MEASURE_WORDS,
        "measures": MEASURES,
        "comparisons": [{**other, "verdict": verdict(other)} for other in results["comparisons"]],
        "stages": [(record, _facts(record.summary)) for record in stages],
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


def _figures(results: Mapping[str, Any]) -> dict[str, str]:
    main = results["runs"][results["main"]]
    rows = main["per_person"]
    names = [row["subject"] for row in rows]
    other, other_name = None, ""
    comparable = [c["second"] for c in results["comparisons"] if c["comparable"]]
    if comparable:
        other_name = comparable[0]
        table = {r["subject"]: r["accuracy"] for r in results["runs"][other_name]["per_person"]}
        other = np.asarray([table[name] for name in names], np.float64)
    drawn = {
        "confusion": plots.confusion(np.asarray(main["confusion"], np.float64), results["labels"]),
        "people": plots.people(
            names,
            np.asarray([row["accuracy"] for row in rows], np.float64),
            main["chance"]["uniform"],
            other,
        ),
    }
    sure = main["calibration"]
    drawn["reliability"] = plots.reliability(sure["reliability"])
    drawn["coverage"] = plots.coverage(sure["coverage"], main["chance"]["uniform"])
    return {**{name: Markup(svg) for name, svg in drawn.items()}, "other_name": other_name}


def _map_figures(face_map: Map | None) -> dict[str, str]:
    if face_map is None:
        return {}
    return {
        "by_emotion": Markup(plots.embedding(face_map.places, face_map.emotions, "by-emotion")),
        "by_person": Markup(plots.embedding(face_map.places, face_map.people, "by-person")),
    }


def _protocol_facts(main: Mapping[str, Any], generated: bool) -> list[tuple[str, str]]:
    """Rows of the protocol box: who was held out, and what the model had seen before."""
    protocol = main["protocol"]
    name = protocol.get("protocol", "")
    folds, seeds = protocol.get("folds"), protocol.get("seeds", [])
    held_out = {
        "leave_one_subject_out": "one person a fold; the model is trained on all the others",
        "grouped_kfold": "whole people; nobody stands in training and test of one fold",
        "random": "photographs, not people",
        "fixed_split": "the people whom the labels name for the test",
        "cross_set": "all people of the second set",
    }.get(name, "not stated")
    facts = [
        ("Protocol", _PROTOCOL_WORDS.get(name, name or "not stated")),
        ("Held out", held_out),
        ("People", f"{main['people']}{' (generated by a program)' if generated else ''}"),
        ("Photographs", str(main["photographs"])),
        ("Folds", str(len(folds)) if isinstance(folds, list) else str(folds)),
        ("Seeds", ", ".join(map(str, seeds)) if isinstance(seeds, list) else str(seeds)),
        ("Model", _METHOD_WORDS.get(protocol.get("method", ""), protocol.get("method", ""))),
        ("Chosen", protocol.get("chosen_by") or "nothing: all was set before anyone was tested"),
        ("Pretraining", _pretraining(protocol)),
        ("Test people in pretraining", _seen(protocol)),
        ("Leaks", _leaks(protocol)),
    ]
    if protocol.get("features"):
        facts.append(("Features", " and ".join(protocol["features"])))
    if protocol.get("shots"):
        facts.append(("Low-shot", f"{protocol['shots']} photographs of each emotion a fold"))
    for key, label in (("init", "Starts from"), ("steps", "Steps a fold"), ("image_size", "Image")):
        if protocol.get(key):
            unit = " px" if key == "image_size" else ""
            facts.append((label, f"{protocol[key]}{unit}"))
    return facts


def _pretraining(protocol: Mapping[str, Any]) -> str:
    if protocol.get("pretraining"):
        return str(protocol["pretraining"])
    if protocol.get("init") == "pretrained":
        return "a model that was not described (--config.pretraining)"
    return "none: from scratch"


def _leaks(protocol: Mapping[str, Any]) -> str:
    """What the auditor found; not every run had one."""
    if "leaks" not in protocol:
        return "not looked for"
    found = ", ".join(f"{number} {kind}" for kind, number in protocol["leaks"].items())
    if found:
        return f"allowed by name: {found}"
    if not protocol.get("pretraining_known", True):
        return "none found between folds; what the network was pretrained on could not be searched"
    return "none found by the auditor"


def _seen(protocol: Mapping[str, Any]) -> str:
    """Whether unlabelled faces of the people tested were pretrained on, as far as is recorded."""
    if not protocol.get("pretraining") and protocol.get("init") != "pretrained":
        return "no"
    words = {True: "yes", False: "no", None: "not known"}
    return words[protocol.get("pretraining_saw_test_people")]


def _facts(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """A stage's summary as pairs of words and values."""
    facts = []
    for key, value in summary.items():
        label = key.removesuffix("_per_s").replace("_", " ")
        text = _pretty(value)
        if key.endswith("_per_s"):
            facts.append(("", f"{text} {label}/s"))
        elif key.endswith("_s"):
            facts.append((key.removesuffix("_s").replace("_", " "), f"{text} s"))
        else:
            facts.append((label, text))
    return facts


def _read_if_present(path: Path) -> dict[str, Any]:
    return dict(read_json(path)) if path.is_file() else {}


def _in_markdown(value: Any) -> Any:
    """Text that neither HTML, a link, an image nor a table's columns can come out of."""
    if not isinstance(value, str):
        return value
    text = " ".join(value.split("\n"))
    for character, instead in _MARKDOWN:
        text = text.replace(character, instead)
    return text


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
