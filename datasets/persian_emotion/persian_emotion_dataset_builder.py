"""Aligned faces, each labelled with an emotion."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import tensorflow_datasets as tfds

from fer_jax.data.builders import held_out
from fer_jax.data.stage_tables import read_photographs
from fer_jax.faces.images import read_encoded

_VALIDATION_SHARE = 0.1


class Builder(tfds.core.GeneratorBasedBuilder):
    """Builds `persian_emotion` from the workdir of the stage `photographs`."""

    VERSION = tfds.core.Version("2.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {
        "2.0.0": "Reads the aligned faces of the stage `photographs`.",
        "1.0.0": "First version.",
    }
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "The workdir of the stage `photographs`: photographs.parquet, and the crops that it lists."
    )

    def input_digest(self, root: Path) -> str:
        """The digest of the table of photographs.

        Raises:
            UserError: `root` is not a finished workdir of the stage `photographs`.
        """
        read_photographs(root)  # raises if something is missing
        return hashlib.sha256((root / "photographs.parquet").read_bytes()).hexdigest()

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3)),
                    "label": tfds.features.ClassLabel(),  # names are set when the table is read
                    "subject": tfds.features.Text(doc="as in the labels, or a pseudonym"),
                    "id": tfds.features.Text(doc="photo in photographs.parquet"),
                }
            ),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        table = read_photographs(str(dl_manager.manual_dir))
        self.info.features["label"].names = sorted(table["emotion"].unique())
        faces = table[table["status"] == "ok"].copy()
        faces["split"] = faces["split"].replace("", "train")
        if "validation" not in set(faces["split"]):
            train = faces[faces["split"] == "train"]
            held = held_out(train["subject"].tolist(), train.index.tolist(), _VALIDATION_SHARE)
            faces.loc[train.index[held], "split"] = "validation"
        return {split: self._generate_examples(rows) for split, rows in faces.groupby("split")}

    def _generate_examples(self, faces: pd.DataFrame) -> Iterator[tuple[str, dict[str, Any]]]:
        for face in faces.itertuples():
            yield (
                face.photo,
                {
                    "image": io.BytesIO(read_encoded(face.file)),
                    "label": face.emotion,
                    "subject": face.subject,
                    "id": face.photo,
                },
            )
