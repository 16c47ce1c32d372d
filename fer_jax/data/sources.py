"""Random access to examples: `source[i]`, `source.batch(indices)`, from records or from memory.

On the host, images are only decoded and resized. Random augmentation runs on the device
(`fer_jax.tasks.augment`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import pandas as pd
import tensorflow_datasets as tfds
from jaxtyping import UInt8

from fer_jax.data import builders
from fer_jax.errors import UserError
from fer_jax.faces.images import ImageError, decode_image, read_image, resize

_CACHED_BY_DEFAULT = 1 << 30  # bytes


class NoSplitError(UserError):
    """The data set does not have the requested split."""


LABEL = "label"
TASK_LABEL = "label_"
"""Prefix of the names of further labels, each for one task, such as `label_emotion`."""

Example: TypeAlias = dict[str, Any]
"""`image` uint8 [S, S, 3] RGB, `label` int32 (-1: unlabelled), `id`; `label_<task>` if present."""

Batch: TypeAlias = dict[str, np.ndarray]
"""`image` uint8 [B, S, S, 3] RGB and `label` int32 [B]; `label_<task>` int32 [B] if present."""


@runtime_checkable
class Source(Protocol):
    """Examples for the data iterators; must be picklable, since worker processes read them too.

    `classes` are the names of the labels, in order; empty if they have none.
    """

    classes: tuple[str, ...]

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Example: ...

    def batch(self, indices: Sequence[int] | np.ndarray) -> Batch:
        """The examples at `indices`, in that order."""


class ArraySource:
    """Examples in memory.

    Args:
        images: uint8 [N, S, S, 3] RGB.
        labels: int32 [N]; None: every label is -1.
        ids: N strings; None: "0", "1", ...
        classes: names of the labels, in order; empty if they have none.
        task_labels: further labels, int32 [N], by name (`label_<task>`).

    Raises:
        ValueError: the numbers of images, labels and ids differ.
    """

    def __init__(
        self,
        images: UInt8[np.ndarray, "n s s 3"],
        labels: Sequence[int] | np.ndarray | None = None,
        ids: Sequence[str] | None = None,
        classes: tuple[str, ...] = (),
        task_labels: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        count = len(images)
        self.images, self.classes = images, classes
        self.labels = np.asarray(np.full(count, -1) if labels is None else labels, np.int32)
        self.ids = list(ids) if ids is not None else [str(i) for i in range(count)]
        self.task_labels = dict(task_labels or {})
        if len(self.labels) != count or len(self.ids) != count:
            found = f"{count} images, {len(self.labels)} labels and {len(self.ids)} ids"
            raise ValueError(f"the numbers of images, labels and ids must be equal: {found}")

    @property
    def image_size(self) -> int:
        """S, the side length in pixels."""
        return int(self.images.shape[1])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Example:
        own = {name: labels[index] for name, labels in self.task_labels.items()}
        return {
            "image": self.images[index],
            "label": self.labels[index],
            "id": self.ids[index],
            **own,
        }

    def batch(self, indices: Sequence[int] | np.ndarray) -> Batch:
        """The examples at `indices`, in that order."""
        rows = np.asarray(indices, np.int64)
        own = {name: labels[rows] for name, labels in self.task_labels.items()}
        return {"image": self.images[rows], "label": self.labels[rows], **own}


class RecordSource:
    """Examples in ArrayRecord files, decoded on access.

    Args:
        folder: the folder of the records, which contains `dataset_info.json`.
        split: a TFDS split expression, such as "train" or "train+validation".
        image_size: S; images are resized to [S, S].

    Raises:
        NoSplitError: the data set has no such split.
    """

    def __init__(self, folder: str | os.PathLike[str], split: str, image_size: int) -> None:
        self.folder, self.split, self.image_size = os.fspath(folder), split, image_size
        builder = tfds.builder_from_directory(self.folder)
        features = dict(builder.info.features)
        label = features.get(LABEL)
        self.classes = tuple(getattr(label, "names", None) or ())
        try:
            # TFDS may decode to four channels or 16 bits, so images are decoded in `_example`.
            self._records = builder.as_data_source(
                split, decoders={"image": tfds.decode.SkipDecoding()}
            )
        except ValueError as error:
            known = ", ".join(builder.info.splits)
            raise NoSplitError(f"{builder.name} has no split {split!r}; it has {known}") from error
        self._task_labels = sorted(name for name in features if name.startswith(TASK_LABEL))

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Example:
        return self._example(int(index), self._records[int(index)])

    def batch(self, indices: Sequence[int] | np.ndarray) -> Batch:
        """The examples at `indices`, in that order."""
        rows = [int(i) for i in indices]
        records = self._records.__getitems__(rows)
        examples = [self._example(*pair) for pair in zip(rows, records, strict=True)]
        images = np.empty((len(rows), self.image_size, self.image_size, 3), np.uint8)
        for image, example in zip(images, examples, strict=True):
            image[:] = example["image"]
        names = (LABEL, *self._task_labels)
        labels = {name: np.array([e[name] for e in examples], np.int32) for name in names}
        return {"image": images, **labels}

    def in_memory(self) -> ArraySource:
        """The same examples, decoded and kept in memory; each image takes S * S * 3 bytes."""
        names = (LABEL, *self._task_labels)
        labels = {name: np.empty(len(self), np.int32) for name in names}
        ids = [""] * len(self)

        def read(index: int) -> UInt8[np.ndarray, "s s 3"]:
            example = self[index]
            for name in names:
                labels[name][index] = example[name]
            ids[index] = example["id"]
            return example["image"]

        images = _in_threads(read, len(self), self.image_size)
        return ArraySource(images, labels.pop(LABEL), ids, self.classes, labels)

    def _example(self, index: int, record: dict[str, Any]) -> Example:
        # Records of builders from other projects may have no ids.
        name = record["id"].decode() if "id" in record else str(index)
        try:
            image = decode_image(record["image"])
        except ImageError as error:
            raise ImageError(f"{self.folder}, example {name}: {error}") from error
        return {
            "image": resize(image, self.image_size),
            "id": name,
            **{key: np.int32(record.get(key, -1)) for key in (LABEL, *self._task_labels)},
        }

    def __reduce__(self) -> tuple[Any, ...]:
        return RecordSource, (self.folder, self.split, self.image_size)


def open_source(
    name: str,
    config: str | tfds.core.BuilderConfig | None,
    split: str,
    root: str | os.PathLike[str],
    image_size: int,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    cache: bool | None = None,
) -> RecordSource | ArraySource:
    """The examples of one split of a data set; its records are written first if necessary.

    Args:
        name: the data set (see `builders.builder_class`).
        config: one of the data set's configs, by name or as an object; None for the first.
        split: a TFDS split expression, such as "train" or "train+validation".
        root: the folder that the data set's README describes.
        image_size: S; images are resized to [S, S].
        data_dir: the folder of the records; None: `root/records`.
        cache: whether to decode all examples once and keep them in memory; None: if they take at
            most 1 GiB (S * S * 3 bytes per example).

    Raises:
        UserError: the records cannot be written (see `builders.build`), there is no such split, or
            the examples are kept in memory and a picture cannot be decoded.
    """
    builder = builders.build(name, config, root, data_dir or Path(root) / "records")
    source = RecordSource(builder.data_path, split, image_size)
    if cache is None:
        cache = len(source) * image_size**2 * 3 <= _CACHED_BY_DEFAULT
    return source.in_memory() if cache else source


def read_faces(
    table: pd.DataFrame, image_size: int, data_dir: str | os.PathLike[str]
) -> UInt8[np.ndarray, "n s s 3"]:
    """The aligned faces of labelled photographs, from the data set `persian_emotion`.

    Args:
        table: rows of `stage_tables.read_photographs` that have a face, from any number of
            workdirs; the faces are returned in the order of the rows.
        image_size: S; images are resized to [S, S].
        data_dir: the folder for the records, which are written to one subfolder per workdir.

    Raises:
        UserError: a crop cannot be read, or the records cannot be written.
    """
    images = np.empty((len(table), image_size, image_size, 3), np.uint8)
    for number, root in enumerate(table["root"].unique()):
        rows = (table["root"] == root).to_numpy()
        faces = open_source(
            "persian_emotion", None, "all", root, image_size,
            data_dir=Path(data_dir) / str(number), cache=True,
        )  # fmt: skip
        assert isinstance(faces, ArraySource)
        place = {photo: place for place, photo in enumerate(faces.ids)}
        images[rows] = faces.images[[place[photo] for photo in table["photo"][rows]]]
    return images


def read_images(
    paths: Iterable[str | os.PathLike[str]], image_size: int
) -> UInt8[np.ndarray, "n s s 3"]:
    """Reads image files, in order, as uint8 [N, S, S, 3] RGB, resized to S = `image_size`.

    Raises:
        ImageError: a file cannot be read as a picture.
    """
    files = list(paths)
    return _in_threads(lambda i: resize(read_image(files[i]), image_size), len(files), image_size)


def _in_threads(
    read: Callable[[int], UInt8[np.ndarray, "s s 3"]], count: int, image_size: int
) -> UInt8[np.ndarray, "n s s 3"]:
    """Reads images 0 to `count` - 1 in threads; OpenCV releases the interpreter's lock."""
    images = np.empty((count, image_size, image_size, 3), np.uint8)

    def fill(index: int) -> None:
        images[index] = read(index)

    with ThreadPoolExecutor(max_workers=min(16, os.cpu_count() or 1)) as pool:
        list(pool.map(fill, range(count)))
    return images
