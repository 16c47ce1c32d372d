"""The measures of a set of runs, and comparisons of runs: the content of `metrics.json`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import pandas as pd

from fer_jax import console
from fer_jax.languages.language import ENGLISH, Language
from fer_jax.metrics import bootstrap, calibration, measures
from fer_jax.metrics.predictions import Predictions

_PARTS = ("title", "text")


def evaluate(
    runs: Mapping[str, Predictions], main: str, *, samples: int, seed: int
) -> dict[str, Any]:
    """The measures of each run, and the comparison of `main` with every other run.

    Args:
        runs: predictions by name.
        main: the run that the report is about.
        samples: the number of bootstrap samples.
        seed: the seed of the bootstrap.

    Returns:
        A JSON-serialisable tree of dictionaries, lists, strings, numbers and None.
    """
    # The main run comes first; the names in configs are in alphabetical order.
    runs = {main: runs[main], **runs}
    drawn = {"samples": samples, "seed": seed}
    return {
        "main": main,
        "labels": list(runs[main].labels),
        "interval": {
            **drawn,
            "level": bootstrap.LEVEL,
            "method": "BCa, expanded",
            "unit": "person",
        },
        "runs": {name: describe(run, **drawn) for name, run in runs.items()},
        "comparisons": [
            compare(runs[main], other, **drawn) for name, other in runs.items() if name != main
        ],
    }


def describe(predictions: Predictions, *, samples: int, seed: int) -> dict[str, Any]:
    """All measures of one run, with intervals of the main ones, and its protocol."""
    by_person = measures.confusion_by_person(predictions)
    estimates = bootstrap.estimate(by_person, samples=samples, seed=seed)
    people = measures.per_person(predictions)
    worst = people.iloc[0]
    seeds = len(predictions.seed_values)
    return {
        **{name: asdict(estimates[name]) for name in measures.MEASURES},
        "chance": measures.chance(predictions.truth, len(predictions.labels)),
        "people": len(people),
        "photographs": predictions.photographs,
        "no_face": float(predictions.no_face.sum() / seeds),
        "worst_person": {
            "subject": str(worst["subject"]),
            "accuracy": float(worst["accuracy"]),
            "tied": int((people["accuracy"] == worst["accuracy"]).sum()),
        },
        "by_seed": {str(s): value for s, value in measures.per_seed(predictions).items()},
        "calibration": calibration.describe(predictions),
        "per_class": records(measures.per_class(predictions)),
        "per_person": records(people),
        "confusion": by_person.sum(axis=0).round(6).tolist(),
        "choices": predictions.choices,
        # Fields that are missing in runs of older versions stay absent.
        "protocol": predictions.protocol.model_dump(exclude_unset=True),
        "warnings": stamps(predictions),
        "unseen": unseen(predictions),
    }


def compare(first: Predictions, second: Predictions, *, samples: int, seed: int) -> dict[str, Any]:
    """The measures of `first` minus those of `second`, with intervals and significance tests.

    If the runs cannot be compared, the result contains the reason instead.
    """
    names = {"first": first.name, "second": second.name}
    if reason := incomparable(first, second):
        return {**names, "comparable": False, "reason": reason}
    by_person = [measures.confusion_by_person(run) for run in (first, second)]
    differences = bootstrap.estimate_difference(*by_person, samples=samples, seed=seed)
    test = measures.exact_mcnemar(
        measures.right_by_photo(first).to_numpy(), measures.right_by_photo(second).to_numpy()
    )
    return {
        **names,
        "comparable": True,
        "difference": {name: asdict(differences[name]) for name in measures.MEASURES},
        "mcnemar": test,
        "permutation": measures.permutation_over_people(*by_person),
    }


def stamps(predictions: Predictions) -> list[dict[str, Any]]:
    """The reasons to doubt that a run measures the accuracy on unseen people.

    Each has a `kind`, the `values` that its texts contain, and `title` and `text` in English.
    """
    protocol = predictions.protocol
    found: list[dict[str, Any]] = []
    shared = predictions.people_in_several_folds()
    if protocol.protocol == "random":
        found.append({"kind": "random", "values": {}})
    elif shared:
        found.append({"kind": "several_folds", "values": {"people": len(shared)}})
    elif not protocol.people_disjoint:
        found.append({"kind": "overlap", "values": {}})
    if protocol.pretraining_saw_test_people:
        found.append({"kind": "pretraining", "values": {}})
    for kind, number in protocol.leaks.items():
        found.append({"kind": "leak", "values": {"kind": kind, "number": number}})
    return [{**stamp, **stamp_words(stamp, ENGLISH)} for stamp in found]


def stamp_words(stamp: Mapping[str, Any], words: Language) -> dict[str, str]:
    """The `title` and `text` of an element of `stamps`, in the language of `words`."""
    values = stamp["values"]
    if stamp["kind"] == "leak":
        values = {**values, "words": words.texts.get(f"leak.{values['kind']}", "")}
    return {part: words.text(f"stamp.{stamp['kind']}.{part}", **values) for part in _PARTS}


def unseen(predictions: Predictions) -> str:
    """Whether the test people are known to be new to the model, in one of three terms.

    "never seen": they are neither in the training nor in the pretraining data. "held out": they are
    not in the training data, but they may be in the pretraining data, or the run is person-relative
    and computes references from their photographs. "not held out": there is a reason to doubt that
    they are held out (see `stamps`).
    """
    if stamps(predictions):
        return "not held out"
    protocol = predictions.protocol
    pretrained = protocol.pretraining or protocol.init == "pretrained"
    if protocol.reference or (pretrained and protocol.pretraining_saw_test_people is not False):
        return "held out"
    return "never seen"


def person_table(results: Mapping[str, Any]) -> pd.DataFrame:
    """The content of `per_person.csv`: one row per run and person, worst first within a run."""
    tables = {name: pd.DataFrame(run["per_person"]) for name, run in results["runs"].items()}
    return pd.concat(tables, names=["run"]).reset_index("run").reset_index(drop=True)


def incomparable(first: Predictions, second: Predictions) -> str:
    """The reason why two runs cannot be compared, with counts and examples; "" if they can be."""
    if first.labels != second.labels:
        emotions = [", ".join(run.labels) for run in (first, second)]
        return f"their emotions differ ({emotions[0]} and {emotions[1]})"
    references = {run.protocol.reference for run in (first, second)}
    if len(references) > 1:
        how = " and ".join(f"'{name}'" if name else "none" for name in sorted(references))
        return (
            f"their person-relative references differ ({how}), and a reference uses unlabelled "
            "photographs of the test people"
        )
    return "; ".join(_differences(first, second))


def _differences(first: Predictions, second: Predictions) -> Iterator[str]:
    """Yields the differences of two runs in seeds, photographs, people, emotions and folds."""
    runs = (first, second)
    seeds = [", ".join(map(str, run.seed_values)) for run in runs]
    if seeds[0] != seeds[1]:
        yield f"their seeds differ ({seeds[0]} and {seeds[1]})"
    tables = [_tested(run) for run in runs]
    for own, other, run in zip(tables, reversed(tables), runs, strict=True):
        only = own[~own["photo"].isin(other["photo"])].drop_duplicates("photo")
        if len(only):
            people = console.count(only["who"].nunique(), "person", "people")
            number = console.count(len(only), "photograph")
            verb = "is" if len(only) == 1 else "are"
            example = only["photo"].iloc[0]
            yield f"{number} of {people} {verb} only in {run.name} (e.g. {example})"
    both = tables[0].merge(tables[1], on=["photo", "seed"], suffixes=("", "_other"))
    for column, what in (("who", "person"), ("truth", "emotion"), ("fold", "fold")):
        odd = both[both[column] != both[f"{column}_other"]].drop_duplicates("photo")
        if len(odd):
            verb = "has" if len(odd) == 1 else "have"
            number, example = console.count(len(odd), "photograph"), odd["photo"].iloc[0]
            yield f"{number} {verb} a different {what} in each run (e.g. {example})"


def _tested(run: Predictions) -> pd.DataFrame:
    columns = {"photo": run.photos, "seed": run.seeds, "who": run.subjects}
    return pd.DataFrame(columns | {"truth": run.truth, "fold": run.folds})


def records(table: pd.DataFrame) -> list[dict[Any, Any]]:
    """The rows of a table as plain Python values, with None for NaN."""
    return table.astype(object).where(table.notna(), None).to_dict("records")
