"""A config against its schema; every problem in one line, each named by its flag."""

from __future__ import annotations

import difflib
import re
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import ml_collections
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from fer_jax.errors import UserError
from fer_jax.schemas.fields import CROSS_FIELD, NESTED, Stage
from fer_jax.schemas.stages import STAGES

_MOST = 10  # problems in a message
_Location = tuple[int | str, ...]

_brief = reprlib.Repr()
_brief.maxstring = _brief.maxother = 60


def validated(config: ml_collections.ConfigDict) -> Stage | ml_collections.ConfigDict:
    """The record of a config; the config itself for a stage without a schema.

    Its values are normalised: the case of choices ("Yes" becomes "yes"), lists (they become
    tuples), and ints where a float is wanted. A pipeline is checked with all its steps.

    Raises:
        UserError: with every field that is unknown, missing, of a wrong type or out of range.
    """
    schema = STAGES.get(str(config.get("stage")))
    if schema is None:
        return config
    given = config.to_dict()
    try:
        return schema.model_validate(given)
    except ValidationError as error:
        problems = list(dict.fromkeys(_problems(error, given, schema)))
        more = f"; and {len(problems) - _MOST} more" if len(problems) > _MOST else ""
        raise UserError(f"{config.stage}: {'; '.join(problems[:_MOST])}{more}") from None


def _problems(
    error: ValidationError, given: Mapping[str, Any], schema: type[BaseModel]
) -> Iterator[str]:
    details = list(_flat(error.errors(include_url=False)))
    # A field of a pipeline may be handed to many steps: its fault is told once.
    details = [detail for detail in details if detail["loc"][:1] != ("steps",)] or details
    with_invalid_items = {
        place[:-1] for d in details if (place := d["loc"]) and isinstance(place[-1], int)
    }
    for detail in details:
        if detail["type"] == "too_short" and detail["loc"] in with_invalid_items:
            continue  # pydantic counts the valid items
        place = _without_tags(detail["loc"])
        if detail["type"] == CROSS_FIELD:
            for field, message in detail["ctx"]["faults"]:
                yield _problem((*place, *field.split(".")), message, given)
        elif place and isinstance(place[-1], int):
            yield _problem(place[:-1], f"item {place[-1] + 1} {_message(detail)}", given)
        elif detail["type"] == "extra_forbidden":
            fields = list(schema.model_fields) if len(place) == 1 else []
            yield f"{_flag(place)} does not exist{_similar(place[-1], fields)}"
        else:
            yield _problem(place, _message(detail), given)


def _flat(details: list[ErrorDetails]) -> Iterator[ErrorDetails]:
    """The errors, each of those that a plugin's own record has at its place in the config."""
    for detail in details:
        if detail["type"] != NESTED:
            yield detail
            continue
        for inner in detail["ctx"]["errors"]:
            yield {**inner, "loc": (*detail["loc"], *inner["loc"])}


def _without_tags(location: _Location) -> _Location:
    """Where the value stands in the config: without the stage that chose among the schemas."""
    place = list(location)
    for index in range(len(place) - 3, -1, -1):
        if place[index] == "steps" and place[index + 2] in STAGES:
            del place[index + 2]
    return tuple(place)


def _problem(place: _Location, message: str, given: Mapping[str, Any]) -> str:
    value: Any = given
    for key in place:
        if not isinstance(value, Mapping) or key not in value:
            return f"{_flag(place)} {message}"
        value = value[key]
    if isinstance(value, Mapping):
        return f"{_flag(place)} {message}"
    return f"{_flag(place)}={_brief.repr(value)} {message}"


def _message(detail: ErrorDetails) -> str:
    match detail["type"]:
        case "missing":
            return "is missing"
        case "model_type" | "model_attributes_type" | "dict_type":
            return "must be a group of fields"
        case "union_tag_not_found":
            return "has no field `stage`"
        case "union_tag_invalid":
            return f"has an unknown stage; there are {', '.join(STAGES)}"
        case "literal_error":
            choices = re.findall("'([^']+)'", detail["ctx"]["expected"])
            hint = _similar(detail["input"], choices)
            return re.sub("^Input should", "must", detail["msg"]) + hint
    text = re.sub(r"^(Input|Value|Tuple|Dictionary) should", "must", detail["msg"])
    return re.sub(" after validation, not .*", "", text)


def _similar(value: Any, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(str(value), known, n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def _flag(place: _Location) -> str:
    """A field as it is written on the command line; a key with dots stands in brackets."""
    parts = (f'["{key}"]' if "." in str(key) else f".{key}" for key in place)
    return "--config" + "".join(parts)
