"""Data sets: TFDS builders and the records that they write.

The name of a data set without a dot is that of a folder in `datasets/`. This folder is not a Python
package, since a well-known package is called `datasets`. Its builders are loaded by path: from
`fer_jax/_datasets` if installed, and from `datasets/` next to the package in a checkout. A dotted
name is that of a module with an attribute `Builder`. The builders of this project do not need
TensorFlow: records are ArrayRecord files, and images stay encoded.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import importlib.util
import io
import math
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import tensorflow_datasets as tfds
from etils import epath
from jaxtyping import Bool
from tensorflow_datasets.core import registered

from fer_jax import outputs, plugins
from fer_jax.errors import UserError
from fer_jax.locking import turn_in
from fer_jax.workdir import atomic_folder

BuilderClass: TypeAlias = type[tfds.core.GeneratorBasedBuilder]
Config: TypeAlias = str | tfds.core.BuilderConfig | None

_PACKAGE = Path(__file__).resolve().parents[1]
_FOLDERS = (_PACKAGE / "_datasets", _PACKAGE.parent / "datasets")


@functools.cache
def builder_class(name: str) -> BuilderClass:
    """The builder class of a data set; a builder in `datasets/` is also registered with TFDS.

    Args:
        name: a folder in `datasets/`, or the dotted name of a module with an attribute `Builder`.

    Raises:
        UserError: there is no such data set, or the module has no attribute `Builder`.
    """
    if "." in name:
        with registered.skip_registration():  # TFDS gives the modules of a package the same name
            return plugins.load("data set", name, "", "Builder")
    files = _builder_files()
    if name not in files:
        raise UserError(
            f"there is no data set {name!r}; use one of {', '.join(sorted(files))}, or the dotted "
            f"name of your own module"
        )
    file = files[name]
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # TFDS finds the file of a class by its module
    spec.loader.exec_module(module)
    # TFDS reads README, TAGS and CITATIONS from this folder.
    module.Builder.pkg_dir_path = epath.Path(file.parent)
    return module.Builder


def register() -> None:
    """Registers the builders of this project, so that `tfds.builder` and `tfds.load` find them."""
    for name in _builder_files():
        builder_class(name)


def _builder_files() -> dict[str, Path]:
    return {
        file.parent.name: file
        for folder in _FOLDERS
        for file in folder.glob("*/*_dataset_builder.py")
    }


def held_out(sources: Sequence[str], places: Sequence[int], share: float) -> Bool[np.ndarray, " n"]:
    """Chooses the examples that are held out for validation.

    Whole sources (videos, people) are held out, chosen by a hash of their names, so that the
    similar examples of one source are not in both splits. If there is a single source, its last
    places are held out: at least one, but none if it has only one place.

    Args:
        sources: the source of each example.
        places: the position of each example in its source, such as the frame number.
        share: the fraction of the sources that are held out (at least one source) or, if there is a
            single source, of its places.

    Returns:
        Whether each example is held out.
    """
    names = sorted(set(sources), key=lambda name: hashlib.sha256(name.encode()).digest())
    if len(names) > 1:
        return np.isin(np.asarray(sources, str), names[: max(1, round(share * len(names)))])
    distinct = np.unique(places)
    if len(distinct) < 2:
        return np.zeros(len(sources), bool)
    first_held = distinct[min(math.ceil((1 - share) * len(distinct) - 1e-9), len(distinct) - 1)]
    return np.asarray(places) >= first_held


def config_with(name: str, **fields: str) -> tfds.core.BuilderConfig:
    """A copy of a data set's first config, with the name "with_folders" and changed `fields`."""
    first = builder_class(name).BUILDER_CONFIGS[0]
    return dataclasses.replace(first, name="with_folders", **fields)


