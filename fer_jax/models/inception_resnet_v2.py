"""Inception-ResNet-v2 (Szegedy, Ioffe, Vanhoucke & Alemi 2016, arXiv:1602.07261), in Flax NNX.

The structure is that of keras.applications and timm (which differ from the paper's figures in a
few channel counts): with `width=1, depth=(10, 20, 10), stem="full"` their weights fit, tensor by
tensor. The names follow Keras: mixed_5b, block35, mixed_6a, block17, mixed_7a, block8, conv_7b.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from fer_jax.errors import UserError
from fer_jax.models.layers import Conv, ConvBN, Kernel, average_pool, draw_kernels, max_pool
from fer_jax.models.repeated import Repeated


class C(NamedTuple):
    """One convolution of a branch; stride 1 keeps the size, stride 2 has no padding."""

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

Layer = Callable[..., Float[Array, "n h w c"]]


@dataclass(frozen=True)
class Maker:
    """What all layers of one network have in common."""

    width: float
    momentum: float
    frozen_batchnorm: bool
    dtype: DTypeLike | None
    convs: list[Conv] = field(default_factory=list)  # all that were made
    stacked: tuple[int, ...] = ()  # axes before an array's own

    def channels(self, full: int) -> int:
        """The channel count that stands for `full` at this width."""
        return scale_channels(full, self.width)

    def conv(self, inputs: int, spec: C, *, padding: str = "SAME") -> ConvBN:
        """A convolution with batch normalisation; `inputs` is the true count, not the full one."""
        layer = ConvBN(
            inputs,
            self.channels(spec.outputs),
            spec.kernel,
            stride=spec.stride,
            padding=padding,
            momentum=self.momentum,
            frozen=self.frozen_batchnorm,
            dtype=self.dtype,
            stacked=self.stacked,
        )
        self.convs.append(layer.conv)
        return layer

    def projection(self, inputs: int, outputs: int) -> Conv:
        """A 1x1 convolution with bias; both counts are true ones."""
        conv = Conv(inputs, outputs, 1, bias=True, dtype=self.dtype, stacked=self.stacked)
        self.convs.append(conv)
        return conv


class InceptionResNetV2(nnx.Module):
    """Images `[N, h, w, channels]`, already normalised, to features `[N, features]`.

    Args:
        width: factor on every channel count, which is rounded to a multiple of 8.
        depth: residual blocks in the 35x35, 17x17 and 8x8 stages (at 299 pixels).
        stem: "full" divides height and width by 8 and wants 75 pixels or more. For faces of 32 to
            96 pixels, "small" divides by 2 (13 or more), "tiny" by 4 (25 or more) and "micro" by 8
            (49 or more), each about a quarter of the cost of the one before.
        channels: of the input, 3 for colour and 1 for grey.
        momentum: of the running statistics of batch normalisation.
        frozen_batchnorm: normalise with the running statistics in training, too, and keep them.
        looped: run the residual blocks of a stage as the rounds of a loop: compiles in less than
            half the time, and is a little slower where images are small (docs/results.md).
        remat: keep only the input of each residual block for the backward pass and compute the
            rest again: less memory, more time.
        dtype: of the computation (parameters and statistics stay float32); None follows the input.
        rngs: stream `params` for the initial weights.

    Attributes:
        features: length of the pooled feature vector (1536 at width 1).
    """

    def __init__(
        self,
        width: float = 1.0,
        depth: Sequence[int] = (10, 20, 10),
        stem: str = "full",
        *,
        channels: int = 3,
        momentum: float = 0.99,
        frozen_batchnorm: bool = False,
        looped: bool = False,
        remat: bool = False,
        dtype: DTypeLike | None = None,
        rngs: nnx.Rngs,
    ) -> None:
        if stem not in SMALLEST_INPUT:
            raise UserError(f'backbone stem "{stem}" is unknown: use one of {list(SMALLEST_INPUT)}')
        if len(depth) != 3 or min(depth) < 0:
            raise UserError(f"backbone depth {tuple(depth)} must be three counts, e.g. 10,20,10")
        if width <= 0:
            raise UserError(f"backbone width {width} must be above 0")
        make = Maker(width, momentum, frozen_batchnorm, dtype)
        self.stem = Stem(channels, stem, make)
        self.mixed_5b = Branches(self.stem.outputs, MIXED_5B, make)
        n = self.mixed_5b.outputs
        how = {"looped": looped, "remat": remat}
        self.block35 = repeated(n, BLOCK_35, (0.17,) * depth[0], make, **how)
        self.mixed_6a = Branches(n, MIXED_6A, make)
        n += self.mixed_6a.outputs
        self.block17 = repeated(n, BLOCK_17, (0.10,) * depth[1], make, **how)
        self.mixed_7a = Branches(n, MIXED_7A, make)
        n += self.mixed_7a.outputs
        # The very last block adds its whole residual and keeps the sign.
        factors = (*(0.20,) * (depth[2] - 1), 1.0)[: depth[2]]
        self.block8 = repeated(n, BLOCK_8, factors, make, **how, last_keeps_sign=True)
        self.conv_7b = make.conv(n, C(1536, 1))
        self.features = make.channels(1536)
        draw_kernels(make.convs, rngs.params())

    def __call__(self, x: Float[Array, "n h w c"], *, train: bool) -> Float[Array, "n features"]:
        for _, stage in self._stages():
            x = stage(x, train=train)
        return global_mean(x)

    def intermediates(
        self, x: Float[Array, "n h w c"], names: Sequence[str] | None = None
    ) -> dict[str, Float[Array, ...]]:
        """Outputs of the blocks called `names` (all if None), in inference, in their order.

        The names are those of `block_names` and "features", the pooled output. Raises UserError
        for any other.
        """
        known = [*self.block_names, "features"]
        wanted = known if names is None else names
        for name in wanted:
            if name not in known:
                raise UserError(f"the backbone has no block {name}: there are {', '.join(known)}")
        outputs = {}
        for name, block in self.blocks():
            x = block(x, train=False)
            if name in wanted:
                outputs[name] = x
        if "features" in wanted:
            outputs["features"] = global_mean(x)
        return outputs

    @property
    def block_names(self) -> tuple[str, ...]:
        """Names of all blocks from input to output: stem, mixed_5b, block35_1, ..., conv_7b."""
        return tuple(name for name, _ in self.blocks())

    @property
    def depths(self) -> tuple[str, ...]:
        """Where each stage of the network ends, from shallow to deep; "features" last.

        The names are those of `intermediates`: mixed_5b, the last block35, mixed_6a, the last
        block17, mixed_7a, the last block8, as far as the network has them.
        """
        names = []
        for name, stage in self._stages():
            if not isinstance(stage, Repeated):
                names.append(name)
            elif stage.count:
                names.append(f"{name}_{stage.count}")
        return (*names[1:-1], "features")  # the stem is not asked for, and conv_7b ends in features

    def blocks(self) -> Iterator[tuple[str, Layer]]:
        """Every block with its name, from input to output, for inference one by one."""
        for name, stage in self._stages():
            if isinstance(stage, Repeated):
                for number in range(stage.count):
                    yield f"{name}_{number + 1}", stage.block(number)
            else:
                yield name, stage

    def _stages(self) -> Iterator[tuple[str, Layer]]:
        yield "stem", self.stem
        yield "mixed_5b", self._mixed_5b
        yield "block35", self.block35
        yield "mixed_6a", self._mixed_6a
        yield "block17", self.block17
        yield "mixed_7a", self._mixed_7a
        yield "block8", self.block8
        yield "conv_7b", self.conv_7b

    def _mixed_5b(self, x: Float[Array, "n h w c"], *, train: bool) -> Float[Array, "n h w c2"]:
        *convolutions, pooled = self.mixed_5b.branches
        outputs = [branch(x, train=train) for branch in convolutions]
        return jnp.concatenate([*outputs, pooled(average_pool(x), train=train)], axis=-1)

    def _mixed_6a(self, x: Float[Array, "n h w c"], *, train: bool) -> Float[Array, "n h2 w2 c2"]:
        return jnp.concatenate([self.mixed_6a(x, train=train), max_pool(x)], axis=-1)

    def _mixed_7a(self, x: Float[Array, "n h w c"], *, train: bool) -> Float[Array, "n h2 w2 c2"]:
        return jnp.concatenate([self.mixed_7a(x, train=train), max_pool(x)], axis=-1)


class Stem(nnx.Module):
    """The first convolutions: "full" is the paper's, the others keep more of a small image."""

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
                f"which wants {smallest} or more: use larger images or a smaller stem"
            )
        if self.kind == "full":
            x = self.conv_2a(self.conv_1a(x, train=train), train=train)
            x = max_pool(self.conv_2b(x, train=train))
            return max_pool(self.conv_4a(self.conv_3b(x, train=train), train=train))
        x = self.conv_2b(self.conv_1a(x, train=train), train=train)
        return self.conv_4a(x, train=train) if self.kind == "micro" else x


