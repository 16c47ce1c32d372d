"""Face and non-face crops, for the verifier."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import pandas as pd
import tensorflow_datasets as tfds

from fer_jax.data.builders import held_out
from fer_jax.data.manifest import read_manifest, read_negatives
from fer_jax.errors import UserError
from fer_jax.people import texture

_VALIDATION_SHARE = 0.2
_SURE = 0.97  # the least detector score of a crop that is taught as a face
_FACES_A_TEXTURE = 4
_FEWEST_TEXTURES = 32


class Builder(tfds.core.GeneratorBasedBuilder):
    """Builder of `face_verification`, over the workdir of the stage `extract`."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First version."}
    LABELS = ("nonface", "face")
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "The workdir of the stage `extract`: manifest.parquet, negatives.parquet, and the crops "
        "that they name."
    )

    def input_digest(self, root: Path) -> str:
        """Changes when the records would."""
        digest = hashlib.sha256()
        for file in _tables(root):
            digest.update(file.read_bytes())
        return digest.hexdigest()

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3)),
                    "label": tfds.features.ClassLabel(names=self.LABELS),
                    "id": tfds.features.Text(),
                    "kind": tfds.features.Text(doc="face, background, hard or texture"),
                }
            ),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        root = Path(dl_manager.manual_dir)
        manifest, negatives = _tables(root)
        faces = read_manifest(manifest)
        # A mug that the detector half believed in must not be taught as a face.
        sure = (faces["status"] == "kept") & (faces["detector_score"] >= _SURE)
        faces = faces[sure].assign(kind="face")
        if faces.empty:
            raise UserError(
                f"{manifest} holds no face of score {_SURE} or more; look at what extract counted"
            )
        columns = ["crop", "video", "frame", "kind"]
        crops = pd.concat([faces[columns], read_negatives(negatives)[columns]], ignore_index=True)
        # Videos with faces and those without are held out apart, so that both kinds validate.
        with_faces = crops["video"].isin(faces["video"]).to_numpy()
        validates = np.zeros(len(crops), bool)
        for group in (np.flatnonzero(with_faces), np.flatnonzero(~with_faces)):
            videos, frames = (crops[name].iloc[group].tolist() for name in ("video", "frame"))
            validates[group] = list(
                map(held_out(videos, frames, _VALIDATION_SHARE), videos, frames)
            )
        size = cv2.imread(str(root / faces["crop"].iloc[0])).shape[0]
        textures = pd.Series(range(max(_FEWEST_TEXTURES, len(faces) // _FACES_A_TEXTURE)))
        texture_validates = textures % round(1 / _VALIDATION_SHARE) == 0
        return {
            "train": self._generate_examples(
                root, crops[~validates], textures[~texture_validates], size
            ),
            "validation": self._generate_examples(
                root, crops[validates], textures[texture_validates], size
            ),
        }

    def _generate_examples(
        self, root: Path, crops: pd.DataFrame, textures: pd.Series, size: int
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        for crop in crops.itertuples():
            yield (
                crop.crop,
                {
                    "image": str(root / crop.crop),
                    "label": "face" if crop.kind == "face" else "nonface",
                    "id": crop.crop,
                    "kind": crop.kind,
                },
            )
        for seed in textures:
            name = f"texture/{seed}"
            yield (
                name,
                {
                    "image": _jpeg(texture(int(seed), (size, size))),
                    "label": "nonface",
                    "id": name,
                    "kind": "texture",
                },
            )


def _jpeg(image: Any) -> io.BytesIO:
    """Encoded as the other crops are, so that the coding gives nothing away."""
    _, data = cv2.imencode(".jpg", image[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, 95))
    return io.BytesIO(data.tobytes())


def _tables(root: Path) -> tuple[Path, Path]:
    files = (root / "manifest.parquet", root / "negatives.parquet")
    for file in files:
        if not file.is_file():
            raise UserError(f"{root} holds no {file.name}; give the workdir of extract")
    return files
