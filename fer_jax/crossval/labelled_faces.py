"""The photographs that a study is about: their table, their faces, their folds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from fer_jax import schemas
from fer_jax.crossval import protocols
from fer_jax.crossval.fold import Faces, inits
from fer_jax.data import sources, stage_tables
from fer_jax.errors import UserError
from fer_jax.training import model_directory


@dataclass(frozen=True, eq=False)
class Study:
    """The photographs; `images` uint8 [N, S, S, 3] are the faces, at the positions `place`."""

    photographs: pd.DataFrame
    images: np.ndarray
    labels: list[str]
    left_out: int

    @property
    def subjects(self) -> list[str]:
        """Of each photograph, its person's pseudonym."""
        return self.photographs["subject"].tolist()

    @property
    def emotions(self) -> list[str]:
        """Of each photograph."""
        return self.photographs["emotion"].tolist()

    def folds(self, config: schemas.LabelledFaces) -> list[protocols.Fold]:
        """By `protocol`, `folds` and `fold_seed` of the config."""
        return protocols.make_folds(
            self.subjects,
            self.emotions,
            protocol=config.protocol,
            folds=config.folds,
            seed=config.fold_seed,
            splits=self.photographs["split"].tolist(),
        )

    def with_face(self, rows: np.ndarray) -> np.ndarray:
        """Those of the rows in which a face was found."""
        return rows[(self.photographs["status"].to_numpy() == "ok")[rows]]

    def faces(self, rows: np.ndarray) -> Faces:
        """The faces of these rows, each of which must have one."""
        table = self.photographs.iloc[rows]
        codes = np.array([self.labels.index(e) for e in table["emotion"]], np.int32)
        return Faces(
            sources.ArraySource(
                self.images[table["place"].to_numpy()], codes, table["photo"].tolist()
            ),
            table["subject"].tolist(),
            table["file"].tolist(),
        )


def read_study(config: schemas.LabelledFaces) -> Study:
    """The photographs of one set, or, across sets, of both, the second to be tested.

    Reads the fields `photographs`, `test_photographs`, `protocol` and `image_size`.

    Raises:
        UserError: a workdir is missing, or two sets do not go together.
    """
    if not config.photographs:
        raise UserError("give --config.photographs, the workdir of a run of the stage photographs")
    across = config.protocol == "cross_set"
    table = read_table(config.photographs)
    left_out = 0
    if across:
        tested = read_table(config.test_photographs).assign(split=protocols.TEST)
        table = table[table["split"] != protocols.TEST] if (table["split"] != "").any() else table
        table = table.assign(split=table["split"].where(table["split"] != "", protocols.TRAIN))
        shared = set(table["emotion"]) & set(tested["emotion"])
        if len(shared) < 2:
            raise UserError(
                f"cross_set: the two sets share {len(shared)} emotions; they need two or more"
            )
        table = pd.concat([table, tested], ignore_index=True)
        left_out = int((~table["emotion"].isin(shared)).sum())
        table = table[table["emotion"].isin(shared)].reset_index(drop=True)
    if table["photo"].duplicated().any():
        twice = table["photo"][table["photo"].duplicated()].iloc[0]
        raise UserError(f"cross_set: both sets have a photograph called {twice}; rename a folder")
    found = (table["status"] == "ok").to_numpy()
    table["place"] = np.where(found, np.cumsum(found) - 1, -1)
    images = sources.read_images(table["file"][found], config.image_size)
    return Study(table, images, sorted(table["emotion"].unique()), left_out)


def read_table(root: str) -> pd.DataFrame:
    """What the stage `photographs` wrote; `split` is "" for none, `file` the path of the crop.

    Raises:
        UserError: `root` is not a workdir of that stage, or its table is damaged.
    """
    table = stage_tables.read_photographs(root)
    if "split" not in table.columns:
        table["split"] = ""
    return table.assign(file=[str(Path(root) / crop) for crop in table["crop"]])


def crop_margins(config: schemas.Crossval) -> dict[str, float]:
    """The crop margins of the models at `init` and of the photographs, by path.

    As a part of the template's side. Paths whose margin is not known are left out: weight files,
    and photographs that others have cut (`aligned`).
    """
    known = {
        init: model_directory.read_record(init).faces
        for init in filter(None, inits(config).values())
        if model_directory.is_model(init)
    }
    for root in filter(None, (config.photographs, config.test_photographs)):
        known[root] = model_directory.read_faces(root)
    return {path: faces.crop.margin for path, faces in known.items() if faces and not faces.aligned}
