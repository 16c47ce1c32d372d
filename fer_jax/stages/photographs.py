"""photographs: finds and aligns one face in each labelled photograph."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import UInt8

from fer_jax import console, outputs, records, schemas
from fer_jax.data.labels import files_read, read_labels
from fer_jax.data.names import key
from fer_jax.data.pseudonyms import pseudonymise
from fer_jax.errors import UserError
from fer_jax.faces import drawing
from fer_jax.faces.alignment import align
from fer_jax.faces.images import read_image, resize
from fer_jax.faces.mtcnn import Faces
from fer_jax.faces.search import find_faces, largest
from fer_jax.languages.language import spoken
from fer_jax.records import FacePipeline, Search
from fer_jax.schemas.faces import Crop
from fer_jax.workdir import atomic_file, stage

Image = UInt8[np.ndarray, "_ _ 3"]

FOUND, NO_FACE = "ok", "no_face"
# For small pictures, and for those that a face fills; MTCNN finds no face below 20 pixels.
_SMALL_PICTURES: dict[str, Any] = {"enlarge_below": 80, "enlarge_to": 160, "border": 0.25}
_ON_SHEET = 160  # maximum number of crops in sheet.png
# Maximum number of bytes of the stem of a crop's name. File systems allow 255 for the whole name,
# and a digest and suffixes are added.
_LONGEST_STEM = 200


@stage(
    doing="doing.photographs",
    reads=lambda config: files_read(config.photos),
    grows=True,
)
def run(config: schemas.Photographs, workdir: Path) -> dict[str, Any]:
    """Finds, aligns and writes the largest face of every photograph.

    A photograph without a face keeps its row in the table. With `config.aligned`, each photograph
    is a cropped face, which is only resized.

    Raises:
        UserError: labels have problems (the message lists all of them), a photograph cannot be
            read, or no photograph has a face.
    """
    labels = _read(config)
    crops = _crop_names(labels)
    pipeline = pipeline_of(config)
    write = partial(_write, workdir, pipeline.crop)
    rows: list[dict[str, Any]] = []
    started = time.perf_counter()
    with (
        ThreadPoolExecutor() as pool,
        console.Progress(total=len(labels), unit="photograph") as progress,
    ):
        for start in range(0, len(labels), config.batch):
            batch = slice(start, start + config.batch)
            images = list(pool.map(read_image, labels["path"].iloc[batch]))
            found: Sequence[Faces | None] = [None] * len(images)
            if not config.aligned:
                found = find_faces(images, pipeline)
            rows += pool.map(write, images, found, crops[batch])
            progress.update(len(images))
    seconds = time.perf_counter() - started

    columns = ["photo", "subject", "emotion", "split", "share", "ledger_line"]
    table = pd.concat([labels[columns], pd.DataFrame(rows)], axis=1)
    without = table[table["status"] == NO_FACE]
    if len(without) == len(table):
        raise UserError(
            f"photographs: no face was found in any of the {len(table)} photographs of "
            f"{config.photos}; if they are cropped faces already, add --config.aligned"
        )
    words = spoken()
    if not without.empty:
        some = [*without["photo"][:10], *(["..."] if len(without) > 10 else [])]
        number = words.count(len(without), "photograph")
        console.result("photographs_without", photographs=number, names=words.listing(some))
    records.write(workdir / records.FACES, pipeline)
    with atomic_file(workdir / "photographs.parquet") as temporary:
        table.to_parquet(temporary)
    # Deletes crops of photographs that are gone, and their names in the record of written files.
    outputs.delete_folder(workdir / "faces", but={workdir / crop for crop in table["crop"] if crop})
    outputs.forget(workdir)
    drawing.write_image(workdir / "sheet.png", _sheet(table, workdir))
    people = table["subject"].nunique()
    numbers = _numbers(table, config)
    console.result(
        "photographs",
        found=words.count(len(table) - len(without)),
        photographs=words.count(len(table), "photograph"),
        people=words.count(people, "person"),
        emotions=words.emotions(numbers),
    )
    return {
        "photographs": len(table),
        "people": people,
        "with_face": len(table) - len(without),
        "without_face": len(without),
        "subjects_with_several_spellings": labels.attrs["merged"],
        "with_alias_of_emotion": sum(labels.attrs["aliases"].values()),
        "ignored": labels.attrs["ignored"],
        "not_photographs": labels.attrs["not_photographs"],
        "without_consent": labels.attrs["withheld"],
        "people_without_consent": labels.attrs["people_without_consent"],
        "consent_ledger": labels.attrs["consent_ledger"],
        **{f"photographs_{emotion}": number for emotion, number in numbers.items()},
        "images_per_s": round(len(table) / max(seconds, 1e-9), 2),
    }


def _numbers(table: pd.DataFrame, config: schemas.Photographs) -> dict[str, int]:
    """The number of photographs of each emotion."""
    return {emotion: int((table["emotion"] == emotion).sum()) for emotion in config.emotions}


def _read(config: schemas.Photographs) -> pd.DataFrame:
    """The labels, with pseudonyms if `config.pseudonymise`; prints warnings about the labels."""
    labels = read_labels(config.photos, config.emotions, ignore=config.ignore)
    for warning in labels.attrs["warnings"]:
        console.warn(f"photographs: {warning}")
    if aliases := labels.attrs["aliases"]:
        words = spoken()
        read = [
            words.text("result.alias", alias=alias, emotion=words.emotion(emotion), number=number)
            for (alias, emotion), number in aliases.items()
        ]
        console.result("aliases", names=words.listing(read))
    if config.pseudonymise:
        photos = Path(config.photos)
        labels = pseudonymise(labels, photos if photos.is_dir() else photos.parent)
    return labels


def pipeline_of(config: schemas.Photographs) -> FacePipeline:
    """The settings for finding and cropping faces, which are recorded for trained models."""
    return FacePipeline(
        detector=config.detector,
        search=Search(max_side=config.max_side, **_SMALL_PICTURES),
        crop=config.crop,
        aligned=config.aligned,
    )


def _crop_names(labels: pd.DataFrame) -> list[str]:
    """A distinct path of each photograph's crop in the workdir, with a digest only if needed."""
    folders = "faces/" + labels["subject"] + "/" + labels["emotion"] + "/"
    stems = labels["photo"].map(lambda photo: PurePosixPath(photo).stem)
    # File systems may ignore case and Unicode normalisation forms.
    shared = (folders + stems).map(key).duplicated(keep=False)
    long = stems.map(lambda stem: len(stem.encode()) > _LONGEST_STEM)
    # A stem that looks like one with a digest gets a digest too, so that the two never collide.
    like_ours = stems.str.contains(r"-[0-9a-f]{8}$", case=False)
    cut = stems.map(lambda stem: stem.encode()[:_LONGEST_STEM].decode(errors="ignore"))
    digests = labels["photo"].map(lambda photo: hashlib.sha256(photo.encode()).hexdigest()[:8])
    return list(folders + stems.where(~(shared | long | like_ours), cut + "-" + digests) + ".png")


