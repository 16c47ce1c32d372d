"""Turns a workdir of `configs/starter.py` into the weights that ship with the package.

    python -m benchmarks pack_starter --workdir=WORK/starter --out=fer_jax/starter

Kernels become float16, everything else stays float32. The temperature is fitted on the validation
split of FER2013, on original and aligned pictures together, with two zooms of each picture and
their mirror images. The settings of the face crops come from the workdir of `photographs` that the
training read, and the detector has the default settings of this revision. abstaining.json contains
the accuracy by confidence on the validation split's aligned faces. Prints the SHA-256 that
fer_jax/models/starter.py must contain.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

import numpy as np

from fer_jax import abstaining
from fer_jax.data import builders, sources
from fer_jax.metrics.calibration import fit_temperature
from fer_jax.records import FacePipeline, Inference
from fer_jax.schemas.faces import Detector
from fer_jax.training import model_directory, trained_model

TASK = "emotion"
# Chosen on the validation split and on real people (docs/experiments.md): four passes of the
# network instead of the ten of five crops.
ZOOMS = (1.0, 1.1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    config = json.loads((options.workdir / "config.json").read_text())
    pack(options.workdir, options.out, model_directory.read_faces(config["aligned"]))
    model = trained_model.load(options.out)
    source = opened(config, "validation", options.workdir)
    labels = source.task_labels[f"label_{TASK}"]
    rows = np.flatnonzero(labels >= 0)
    probabilities = model.answers(TASK, model.features_of_crops(TASK, source.images[rows]))
    temperature = fit_temperature(probabilities, labels[rows])
    right = (probabilities.argmax(axis=1) == labels[rows]).mean()
    print(f"validation, {len(rows)} crops: {right:.2%}; temperature {temperature:.3f}")
    pack(options.workdir, options.out, model_directory.read_faces(config["aligned"]), temperature)
    measure_abstaining(options.out, source)
    file = options.out / "weights.safetensors"
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    print(f"{file.stat().st_size / 1e6:.2f} MB, SHA256 = {digest}")


def measure_abstaining(model: Path, source: sources.ArraySource) -> None:
    """Writes abstaining.json: accuracy by confidence on the aligned faces in `source`."""
    packed = trained_model.load(model)
    labels = source.task_labels[f"label_{TASK}"]
    aligned = np.array([name.startswith("aligned/") for name in source.ids])
    rows = np.flatnonzero(aligned & (labels >= 0))
    answers = packed.answers(TASK, packed.features_of_crops(TASK, source.images[rows]))
    probabilities = packed.calibrated(TASK, answers)
    right = probabilities.argmax(axis=1) == labels[rows]
    measured_on = f"{len(rows):,} faces of FER2013's validation split"
    table = abstaining.measure(probabilities.max(axis=1), right, measured_on)
    abstaining.write(model, table)


def pack(workdir: Path, out: Path, faces: FacePipeline | None, temperature: float = 1.0) -> None:
    """Writes the model of a workdir with half-precision kernels, and its record.

    The record contains `faces`, how the faces were cropped, with the default detector settings;
    None if it is unknown.
    """
    arrays = {
        name: half(name, array) for name, array in model_directory.read_weights(workdir).items()
    }
    how = {TASK: Inference(zooms=ZOOMS, temperature=temperature)}
    record = model_directory.read_record(workdir)
    if faces is not None:
        faces = faces.model_copy(update={"detector": Detector()})
    record = record.model_copy(update={"format": 2, "faces": faces, "inference": how})
    model_directory.save(out, arrays, record)


def half(name: str, array: np.ndarray) -> np.ndarray:
    """A kernel as float16; other arrays are unchanged.

    Scales, biases and statistics are few, and may exceed the range of float16.
    """
    return array.astype(np.float16) if name.endswith("/kernel") else array


def opened(config: dict, split: str, workdir: Path) -> sources.ArraySource:
    """The examples in one split of the data on which `config` trains."""
    data = config["data"]
    folders = {name: path for name, path in data["folders"].items() if path}
    variant = builders.config_with(data["dataset"], **folders) if folders else None
    return sources.open_source(
        data["dataset"], variant, split, data["root"], data["image_size"],
        data_dir=workdir / "records", cache=True,
    )  # fmt: skip


if __name__ == "__main__":
    main()
