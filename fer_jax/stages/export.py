"""export: writes a model as files for other programs, and compares them with the model.

model.onnx         the function from the crop of a face to probabilities, for ONNX Runtime
model.stablehlo    the same function, for JAX without this package
description.json   labels, how faces are cropped, temperature, digest of the weights, and the
                   largest differences from the model's probabilities
README.md          the description as text
LICENSE            that of the weights, if the model is the starter or was trained from it, or if
                   the model directory contains one
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8

from fer_jax import __version__, console, records, schemas
from fer_jax.errors import UserError
from fer_jax.export import answer, card
from fer_jax.export.formats import FORMATS, check_installed
from fer_jax.models import starter
from fer_jax.models.imagenet import file_digest
from fer_jax.people import EMOTIONS, photograph
from fer_jax.recogniser import TASK, Recogniser
from fer_jax.training import model_directory, trained_model
from fer_jax.training.trained_model import Model
from fer_jax.workdir import atomic_file, stage

TOLERANCE = 1e-4  # largest allowed difference of a probability from the model's
_PEOPLE = 6  # generated people on whose faces the exported files are compared with the model


@stage(
    doing=lambda config: f"exporting {config.model} as {' and '.join(config.formats)}",
)
def run(config: schemas.Export, workdir: Path) -> dict[str, Any]:
    """Writes the formats in `config.formats`; a file that disagrees with the model is not kept.

    Returns, for each format, the largest difference of a probability from the model's, and the size
    of the file in bytes.

    Raises:
        UserError: there is no emotion model, its record does not say how faces are cropped, it is
            person-relative, a library is missing, or a file disagrees with the model.
    """
    for name in config.formats:
        check_installed(name)
    model, description = _read(config.model)
    side = description.crop.size
    faces = generated_faces(side)
    expected = model.probabilities(TASK, faces)
    function = answer.make(model)
    summary: dict[str, Any] = {}
    for name in config.formats:
        kind = FORMATS[name]
        with atomic_file(workdir / kind.file) as path:
            kind.write(path, function, side, description.notes())
            found = kind.open(path)
            rows = [found(faces), found(faces[:1])]
            difference = max(
                float(np.abs(row.probabilities - expected[: len(row.probabilities)]).max())
                for row in rows
            )
            if not difference <= TOLERANCE:
                raise UserError(
                    f"export: {kind.file} differs from the model by {difference:.1e} in a "
                    f"probability, more than the limit of {TOLERANCE:.0e}, and was not kept; leave "
                    f"the format {name} out (--config.formats), and report this with the model's "
                    "model.json"
                )
            size = path.stat().st_size
        console.say(
            f"  {kind.file}: {size / 1e6:.1f} MB; probabilities differ from the model's by at most "
            f"{difference:.1e} on {len(faces)} generated faces"
        )
        description = description.with_difference(name, difference)
        summary |= {f"{name}_difference": difference, f"{name}_bytes": size}
    records.write(workdir / "description.json", description)
    with atomic_file(workdir / "README.md") as path:
        path.write_text(card.text(description), "utf-8")
    licence = model_directory.find(config.model) / "LICENSE"
    if not licence.is_file() and model_directory.began_with_starter(model.record):
        licence = starter.folder() / "LICENSE"
    if licence.is_file():
        with atomic_file(workdir / "LICENSE") as path:
            shutil.copyfile(licence, path)
    return summary


def generated_faces(side: int) -> UInt8[np.ndarray, "n s s 3"]:
    """RGB faces of generated people with each emotion, an image of noise and a grey image."""
    pictures = [photograph(who, emotion, 0) for who in range(_PEOPLE) for emotion in EMOTIONS]
    crops = [picture[40:200, 80:240] for picture in pictures]
    faces = [cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA) for crop in crops]
    noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    return np.stack([*faces, noise, np.full_like(noise, 128)])


def _read(place: str) -> tuple[Model, card.Description]:
    """The model, computing in float32, and its description.

    Raises:
        UserError: it is not an emotion model, its record does not say how faces are cropped, or
            it is person-relative.
    """
    loaded = trained_model.load(place)
    recogniser = Recogniser(loaded, place)
    if recogniser.reference:
        raise UserError(
            f"export: the model {place} is person-relative, so its answer about a face depends "
            "on the person's other faces, but an exported file answers for each face alone; export "
            "a model that was trained without --config.reference"
        )
    backbone = loaded.record.backbone.model_copy(update={"dtype": None})
    record = loaded.record.model_copy(update={"backbone": backbone})
    weights = model_directory.find(place) / "weights.safetensors"
    description = card.describe(
        record, name=Path(place).name, sha256=file_digest(weights, "sha256"), version=__version__
    )
    return Model(record, loaded.weights, f"the model {place}"), description
