"""Types with ranges, and the base class of all schemas."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Annotated, Any, Literal, TypeVar

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
CROSS_FIELD = "cross_field"  # error type; its context holds the faults as (field, message)
STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)  # of sections and tasks
NESTED = "nested"  # error type; its context holds the errors of records that plugins checked


class Section(BaseModel):
    """A config, or a part of one with fields of its own.

    Types are strict: an int is accepted for a float, nothing else is converted. So a bool is not
    an int, a text is not a number, and NaN and infinity are not numbers either. Unknown fields are
    errors. A default stands here alone: the code that reads the field takes it from the record.
    It is not written into `config.json`.
    """

    model_config = ConfigDict(frozen=True, **STRICT)

    def faults(self) -> Iterator[tuple[str, str]]:
        """Yields (field, message) for rules that combine fields; called if each field is valid."""
        yield from ()

    @model_validator(mode="after")
    def _check_fields_together(self) -> Section:
        faults = list(self.faults())
        if faults:
            raise contradiction(*faults)
        return self


def contradiction(*faults: tuple[str, str]) -> PydanticCustomError:
    """What a validator raises for faults (field, message) of rules that combine fields."""
    return PydanticCustomError(CROSS_FIELD, "fields contradict", {"faults": list(faults)})


@contextlib.contextmanager
def collected(errors: list[Any], *place: str) -> Iterator[None]:
    """Adds the errors of a record, or that no record can be had, to `errors`, at `place`."""
    try:
        yield
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            errors.append({**detail, "loc": (*place, *detail["loc"])})
    except UserError as error:
        errors.append({"type": "plugin", "loc": place, "msg": f"is invalid: {error}"})


def raise_collected(errors: list[Any]) -> None:
    """Raises the errors from within a validator, if there are any."""
    if errors:
        text = "; ".join(f"{'.'.join(map(str, e['loc']))} {e['msg']}".strip() for e in errors)
        raise PydanticCustomError(NESTED, "{text}", {"text": text, "errors": errors})


class Stage(Section):
    """The config of a stage, as its `run` gets it."""

    stage: str


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise PydanticCustomError("nul", "must not contain a NUL character")
    return text


def unique(items: tuple[T, ...]) -> tuple[T, ...]:
    """Refuses a tuple that holds a value twice."""
    if len(set(items)) < len(items):
        raise PydanticCustomError("repeated", "must not contain a value twice")
    return items


def _unique_names(names: tuple[str, ...]) -> tuple[str, ...]:
    if len({name.strip().casefold() for name in names}) < len(names):
        raise PydanticCustomError("repeated", "must not contain a name twice, whatever its case")
    return names


def _not_blank(name: str) -> str:
    if not name.strip():
        raise PydanticCustomError("blank", "must not be blank")
    return name


def _zero_or_longest_side(pixels: int) -> int:
    if pixels and not 32 <= pixels <= 65_535:
        raise PydanticCustomError("side", "must be 0 or in 32 to 65535")
    return pixels


def _in_lower_case(value: Any) -> Any:
    return value.strip().lower() if isinstance(value, str) else value


AnyCase = BeforeValidator(_in_lower_case)
"""Marks a choice whose case does not matter; the stage gets it in lower case."""
Reference = Annotated[Literal["", "mean", "balanced", "neutral"], AnyCase]
"""What a face is relative to; see `fer_jax.training.person_relative`."""

Items = Annotated[tuple[T, ...], Field(strict=False)]
"""A tuple, or a list, which becomes a tuple."""

Text = Annotated[str, AfterValidator(_without_nul)]
"""Any text, also an empty one: a path or name that may be absent."""
Name = Annotated[Text, AfterValidator(_not_blank)]
UniqueNames = Annotated[Items[Name], AfterValidator(_unique_names)]

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
# numpy, scikit-learn and the state of a training take 32 bits without a sign.
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Seeds = Annotated[Items[Seed], Field(min_length=1), AfterValidator(unique)]

Pixels = Annotated[int, Field(ge=1, le=4096)]
LongestSide = Annotated[int, Field(ge=32, le=65_535)]  # pixels; that many fit into a JPEG file
ZeroOrLongestSide = Annotated[int, AfterValidator(_zero_or_longest_side)]
Seconds = Annotated[float, Field(ge=0, le=1e9)]
