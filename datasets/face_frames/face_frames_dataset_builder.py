"""Unlabelled crops of faces from videos, for pretraining."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import tensorflow_datasets as tfds

from fer_jax.data.builders import held_out
from fer_jax.data.manifest import read_manifest
from fer_jax.errors import UserError
from fer_jax.faces.images import read_encoded

_VALIDATION_SHARE = 0.1


class Builder(tfds.core.GeneratorBasedBuilder):
    """Builds `face_frames` from a folder with `manifest.parquet` and the crops that it lists."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First version."}
    BUILDER_CONFIGS: ClassVar[list[tfds.core.BuilderConfig]] = [
        tfds.core.BuilderConfig(
            name="refined", description="Faces with the status `kept` in the manifest."
        ),
        tfds.core.BuilderConfig(name="all", description="Every detected face."),
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "The workdir of the stage `extract` or `refine`: manifest.parquet, and the crops that it "
        "lists."
    )

    def input_digest(self, root: Path) -> str:
        """The digest of the manifest.

        Raises:
            UserError: `root` contains no manifest.parquet.
        """
        return hashlib.sha256(_manifest_file(root).read_bytes()).hexdigest()

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3)),
                    "id": tfds.features.Text(doc="face_id in the manifest"),
                    "video": tfds.features.Text(),
                }
            )
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        root = Path(dl_manager.manual_dir)
        faces = read_manifest(_manifest_file(root))
        if self.builder_config.name == "refined":
            faces = faces[faces["status"] == "kept"]
        if faces.empty:
            raise UserError(
                f"{root}/manifest.parquet contains no faces for the config "
                f"{self.builder_config.name!r}; see the counts in the summary of the stage that "
                f"wrote it"
            )
        held = held_out(faces["video"].tolist(), faces["frame"].tolist(), _VALIDATION_SHARE)
        splits = {"train": faces[~held], "validation": faces[held]}
        return {
            name: self._generate_examples(root, rows)
            for name, rows in splits.items()
            if not rows.empty
        }

    def _generate_examples(
        self, root: Path, faces: pd.DataFrame
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        for face in faces.itertuples():
            yield (
                face.face_id,
                {
                    "image": io.BytesIO(read_encoded(root / face.crop)),
                    "id": face.face_id,
                    "video": face.video,
                },
            )


def _manifest_file(root: Path) -> Path:
    file = root / "manifest.parquet"
    if not file.is_file():
        raise UserError(
            f"{root} contains no manifest.parquet; set --config.data.root to a workdir of the "
            "stage extract or refine"
        )
    return file
