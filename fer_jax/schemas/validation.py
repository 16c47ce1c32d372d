"""Validates a config against its schema, and turns pydantic's errors into one line."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterator, Mapping
from typing import Any

import ml_collections
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from fer_jax.errors import UserError
from fer_jax.plugins import did_you_mean
from fer_jax.schemas.fields import CROSS_FIELD, NESTED, Stage
from fer_jax.schemas.stages import STAGES

_MOST_PROBLEMS = 10  # maximum number in a message
_Location = tuple[int | str, ...]

_brief = reprlib.Repr()
_brief.maxstring = _brief.maxother = 60


def validated(
    config: ml_collections.ConfigDict, *, parts: bool = True
) -> Stage | ml_collections.ConfigDict:
    """The validated record of a config; the config itself for a stage without a schema.

    Values are normalised: choices become lower case ("Yes" becomes "yes"), lists become tuples,
    and ints become floats where the schema says so. A pipeline is checked with all its steps.

    Args:
        config: contains the field `stage`.
        parts: whether the fields of tasks and backbones are checked too, which imports JAX.
            Otherwise the record lacks their defaults.

    Raises:
        UserError: fields are unknown, missing, of a wrong type, out of range or contradictory; the
            message lists up to ten problems.
    """
    schema = STAGES.get(str(config.get("stage")))
    if schema is None:
        return config
    given = config.to_dict()
    try:
        return schema.model_validate(given, context={"parts": parts})
    except ValidationError as error:
        raise UserError(f"{config.stage}: {explain(error, given, schema, '--config')}") from None


def completed(values: Mapping[str, Any]) -> dict[str, Any] | None:
    """The values of a `config.json` with all defaults.

    None if its stage has no schema or the values do not match the schema.
    """
    schema = STAGES.get(str(values.get("stage")))
    try:
        return schema.model_validate(values).model_dump() if schema else None
    except ValidationError:
        return None


def explain(
    error: ValidationError, given: Any, schema: type[BaseModel] = BaseModel, prefix: str = ""
) -> str:
    """The first ten problems in one line, with the names of their fields, and the number of others.

    Args:
        error: what pydantic raised.
        given: the values that were validated.
        schema: what they were validated against; used to suggest similar fields.
        prefix: put before the name of each field, e.g. "--config".
    """
    problems = list(dict.fromkeys(_problems(error, given, schema, prefix)))
    further = len(problems) - _MOST_PROBLEMS
    more = f"; and {further} more" if further > 0 else ""
    return "; ".join(problems[:_MOST_PROBLEMS]) + more


def _problems(
    error: ValidationError, given: Any, schema: type[BaseModel], prefix: str
) -> Iterator[str]:
    details = list(_flat(error.errors(include_url=False)))
    # A fault in a pipeline's own field occurs again in each step that uses the field. So faults
    # in steps are reported only if there are no others.
    details = [detail for detail in details if not _is_in_a_step(detail["loc"])] or details
    with_invalid_items = {
        place[:-1] for d in details if (place := d["loc"]) and isinstance(place[-1], int)
    }
    for detail in details:
        if detail["type"] == "too_short" and detail["loc"] in with_invalid_items:
            continue  # pydantic counts only valid items, and the invalid ones are reported
        place = _without_tags(detail["loc"])
        if detail["type"] == CROSS_FIELD:
            for field, message in detail["ctx"]["faults"]:
                yield _problem((*place, *field.split(".")), message, given, prefix)
        elif place and isinstance(place[-1], int):
            message = f"item {place[-1] + 1} {_message(detail)}"
            yield _problem(place[:-1], message, given, prefix)
        elif detail["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
            fields = list(schema.model_fields) if len(place) == 1 else []
            yield f"{_name(place, prefix)} does not exist{did_you_mean(str(place[-1]), fields)}"
        else:
            yield _problem(place, _message(detail), given, prefix)


def _is_in_a_step(location: _Location) -> bool:
    return len(location) > 1 and location[0] == "steps"


def _flat(details: list[ErrorDetails]) -> Iterator[ErrorDetails]:
    """The errors of `details`, with each error of the type `NESTED` replaced by those in it."""
    for detail in details:
        if detail["type"] != NESTED:
            yield detail
            continue
        for inner in _flat(detail["ctx"]["errors"]):
            yield {**inner, "loc": (*detail["loc"], *inner["loc"])}


def _without_tags(location: _Location) -> _Location:
    """`location` without the names of stages that pydantic inserts after the names of steps."""
    place = list(location)
    for index in range(len(place) - 3, -1, -1):
        if place[index] == "steps" and place[index + 2] in STAGES:
            del place[index + 2]
    return tuple(place)


def _problem(place: _Location, message: str, given: Any, prefix: str) -> str:
    name, value = _name(place, prefix), given
    for key in place:
        if not isinstance(value, Mapping) or key not in value:
            return f"{name} {message}"
        value = value[key]
    if isinstance(value, Mapping) or not place:
        return f"{name} {message}".lstrip()
    return f"{name}={_brief.repr(value)} {message}"


def _message(detail: ErrorDetails) -> str:
    match detail["type"]:
        case "missing":
            return "is missing"
        case "model_type" | "model_attributes_type" | "dict_type":
            return "must be a group of fields"
        case "union_tag_not_found":
            return "has no field `stage`"
        case "union_tag_invalid":
            return f"has an unknown stage; choose from {', '.join(STAGES)}"
        case "literal_error":
            choices = re.findall("'([^']+)'", detail["ctx"]["expected"])
            hint = did_you_mean(str(detail["input"]), choices)
            return re.sub("^Input should", "must", detail["msg"]) + hint
    text = re.sub(r"^(Input|Value|Tuple|Dictionary) should", "must", detail["msg"])
    return re.sub(" after validation, not .*", "", text)


def _name(place: _Location, prefix: str) -> str:
    """The name of a field, as on the command line; a key with dots is quoted in brackets."""
    parts = (f'["{key}"]' if "." in str(key) else f".{key}" for key in place)
    return (prefix + "".join(parts)).lstrip(".")
