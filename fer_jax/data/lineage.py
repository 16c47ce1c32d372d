"""The lineage of workdirs: what each was made from, according to the paths in its config.

A workdir is a folder with the `config.json` of a stage. The paths in this config are its inputs:
other workdirs, models in them, weight files, folders of photographs or videos.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from fer_jax import outputs
from fer_jax.inputs import PUBLISHED

# The fields of all stages that name an input. `probe.photographs` is not one of them: training is
# measured on these photographs, but the weights do not depend on them.
_INPUTS = (
    "photos", "videos", "photographs", "test_photographs", "faces", "verifier", "pool", "init",
    "model", "input", "runs", "context", "data.root", "data.folders", "weights", "head", "images",
    "run",
)  # fmt: skip
_MODELS = ("init", "model", "weights", "verifier")  # fields that may name published weights
PIPELINE = "pipeline"  # the stage that runs others in subfolders of its workdir


@dataclass(frozen=True)
class Workdir:
    """A workdir and the paths in its config, absolute and with symbolic links resolved.

    `inputs` maps a config field, such as "init" or "data.root", to its paths or names of published
    weights. `probed` is the workdir of the photographs on which training was measured
    (`probe.photographs`), if any.
    """

    folder: Path
    stage: str
    inputs: Mapping[str, tuple[Path, ...]] = field(repr=False)
    probed: Path | None = None

    @property
    def made_from(self) -> frozenset[Path]:
        """The paths from which the workdir was made: those of all `inputs`."""
        return frozenset(path for paths in self.inputs.values() for path in paths)


W = TypeVar("W", bound=Workdir)


@dataclass(frozen=True)
class Ancestry:
    """The workdirs that led to some models, nearest first, and the weights without a workdir.

    `unknown` contains the paths of these weights or, if they are published, their names.
    """

    workdirs: tuple[Workdir, ...] = ()
    unknown: tuple[Path, ...] = ()


def read_workdir(folder: Path) -> Workdir | None:
    """The workdir at `folder`; None if it has no `config.json` of a stage."""
    try:
        config = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(config, dict) or not isinstance(config.get("stage"), str):
        return None
    seeds = config.get("seeds") or (config.get("seed", 0),)
    inputs: dict[str, tuple[Path, ...]] = {}
    for name in _INPUTS:
        texts = dict.fromkeys(
            text.replace("{seed}", str(seed)) if name == "init" else text
            for text in _texts(_value(config, name))
            for seed in (seeds if name == "init" else (0,))
        )
        if texts:
            inputs[name] = tuple(
                Path(text) if text in PUBLISHED and name in _MODELS else _resolved(text, folder)
                for text in texts
            )
    if config["stage"] == PIPELINE:
        inputs["order"] = tuple(folder.resolve() / name for name in _texts(config.get("order")))
    probed = next(_texts(_value(config, "probe.photographs")), "")
    return Workdir(
        folder.resolve(), config["stage"], inputs, _resolved(probed, folder) if probed else None
    )


def workdir_of(path: Path) -> Workdir | None:
    """The workdir at `path`, or the one that contains the model at `path`; None if there is none.

    A model is in `model/`, `best/model/` or `folds/<fold>/model/` of its training workdir.
    """
    path = path.resolve()
    folder = path.parent if path.is_file() else path
    parents = [folder]
    if parents[-1].name == "model":
        parents.append(parents[-1].parent)
    if parents[-1].name == "best":
        parents.append(parents[-1].parent)
    elif parents[-1].parent.name == "folds":
        parents.append(parents[-1].parent.parent)
    return next((found for parent in parents if (found := read_workdir(parent))), None)


def workdirs_below(folder: Path) -> list[Workdir]:
    """All workdirs at or below `folder`, or at or below the target of a link in it, sorted.

    An interrupted removal may leave only the record of written files; such a workdir has the stage
    "" and no inputs.
    """
    real = folder.resolve()
    found: dict[Path, Workdir] = {}
    for root in (real, *_linked_folders(real)):
        for parent, _, files in os.walk(root):
            one = read_workdir(Path(parent)) if "config.json" in files else None
            if one is None and outputs.RECORD in files:
                one = Workdir(Path(parent), "", {})
            if one is not None:
                found[one.folder] = one
    return [found[place] for place in sorted(found)]


def ancestors(paths: Iterable[str]) -> Ancestry:
    """The workdirs of the models at `paths`, of the models that initialised them, and so on.

    Args:
        paths: values of `config.init`; empty ones are ignored.
    """
    found: dict[Path, Workdir] = {}
    unknown: dict[Path, None] = {}
    queue = [Path(path if path in PUBLISHED else os.path.realpath(path)) for path in paths if path]
    while queue:
        path = queue.pop(0)
        workdir = None if str(path) in PUBLISHED else workdir_of(path)
        if workdir is None:
            unknown[path] = None
        elif workdir.folder not in found:
            found[workdir.folder] = workdir
            queue += workdir.inputs.get("init", ())
    return Ancestry(tuple(found.values()), tuple(unknown))


def descendants(folders: Iterable[Path], among: Iterable[W]) -> list[W]:
    """The workdirs in `among` that were made from `folders`, directly or through other workdirs.

    Those in `folders` are not included. The workdirs are sorted by their smallest number of
    steps from `folders`. If they are deleted in reverse order, those that remain after an
    interruption are still connected with `folders`.
    """
    known = {workdir.folder: workdir for workdir in among}
    sources = {folder: _sources(workdir, known) for folder, workdir in known.items()}
    reached = {folder.resolve() for folder in folders}
    made: list[W] = []
    while children := [
        workdir
        for folder, workdir in known.items()
        if folder not in reached and reached & sources[folder]
    ]:
        made += children
        reached |= {child.folder for child in children}
    return made


def _linked_folders(folder: Path) -> list[Path]:
    linked = [
        (Path(parent) / name).resolve()
        for parent, names, _ in os.walk(folder)
        for name in names
        if (Path(parent) / name).is_symlink()
    ]
    return [
        path
        for path in dict.fromkeys(linked)
        if not path.is_relative_to(folder) and not folder.is_relative_to(path)
    ]


def _sources(workdir: Workdir, known: Mapping[Path, Workdir]) -> set[Path]:
    """For each input, the innermost workdir in `known` that contains it.

    A pipeline's workdir is left out unless it is itself an input.
    """
    holders = set()
    for path in workdir.made_from:
        holder = next((parent for parent in (path, *path.parents) if parent in known), None)
        if holder and (holder == path or known[holder].stage != PIPELINE):
            holders.add(holder)
    return holders


def _value(config: Mapping[str, Any], name: str) -> Any:
    value: Any = config
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _texts(value: Any) -> Iterator[str]:
    """The non-empty strings in a config value, at any depth; they are paths."""
    if isinstance(value, str) and value:
        yield value
    elif isinstance(value, Mapping):
        for child in value.values():
            yield from _texts(child)
    elif isinstance(value, list | tuple):
        for child in value:
            yield from _texts(child)


def _resolved(text: str, workdir: Path) -> Path:
    return Path(os.path.realpath(text.replace("{workdir}", str(workdir))))
