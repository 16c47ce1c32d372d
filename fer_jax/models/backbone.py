"""The interface of a backbone, as used by the network, the optimizer and the probes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol, runtime_checkable

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

Layer = Callable[..., Float[Array, "n h w c"]]  # called as layer(x, train=train)


@runtime_checkable
class Backbone(Protocol):
    """An `nnx.Module` that maps normalised images `[N, h, w, channels]` to features.

    Its variables are `nnx.Param` and `nnx.BatchStat` only. Calling it returns features
    `[N, features]`, the mean over all pixels of the last stage's output; Grad-CAM and the probes
    depend on this.

    Attributes:
        features: length of the feature vector.
        depths: names of the stages whose outputs are probed, from input to output.
    """

    features: int
    depths: tuple[str, ...]

    def stages(self) -> Iterable[tuple[str, Layer]]:
        """The layers from input to output, each with the path of its parameters in the module.

        A path consists of attributes and list indices, such as "stem" or "block35/0". The learning
        rate decays from stage to stage (`config.optimizer.layer_decay`).
        """
        ...

    def __call__(self, x: Float[Array, "n h w c"], *, train: bool) -> Float[Array, "n features"]:
        """The pooled features of normalised images."""
        ...


@runtime_checkable
class BackboneSettings(Protocol):
    """A frozen record of the fields of `config.backbone` that are specific to the backbone.

    `config.backbone.name` names a module: a file in fer_jax/models/, or any module on the Python
    path. The class of the record is the attribute `BACKBONE` of this module.
    """

    @property
    def smallest_input(self) -> int:
        """The minimum side length of images in pixels."""
        ...

    def make(self, channels: int, *, dtype: DTypeLike | None, rngs: nnx.Rngs) -> Backbone:
        """The backbone, with initial weights drawn from `rngs.params()`.

        Args:
            channels: number of channels of the images, 1 or 3.
            dtype: type of the computation; None: that of the input.
            rngs: the random streams; they include `params`.
        """
        ...


def global_mean(x: Float[Array, "n h w c"]) -> Float[Array, "n c"]:
    """Mean over all pixels, in float32 or wider."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32)).mean((1, 2))