class Branches(nnx.Module):
    """Parallel chains of convolutions, concatenated; `outputs` counts their channels together."""

    def __init__(self, inputs: int, branches: list[Branch], make: Maker) -> None:
        self.branches = nnx.List([Chain(inputs, branch, make) for branch in branches])
        self.outputs = sum(make.channels(branch[-1].outputs) for branch in branches)

    def __call__(self, x: Float[Array, "n h w c"], *, train: bool) -> Float[Array, "n h2 w2 c2"]:
        return jnp.concatenate([branch(x, train=train) for branch in self.branches], axis=-1)


class Chain(nnx.Module):
    """Convolutions one after the other."""

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
    """Residual block: x + factor * projection(branches(x)), then ReLU where `rectify` is true."""

    def __init__(self, inputs: int, branches: list[Branch], make: Maker) -> None:
        self.mixed = Branches(inputs, branches, make)
        self.projection = make.projection(self.mixed.outputs, inputs)

    def __call__(
        self,
        x: Float[Array, "n h w c"],
        *,
        train: bool,
        factor: Float[Array, ""],
        rectify: Bool[Array, ""] | bool = True,
    ) -> Float[Array, "n h w c"]:
        x = x + factor * self.projection(self.mixed(x, train=train))
        return jax.nn.relu(x) if rectify is True else jnp.where(rectify, jax.nn.relu(x), x)


def repeated(
    inputs: int,
    branches: list[Branch],
    factors: tuple[float, ...],
    make: Maker,
    *,
    looped: bool,
    remat: bool,
    last_keeps_sign: bool = False,
) -> Repeated:
    """Residual blocks in a row, one for each factor."""
    own: dict[str, tuple[Any, ...]] = {"factor": factors}
    if last_keeps_sign:
        own["rectify"] = (*(True,) * (len(factors) - 1), False)[: len(factors)]
    stacked = replace(make, stacked=(len(factors),))
    block = Block(inputs, branches, stacked) if factors else None
    return Repeated(block, own, len(factors), looped=looped, remat=remat)


def scale_channels(channels: int, width: float) -> int:
    """`channels * width` rounded to a multiple of 8, at least 8; exact at width 1."""
    return max(8, 8 * math.floor(channels * width / 8 + 0.5))


def global_mean(x: Float[Array, "n h w c"]) -> Float[Array, "n c"]:
    """Mean over all pixels, in float32 or better."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32)).mean((1, 2))
