"""Inception-ResNet-v2 (Szegedy, Ioffe, Vanhoucke & Alemi 2016, arXiv:1602.07261), in Flax NNX.

The structure is that of keras.applications and timm, which differ from the figures in the paper in
the stem and in a few channel counts. With `width=1, depth=(10, 20, 10), stem="full"` all the
tensors of their weight files fit. The names follow Keras: mixed_5b, block35, mixed_6a, block17,
mixed_7a, block8, conv_7b.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float
from pydantic import Field

from fer_jax.errors import UserError
from fer_jax.models.backbone import Layer, global_mean
from fer_jax.models.layers import Conv, ConvBN, Kernel, average_pool, max_pool
from fer_jax.schemas.fields import AnyCase, Items, Section, ShareBelowOne


class C(NamedTuple):
    """A convolution; in a branch, stride 1 preserves the size, and stride 2 has no padding."""

    outputs: int
    kernel: Kernel
    stride: int = 1


Branch = list[C]

MIXED_5B: list[Branch] = [
    [C(96, 1)],
    [C(48, 1), C(64, 5)],
    [C(64, 1), C(96, 3), C(96, 3)],
    [C(64, 1)],
]
BLOCK_35: list[Branch] = [
    [C(32, 1)],
    [C(32, 1), C(32, 3)],
    [C(32, 1), C(48, 3), C(64, 3)],
]
MIXED_6A: list[Branch] = [
    [C(384, 3, 2)],
    [C(256, 1), C(256, 3), C(384, 3, 2)],
]
BLOCK_17: list[Branch] = [
    [C(192, 1)],
    [C(128, 1), C(160, (1, 7)), C(192, (7, 1))],
]
MIXED_7A: list[Branch] = [
    [C(256, 1), C(384, 3, 2)],
    [C(256, 1), C(288, 3, 2)],
    [C(256, 1), C(288, 3), C(320, 3, 2)],
]
BLOCK_8: list[Branch] = [
    [C(192, 1)],
    [C(192, 1), C(224, (1, 3)), C(256, (3, 1))],
]

SMALLEST_INPUT = {"full": 75, "small": 13, "tiny": 25, "micro": 49}


class Settings(Section):
    """The fields of `config.backbone` that are specific to this network.

    Attributes:
        width: factor for all channel counts, which are then rounded to multiples of 8.
        depth: numbers of residual blocks in the three stages, with outputs of 35x35, 17x17 and 8x8
            pixels for images of 299 pixels.
        stem: "full" divides height and width by about 8 and needs at least 75 pixels. For faces of
            32 to 96 pixels, "small" divides by 2 (at least 13 pixels), "tiny" by 4 (at least 25)
            and "micro" by 8 (at least 49); each costs about a quarter of the previous one.
        momentum: momentum of the running statistics of batch normalisation.
        frozen_batchnorm: normalise with the running statistics in training too, without updating
            them.
        remat: store only the input of each residual block for the backward pass, and recompute the
            rest. This takes less memory and more time.
    """

    width: Annotated[float, Field(gt=0, le=16)] = 1.0
    depth: Annotated[
        Items[Annotated[int, Field(ge=0, le=1000)]], Field(min_length=3, max_length=3)
    ] = (10, 20, 10)
    stem: Annotated[Literal["full", "small", "tiny", "micro"], AnyCase] = "full"
    momentum: ShareBelowOne = 0.99
    frozen_batchnorm: bool = False
    remat: bool = False

    @property
    def smallest_input(self) -> int:
        """The minimum side length of images in pixels."""
        return SMALLEST_INPUT[self.stem]

    def make(self, channels: int, *, dtype: DTypeLike | None, rngs: nnx.Rngs) -> InceptionResNetV2:
        """The network for images with `channels` channels; see `InceptionResNetV2`."""
        return InceptionResNetV2(self, channels, dtype=dtype, rngs=rngs)


BACKBONE = Settings


@dataclass(frozen=True)
class Maker:
    """Makes layers from the settings that all layers of a network share."""

    settings: Settings
    dtype: DTypeLike | None
    rngs: nnx.Rngs

    def channels(self, full: int) -> int:
        """The channel count `full`, scaled by the network's width."""
        return scale_channels(full, self.settings.width)

    def conv(self, inputs: int, spec: C, *, padding: str = "SAME") -> ConvBN:
        """A convolution with batch normalisation; `inputs` is a scaled channel count."""
        return ConvBN(
            inputs,
            self.channels(spec.outputs),
            spec.kernel,
            stride=spec.stride,
            padding=padding,
            momentum=self.settings.momentum,
            frozen=self.settings.frozen_batchnorm,
            dtype=self.dtype,
            rngs=self.rngs,
        )

    def blocks(self, inputs: int, branches: list[Branch], *factors: float) -> nnx.List[Block]:
        """Residual blocks, one for each factor."""
        return nnx.List([Block(inputs, branches, factor, self) for factor in factors])


