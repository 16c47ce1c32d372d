"""Photographs of people, labelled with an emotion."""

from __future__ import annotations

import dataclasses
import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import cv2
import pandas as pd
import tensorflow_datasets as tfds

from fer_jax.data.labels import read_labels
from fer_jax.faces.images import read_image

_LOSSLESS = frozenset((".png", ".bmp", ".tif", ".tiff", ".ppm", ".pgm"))


@dataclasses.dataclass(eq=False)
class PersianEmotionConfig(tfds.core.BuilderConfig):
    """A closed set of emotions, in the order of their labels; and those to leave out."""

    emotions: tuple[str, ...] = ("angry", "happy", "neutral", "sad")
    ignore: tuple[str, ...] = ()


class Builder(tfds.core.GeneratorBasedBuilder):
    """Builder of `persian_emotion`, over `<subject>/<emotion>/*` or `labels.csv`."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First version."}
    BUILDER_CONFIGS: ClassVar[list[PersianEmotionConfig]] = [
        PersianEmotionConfig(name="four", description="The four emotions.")
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "A folder <subject>/<emotion>/<photograph>, or one with labels.csv, whose columns are "
        "path, subject, emotion and, if wanted, split. A consent.csv beside it is honoured."
    )

    def input_digest(self, root: Path) -> str:
        """Changes when the records would."""
        digest = hashlib.sha256(repr(dataclasses.astuple(self.builder_config)).encode())
        for row in self._labels(root).itertuples():
            status = Path(row.path).stat()
            facts = (row.photo, row.subject, row.emotion, row.split)
            digest.update(repr((*facts, status.st_size, status.st_mtime_ns)).encode())
        return digest.hexdigest()

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3)),
                    "label": tfds.features.ClassLabel(names=self.builder_config.emotions),
                    "subject": tfds.features.Text(doc="a pseudonym"),
                    "id": tfds.features.Text(doc="path relative to the folder or table"),
                }
            ),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        labels = self._labels(Path(dl_manager.manual_dir))
        return {
            split or "train": self._generate_examples(rows)
            for split, rows in labels.groupby("split")
        }

    def _generate_examples(self, labels: pd.DataFrame) -> Iterator[tuple[str, dict[str, Any]]]:
        for row in labels.itertuples():
            yield (
                row.photo,
                {
                    "image": _without_metadata(Path(row.path)),
                    "label": row.emotion,
                    "subject": row.subject,
                    "id": row.photo,
                },
            )

    def _labels(self, root: Path) -> pd.DataFrame:
        config = self.builder_config
        return read_labels(root, config.emotions, ignore=config.ignore)


def _without_metadata(file: Path) -> io.BytesIO:
    """Pixels only: turned upright, and encoded anew without EXIF."""
    lossless = file.suffix.lower() in _LOSSLESS
    options = () if lossless else (cv2.IMWRITE_JPEG_QUALITY, 97)
    suffix = ".png" if lossless else ".jpg"
    _, data = cv2.imencode(suffix, read_image(file)[..., ::-1], options)
    return io.BytesIO(data.tobytes())
