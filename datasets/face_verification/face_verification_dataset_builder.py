"""Face and non-face crops for training the verifier."""

from __future__ import annotations

import dataclasses
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
from fer_jax.faces.images import SUFFIXES, read_encoded, read_image
from fer_jax.people import texture

_SHARE = 0.2  # fraction of the sources in validation, and in test
_MIN_SOURCES_FOR_TEST = 3  # sources that must remain after the validation split
_MIN_SCORE = 0.97  # detector score of a crop that is used as an example of a face
_FACES_PER_TEXTURE = 4
_MIN_TEXTURES = 32


@dataclasses.dataclass
class FaceVerificationConfig(tfds.core.BuilderConfig):
    """Folders of pictures that are added to the crops of the stage `extract`, or replace them.

    Attributes:
        faces: a folder of pictures that show one face each; "" for none.
        nonfaces: a folder of pictures without a face; "" for none.

    The pictures in a subfolder are one source. A picture in no subfolder is a source by itself.
    """

    faces: str = ""
    nonfaces: str = ""


class Builder(tfds.core.GeneratorBasedBuilder):
    """Builds `face_verification` from a workdir of `extract`, folders of pictures, or both."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First version."}
    BUILDER_CONFIGS: ClassVar[list[FaceVerificationConfig]] = [
        FaceVerificationConfig(name="crops", description="The crops of `extract`.")
    ]
    LABELS = ("nonface", "face")
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "The workdir of the stage `extract`: manifest.parquet, negatives.parquet, and the crops "
        "that they list."
    )

    def input_digest(self, root: Path) -> str:
        """A digest of the tables, and of the pictures' paths, sizes and modification times.

        Raises:
            UserError: the tables of `extract` or the pictures are missing.
        """
        config = self.builder_config
        digest = hashlib.sha256(f"{config.faces}\n{config.nonfaces}".encode())
        for file in _tables(root, config):
            digest.update(file.read_bytes())
        for folder in (config.faces, config.nonfaces):
            for file in _pictures(folder):
                status = file.stat()
                digest.update(f"{file}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
        return digest.hexdigest()

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3)),
                    "label": tfds.features.ClassLabel(names=self.LABELS),
                    "id": tfds.features.Text(),
                    "kind": tfds.features.Text(doc="face, background, hard, folder or texture"),
                }
            ),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        root, config = Path(dl_manager.manual_dir), self.builder_config
        parts = [_of_folder(config.faces, True), _of_folder(config.nonfaces, False)]
        if tables := _tables(root, config):
            parts.append(_of_extraction(*tables, needs_faces=not config.faces))
        crops = pd.concat([part for part in parts if len(part)], ignore_index=True)
        crops["split"] = _split(crops)
        faces = crops[crops["label"] == "face"]
        for name in ("train", "validation"):
            if name not in set(faces["split"]):
                raise UserError(
                    f"the faces in {config.faces or root} come from too few sources, so {name} is "
                    f"empty; extract faces from more videos, or add pictures to --config.faces"
                )
        side = min(read_image(root / faces["crop"].iloc[0]).shape[:2])
        textures = _textures(max(_MIN_TEXTURES, len(faces) // _FACES_PER_TEXTURE))
        textures = textures[textures["split"].isin(crops["split"])]
        examples = pd.concat([crops, textures], ignore_index=True)
        return {
            split: self._generate_examples(root, rows, side)
            for split, rows in examples.groupby("split")
        }

    def _generate_examples(
        self, root: Path, examples: pd.DataFrame, side: int
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        for row in examples.itertuples():
            if row.kind == "texture":
                image = _jpeg(texture(int(row.crop), (side, side)))
            elif row.kind == "folder":
                image = _square(Path(row.crop))
            else:
                image = io.BytesIO(read_encoded(root / row.crop))
            yield row.id, {"image": image, "label": row.label, "id": row.id, "kind": row.kind}


def _of_extraction(manifest: Path, negatives: Path, needs_faces: bool) -> pd.DataFrame:
    """The rows of crops of `extract`: id, crop, source, frame, kind, label.

    Faces that were removed or have a score below `_MIN_SCORE` are left out.

    Raises:
        UserError: no faces are left, and `needs_faces` is true.
    """
    faces = read_manifest(manifest)
    # An object with a middling detector score must not become a training example of a face.
    confident = (faces["status"] == "kept") & (faces["detector_score"] >= _MIN_SCORE)
    faces = faces[confident].assign(kind="face", label="face")
    if faces.empty and needs_faces:
        raise UserError(
            f"{manifest} contains no kept face with a detector score of {_MIN_SCORE} or more; see "
            f"the counts in the summary of extract"
        )
    others = read_negatives(negatives).assign(label="nonface")
    crops = pd.concat([faces[[*others.columns]], others], ignore_index=True)
    return crops.rename(columns={"video": "source"}).assign(id=crops["crop"])


def _of_folder(folder: str, is_face: bool) -> pd.DataFrame:
    """The rows of the pictures below a folder, in the columns of `_of_extraction`."""
    name, rows = ("faces" if is_face else "nonfaces"), []
    for number, file in enumerate(_pictures(folder)):
        inner = file.relative_to(folder)
        source = f"{name}/{inner.parts[0]}"
        identity = f"{source}/{number:07d}"
        rows.append((identity, str(file.absolute()), source, number, "folder"))
    table = pd.DataFrame(rows, columns=["id", "crop", "source", "frame", "kind"])
    return table.assign(label="face" if is_face else "nonface")


def _split(crops: pd.DataFrame) -> np.ndarray:
    """The split of each crop: train, validation or, if there are enough sources, test."""
    split = np.full(len(crops), "train", dtype="U10")
    with_faces = crops["source"].isin(crops.loc[crops["label"] == "face", "source"]).to_numpy()
    # Sources with and without faces are split separately, so that each split has both.
    for group in (np.flatnonzero(with_faces), np.flatnonzero(~with_faces)):
        _hold_out(crops, group, split, "validation", _SHARE)
        rest = group[split[group] == "train"]
        if crops["source"].iloc[rest].nunique() >= _MIN_SOURCES_FOR_TEST:
            _hold_out(crops, rest, split, "test", _SHARE / (1 - _SHARE))
    return split


def _hold_out(
    crops: pd.DataFrame, rows: np.ndarray, split: np.ndarray, name: str, share: float
) -> None:
    sources, frames = (crops[column].iloc[rows].tolist() for column in ("source", "frame"))
    split[rows[held_out(sources, frames, share)]] = name


def _pictures(folder: str) -> list[Path]:
    """The pictures below a folder, sorted; an empty list for "".

    Raises:
        UserError: there is no such folder, or there are no pictures below it.
    """
    if not folder:
        return []
    if not Path(folder).is_dir():
        raise UserError(f"there is no folder {folder}; correct --config.faces or --config.nonfaces")
    found = [file for file in sorted(Path(folder).rglob("*")) if file.suffix.lower() in SUFFIXES]
    if not found:
        raise UserError(
            f"there are no pictures below {folder}; correct --config.faces or --config.nonfaces"
        )
    return found


def _square(file: Path) -> io.BytesIO:
    """The central square of a picture, encoded like the other crops."""
    image = read_image(file)
    side = min(image.shape[:2])
    top, left = ((length - side) // 2 for length in image.shape[:2])
    return _jpeg(image[top : top + side, left : left + side])


def _jpeg(image: Any) -> io.BytesIO:
    """A picture encoded like the other crops, so that the encoding does not reveal the label."""
    _, data = cv2.imencode(".jpg", image[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, 95))
    return io.BytesIO(data.tobytes())


def _textures(count: int) -> pd.DataFrame:
    """Rows for `count` generated pictures: id, crop (the seed as text), kind, label and split."""
    seeds = np.arange(count)
    place = seeds % round(1 / _SHARE)
    table = pd.DataFrame({"crop": seeds.astype(str), "kind": "texture", "label": "nonface"})
    split = np.select([place == 0, place == 1], ["validation", "test"], "train")
    return table.assign(id="texture/" + table["crop"], split=split)


def _tables(root: Path, config: FaceVerificationConfig) -> tuple[Path, ...]:
    """The tables of `extract`; () if one is missing and the config sets both folders.

    Raises:
        UserError: a table is missing, and the config does not set both folders.
    """
    files = (root / "manifest.parquet", root / "negatives.parquet")
    missing = [file.name for file in files if not file.is_file()]
    if missing and not (config.faces and config.nonfaces):
        raise UserError(
            f"{root} contains no {' and no '.join(missing)}; set --config.data.root to a workdir "
            "of the stage extract, or set both --config.faces and --config.nonfaces"
        )
    return () if missing else files
