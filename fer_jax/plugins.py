"""Loads plugins that a config selects by name: modules of this package or of the user."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import difflib
import functools
import importlib
import importlib.util
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fer_jax.errors import UserError


def load(kind: str, name: str, package: str, attribute: str) -> Any:
    """The attribute `attribute` of the module that `name` selects.

    Args:
        kind: what is selected, for error messages, e.g. "task".
        name: a module in `package`, or the dotted name of any importable module.
        package: contains the built-in plugins, e.g. "fer_jax.tasks"; may be "" if `name` has a dot.
        attribute: the name of the attribute, e.g. "TASK".

    Raises:
        UserError: there is no such module, or it has no such attribute.
        ModuleNotFoundError: the module imports another one that does not exist.
    """
    module_name = name if "." in name else f"{package}.{name}"
    try:
        module = importlib.import_module(module_name)
    except (ModuleNotFoundError, TypeError, ValueError) as error:
        valid_name = all(part.isidentifier() for part in module_name.split("."))
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if valid_name and not f"{module_name}.".startswith(f"{missing}."):
            raise  # the module exists, but something that it imports does not
        known = names(package, attribute) if package else ()
        choices = f"choose from {', '.join(known)}, or use" if known else "use"
        raise UserError(
            f'{kind} "{name}": there is no module {module_name}{did_you_mean(name, known)}; '
            f"{choices} the dotted name of a module on the Python path"
        ) from error
    if not hasattr(module, attribute):
        raise UserError(
            f'{kind} "{name}": {module_name} has no attribute {attribute}; define it there, or '
            "name another module"
        )
    return getattr(module, attribute)


def build(kind: str, name: str, package: str, attribute: str, fields: Mapping[str, Any]) -> Any:
    """Makes an instance of the dataclass or pydantic model that `name` selects.

    Args:
        kind, name, package, attribute: see `load`.
        fields: the arguments of the class.

    Raises:
        UserError: see `load`; or the class does not have one of the fields.
    """
    part = load(kind, name, package, attribute)
    known = getattr(part, "model_fields", None) or [
        field.name for field in dataclasses.fields(part) if field.init
    ]
    for field in fields:
        if field not in known:
            hint = did_you_mean(field, known) or f"; its fields are {', '.join(known)}"
            raise UserError(f'{kind} "{name}" has no field {field}{hint}')
    return part(**fields)


@functools.cache
def names(package: str, attribute: str) -> tuple[str, ...]:
    """The names of the modules of `package` that define `attribute`, without importing them."""
    return tuple(file.stem for file in _files(package) if _defines(file, attribute))


@functools.cache
def plain_defaults(
    name: str, package: str, attribute: str
) -> Mapping[str, bool | int | float | str]:
    """The plain default values, by field, of the dataclass `attribute` of a built-in plugin.

    They are read from the source code, because importing a plugin takes seconds. A default may be a
    constant of the module. The plugin is imported if its module does not define the class, or if
    the class has a base. Empty if `package` has no such plugin.
    """
    if name not in names(package, attribute):
        return {}
    file = next(file for file in _files(package) if file.stem == name)
    found = _plain_defaults_in(file, attribute)
    if found is None:
        return plain_defaults_of(getattr(importlib.import_module(f"{package}.{name}"), attribute))
    return found


def plain_defaults_of(kind: Any) -> dict[str, bool | int | float | str]:
    """The plain default values of a dataclass, by field; empty for other objects."""
    fields = dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else ()
    return {f.name: f.default for f in fields if isinstance(f.default, bool | int | float | str)}


def _plain_defaults_in(file: Path, attribute: str) -> dict[str, bool | int | float | str] | None:
    """The plain defaults, by field, of the class that `file` assigns to the name `attribute`.

    None if the class is not defined in `file` or has a base class.
    """
    module = ast.parse(file.read_text(encoding="utf-8")).body
    constants = {
        ast.unparse(target): node.value
        for node in module
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
    }
    kind = ast.unparse(constants[attribute]) if attribute in constants else ""
    classes = {node.name: node for node in module if isinstance(node, ast.ClassDef)}
    if kind not in classes or classes[kind].bases:
        return None
    found: dict[str, bool | int | float | str] = {}
    for node in classes[kind].body:
        if not isinstance(node, ast.AnnAssign) or node.value is None:
            continue
        if ast.unparse(node.annotation).startswith("ClassVar"):
            continue
        with contextlib.suppress(ValueError):  # the default is not plain
            value = ast.literal_eval(constants.get(ast.unparse(node.value), node.value))
            if isinstance(value, bool | int | float | str):
                found[ast.unparse(node.target)] = value
    return found


def did_you_mean(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """A hint such as " (did you mean 'rotation'?)", or "" if no known name is similar."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return f" (did you mean {near[0]!r}?)" if near else ""


def _files(package: str) -> list[Path]:
    """The files of a package's modules, without importing it."""
    spec = importlib.util.find_spec(package)
    folders = (spec and spec.submodule_search_locations) or ()
    return [file for folder in folders for file in sorted(Path(folder).glob("*.py"))]


def _defines(file: Path, attribute: str) -> bool:
    lines = file.read_text(encoding="utf-8").splitlines()
    return any(line.startswith((f"{attribute} =", f"{attribute}:")) for line in lines)
