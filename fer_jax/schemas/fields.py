"""Types with ranges, and the base class of all schemas."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Annotated, Any, ClassVar, Literal, LiteralString, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from fer_jax.errors import UserError

T = TypeVar("T")
CROSS_FIELD = "cross_field"  # error type; its context contains the faults as (field, message)
STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)  # for sections and tasks
NESTED = "nested"  # error type; its context contains the errors of tasks and backbones


class Section(BaseModel):
    """Base class of the stages' configs and of the sections in them.

    Types are strict: an int is accepted for a float, and a list for a tuple of the type `Items`,
    but a bool is not accepted for an int, nor a text for a number. NaN and infinity are refused.
    Unknown fields are errors unless the class allows them. Defaults of the schema are not written
    to `config.json`.
    """

    model_config = ConfigDict(frozen=True, **STRICT)

    def faults(self) -> Iterator[tuple[str, str]]:
        """Yields (field, message) for each violated rule that combines fields.

        It is called only if each field is valid by itself.
        """
        yield from ()

    def faults_of_parts(self) -> Iterator[tuple[str, str]]:
        """Yields (field, message) for each violated rule that depends on a task or backbone.

        It is called after `faults`, and only if the fields of tasks and backbones are checked too
        (see `with_parts`).
        """
        yield from ()

    @model_validator(mode="after")
    def _check_fields_together(self, info: Any) -> Section:
        faults = list(self.faults())
        if with_parts(info):
            faults += self.faults_of_parts()
        if faults:
            raise contradiction(*faults)
        return self


def with_parts(info: Any) -> bool:  # a pydantic ValidationInfo
    """Whether the fields of tasks and backbones are checked too, which imports their modules."""
    return info.context is None or bool(info.context["parts"])


def contradiction(*faults: tuple[str, str]) -> PydanticCustomError:
    """The error that a validator raises for violated rules that combine fields.

    Args:
        *faults: pairs of a field and the message about it.
    """
    return PydanticCustomError(CROSS_FIELD, "fields contradict", {"faults": list(faults)})


@contextlib.contextmanager
def collected(errors: list[Any], *place: str) -> Iterator[None]:
    """Catches a `ValidationError` or `UserError` of the block, and appends its details to `errors`.

    Args:
        errors: the list to append to, of dictionaries like those of pydantic.
        *place: the names of the fields, from the outermost, that lead to the record which the block
            validates.
    """
    try:
        yield
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            errors.append({**detail, "loc": (*place, *detail["loc"])})
    except UserError as error:
        errors.append({"type": "plugin", "loc": place, "msg": f"is invalid: {error}"})


def raise_collected(errors: list[Any]) -> None:
    """Raises one error with all collected errors, if there are any; to be called in a validator."""
    if errors:
        text = "; ".join(f"{'.'.join(map(str, e['loc']))} {e['msg']}".strip() for e in errors)
        raise PydanticCustomError(NESTED, "{text}", {"text": text, "errors": errors})


class Stage(Section):
    """The config of a stage, as it is passed to the stage's `run`."""

    writes: ClassVar[bool] = True  # whether the stage needs a workdir

    stage: str

    def inputs(self) -> list[str]:
        """The values of the fields that name inputs: paths of files, folders or workdirs.

        A value is "" if the field is not set, and may be the name of published weights, such as
        "starter".
        """
        return []

    def unset(self) -> Iterator[tuple[str, str]]:
        """Yields (field, what to set it to) for each required field that is not set."""
        yield from ()


def refuse(message: LiteralString, is_wrong: Callable[[Any], bool]) -> AfterValidator:
    """A validator that refuses the values for which `is_wrong` is true, with `message`."""

    def check(value: T) -> T:
        if is_wrong(value):
            raise PydanticCustomError("refused", message)
        return value

    return AfterValidator(check)


def _in_lower_case(value: Any) -> Any:
    return value.strip().lower() if isinstance(value, str) else value


AnyCase = BeforeValidator(_in_lower_case)
"""Marks a choice whose text is stripped of surrounding spaces and converted to lower case."""
Reference = Annotated[Literal["", "mean", "balanced", "neutral"], AnyCase]
"""The kind of a person's reference, "" for none; see `fer_jax.training.person_relative`."""

LanguageCode = Annotated[Literal["en", "fa"], AnyCase]
"""English or Persian; see `fer_jax.languages`."""

Items = Annotated[tuple[T, ...], Field(strict=False)]
"""A tuple, or a list, which becomes a tuple."""

Unique = refuse("must not contain a value twice", lambda items: len({*items}) < len(items))
"""Marks a tuple without repeated values."""

Text = Annotated[str, refuse("must not contain a NUL character", lambda text: "\0" in text)]
"""A text without NUL characters, which may be empty, such as an optional path or name."""
Name = Annotated[Text, refuse("must not be blank", lambda name: not name.strip())]
UniqueNames = Annotated[
    Items[Name],
    refuse(
        "must not contain a name twice, whatever its case",
        lambda names: len({name.strip().casefold() for name in names}) < len(names),
    ),
]

Zooms = Annotated[Items[Annotated[float, Field(ge=1, le=4)]], Field(min_length=1), Unique]

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
ShareBelowOne = Annotated[float, Field(ge=0, lt=1)]
Probability = Share

Count = Annotated[int, Field(ge=0, le=1_000_000_000)]
CountFromOne = Annotated[int, Field(ge=1, le=1_000_000_000)]
Batch = Annotated[int, Field(ge=1, le=65_536)]
Workers = Annotated[int, Field(ge=0, le=1024)]
Folds = Annotated[int, Field(ge=2, le=1_000_000)]
# NumPy, scikit-learn and the training state take seeds as unsigned integers of 32 bits.
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Seeds = Annotated[Items[Seed], Field(min_length=1), Unique]

Pixels = Annotated[int, Field(ge=1, le=4096)]
LongestSide = Annotated[int, Field(ge=32, le=65_535)]  # pixels; the maximum is that of JPEG
ZeroOrLongestSide = Annotated[
    int,
    refuse(
        "must be 0 or from 32 to 65535", lambda pixels: pixels != 0 and not 32 <= pixels <= 65_535
    ),
]
Port = Annotated[int, Field(ge=0, le=65_535)]
Seconds = Annotated[float, Field(ge=0, le=1e9)]
