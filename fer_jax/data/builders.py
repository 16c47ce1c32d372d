"""Turning folders into records: the TFDS builders of `datasets/`, loaded by path.

`datasets` is the name of another well-known package, so that folder is none: its builders are
found inside our package (`fer_jax/_datasets`) once installed, and beside it in a checkout.
Nothing here needs TensorFlow: records are ArrayRecord files, and images are handed over encoded.
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
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import tensorflow_datasets as tfds
from etils import epath
from tensorflow_datasets.core import registered

from fer_jax import outputs
from fer_jax.errors import UserError
from fer_jax.locking import turn_in
from fer_jax.workdir import atomic_folder

_PACKAGE = Path(__file__).resolve().parents[1]
_FOLDERS = (_PACKAGE / "_datasets", _PACKAGE.parent / "datasets")


@functools.cache
def builder_module(name: str) -> ModuleType:
    """The module `datasets/<name>/<name>_dataset_builder.py`; its builder is called `Builder`.

    TFDS knows the builder by its name from then on.

    Raises:
        UserError: there is no such data set; the message names those that there are.
    """
    known = _builder_files()
    if name not in known:
        raise UserError(f"no data set is called {name!r}; there are {', '.join(sorted(known))}")
    file = known[name]
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # TFDS finds the class's file by its module
    spec.loader.exec_module(module)
    # README, TAGS and CITATIONS are read from here.
    module.Builder.pkg_dir_path = epath.Path(file.parent)
    return module


def register() -> None:
    """Makes `tfds.builder` and `tfds.load` find the builders of this project by their names."""
    for name in _builder_files():
        builder_module(name)


def _builder_files() -> dict[str, Path]:
    """The file of each builder, by the name of its data set."""
    return {
        file.parent.name: file
        for folder in _FOLDERS
        for file in folder.glob("*/*_dataset_builder.py")
    }


def held_out(
    videos: Sequence[str], frames: Sequence[int], share: float
) -> Callable[[str, int], bool]:
    """Which frames validate: a function from a video and a frame number.

    Whole videos are held out, chosen by a hash of their names, so that neighbouring frames never
    stand on both sides. Of a single video, the last frames are held out,
    one at least; none where there is only one.

    Args:
        videos: the video of each example.
        frames: its frame number.
        share: the part of the videos, at least one.
    """
    names = sorted(set(videos), key=lambda name: hashlib.sha256(name.encode()).digest())
    if len(names) > 1:
        held = frozenset(names[: max(1, round(share * len(names)))])
        return lambda video, frame: video in held
    distinct = np.unique(frames)
    if len(distinct) < 2:
        return lambda video, frame: False
    first_held = distinct[min(math.ceil((1 - share) * len(distinct) - 1e-9), len(distinct) - 1)]
    return lambda video, frame: bool(frame >= first_held)


def config_with(name: str, **fields: str) -> tfds.core.BuilderConfig:
    """The first config of a data set with fields of its own changed."""
    first = builder_module(name).Builder.BUILDER_CONFIGS[0]
    return dataclasses.replace(first, name="with_folders", **fields)


def build(
    name: str,
    config: str | tfds.core.BuilderConfig | None,
    root: str | os.PathLike[str],
    data_dir: str | os.PathLike[str],
) -> tfds.core.DatasetBuilder:
    """Writes the records of a data set, unless they are there already, and returns its builder.

    The builder may be any that follows TFDS's conventions. One with a method `input_digest(root)`
    says by it when its records are out of date; for others, any change below `root` does.

    Records lie in `data_dir/<name>-<config>-<digest of the input>/`, so that changed input gives
    new records (older ones of the same name and config are removed), and a folder that exists is
    complete: it is written under another name and renamed. Where several processes share
    `data_dir`, let one of them build first.

    Args:
        name: the folder under `datasets/`.
        config: one of the builder's configs, by name or as an object; None for the first.
        root: the folder that the data set's README describes (TFDS calls it `manual_dir`).
        data_dir: where the records go.

    Raises:
        UserError: `root` is not what the builder reads, or it holds no example.
    """
    cls = _knowing(builder_module(name).Builder, config)
    if not Path(root).is_dir():
        raise UserError(f"{name}: there is no folder {root}")
    with _config_errors(name, cls):
        probe = cls(data_dir=os.fspath(data_dir), config=config)
    variant = f"{name}-{probe.builder_config.name}" if probe.builder_config else name
    own_digest = getattr(probe, "input_digest", None)
    content = own_digest(Path(root)) if own_digest else _digest_of(root, without=data_dir)
    digest = hashlib.sha256(f"{probe.version}\n{content}".encode())
    target = Path(data_dir).absolute() / f"{variant}-{digest.hexdigest()[:16]}"
    with _unwritable(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with turn_in(target.parent):  # a second run that wants the same records waits for them
            if not target.is_dir():
                for leftover in target.parent.glob(f".{variant}-*.partial"):
                    outputs.delete_folder(leftover)
                _write_records(cls, config, Path(root), target)
                for older in target.parent.glob(f"{variant}-*"):
                    if older != target:
                        outputs.delete_folder(older)
    return cls(data_dir=os.fspath(target), config=config)


def _knowing(
    cls: type[tfds.core.GeneratorBasedBuilder], config: str | tfds.core.BuilderConfig | None
) -> type[tfds.core.GeneratorBasedBuilder]:
    """`cls` with `config` among its configs; TFDS warns of one that is not among them."""
    if not isinstance(config, tfds.core.BuilderConfig):
        return cls
    with registered.skip_registration():
        return type(
            cls.__name__, (cls,), {"BUILDER_CONFIGS": [config], "__module__": cls.__module__}
        )


def _digest_of(root: str | os.PathLike[str], *, without: str | os.PathLike[str]) -> str:
    """Changes when a file below `root` does, except those below the folder `without`."""
    folder, left_out = Path(root).absolute(), Path(without).absolute()
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*")):
        if file.is_file() and not file.is_relative_to(left_out):
            status = file.stat()
            facts = (os.fspath(file.relative_to(folder)), status.st_size, status.st_mtime_ns)
            digest.update(repr(facts).encode())
    return digest.hexdigest()


def _write_records(
    cls: type[tfds.core.GeneratorBasedBuilder],
    config: str | tfds.core.BuilderConfig | None,
    root: Path,
    target: Path,
) -> None:
    with atomic_folder(target) as temporary, _quiet():
        try:
            cls(data_dir=os.fspath(temporary), config=config).download_and_prepare(
                file_format="array_record",
                download_config=tfds.download.DownloadConfig(
                    manual_dir=os.fspath(root.absolute()), try_download_gcs=False
                ),
            )
        except ImportError as error:
            raise UserError(
                f"{cls.name}: its builder needs a package that is not installed; images as files "
                f"or as encoded bytes need none, arrays need TensorFlow"
            ) from error
        shutil.rmtree(temporary / "downloads", ignore_errors=True)


@contextlib.contextmanager
def _config_errors(name: str, cls: type[tfds.core.GeneratorBasedBuilder]) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        known = ", ".join(config.name for config in cls.BUILDER_CONFIGS)
        raise UserError(f"{name}: {error}; its configs are: {known or 'none'}") from error


@contextlib.contextmanager
def _unwritable(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write records to {target} ({error})") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """TFDS tells its progress on standard output; the stage has better figures."""
    tfds.disable_progress_bar()
    with contextlib.redirect_stdout(io.StringIO()):
        yield
