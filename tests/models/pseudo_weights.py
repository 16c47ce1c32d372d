"""Deterministic weights for Inception-ResNet-v2, the same on all platforms with NumPy."""

import zlib

import numpy as np


def pseudo_random(path: str, shape: tuple[int, ...]) -> np.ndarray:
    """Float32 weights for the array at `path`, e.g. "block35/0/mixed/branches/0/convs/0/bn/var"."""
    rng = np.random.default_rng(zlib.crc32(path.encode()))
    kind = path.rsplit("/", 1)[-1]
    if kind == "kernel":
        fan_in = np.prod(shape[:-1])
        values = rng.normal(size=shape) * np.sqrt(2 / fan_in)
    elif kind == "scale":  # keras.applications has no gamma
        values = np.ones(shape)
    elif kind == "var":
        values = rng.uniform(0.5, 1.5, shape)
    else:
        values = 0.1 * rng.normal(size=shape)
    return values.astype(np.float32)


def pseudo_gamma(path: str, shape: tuple[int, ...]) -> np.ndarray:
    """Float32 gammas in 0.5..1.5 for the array at `path`, e.g. "conv_7b/bn/scale"."""
    rng = np.random.default_rng(zlib.crc32(path.encode()))
    return rng.uniform(0.5, 1.5, shape).astype(np.float32)


def pseudo_images(count: int = 2, size: int = 96) -> np.ndarray:
    """Images in -1..1, float32 [count, size, size, 3]."""
    return np.random.default_rng(1).uniform(-1, 1, (count, size, size, 3)).astype(np.float32)


def layer_paths(depth: tuple[int, int, int] = (10, 20, 10)) -> list[str]:
    """Paths of all convolutions in the order in which Keras and timm create them.

    A path that ends in "projection" is a block's 1x1 convolution with bias; all others have batch
    normalisation.
    """

    def branches(name: str, lengths: tuple[int, ...]) -> list[str]:
        return [
            f"{name}/branches/{branch}/convs/{i}"
            for branch, length in enumerate(lengths)
            for i in range(length)
        ]

    def blocks(name: str, count: int, lengths: tuple[int, ...]) -> list[str]:
        return [
            path
            for i in range(count)
            for path in [*branches(f"{name}/{i}/mixed", lengths), f"{name}/{i}/projection"]
        ]

    return [
        *(f"stem/conv_{name}" for name in ("1a", "2a", "2b", "3b", "4a")),
        *branches("mixed_5b", (1, 2, 3, 1)),
        *blocks("block35", depth[0], (1, 2, 3)),
        *branches("mixed_6a", (1, 3)),
        *blocks("block17", depth[1], (1, 3)),
        *branches("mixed_7a", (2, 2, 3)),
        *blocks("block8", depth[2], (1, 3)),
        "conv_7b",
    ]
