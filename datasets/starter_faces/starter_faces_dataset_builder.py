"""Faces with and without emotion labels, and pictures without a face, to train the starter on."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import tensorflow_datasets as tfds

from fer_jax import console
from fer_jax.data.stage_tables import read_photographs
from fer_jax.errors import UserError
from fer_jax.faces.images import SUFFIXES, read_image

EMOTIONS = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")
SPLITS = ("train", "validation", "test")
UNLABELLED = -1
_NONFACE, _FACE = 0, 1
_MIN_SCORE = 0.9  # detector score of an aligned crop; many below it are not centred on the face
# Some versions of FER2013 contain altered copies of rare classes: `name.jpg3.jpg` of `name.jpg`.
_ALTERED_COPY = re.compile(r"\.jpe?g\d+\.jpe?g$|\.png\d+\.png$")
_COLUMNS = ["id", "file", "split", "kind", "emotion", "is_face"]


@dataclasses.dataclass
class StarterFacesConfig(tfds.core.BuilderConfig):
    """Folders of pictures in addition to those of FER2013; "" for none.

    Attributes:
        aligned: a workdir of the stage `photographs` on the pictures of FER2013.
        faces: a folder `<split>/<source>/*` of pictures that show one face each, without emotion
            labels.
        nonfaces: a folder `<split>/<source>/*` of pictures without a face.
    """

    aligned: str = ""
    faces: str = ""
    nonfaces: str = ""


class Builder(tfds.core.GeneratorBasedBuilder):
    """Builds `starter_faces` from a folder of FER2013 and the folders of the config."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First version."}
    BUILDER_CONFIGS: ClassVar[list[StarterFacesConfig]] = [
        StarterFacesConfig(name="fer2013", description="Only the pictures of FER2013.")
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "A folder of FER2013 with labels.csv, whose columns are path, emotion and split "
        "(train, validation or test)."
    )

    def input_digest(self, root: Path) -> str:
        """A digest of the config, the labels, and paths, sizes and modification times of pictures.

        Raises:
            UserError: labels.csv is missing or invalid, or a picture is missing.
        """
        config = self.builder_config
        digest = hashlib.sha256(repr(dataclasses.astuple(config)).encode())
        faces = _read_labels(root)
        original = faces.assign(file=[str(root / path) for path in faces["path"]])
        for part in (original, *_further(faces, config)):
            for row in part.itertuples(index=False):
                status = _status(row.file)
                digest.update(repr((*row, status.st_size, status.st_mtime_ns)).encode())
        return digest.hexdigest()

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3)),
                    "label_emotion": tfds.features.Scalar(np.int64, doc="-1: unlabelled"),
                    "label_verification": tfds.features.Scalar(np.int64, doc="0 nonface, 1 face"),
                    "id": tfds.features.Text(),
                    "kind": tfds.features.Text(doc="original, aligned, face or nonface"),
                }
            ),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        rows = _all_rows(Path(dl_manager.manual_dir), self.builder_config)
        return {split: self._generate_examples(part) for split, part in rows.groupby("split")}

    def _generate_examples(self, rows: pd.DataFrame) -> Iterator[tuple[str, dict[str, Any]]]:
        for row in rows.itertuples():
            emotion = EMOTIONS.index(row.emotion) if row.emotion else UNLABELLED
            yield (
                row.id,
                {
                    "image": row.file,
                    "label_emotion": emotion,
                    "label_verification": row.is_face,
                    "id": row.id,
                    "kind": row.kind,
                },
            )


def clean(folder: Path, emotions: Sequence[str] = EMOTIONS) -> tuple[pd.DataFrame, dict[str, int]]:
    """FER2013 without altered copies, duplicates and pictures with contradictory labels.

    Pictures with emotions other than `emotions` are left out first, so they contradict nothing.

    Of pictures with the same pixels, only one is kept, so that the splits have none in common: one
    in test if possible, otherwise in validation. If their labels differ, none is kept.

    Returns:
        The table (path, emotion, split), and the number of dropped pictures by reason.

    Raises:
        UserError: labels.csv is missing or invalid, or a picture is missing.
    """
    table = _read_labels(folder)
    table = table[table["emotion"].isin(emotions)]
    altered = table["path"].map(lambda path: bool(_ALTERED_COPY.search(path)))
    rest = table[~altered].copy()
    rest["digest"] = [_pixels_digest(folder / path) for path in rest["path"]]
    contradictory = rest.groupby("digest")["emotion"].transform("nunique") > 1
    kept = rest[~contradictory].copy()
    kept["rank"] = kept["split"].map(SPLITS[::-1].index)
    kept = kept.sort_values(["rank", "path"]).drop_duplicates("digest").sort_values("path")
    dropped = {
        "altered copies": int(altered.sum()),
        "contradictory labels": int(contradictory.sum()),
        "duplicates": int(len(rest) - contradictory.sum() - len(kept)),
    }
    return kept[["path", "emotion", "split"]].reset_index(drop=True), dropped


