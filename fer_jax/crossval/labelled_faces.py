"""The labelled photographs of a cross-validation: their table, faces and folds."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int, Int32, UInt8

from fer_jax import schemas
from fer_jax.crossval import protocols
from fer_jax.data import sources, stage_tables
from fer_jax.errors import UserError
from fer_jax.training import model_directory
from fer_jax.training.person_relative import NEUTRAL


@dataclass(frozen=True, eq=False)
class FaceSet:
    """Labelled faces, as arrays and lists in the same order.

    Attributes:
        images: uint8 [n, S, S, 3] RGB.
        labels: int32 [n], the position of each emotion in the class names.
        photos: ids of the photographs.
        people: the id of the person in each photograph.
        files: the paths of the aligned faces at full size.
        neutral: ids of the neutral photographs that a person-relative method uses as references,
            including those of held-out people; empty for other methods.
    """

    images: UInt8[np.ndarray, "n s s 3"]
    labels: Int32[np.ndarray, " n"]
    photos: list[str]
    people: list[str]
    files: list[str]
    neutral: frozenset[str] = frozenset()

    def __len__(self) -> int:
        return len(self.photos)

    @property
    def source(self) -> sources.ArraySource:
        """The faces as examples for `fer_jax.data.iterators`."""
        return sources.ArraySource(self.images, self.labels, self.photos)

    def take(self, rows: Sequence[int]) -> FaceSet:
        """The faces at the positions `rows`, in that order."""
        photos, people, files = (
            [column[row] for row in rows] for column in (self.photos, self.people, self.files)
        )
        return FaceSet(
            self.images[rows], self.labels[rows], photos, people, files, neutral=self.neutral
        )

    @property
    def known_neutral(self) -> Bool[np.ndarray, " n"]:
        """Whether each photograph is one of `neutral`."""
        return np.array([photo in self.neutral for photo in self.photos], bool)


@dataclass(frozen=True, eq=False)
class LabelledPhotographs:
    """The labelled photographs that are split into folds.

    Attributes:
        table: one row per photograph; see `stage_tables.read_photographs`.
        image_size: S, side of a face in pixels.
        records: folder for the records of the data set `persian_emotion`, which contain the faces.
            It is in the workdir of the run, so that removing a person there removes their faces.
        left_out: for cross_set, the number of photographs that were left out because only one of
            the two sets has their emotion; 0 for other protocols.
        neutral: ids of the neutral reference photographs (see `with_neutral`); empty for other
            references.
    """

    table: pd.DataFrame
    image_size: int
    records: Path
    left_out: int = 0
    neutral: frozenset[str] = frozenset()

    @functools.cached_property
    def labels(self) -> list[str]:
        """The class names (the emotions in the table), in alphabetical order."""
        return sorted(self.table["emotion"].unique())

    @functools.cached_property
    def images(self) -> UInt8[np.ndarray, "n s s 3"]:
        """The RGB faces of all photographs with a face, in the table's order; read on first use."""
        with_face = self.table[self.table["status"] == "ok"]
        return sources.read_faces(with_face, self.image_size, self.records)

    @property
    def subjects(self) -> list[str]:
        """The id of the person in each photograph."""
        return self.table["subject"].tolist()

    @property
    def emotions(self) -> list[str]:
        """The emotion label of each photograph."""
        return self.table["emotion"].tolist()

    def folds(self, protocol: str, folds: int, seed: int) -> list[protocols.Fold]:
        """Splits the photographs into folds; see `protocols.make_folds`."""
        return protocols.make_folds(
            self.subjects,
            self.emotions,
            protocol=protocol,
            folds=folds,
            seed=seed,
            splits=self.table["split"].tolist(),
        )

    def with_face(self, rows: Int[np.ndarray, " n"] | None = None) -> Int[np.ndarray, " m"]:
        """The rows in `rows` (by default, all rows) whose photograph has a detected face."""
        rows = np.arange(len(self.table)) if rows is None else rows
        return rows[(self.table["status"].to_numpy() == "ok")[rows]]

    def faces(self, rows: Int[np.ndarray, " n"]) -> FaceSet:
        """The faces of the photographs in `rows` of the table, each of which must have a face."""
        table, found = self.table.iloc[rows], (self.table["status"] == "ok").to_numpy()
        return FaceSet(
            self.images[np.cumsum(found)[rows] - 1],
            np.searchsorted(self.labels, table["emotion"].tolist()).astype(np.int32),
            photos=table["photo"].tolist(),
            people=table["subject"].tolist(),
            files=table["file"].tolist(),
            neutral=self.neutral,
        )

    def with_neutral(self) -> LabelledPhotographs:
        """The photographs of the people who have a neutral photograph with a face.

        Of each person's neutral photographs with a face, the first one by id becomes the reference.

        Raises:
            UserError: nobody has a neutral photograph with a face.
        """
        usable = (self.table["emotion"] == NEUTRAL) & (self.table["status"] == "ok")
        if not usable.any():
            raise UserError(
                f"crossval: --config.reference=neutral needs photographs with the emotion "
                f"'{NEUTRAL}', but there is none with a face; set --config.reference=balanced"
            )
        first = self.table[usable].sort_values("photo").drop_duplicates("subject")
        kept = self.table["subject"].isin(first["subject"])
        table = self.table[kept].reset_index(drop=True)
        return dataclasses.replace(self, table=table, neutral=frozenset(first["photo"]))