class InceptionResNetV2(nnx.Module):
    """Maps normalised images `[N, h, w, channels]` to features `[N, features]`.

    Args:
        settings: the fields of `config.backbone` for this network.
        channels: number of input channels, 3 for colour and 1 for grey.
        dtype: type of the computation (parameters and statistics are float32); None: that of the
            input.
        rngs: the random streams; they include `params`, for the initial weights.

    Attributes:
        features: length of the pooled feature vector (1536 at width 1).
        depths: the paths of the layers whose outputs are probed. They are the last layers of the
            groups from mixed_5b to block8.
    """

    def __init__(
        self, settings: Settings, channels: int, *, dtype: DTypeLike | None = None, rngs: nnx.Rngs
    ) -> None:
        make = Maker(settings, dtype, rngs)
        n35, n17, n8 = settings.depth
        self.stem = Stem(channels, settings.stem, make)
        self.mixed_5b = Mixed5b(self.stem.outputs, MIXED_5B, make)
        n = self.mixed_5b.outputs
        self.block35 = make.blocks(n, BLOCK_35, *(0.17,) * n35)
        self.mixed_6a = Reduction(n, MIXED_6A, make)
        n += self.mixed_6a.outputs
        self.block17 = make.blocks(n, BLOCK_17, *(0.10,) * n17)
        self.mixed_7a = Reduction(n, MIXED_7A, make)
        n += self.mixed_7a.outputs
        # The last block adds its whole residual, without ReLU.
        self.block8 = make.blocks(n, BLOCK_8, *(*(0.20,) * (n8 - 1), 1.0)[:n8])
        self.conv_7b = make.conv(n, C(1536, 1))
        self.features = make.channels(1536)
        self.remat = settings.remat
        ends = {name.split("/")[0]: name for name, _ in self.stages()}
        self.depths = tuple(ends.values())[1:-1]

    def __call__(self, x: Float[Array, "n h w c"], *, train: bool) -> Float[Array, "n features"]:
        for _, stage in self.stages():
            if self.remat and isinstance(stage, Block):
                x = nnx.remat(lambda block, x: block(x, train=train))(stage, x)
            else:
                x = stage(x, train=train)
        return global_mean(x)

    def stages(self) -> Iterator[tuple[str, Layer]]:
        """The layers from input to output, each with the path of its parameters."""
        for name in (
            "stem", "mixed_5b", "block35", "mixed_6a", "block17", "mixed_7a", "block8", "conv_7b",
        ):  # fmt: skip
            stage = getattr(self, name)
            if isinstance(stage, nnx.List):
                yield from ((f"{name}/{number}", block) for number, block in enumerate(stage))
            else:
                yield name, stage


