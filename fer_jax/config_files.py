"""The config files: where they are, what they contain, and which fields they have."""

from __future__ import annotations

import ast
import contextlib
import difflib
import re
import runpy
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from fer_jax.errors import UserError
from fer_jax.plugins import did_you_mean


def folder() -> Path:
    """The folder of the config files: in a checkout next to the package, else inside it."""
    home = Path(__file__).parent
    shipped = home / "_configs"
    return shipped if shipped.is_dir() else home.parent / "configs"


def package() -> types.ModuleType:
    """A module for the package `configs`, under whose name the config files import each other.

    It is created here, since an installation must not add a package with such a general name.
    """
    made = types.ModuleType("configs")
    made.__path__ = [str(folder())]
    return made


@contextlib.contextmanager
def importable() -> Iterator[None]:
    """In the block, `configs` is the shipped package.

    Another package of this name that was imported before is restored afterwards.
    """

    def known() -> dict[str, types.ModuleType]:
        return {name: sys.modules[name] for name in sys.modules if name.split(".")[0] == "configs"}

    before = known()
    for name in before:
        del sys.modules[name]
    sys.modules["configs"] = package()
    try:
        yield
    finally:
        for name in known():
            del sys.modules[name]
        sys.modules.update(before)


def summaries(configs: Path) -> dict[str, str]:
    """The first line of the docstring of each config in a folder, by its name.

    Modules whose docstring shows no command, such as argument.py, are left out.
    """
    found = {}
    for file in sorted(configs.glob("*.py")):
        text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
        if "--config=configs/" in text:
            found[file.stem] = text.partition("\n")[0]
    return found


def named(name: str, configs: Path, kind: str = "config") -> str:
    """The path of the config file that `name` selects, followed by `:ARGUMENT` if `name` has one.

    Args:
        name: NAME or NAME:ARGUMENT.
        configs: the folder of the config files, with which the path begins.
        kind: the word for a config in error messages, such as "command".

    Raises:
        UserError: there is no such config.
    """
    stem, colon, argument = name.partition(":")
    known = sorted(summaries(configs))
    if stem not in known:
        hint = did_you_mean(stem, known)
        raise UserError(f"there is no {kind} {stem!r}{hint}; choose from {', '.join(known)}")
    return f"{configs / stem}.py{colon}{argument}"


def is_saved(place: str) -> bool:
    """Whether `place` is the path of a saved config, that is, of a `.json` file.

    FILE.py:ARGUMENT is not, even if its argument ends in `.json`.
    """
    return place.endswith(".json") and ".py:" not in place


def in_python(place: str) -> str:
    """`place`; but if it is the path of a saved `config.json`, FILE:`place`.

    FILE is the Python config file of this package that loads the saved config.
    """
    return f"{Path(__file__).with_name('saved_config.py')}:{place}" if is_saved(place) else place


def load(place: str) -> tuple[str, ConfigDict]:
    """The docstring and the config of a file: PATH, PATH:ARGUMENT or a saved `config.json`.

    Raises:
        UserError: the file cannot be loaded, has no function `get_config`, or raises an error.
    """
    path, colon, argument = in_python(place).partition(":")
    try:
        module = runpy.run_path(path)
        if "get_config" not in module:
            raise UserError(
                f"{path} has no function get_config(arg=None), which returns the config; add it"
            )
        return module["__doc__"] or "", module["get_config"](*[argument] if colon else [])
    except UserError:
        raise
    except OSError as error:
        reason = error.strerror or error
        raise UserError(
            f"cannot load the config file {path} ({reason}); correct --config"
        ) from error
    except Exception as error:
        kind = type(error).__name__
        raise UserError(
            f"the config file {path} fails with {kind} ({error}); correct the file"
        ) from error


def fields(config: ConfigDict, prefix: str = "") -> dict[str, Any]:
    """All fields and sections of a config, by their names in flags without "--config.".

    A key that is not an identifier, such as a dotted name, is quoted in brackets.
    """
    found: dict[str, Any] = {}
    for key, value in config.items():
        name = f"{prefix}.{key}".lstrip(".") if key.isidentifier() else f'{prefix}["{key}"]'
        found[name] = value
        if isinstance(value, ConfigDict):
            found |= fields(value, name)
    return found


def unknown_field(field: str, known: list[str], prefix: str = "--config.") -> str:
    """The message for a field that is not one of `known`, with fields of `known` that are similar.

    If none is similar, the message lists the fields of the same section or, if there is no such
    section, all top-level fields. `prefix` is what the user types before the name of a field.
    """
    field = field.replace("'", '"')
    section, _, last = field.rpartition(".")
    siblings = {name.rpartition(".")[2]: name for name in known if name.startswith(f"{section}.")}
    near = [siblings[name] for name in difflib.get_close_matches(last, siblings, n=2)]
    if not near:
        others = [
            name
            for name in known
            if name not in siblings.values() and not field.startswith(f"{name}.")
        ]
        near = difflib.get_close_matches(field, others, n=2, cutoff=0.75)
    near = near or _same_ending(field, known)
    if near:
        listed = "the nearest are" if len(near) > 1 else "the nearest is"
    elif siblings:
        below = [n.removeprefix(f"{section}.") for n in known if n.startswith(f"{section}.")]
        near = [f"{section}.{name}" for name in dict.fromkeys(n.partition(".")[0] for n in below)]
        listed = f"the fields of {prefix}{section} are"
    else:
        near = sorted({re.split(r"[.[]", name, maxsplit=1)[0] for name in known})
        listed = "its fields are"
    hints = ", ".join(f"{prefix}{name}" for name in near)
    return f"the config has no field {prefix}{field}; {listed} {hints}"


def _same_ending(field: str, known: list[str]) -> list[str]:
    """At most five names in `known` whose last part is the one most similar to that of `field`.

    For example, pretrain.epochs for epoch. The list is empty if no last part is similar.
    """
    last = {name: name.rsplit(".", 1)[-1] for name in known}
    near = difflib.get_close_matches(field.rsplit(".", 1)[-1], set(last.values()), n=1)
    return [name for name in known if last[name] in near][:5]