def build(
    name: str, config: Config, root: str | os.PathLike[str], data_dir: str | os.PathLike[str]
) -> tfds.core.DatasetBuilder:
    """Writes the records of a data set unless they exist, and returns its builder.

    Any builder that follows TFDS's conventions works. Records are written again if the input or the
    version of the builder changes. The input is identified by the result of the builder's method
    `input_digest(root)` or, if it has none, by the names, sizes and modification times of the files
    below `root`.

    The records are in `data_dir/<name>-<config>-<digest of input and version>/`; older records of
    the same name and config are deleted. This folder is written under a temporary name and renamed,
    so it is complete if it exists. If several hosts share `data_dir`, one of them has to build
    first.

    Args:
        name: see `builder_class`.
        config: one of the builder's configs, by name or as an object; None for the first.
        root: the folder that the data set's README describes (TFDS calls it `manual_dir`).
        data_dir: the folder of all records.

    Raises:
        UserError: there is no such data set, config or folder, `root` does not contain what the
            builder reads or contains no example, a package that the builder needs is missing, or
            the records cannot be written.
    """
    cls = builder_class(name)
    if isinstance(config, tfds.core.BuilderConfig):  # TFDS warns unless the class lists it
        own = {"BUILDER_CONFIGS": [config], "__module__": cls.__module__}
        with registered.skip_registration():
            cls = type(cls.__name__, (cls,), own)
    if not Path(root).is_dir():
        raise UserError(f"{name}: there is no folder {root}; correct the path of the data set")
    try:
        probe = cls(data_dir=os.fspath(data_dir), config=config)
    except ValueError as error:
        known = ", ".join(one.name for one in cls.BUILDER_CONFIGS)
        raise UserError(f"{name}: {error} (available configs: {known or 'none'})") from error
    variant = f"{name}-{probe.builder_config.name}" if probe.builder_config else name
    own_digest = getattr(probe, "input_digest", None)
    content = own_digest(Path(root)) if own_digest else _digest_of(root, without=data_dir)
    digest = hashlib.sha256(f"{probe.version}\n{content}".encode()).hexdigest()[:16]
    target = Path(data_dir).absolute() / f"{variant}-{digest}"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with turn_in(target.parent):  # another run that needs the same records waits for them
            if not target.is_dir():
                for leftover in target.parent.glob(f".{variant}-*.partial"):
                    outputs.delete_folder(leftover)
                _write_records(cls, config, Path(root), target)
                for older in target.parent.glob(f"{variant}-*"):
                    if older != target:
                        outputs.delete_folder(older)
    except OSError as error:
        raise UserError(
            f"cannot write records to {target} ({error.strerror or error}); change its "
            f"permissions, or free some disk space, and run the same command again"
        ) from error
    return cls(data_dir=os.fspath(target), config=config)


def _digest_of(root: str | os.PathLike[str], *, without: str | os.PathLike[str]) -> str:
    """A digest of the names, sizes and modification times of the files below `root`.

    Files below `without` are left out.
    """
    folder, left_out = (Path(os.path.realpath(place)) for place in (root, without))
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*")):
        if file.is_file() and not file.is_relative_to(left_out):
            status = file.stat()
            facts = (os.fspath(file.relative_to(folder)), status.st_size, status.st_mtime_ns)
            digest.update(repr(facts).encode())
    return digest.hexdigest()


def _write_records(cls: BuilderClass, config: Config, root: Path, target: Path) -> None:
    tfds.disable_progress_bar()
    # TFDS prints its progress, which is dropped, since the stage reports progress itself.
    with atomic_folder(target) as temporary, contextlib.redirect_stdout(io.StringIO()):
        try:
            cls(data_dir=os.fspath(temporary), config=config).download_and_prepare(
                file_format="array_record",
                download_config=tfds.download.DownloadConfig(
                    manual_dir=os.fspath(root.absolute()), try_download_gcs=False
                ),
            )
        except ImportError as error:
            reason = str(error).splitlines()[-1]  # TFDS prepends the example
            raise UserError(
                f"{cls.name}: the builder needs a package that is missing ({reason}); "
                f"install it or, if it is TensorFlow, yield image files or encoded bytes instead "
                f"of arrays"
            ) from error
        shutil.rmtree(temporary / "downloads", ignore_errors=True)
