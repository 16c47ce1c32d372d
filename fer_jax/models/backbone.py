"""The contract of a backbone: what the network, the optimizer and the probes ask of one."""

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
    """An `nnx.Module` from normalised images `[N, h, w, channels]` to features `[N, features]`.

    It holds `nnx.Param` and `nnx.BatchStat`, no other variables. Its call is the mean over all
    pixels of the last stage's output, since Grad-CAM and the probes read the stages.

    Attributes:
        features: length of the feature vector.
        depths: names of the stages whose outputs are probed, from input to output.
    """

    features: int
    depths: tuple[str, ...]

    def stages(self) -> Iterable[tuple[str, Layer]]:
        """The layers from input to output, each with the path of its parameters in the module.

        A path is that of attributes and list indices, such as "stem" or "block35/0". The learning
        rate decays from stage to stage (`config.optimizer.layer_decay`).
        """
        ...

    def __call__(self, x: Float[Array, "n h w c"], *, train: bool) -> Float[Array, "n features"]:
        """Pooled features."""
        ...


@runtime_checkable
class BackboneSettings(Protocol):
    """A frozen dataclass with the backbone's own fields of `config.backbone`.

    The module attribute `BACKBONE` of a file in fer_jax/models/ or of any module on the Python
    path names it; `config.backbone.name` names the module.
    """

    @property
    def smallest_input(self) -> int:
        """Pixels that an image needs along each side."""
        ...

    def make(self, channels: int, *, dtype: DTypeLike | None, rngs: nnx.Rngs) -> Backbone:
        """The module, with initial weights drawn from `rngs.params()`.

        Args:
            channels: of the images, 1 or 3.
            dtype: of the computation; None follows the input.
            rngs: stream `params`.
        """
        ...


def global_mean(x: Float[Array, "n h w c"]) -> Float[Array, "n c"]:
    """Mean over all pixels, in float32 or wider."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32)).mean((1, 2))