def read_photographs(config: schemas.LabelledFaces, records: Path) -> LabelledPhotographs:
    """The photographs of `config.photographs` and, for cross_set, of `config.test_photographs`.

    For cross_set, the second set is the test set. Photographs of the first set that have the split
    "test", and photographs whose emotion occurs in only one of the sets, are left out.

    Args:
        config: the fields `photographs`, `test_photographs`, `protocol` and `image_size` are read.
        records: see `LabelledPhotographs`.

    Raises:
        UserError: a set cannot be read (see `stage_tables.read_photographs`), the two sets have
            fewer than two emotions in common, or both contain a photograph with the same id.
    """
    table = stage_tables.read_photographs(config.photographs)
    left_out = 0
    if config.protocol == "cross_set":
        tested = stage_tables.read_photographs(config.test_photographs).assign(split=protocols.TEST)
        table = table[table["split"] != protocols.TEST] if (table["split"] != "").any() else table
        table = table.assign(split=table["split"].where(table["split"] != "", protocols.TRAIN))
        shared = set(table["emotion"]) & set(tested["emotion"])
        if len(shared) < 2:
            raise UserError(
                f"cross_set: --config.photographs and --config.test_photographs must have two or "
                f"more emotions in common, but have {len(shared)}; use other sets"
            )
        table = pd.concat([table, tested], ignore_index=True)
        left_out = int((~table["emotion"].isin(shared)).sum())
        table = table[table["emotion"].isin(shared)].reset_index(drop=True)
        if table["photo"].duplicated().any():
            twice = table["photo"][table["photo"].duplicated()].iloc[0]
            raise UserError(
                f"cross_set: both sets contain a photograph with the id {twice}; rename the person "
                f"in one of them, and run the stage photographs on it again"
            )
    return LabelledPhotographs(table, config.image_size, records, left_out)


def crop_margins(inits: Iterable[str], roots: Iterable[str]) -> dict[str, float]:
    """The crop margins of the models at `inits` and of the photographs in the workdirs `roots`.

    The result maps each path to its margin, a fraction of the side of the alignment template (see
    `fer_jax.faces.alignment.align`). Empty paths are left out, and so are paths whose margin is
    unknown, such as those of weight files, or of models and photographs whose faces were cropped
    elsewhere (`aligned`).
    """
    known = {
        init: model_directory.read_record(init).faces
        for init in inits
        if init and model_directory.is_model(init)
    }
    known |= {root: model_directory.read_faces(root) for root in roots if root}
    return {path: faces.crop.margin for path, faces in known.items() if faces and not faces.aligned}
