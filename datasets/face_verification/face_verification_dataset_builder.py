"""Face and non-face crops, for the verifier."""

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

_SHARE = 0.2  # of the sources, each for validation and for the test
_FEWEST_FOR_A_TEST = 3  # sources that are left when validation has been taken
_SURE = 0.97  # the least detector score of a crop that is taught as a face
_FACES_A_TEXTURE = 4
_FEWEST_TEXTURES = 32
_TEXTURE_SIZE = 96  # pixels, where there is no crop to take the size from


@dataclasses.dataclass
class FaceVerificationConfig(tfds.core.BuilderConfig):
    """Folders of crops besides those of the pipeline.

    Attributes:
        faces, nonfaces: folders of pictures that show one face each, or none; "" for none. The
            pictures of a subfolder are one source; one that lies in none is its own.
    """

    faces: str = ""
    nonfaces: str = ""


class Builder(tfds.core.GeneratorBasedBuilder):
    """Builder of `face_verification`, over the workdir of the stage `extract`."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First version."}
    BUILDER_CONFIGS: ClassVar[list[FaceVerificationConfig]] = [
        FaceVerificationConfig(name="crops", description="The crops of `extract`.")
    ]
    LABELS = ("nonface", "face")
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "The workdir of the stage `extract`: manifest.parquet, negatives.parquet, and the crops "
        "that they name."
    )

    def input_digest(self, root: Path) -> str:
        """Changes when the records would. Raises UserError if there is nothing to make them of."""
        config = self.builder_config
        if not _is_extracted(root) and not (config.faces and config.nonfaces):
            _tables(root)  # says what is missing
        digest = hashlib.sha256(f"{config.faces}\n{config.nonfaces}".encode())
        for file in _tables(root) if _is_extracted(root) else ():
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
        if _is_extracted(root):
            parts.append(_of_extraction(root, needs_faces=not config.faces))
        elif not (config.faces and config.nonfaces):
            _tables(root)  # says what is missing
        crops = pd.concat([part for part in parts if len(part)], ignore_index=True)
        split = _split(crops)
        faces = crops["label"] == "face"
        for name in ("train", "validation"):
            if not (faces & (split == name)).any():
                raise UserError(
                    f"the faces in {config.faces or root} come from too few sources: none is left "
                    f"for {name}; extract from more videos, or give more --config.faces"
                )
        wanted = max(_FEWEST_TEXTURES, int(faces.sum()) // _FACES_A_TEXTURE)
        textures = pd.Series(range(wanted))
        place = textures % round(1 / _SHARE)
        texture_split = np.select([place == 0, place == 1], ["validation", "test"], "train")
        first = crops.loc[faces, "crop"].iloc[0]
        size = min(read_image(root / first).shape[:2]) if len(crops) else _TEXTURE_SIZE
        return {
            name: self._generate_examples(
                root, crops[split == name], textures[texture_split == name], size
            )
            for name in ("train", "validation", "test")
            if (split == name).any()
        }

    def _generate_examples(
        self, root: Path, crops: pd.DataFrame, textures: pd.Series, size: int
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        for crop in crops.itertuples():
            own = crop.kind == "folder"
            yield (
                crop.id,
                {
                    "image": _square(Path(crop.crop)) if own else _encoded(root / crop.crop),
                    "label": crop.label,
                    "id": crop.id,
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


def _of_extraction(root: Path, needs_faces: bool) -> pd.DataFrame:
    """The crops of `extract`: id, crop, source, frame, kind, label."""
    manifest, negatives = _tables(root)
    faces = read_manifest(manifest)
    # A mug that the detector half believed in must not be taught as a face.
    sure = (faces["status"] == "kept") & (faces["detector_score"] >= _SURE)
    faces = faces[sure].assign(kind="face", label="face")
    if faces.empty and needs_faces:
        raise UserError(
            f"{manifest} holds no face of score {_SURE} or more; look at what extract counted"
        )
    others = read_negatives(negatives).assign(label="nonface")
    crops = pd.concat([faces[[*others.columns]], others], ignore_index=True)
    return crops.rename(columns={"video": "source"}).assign(id=crops["crop"])


def _of_folder(folder: str, is_face: bool) -> pd.DataFrame:
    """The pictures of a folder, in the columns of `_of_extraction`."""
    name, rows = ("faces" if is_face else "nonfaces"), []
    for number, file in enumerate(_pictures(folder)):
        inner = file.relative_to(folder)
        source = f"{name}/{inner.parts[0]}"
        identity = f"{source}/{number:07d}"
        rows.append((identity, str(file.absolute()), source, number, "folder"))
    table = pd.DataFrame(rows, columns=["id", "crop", "source", "frame", "kind"])
    return table.assign(label="face" if is_face else "nonface")


def _split(crops: pd.DataFrame) -> np.ndarray:
    """Where each crop goes, by its source: train, validation or, where there are enough, test."""
    split = np.full(len(crops), "train", dtype="U10")
    with_faces = crops["source"].isin(crops.loc[crops["label"] == "face", "source"]).to_numpy()
    # Sources with faces and those without are held out apart, so that both kinds validate.
    for group in (np.flatnonzero(with_faces), np.flatnonzero(~with_faces)):
        _hold_out(crops, group, split, "validation", _SHARE)
        rest = group[split[group] == "train"]
        if crops["source"].iloc[rest].nunique() >= _FEWEST_FOR_A_TEST:
            _hold_out(crops, rest, split, "test", _SHARE / (1 - _SHARE))
    return split


def _hold_out(
    crops: pd.DataFrame, rows: np.ndarray, split: np.ndarray, name: str, share: float
) -> None:
    sources, frames = (crops[column].iloc[rows].tolist() for column in ("source", "frame"))
    rule = held_out(sources, frames, share)
    held = [rule(source, frame) for source, frame in zip(sources, frames, strict=True)]
    split[rows[np.array(held, bool)]] = name


def _pictures(folder: str) -> list[Path]:
    """The pictures below a folder, sorted; none for ""."""
    if not folder:
        return []
    if not Path(folder).is_dir():
        raise UserError(f"there is no folder {folder}; correct --config.faces or --config.nonfaces")
    found = [file for file in sorted(Path(folder).rglob("*")) if file.suffix.lower() in SUFFIXES]
    if not found:
        raise UserError(f"no picture lies below {folder}")
    return found


def _encoded(file: Path) -> io.BytesIO:
    return io.BytesIO(read_encoded(file))


def _square(file: Path) -> io.BytesIO:
    """The middle of a picture, encoded as the other crops are."""
    image = read_image(file)
    side = min(image.shape[:2])
    top, left = ((length - side) // 2 for length in image.shape[:2])
    return _jpeg(image[top : top + side, left : left + side])


def _jpeg(image: Any) -> io.BytesIO:
    """Encoded as the other crops are, so that the coding gives nothing away."""
    _, data = cv2.imencode(".jpg", image[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, 95))
    return io.BytesIO(data.tobytes())


def _is_extracted(root: Path) -> bool:
    return (root / "manifest.parquet").is_file() and (root / "negatives.parquet").is_file()


def _tables(root: Path) -> tuple[Path, Path]:
    files = (root / "manifest.parquet", root / "negatives.parquet")
    for file in files:
        if not file.is_file():
            raise UserError(f"{root} holds no {file.name}; give the workdir of extract")
    return files
