"""Typed, validated records: JSON files in the workdirs of stages and in model directories.

pydantic validates them, and `read` puts all errors of a file into one line.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import pydantic
from pydantic import Field

from fer_jax.errors import UserError
from fer_jax.schemas.faces import Crop, Detector
from fer_jax.schemas.fields import Reference, Section, Zooms
from fer_jax.schemas.training import Backbone
from fer_jax.schemas.validation import explain
from fer_jax.workdir import write_json

# In the workdir of `train`, the labelled faces on which the features were measured.
PROBED = "records/probed"
# In the workdir of a stage that crops faces, a `FacePipeline`.
FACES = "faces.json"
# In the workdir of `train`, a `fer_jax.schemas.Data` that describes the training data.
DATA = "data.json"


class Search(Section):
    """How a picture is resized and extended before it is searched for faces; 0 disables a step.

    Attributes:
        max_side: pixels; pictures with a longer side are reduced to it.
        enlarge_below, enlarge_to: pixels; pictures whose shorter side is below `enlarge_below` are
            enlarged until it is `enlarge_to` or the longer side is `max_side`.
        border: if no face is found, the picture is searched again with its edge pixels replicated
            on each side, over this fraction of its shorter side.
    """

    max_side: int = Field(default=0, ge=0)
    enlarge_below: int = Field(default=0, ge=0, le=10_000)
    enlarge_to: int = Field(default=0, ge=0, le=10_000)
    border: float = Field(default=0.0, ge=0, le=1)


class FacePipeline(Section):
    """The settings with which faces were found and cropped.

    Attributes:
        detector, search, crop: the settings of these three steps.
        aligned: whether the pictures were already face crops, which were only resized; how their
            faces were aligned is unknown.
    """

    detector: Detector
    search: Search
    crop: Crop
    aligned: bool = False


class Origin(Section):
    """The weights from which training started.

    Attributes:
        name: the name of the weight file or, for a model, of its folder.
        sha256: the digest of the weights, in hexadecimal digits.
        init: the weights from which the training of these weights started; None if unknown or
            random.
    """

    name: str
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    init: Origin | None = None


class Inference(Section):
    """The settings for computing a task's answer from an aligned face (`training.inference`).

    Attributes:
        crops: the number of test crops that are averaged, each with its mirror image.
        temperature: divides the logarithms of the averaged probabilities.
        zooms: magnifications of each crop, over which the features of the network are averaged.
        depths: whether the head also gets the pooled outputs of the stages of the backbone that
            its attribute `depths` names.
        gradients: whether the head also gets histograms of oriented gradients.
        reference: what is subtracted from the features of a face (`training.person_relative`);
            "" for nothing.
    """

    crops: Literal[1, 5] = 1
    temperature: float = Field(default=1.0, gt=0, le=1000)
    zooms: Zooms = (1.0,)
    depths: bool = False
    gradients: bool = False
    reference: Reference = ""


class Tried(Section):
    """The performance of a method on validation people, on whom it was not trained.

    Attributes:
        method: the name of the method.
        log_loss: mean over the photographs in nats, at the temperature fitted to them.
        accuracy: share of photographs that are classified correctly.
    """

    method: str
    log_loss: float
    accuracy: float


class Selection(Section):
    """The method that trained a model, and all compared methods (`crossval.methods.auto`).

    Attributes:
        method: the name of the selected method.
        tried: the compared methods in the order of preference; empty if none could be compared,
            since there is only one person.
    """

    method: str
    tried: list[Tried]


class ModelRecord(Section):
    """The content of `model.json`: all that is needed to use the weights in the same folder.

    Attributes:
        format: version of the layout; 1 has no checksums.
        image_size: side in pixels of the network's input.
        backbone: the settings of the backbone.
        tasks: the fields of each task by its name.
        labels: class names by task, in the order of the head's outputs.
        init: the weights from which training started; None for random ones.
        faces: how faces were found and cropped; None if that is not known.
        inference: how answers are computed, by task; a missing task has the defaults.
        selection: how the training method was selected; None if the user chose it.
    """

    format: int = Field(default=2, ge=1, le=2)
    image_size: int = Field(ge=8, le=4096)
    backbone: Backbone
    tasks: dict[str, dict[str, Any]]
    labels: dict[str, tuple[Annotated[str, Field(min_length=1)], ...]]
    init: Origin | None = None
    faces: FacePipeline | None = None
    inference: dict[str, Inference] = Field(default_factory=dict)
    selection: Selection | None = None

    def faults(self) -> Iterator[tuple[str, str]]:
        for task, labels in self.labels.items():
            twice = sorted({label for label in labels if labels.count(label) > 1})
            if twice:
                yield f"labels.{task}", f"has duplicates: {', '.join(twice)}"
        for field in ("labels", "inference"):
            unknown = sorted(getattr(self, field).keys() - self.tasks.keys())
            if unknown:
                yield field, f"names unknown tasks: {', '.join(unknown)}"


class AnsweredShare(Section):
    """The accuracy of confident answers, measured on faces that the model had not seen.

    Attributes:
        coverage: the share of faces that are answered.
        threshold: the minimum confidence (calibrated probability) of an answer.
        accuracy: the share of correct answers among the answered faces.
    """

    coverage: float = Field(gt=0, le=1)
    threshold: float = Field(ge=0, le=1)
    accuracy: float = Field(ge=0, le=1)


class Abstaining(Section):
    """The content of `abstaining.json` in a model directory: when to withhold an answer.

    Attributes:
        measured_on: a description of the faces, such as "20 held-out faces of 5 people".
        steps: rows with ascending coverage; the last one answers all faces.
    """

    measured_on: str
    steps: tuple[AnsweredShare, ...] = Field(min_length=1)


class CrossvalProtocol(Section):
    """The content of `protocol.json`: how the cross-validation in this folder was run.

    Runs of older versions lack some of the fields; unknown fields are ignored.

    Attributes:
        people_disjoint: whether no person is in both the training and the test faces of a fold.
        frozen: whether the backbone kept its initial weights.
        features: names of the inputs of the head, for the report; empty if the method names none.
        steps: the maximum number of training steps of a fold; None if no network was trained.
        init: "pretrained" or "random weights".
        pretraining: a description of the pretraining data; "" if there is none.
        pretraining_saw_test_people: whether test people are in the pretraining data; None if that
            is not known.
        pretraining_known: whether all pretraining data could be found and searched for leaks.
        shots: the maximum number of training photographs of each emotion; 0 for all.
        balance: whether photographs of rarer emotions were repeated in training.
        test_crops_by_choice: for `method = "auto"`, the number of test crops of each method that it
            can select, which may differ from `test_crops`.
        reference: the kind of reference of a person-relative run, which uses other photographs of
            the test person (`training.person_relative`); "" for other runs.
        reference_photographs: number of neutral photographs that were used as references.
        without_reference: number of people without a neutral photograph, who were left out.
        chosen_by: what was selected in the folds, and on which data; "" if nothing was selected.
        photographs: the workdir of the tested photographs.
        leaks: the number of suspected leaks of each kind, without those that the protocol intends.
    """

    model_config = pydantic.ConfigDict(extra="ignore")

    labels: list[str]
    protocol: str = ""
    folds: int | None = Field(default=None, ge=1)
    seeds: list[int] = Field(default_factory=list)
    people_disjoint: bool = False
    method: str = ""
    frozen: bool = False
    features: list[str] = Field(default_factory=list)
    steps: int | None = None
    init: str = ""
    pretraining: str = ""
    pretraining_saw_test_people: bool | None = None
    pretraining_known: bool = True
    shots: int = 0
    balance: bool = False
    test_crops: int = 1
    test_crops_by_choice: dict[str, int] = Field(default_factory=dict)
    reference: Reference = ""
    reference_photographs: int = 0
    without_reference: int = 0
    chosen_by: str = ""
    image_size: int | None = None
    photographs: str = ""
    leaks: dict[str, int] = Field(default_factory=dict)
    allowed_leaks: list[str] = Field(default_factory=list)


R = TypeVar("R", bound=Section)


def parse(kind: type[R], text: str | bytes, where: str | os.PathLike[str]) -> R:
    """Validates JSON text; `where` names its file in errors.

    Raises:
        UserError: the text is not JSON or not such a record; the message names the fields.
    """
    try:
        return kind.model_validate_json(text)
    except pydantic.ValidationError as error:
        try:
            given = json.loads(text)
        except ValueError as no_json:
            raise UserError(f"{where} is damaged or invalid: {no_json}") from error
        raise UserError(f"{where} is damaged or invalid: {explain(error, given, kind)}") from error


def read(kind: type[R], path: str | os.PathLike[str]) -> R:
    """Reads and validates a record.

    Raises:
        UserError: the file is missing or unreadable, or its content is invalid (see `parse`).
    """
    try:
        text = Path(path).read_bytes()
    except OSError as error:
        raise UserError(
            f"cannot read {path} ({error.strerror}); run the stage that writes it in a new workdir"
        ) from error
    return parse(kind, text, path)


def write(path: str | os.PathLike[str], record: Section) -> None:
    """Writes a record as indented JSON, atomically."""
    write_json(path, record.model_dump(mode="json"))
