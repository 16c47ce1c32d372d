"""The pretrained network that ships with the package: seven emotions, and face or non-face.

It is a model directory, `fer_jax/starter`. docs/starter.md says what it was trained on and how well
it does; benchmarks/pack_starter.py writes it.
"""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

from fer_jax.errors import UserError

NAME = "starter"  # what `config.init` and `config.model` call it
DATA = "the starter's faces: FER2013, labelled (docs/starter.md)"  # for reports
# Of weights.safetensors, whose header seals model.json.
SHA256 = "b7ae8560b1ec735f2a01cd407bd673f9ef19dfc3b5ec85dd6fe7a9555c883bde"
_FOLDER = Path(__file__).resolve().parents[1] / "starter"


@functools.cache
def folder() -> Path:
    """The model directory, after its weights were checked.

    Raises:
        UserError: the weights are missing or are not those of this version.
    """
    file = _FOLDER / "weights.safetensors"
    if not file.is_file():
        raise UserError(
            f"this installation has no {NAME} weights ({file}); install fer_jax again, or name "
            "another model (--config.model or --config.init)"
        )
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    if digest != SHA256:
        raise UserError(
            f"{file} has the SHA-256 {digest}, and this version ships {SHA256}; install fer_jax "
            "again"
        )
    return _FOLDER
