"""The pretrained network that ships with the package: seven emotions, and face or non-face.

It is the model directory `fer_jax/starter`, written by benchmarks/pack_starter.py. docs/starter.md
describes its training data and its accuracy.
"""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

from fer_jax.errors import UserError

NAME = "starter"  # its name in `config.init` and `config.model`
DATA = "the starter's faces: FER2013, labelled (docs/starter.md)"  # named in reports
# The digest of weights.safetensors, whose header contains that of model.json.
SHA256 = "e657d317635dd9ff018a98e91d935110e7ae5d52e77f2d91d76165e07e2dc59d"
# Digests of the starters of earlier revisions, whose descendants have learned emotions too.
EARLIER_SHA256 = (
    "809232987dd7a15c19c8b93b3aca356a9afe9a53b13b6a9ab74e71595cb8930f",
    "b7ae8560b1ec735f2a01cd407bd673f9ef19dfc3b5ec85dd6fe7a9555c883bde",
)
_FOLDER = Path(__file__).resolve().parents[1] / "starter"


@functools.cache
def folder() -> Path:
    """The model directory; the SHA-256 of its weights is checked.

    Raises:
        UserError: the weights are missing, or are not those of this version.
    """
    file = _FOLDER / "weights.safetensors"
    if not file.is_file():
        raise UserError(
            f"this installation lacks the weights of the {NAME} ({file}); reinstall fer_jax, or "
            "choose another model (--config.model or --config.init)"
        )
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    if digest != SHA256:
        raise UserError(
            f"{file} has the SHA-256 {digest}, but that of this version is {SHA256}; reinstall "
            "fer_jax"
        )
    return _FOLDER
