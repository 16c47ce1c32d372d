"""Abstaining: an answer is withheld unless the model is confident enough.

The confidence is the calibrated probability of the answer. The user sets its threshold, or the
coverage, which is the share of faces that are answered. For a coverage, the threshold is looked up
in the table of the model directory, which contains the threshold of each coverage and the accuracy
among the faces answered, measured on held-out faces (the risk-coverage curve, El-Yaniv and Wiener
2010; `fer_jax.metrics.calibration.coverage`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from fer_jax import console, records
from fer_jax.errors import UserError
from fer_jax.languages.language import ENGLISH, Language
from fer_jax.records import Abstaining, AnsweredShare
from fer_jax.training import model_directory

FILE = "abstaining.json"
_STEPS = 20  # coverages in the table: 5 %, 10 %, ..., 100 %


def measure(
    confidence: Float[np.ndarray, " n"], right: Bool[np.ndarray, " n"], measured_on: str
) -> Abstaining:
    """The table of coverages, measured on n >= 1 answers for held-out faces.

    Args:
        confidence: the largest calibrated probability of each answer.
        right: whether each answer is correct.
        measured_on: a description of the held-out faces.
    """
    from fer_jax.metrics import calibration  # importing it takes seconds; only `measure` needs it

    curve = calibration.coverage(np.asarray(confidence, np.float64), right)
    curve = curve.iloc[::-1]  # from the most confident faces to all
    steps: list[AnsweredShare] = []
    for number in range(1, _STEPS + 1):
        row = curve[curve["coverage"] >= number / _STEPS - 1e-9].iloc[0]
        step = AnsweredShare(
            coverage=float(row["coverage"]),
            threshold=0.0 if number == _STEPS else float(row["threshold"]),
            accuracy=float(row["accuracy"]),
        )
        if not steps or step.coverage > steps[-1].coverage:
            steps.append(step)
    if steps[-1].threshold:  # equal confidences: an earlier step already answers all faces
        steps[-1] = steps[-1].model_copy(update={"threshold": 0.0})
    return Abstaining(measured_on=measured_on, steps=tuple(steps))


def write(folder: Path, table: Abstaining) -> None:
    """Writes a table into the model directory `folder`."""
    records.write(folder / FILE, table)


def read(model: str | Path) -> Abstaining | None:
    """The table of the model at `model` (see `model_directory.find`); None if it has none.

    Raises:
        UserError: there is no model, or the table is damaged.
    """
    file = model_directory.find(model) / FILE
    return records.read(Abstaining, file) if file.is_file() else None


@dataclass(frozen=True)
class Rule:
    """A rule for abstaining: answers with a confidence below `threshold` are withheld.

    Attributes:
        threshold: a probability, 0..1.
        step: the row of the table for this threshold, or for the next lower one; None if the model
            has no table.
        measured_on: a description of the faces on which the table was measured; "" without a table.
    """

    threshold: float
    step: AnsweredShare | None = None
    measured_on: str = ""

    def describe(self, withheld: int, faces: int, words: Language = ENGLISH) -> str:
        """A line with the number of withheld answers and, if measured, the accuracy of the others.

        Args:
            withheld: the number of faces whose answer was withheld.
            faces: the number of all faces.
            words: the language of the line; `measured_on` stays as it is.
        """
        share = f" ({console.percent(withheld / faces, words, 0)})" if faces else ""
        values = {
            "withheld": withheld,
            "faces": faces,
            "share": share,
            "threshold": words.number(self.threshold, 3),
        }
        if self.step is None:
            return words.text("withheld.unmeasured", **values)
        return words.text(
            "withheld.some" if self.step.threshold else "withheld.all",
            **values,
            measured_on=self.measured_on,
            accuracy=console.percent(self.step.accuracy, words),
            least=words.number(self.step.threshold, 3),
            coverage=console.percent(self.step.coverage, words, 0),
        )


def rule(
    folder: Path | None, *, min_confidence: float | None, coverage: float | None, flag: str = ""
) -> Rule | None:
    """The rule for a model; None if neither `min_confidence` nor `coverage` is passed.

    Args:
        folder: the model directory; None for a model without one, which has no table.
        min_confidence: the threshold, 0..1.
        coverage: the share of faces to answer, above 0 and at most 1. The threshold is that of this
            share, or of the next larger share, in the table.
        flag: the prefix of argument names in messages, such as "--config.".

    Raises:
        UserError: both are passed, one is out of its range, the table is damaged, or `coverage` is
            passed for a model without a table.
    """
    if min_confidence is None and coverage is None:
        return None
    if min_confidence is not None and coverage is not None:
        raise UserError(f"set {flag}min_confidence or {flag}coverage, not both")
    table = None if folder is None else read(folder)
    if coverage is not None:
        if not 0 < coverage <= 1:
            raise UserError(f"{flag}coverage={coverage} must be above 0 and at most 1")
        if table is None:
            where = "the model" if folder is None else f"the model in {folder}"
            raise UserError(
                f"{where} has no {FILE} with accuracies on held-out faces, which {flag}coverage "
                f"needs; use a final model of crossval that has this file, or set "
                f"{flag}min_confidence instead"
            )
        step = next(step for step in table.steps if step.coverage >= min(coverage, 1) - 1e-9)
        return Rule(step.threshold, step, table.measured_on)
    assert min_confidence is not None
    if not 0 <= min_confidence <= 1:
        raise UserError(f"{flag}min_confidence={min_confidence} must be between 0 and 1")
    if table is None:
        return Rule(min_confidence)
    step = next(step for step in table.steps if step.threshold <= min_confidence)
    return Rule(min_confidence, step, table.measured_on)