def _read_labels(folder: Path) -> pd.DataFrame:
    file = folder / "labels.csv"
    if not file.is_file():
        raise UserError(f"{folder} contains no labels.csv; pass the folder of FER2013")
    table = pd.read_csv(file, dtype=str, keep_default_na=False)
    missing = {"path", "emotion", "split"} - set(table.columns)
    if missing:
        raise UserError(
            f"{file} has no column {' and no column '.join(sorted(missing))}; expected path, "
            f"emotion and split"
        )
    for column, known in (("emotion", EMOTIONS), ("split", SPLITS)):
        unknown = sorted(set(table[column]) - set(known))
        if unknown:
            raise UserError(f"{file}: unknown {column} {unknown[0]!r}; use {', '.join(known)}")
    return table


def _status(file: str) -> os.stat_result:
    try:
        return Path(file).stat()
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror}); copy it again") from error


def _pixels_digest(file: Path) -> str:
    return hashlib.sha256(read_image(file).tobytes()).hexdigest()


def _all_rows(root: Path, config: StarterFacesConfig) -> pd.DataFrame:
    """One row per record: id, file, split, kind, emotion ("": unlabelled), is_face."""
    faces, dropped = clean(root)
    counts = ", ".join(f"{count} {reason}" for reason, count in dropped.items())
    console.say(f"[starter_faces] {len(faces)} pictures of FER2013; dropped {counts}")
    original = faces.assign(
        id="original/" + faces["path"],
        file=[str(root / path) for path in faces["path"]],
        kind="original",
        is_face=_FACE,
    )
    parts = (original, *_further(faces, config))
    return pd.concat([part[_COLUMNS] for part in parts], ignore_index=True)


def _further(faces: pd.DataFrame, config: StarterFacesConfig) -> list[pd.DataFrame]:
    """The records that the config adds to the pictures of FER2013 in `faces`."""
    aligned = [_aligned(faces, Path(config.aligned))] if config.aligned else []
    return [
        *aligned, _unlabelled(config.faces, "face"), _unlabelled(config.nonfaces, "nonface"),
    ]  # fmt: skip


def _aligned(faces: pd.DataFrame, workdir: Path) -> pd.DataFrame:
    """The records of aligned crops of pictures in `faces` whose face has a high detector score."""
    crops = read_photographs(workdir)
    confident = (crops["crop"] != "") & (crops["detector_score"] >= _MIN_SCORE)
    files = crops[confident].set_index("photo")["file"]
    found = faces[faces["path"].isin(files.index)]
    return found.assign(
        id="aligned/" + found["path"],
        file=[files[path] for path in found["path"]],
        kind="aligned",
        is_face=_FACE,
    )


def _unlabelled(folder: str, kind: str) -> pd.DataFrame:
    """The rows of the pictures in `<folder>/<split>/<source>/*`; none if `folder` is "".

    Raises:
        UserError: there are no such pictures.
    """
    files = [
        file
        for split in (SPLITS if folder else ())
        for file in sorted((Path(folder) / split).rglob("*"))
        if file.suffix.lower() in SUFFIXES
    ]
    if folder and not files:
        raise UserError(
            f"{folder} contains no pictures in {', '.join(s + '/' for s in SPLITS)}; expected "
            f"<split>/<source>/*"
        )
    inner = [file.relative_to(folder) for file in files]
    return pd.DataFrame(
        {
            "id": [f"{kind}/{path}" for path in inner],
            "file": [str(file) for file in files],
            "split": [path.parts[0] for path in inner],
            "kind": kind,
            "emotion": "",
            "is_face": _FACE if kind == "face" else _NONFACE,
        },
        columns=_COLUMNS,
    )
