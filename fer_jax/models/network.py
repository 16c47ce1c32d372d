"""The network that is trained, saved and exported: a backbone and one head per task."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Num, PRNGKeyArray

from fer_jax.models.heads import drop
from fer_jax.schemas.training import Backbone

# Weights of ITU-R BT.601 luma, as used by JPEG and OpenCV.
LUMA = (0.299, 0.587, 0.114)


class Network(nnx.Module):
    """Preprocessing, a backbone and one head per task.

    Its variables are `nnx.Param` and `nnx.BatchStat` only, since the key of dropout is passed in
    each call.

    Args:
        backbone: the settings of the preprocessing and of the backbone.
        tasks: the tasks by name; each makes its head with `task.head(features, rngs=rngs)`.
        rngs: the random streams; they include `params`, for the initial weights.
    """

    def __init__(self, backbone: Backbone, tasks: Mapping[str, Any], *, rngs: nnx.Rngs) -> None:
        self.grey = backbone.grey
        self.normalise = backbone.normalise
        self.dropout = backbone.dropout
        channels = 1 if self.grey else 3
        self.backbone = backbone.own.make(channels, dtype=_dtype(backbone.dtype), rngs=rngs)
        self.heads = nnx.Dict(
            {
                name: task.head(self.backbone.features, rngs=rngs)
                for name, task in sorted(tasks.items())
            }
        )

    def features(self, inputs: Num[Array, "n h w 3"], *, train: bool) -> Float[Array, "n features"]:
        """The pooled features of RGB images `[N, h, w, 3]` in 0..255, uint8 or float."""
        return self.backbone(self.preprocess(inputs), train=train)

    def stage_outputs(
        self, inputs: Num[Array, "n h w 3"], names: Iterable[str]
    ) -> dict[str, Float[Array, "n _ _ _"]]:
        """The outputs of the backbone's stages `names` in inference, in the order of the stages."""
        wanted, x, outputs = set(names), self.preprocess(inputs), {}
        for name, stage in self.backbone.stages():
            x = stage(x, train=False)
            if name in wanted:
                outputs[name] = x
        return outputs

    def head(
        self,
        name: str,
        features: Float[Array, "n features"],
        *,
        train: bool,
        key: PRNGKeyArray | None = None,
    ) -> Any:
        """The outputs of the head `name` for features; training with dropout requires `key`."""
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
        """The outputs of the head `name`; see `features` for `inputs`, and `head` for `key`."""
        return self.head(name, self.features(inputs, train=train), train=train, key=key)

    def preprocess(self, inputs: Num[Array, "n h w 3"]) -> Float[Array, "n h w c"]:
        """The backbone's input: grey or colour, normalised, float32 (float64 stays float64)."""
        x = inputs.astype(jnp.promote_types(inputs.dtype, jnp.float32))
        if self.grey:
            x = (x @ jnp.asarray(LUMA, x.dtype))[..., None]
        if self.normalise == "inception":
            return x / 127.5 - 1
        mean = x.mean((1, 2, 3), keepdims=True)
        centred = x - mean
        deviation = jnp.sqrt((centred * centred).mean((1, 2, 3), keepdims=True))
        return centred / jnp.maximum(deviation, 1.0)  # does not amplify noise in a uniform image


def _dtype(name: str | None) -> str | None:
    """The type of the computation for `config.backbone.dtype`; None: that of the input.

    "" becomes None. "auto" becomes bfloat16 on accelerators, and None on CPUs, where bfloat16 is
    slower (docs/experiments.md).
    """
    if name != "auto":
        return name or None
    return None if jax.default_backend() == "cpu" else "bfloat16"
