"""Pictures of ImageNet (ILSVRC2012) in a folder, each with one of the 1,000 classes."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import tensorflow_datasets as tfds

from fer_jax.errors import UserError
from fer_jax.faces.images import SUFFIXES

_SYNSET = re.compile(r"n\d{8}(?!\d)")
_VALIDATION = re.compile(r"ILSVRC2012_val_(\d{8})(?!\d)")


@functools.cache
def synsets() -> tuple[str, ...]:
    """The WordNet ids of the 1,000 classes, such as "n01440764", in the order of class numbers."""
    return _lines("labels.txt")


def labelled_pictures(root: Path) -> tuple[list[tuple[Path, int]], int]:
    """The pictures below `root` with their classes, 0..999, and the number of other pictures.

    A picture's class is the synset at the start of its name or of its folder's name. The official
    validation pictures (ILSVRC2012_val_00000001.JPEG) are recognised by their names. Pictures
    without a known class are only counted.

    Raises:
        UserError: no picture has a known class.
    """
    numbers = {synset: number for number, synset in enumerate(synsets())}
    files = [file for file in sorted(root.rglob("*")) if file.suffix.lower() in SUFFIXES]
    classes = [numbers.get(_synset(file), -1) for file in files]
    found = [pair for pair in zip(files, classes, strict=True) if pair[1] >= 0]
    if not found:
        raise UserError(
            f"no picture below {root} has a known class; name folders or files after a synset "
            "(n01440764/x.JPEG), or keep the official names (ILSVRC2012_val_00000001.JPEG)"
        )
    return found, len(files) - len(found)


def _synset(file: Path) -> str:
    for name in (file.name, file.parent.name):
        if match := _SYNSET.match(name):
            return match[0]
    match = _VALIDATION.match(file.name)
    official = _lines("validation_labels.txt") if match else ()
    number = int(match[1]) if match else 0
    return official[number - 1] if 0 < number <= len(official) else ""


@functools.cache
def _lines(name: str) -> tuple[str, ...]:
    """The lines of a list that TensorFlow Datasets ships with its ImageNet builder."""
    file = Path(tfds.core.tfds_path("datasets/imagenet2012")) / name
    return tuple(file.read_text().split())