def _write(
    workdir: Path, settings: Crop, image: Image, faces: Faces | None, name: str
) -> dict[str, Any]:
    """Writes the crop of a photograph's largest face, if any, and returns the photograph's row.

    The crop has no metadata such as EXIF. If `faces` is None, the photograph is a cropped face,
    which is only resized.
    """
    found, score, crop = 1, np.float32(np.nan), image
    if faces is None:
        crop = resize(image, settings.size)
    elif found := len(faces):
        face = largest(faces)
        crop, score = (
            align(image, face.landmarks[0], settings.size, settings.margin),
            face.scores[0],
        )
    if found:
        (workdir / name).parent.mkdir(parents=True, exist_ok=True)
        drawing.write_image(workdir / name, crop)
    return {
        # A digest of the pixels recognises a copy with another name or other metadata.
        "digest": hashlib.sha256(image.tobytes()).hexdigest()[:32],
        "status": FOUND if found else NO_FACE,
        "detector_score": score,
        "faces_found": found,
        "crop": name if found else "",
    }


def _sheet(table: pd.DataFrame, workdir: Path) -> UInt8[np.ndarray, "h w 3"]:
    """A contact sheet of the crops, sorted by person; evenly spaced ones if there are too many."""
    found = table[table["status"] == FOUND].sort_values(["subject", "emotion", "photo"])
    shown = found.iloc[:: -(-len(found) // _ON_SHEET)]
    return drawing.contact_sheet(
        [read_image(workdir / crop) for crop in shown["crop"]],
        [f"{row.subject}\n{row.emotion}" for row in shown.itertuples()],
        title=f"{len(found)} of {len(table)} photographs, aligned",
    )
