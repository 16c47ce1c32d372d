"""Parts that a config names: tasks, backbones, cross-validation methods and data sets.

A name without a dot is a module of a package of ours, a dotted one any module on the Python path.
A module attribute holds the part.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import pkgutil
from collections.abc import Iterable, Mapping
from typing import Any

from fer_jax.errors import UserError


def load(kind: str, name: str, package: str, attribute: str) -> Any:
    """The part called `name`.

    Args:
        kind: what the part is, for errors, such as "task".
        name: as in a config.
        package: where modules without a dot are, such as "fer_jax.tasks"; "" for nowhere.
        attribute: of the module, such as "TASK".

    Raises:
        UserError: no such module, or it has no such attribute.
    """
    module_name = name if "." in name or not package else f"{package}.{name}"
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # the module exists, and something that it imports does not
        known = names(package, attribute) if package else []
        listed = f"; there are {', '.join(known)}, and" if known else "; give"
        raise UserError(
            f'{kind} "{name}": no module {module_name}{similar(name, known)}{listed} the dotted '
            "name of any module on the Python path"
        ) from error
    if not hasattr(module, attribute):
        raise UserError(f'{kind} "{name}": {module_name} has no attribute {attribute}')
    return getattr(module, attribute)


def build(kind: str, name: str, package: str, attribute: str, fields: Mapping[str, Any]) -> Any:
    """The dataclass or pydantic model called `name`, with these fields.

    Raises:
        UserError: see `load`; or a field that it does not have.
    """
    part = load(kind, name, package, attribute)
    own = getattr(part, "model_fields", None) or [
        field.name for field in dataclasses.fields(part) if field.init
    ]
    for field in fields:
        if field not in own:
            hint = similar(field, own) or f"; there are {', '.join(own)}"
            raise UserError(f'{kind} "{name}" has no field {field}{hint}')
    return part(**fields)


def names(package: str, attribute: str) -> list[str]:
    """The modules of a package of ours that have the attribute."""
    found = pkgutil.iter_modules(importlib.import_module(package).__path__)
    return [
        module.name
        for module in found
        if hasattr(importlib.import_module(f"{package}.{module.name}"), attribute)
    ]


def similar(name: str, known: Iterable[str]) -> str:
    """A hint at the most similar known name; "" where none is similar."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {near[0]}?)" if near else ""
