"""The trained weights of MTCNN, read from files of the package `mtcnn` without importing it.

Importing `mtcnn` would import TensorFlow.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import io
from pathlib import Path

import joblib
import numpy as np

from fer_jax.errors import UserError

Weights = dict[str, np.ndarray]

_REINSTALL = "pip install --force-reinstall mtcnn==1.0.0"

# joblib unpickles, which can run any code, so only files with these digests are loaded.
SHA256 = {
    "pnet": "ea6b0c3e685ebee3165326ad6484acc95f2ef78f1c94fbf40a55704fa989f7b5",
    "rnet": "cb00e6460f3c98b0bfafaba3c0a0ded4bdf6e62cee7174d969e8670d7e757fee",
    "onet": "94f6ea2f4cf985275ee958cdd762d17b6009348a4fb9d8c6be39ba73ffd22ca3",
}

# The order in which Keras lists the arrays of each network.
_TRUNK = "conv1 prelu1 conv2 prelu2 conv3 prelu3"
_LAYERS = {
    "pnet": f"{_TRUNK} box score",
    "rnet": f"{_TRUNK} dense prelu4 box score",
    "onet": f"{_TRUNK} conv4 prelu4 dense prelu5 box landmarks score",
}


@functools.cache
def load_weights() -> dict[str, Weights]:
    """The weights of the three networks: `{"pnet" | "rnet" | "onet": {"conv1/kernel": ...}}`.

    All are float32; kernels are [height, width, in, out] or [in, out].

    Raises:
        UserError: the package `mtcnn` 1.0.0 is not installed, or its files are missing or changed.
    """
    try:
        distribution = importlib.metadata.distribution("mtcnn")
    except importlib.metadata.PackageNotFoundError as error:
        raise UserError(
            "the package mtcnn, which contains the weights of the face detector, is not installed; "
            "run: pip install mtcnn==1.0.0"
        ) from error
    folder = Path(str(distribution.locate_file("mtcnn/assets/weights")))
    return {name: read_network(folder / f"{name}.lz4", name) for name in SHA256}


def read_network(path: Path, name: str) -> Weights:
    """The arrays of one network by name; the SHA-256 of the file is checked before unpickling.

    Raises:
        UserError: the file cannot be read, or is not the one of mtcnn 1.0.0.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror}); run: {_REINSTALL}") from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != SHA256[name]:
        raise UserError(
            f"{path} is not the file of mtcnn 1.0.0 (its SHA-256 is {digest}, expected "
            f"{SHA256[name]}); run: {_REINSTALL}"
        )
    names = [
        part
        for layer in _LAYERS[name].split()
        for part in ([layer] if "prelu" in layer else [f"{layer}/kernel", f"{layer}/bias"])
    ]
    arrays = joblib.load(io.BytesIO(content))
    return {key: np.asarray(a, np.float32) for key, a in zip(names, arrays, strict=True)}