class Stem(nnx.Module):
    """The first convolutions: "full" as in keras.applications, or fewer for small images."""

    def __init__(self, channels: int, kind: str, make: Maker) -> None:
        a, b, c, d = (make.channels(n) for n in (32, 64, 80, 192))
        self.kind = kind
        if kind == "full":
            self.conv_1a = make.conv(channels, C(32, 3, 2), padding="VALID")
            self.conv_2a = make.conv(a, C(32, 3), padding="VALID")
            self.conv_2b = make.conv(a, C(64, 3))
            self.conv_3b = make.conv(b, C(80, 1), padding="VALID")
            self.conv_4a = make.conv(c, C(192, 3), padding="VALID")
            self.outputs = d
        else:
            self.conv_1a = make.conv(channels, C(32, 3, 2))
            self.conv_2b = make.conv(a, C(64, 3, 1 if kind == "small" else 2))
            self.outputs = b
            if kind == "micro":
                self.conv_4a = make.conv(b, C(192, 3, 2))
                self.outputs = d

    def __call__(self, x: Float[Array, "n h w c"], *, train: bool) -> Float[Array, "n h2 w2 c2"]:
        smallest = SMALLEST_INPUT[self.kind]
        if min(x.shape[1:3]) < smallest:
            raise UserError(
                f'images of {x.shape[1]}x{x.shape[2]} pixels are too small for stem "{self.kind}", '
                f"which needs at least {smallest}x{smallest}; use larger images or another stem"
            )
        if self.kind == "full":
            x = self.conv_2a(self.conv_1a(x, train=train), train=train)
            x = max_pool(self.conv_2b(x, train=train))
            return max_pool(self.conv_4a(self.conv_3b(x, train=train), train=train))
        x = self.conv_2b(self.conv_1a(x, train=train), train=train)
        return self.conv_4a(x, train=train) if self.kind == "micro" else x


class Branches(nnx.Module):
    """Parallel chains of convolutions, whose outputs are concatenated.

    The attribute `outputs` is the total channel count.
    """

    def __init__(self, inputs: int, branches: list[Branch], make: Maker) -> None:
        self.branches = nnx.List([Chain(inputs, branch, make) for branch in branches])
        self.outputs = sum(make.channels(branch[-1].outputs) for branch in branches)

    def __call__(self, x: Float[Array, "n h w c"], *, train: bool) -> Float[Array, "n h2 w2 c2"]:
        return jnp.concatenate([branch(x, train=train) for branch in self.branches], axis=-1)


class Mixed5b(Branches):
    """Branches, the last of which starts with average pooling."""

    def __call__(self, x: Float[Array, "n h w c"], *, train: bool) -> Float[Array, "n h w c2"]:
        *convolutions, pooled = self.branches
        outputs = [branch(x, train=train) for branch in convolutions]
        return jnp.concatenate([*outputs, pooled(average_pool(x), train=train)], axis=-1)


class Reduction(Branches):
    """Branches that end with stride 2, in parallel with max-pooling.

    The attribute `outputs` does not include the channels of the pooling.
    """

    def __call__(self, x: Float[Array, "n h w c"], *, train: bool) -> Float[Array, "n h2 w2 c2"]:
        return jnp.concatenate([super().__call__(x, train=train), max_pool(x)], axis=-1)


class Chain(nnx.Module):
    """The convolutions of a branch, one after the other; those of stride 2 have no padding."""

    def __init__(self, inputs: int, branch: Branch, make: Maker) -> None:
        convs = []
        for spec in branch:
            convs.append(make.conv(inputs, spec, padding="SAME" if spec.stride == 1 else "VALID"))
            inputs = make.channels(spec.outputs)
        self.convs = nnx.List(convs)

    def __call__(self, x: Float[Array, "n h w c"], *, train: bool) -> Float[Array, "n h2 w2 c2"]:
        for conv in self.convs:
            x = conv(x, train=train)
        return x


class Block(nnx.Module):
    """Residual block: x + factor * projection(branches(x)), then ReLU unless the factor is 1."""

    def __init__(self, inputs: int, branches: list[Branch], factor: float, make: Maker) -> None:
        self.mixed = Branches(inputs, branches, make)
        self.projection = Conv(
            self.mixed.outputs, inputs, 1, bias=True, dtype=make.dtype, rngs=make.rngs
        )
        self.factor = factor

    def __call__(self, x: Float[Array, "n h w c"], *, train: bool) -> Float[Array, "n h w c"]:
        x = x + self.factor * self.projection(self.mixed(x, train=train))
        return x if self.factor == 1 else jax.nn.relu(x)


def scale_channels(channels: int, width: float) -> int:
    """`channels * width`, rounded to a multiple of 8, and at least 8."""
    return max(8, 8 * math.floor(channels * width / 8 + 0.5))
