"""One backbone and a head for each task: what is trained, saved and exported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Num, PRNGKeyArray

from fer_jax.errors import UserError
from fer_jax.models.heads import drop
from fer_jax.models.inception_resnet_v2 import InceptionResNetV2

NORMALISATIONS = ("inception", "per_image")
BLOCKS = ("auto", "looped", "laid_out")
# Weights of ITU-R BT.601 luma, as used by JPEG and OpenCV.
LUMA = (0.299, 0.587, 0.114)


class Network(nnx.Module):
    """Preprocessing, Inception-ResNet-v2 and one head a task.

    Holds `nnx.Param` and `nnx.BatchStat`, no other variables: dropout takes its key when called.

    Args:
        backbone: mapping with the fields `width`, `depth`, `stem` (see InceptionResNetV2), `grey`
            (bool), `normalise` ("inception": x / 127.5 - 1, or "per_image": zero mean and unit
            variance over each image), `dropout` (on the pooled features), `momentum`,
            `frozen_batchnorm`, `blocks` ("looped", "laid_out", or "auto": looped on CPU, for the
            compiler's sake), `remat` and `dtype` ("auto": bfloat16 on GPU and TPU, on CPU the
            input's type). Missing fields take the defaults of `BACKBONE`.
        tasks: by name; each makes its head with `task.head(features, rngs=rngs)`.
        rngs: stream `params`.
    """

    def __init__(
        self, backbone: Mapping[str, Any], tasks: Mapping[str, Any], rngs: nnx.Rngs
    ) -> None:
        config = complete(backbone)
        self.grey: bool = config["grey"]
        self.normalise: str = config["normalise"]
        self.dropout: float = config["dropout"]
        self.backbone = InceptionResNetV2(
            config["width"],
            config["depth"],
            config["stem"],
            channels=1 if self.grey else 3,
            momentum=config["momentum"],
            frozen_batchnorm=config["frozen_batchnorm"],
            looped=config["blocks"] == "looped",
            remat=config["remat"],
            dtype=config["dtype"],
            rngs=rngs,
        )
        self.heads = nnx.Dict(
            {
                name: task.head(self.backbone.features, rngs=rngs)
                for name, task in sorted(tasks.items())
            }
        )

    def features(self, inputs: Num[Array, "n h w 3"], *, train: bool) -> Float[Array, "n features"]:
        """Pooled features of images `[N, h, w, 3]` in 0..255, uint8 or float."""
        return self.backbone(self.preprocess(inputs), train=train)

    def intermediates(
        self, inputs: Num[Array, "n h w 3"], names: Sequence[str] | None = None
    ) -> dict[str, Float[Array, ...]]:
        """Outputs of the backbone's named blocks, in inference (see InceptionResNetV2)."""
        return self.backbone.intermediates(self.preprocess(inputs), names)

    def head(
        self,
        name: str,
        features: Float[Array, "n features"],
        *,
        train: bool,
        key: PRNGKeyArray | None = None,
    ) -> Any:
        """Outputs of the head `name`; `key` is needed to train with dropout."""
        dropout_key, head_key = (None, None) if key is None else jax.random.split(key)
        features = drop(features, self.dropout, train=train, key=dropout_key)
        return self.heads[name](features, train=train, key=head_key)

    def __call__(
        self,
        name: str,
        inputs: Num[Array, "n h w 3"],
        *,
        train: bool,
        key: PRNGKeyArray | None = None,
    ) -> Any:
        """From images to the outputs of the head `name`."""
        return self.head(name, self.features(inputs, train=train), train=train, key=key)

    def preprocess(self, inputs: Num[Array, "n h w 3"]) -> Float[Array, "n h w c"]:
        """What the backbone sees: grey or colour, normalised, float32 (float64 stays float64)."""
        x = inputs.astype(jnp.promote_types(inputs.dtype, jnp.float32))
        if self.grey:
            x = (x @ jnp.asarray(LUMA, x.dtype))[..., None]
        if self.normalise == "inception":
            return x / 127.5 - 1
        mean = x.mean((1, 2, 3), keepdims=True)
        centred = x - mean
        deviation = jnp.sqrt((centred * centred).mean((1, 2, 3), keepdims=True))
        return centred / jnp.maximum(deviation, 1.0)  # a flat image must not become noise


BACKBONE: dict[str, Any] = {
    "width": 1.0,
    "depth": (10, 20, 10),
    "stem": "full",
    "grey": False,
    "normalise": "inception",
    "dropout": 0.0,
    "momentum": 0.99,
    "frozen_batchnorm": False,
    "blocks": "auto",
    "remat": False,
    "dtype": "auto",
}


def complete(backbone: Mapping[str, Any]) -> dict[str, Any]:
    """The backbone's config with defaults filled in; UserError names an unknown or wrong field."""
    unknown = sorted(set(backbone) - set(BACKBONE))
    if unknown:
        raise UserError(f"backbone has no field {unknown[0]}: there are {', '.join(BACKBONE)}")
    config = {**BACKBONE, **backbone}
    if config["normalise"] not in NORMALISATIONS:
        raise UserError(
            f'backbone normalise "{config["normalise"]}" is unknown: use one of {NORMALISATIONS}'
        )
    if config["blocks"] not in BLOCKS:
        raise UserError(f'backbone blocks "{config["blocks"]}" is unknown: use one of {BLOCKS}')
    if not 0 <= config["dropout"] < 1:
        raise UserError(f"backbone dropout {config['dropout']} must be at least 0 and below 1")
    on_cpu = {True: "looped", False: "laid_out"}[jax.default_backend() == "cpu"]
    return {
        **config,
        "depth": tuple(config["depth"]),
        "blocks": on_cpu if config["blocks"] == "auto" else config["blocks"],
        "dtype": _dtype(config["dtype"]),
    }


def _dtype(name: str | None) -> str | None:
    """bfloat16 suits accelerators; CPUs are slower with it (docs/results.md)."""
    if name != "auto":
        return name or None
    return None if jax.default_backend() == "cpu" else "bfloat16"
