"""Is a tree of arrays the one that was saved? Names, shapes, types and a checksum of each leaf.

Neither Orbax nor TensorStore notices a flipped byte in the file of an array: the wrong values are
read without a word. So a checksum of every leaf is kept beside them.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypedDict

import jax
import numpy as np

from fer_jax.training import sharding


class Leaf(TypedDict):
    """What is known of an array; `crc32` over its bytes in C order, little-endian."""

    shape: list[int]
    dtype: str
    crc32: int


def describe(tree: Any) -> tuple[dict[str, Leaf], list[str]]:
    """Every leaf by its path, and the paths of those that hold a NaN or an Inf.

    Processes that share an array take part together.
    """
    arrays = {name: sharding.fetch(leaf) for name, leaf in named_leaves(tree).items()}
    with ThreadPoolExecutor() as threads:
        described = dict(zip(arrays, threads.map(_describe, arrays.values()), strict=True))
        finite = dict(zip(arrays, threads.map(_finite, arrays.values()), strict=True))
    return described, [name for name, good in finite.items() if not good]


def named_leaves(tree: Any) -> dict[str, Any]:
    """Leaves by path, as "parameters/backbone/stem/0/conv/kernel"."""
    pairs, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in pairs}


def misfits(saved: Mapping[str, Leaf], like: Any) -> list[str]:
    """How the saved leaves differ from those of `like` in name, shape or type."""
    wanted = named_leaves(like)
    problems = [f"{name} is missing" for name in sorted(wanted.keys() - saved.keys())]
    problems += [f"{name} is not wanted" for name in sorted(saved.keys() - wanted.keys())]
    for name in sorted(wanted.keys() & saved.keys()):
        was, now = saved[name], wanted[name]
        if (tuple(was["shape"]), was["dtype"]) != (np.shape(now), str(now.dtype)):
            problems.append(
                f"{name} is {was['dtype']} {was['shape']} and should be "
                f"{now.dtype} {list(np.shape(now))}"
            )
    return problems


def differences(saved: Mapping[str, Leaf], restored: Any) -> list[str]:
    """The paths of leaves whose bytes are not those that were saved."""
    described, _ = describe(restored)
    return [name for name, leaf in described.items() if leaf != saved[name]]


def seal(content: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of JSON-able content with a checksum of itself; `unseal` checks it.

    A copy, since a checkpoint is written in the background while the loop goes on counting.
    """
    copy = json.loads(json.dumps(content))
    return {"sha256": _digest(copy), "content": copy}


def unseal(sealed: Any) -> dict[str, Any]:
    """The content that was sealed.

    Raises:
        ValueError: it was altered.
    """
    if not isinstance(sealed, dict) or sealed.keys() != {"sha256", "content"}:
        raise ValueError("it is no sealed record")
    if sealed["sha256"] != _digest(sealed["content"]):
        raise ValueError("its checksum is wrong")
    return dict(sealed["content"])


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _describe(array: np.ndarray) -> Leaf:
    # As bytes: NumPy's buffers know no bfloat16.
    data = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
    return {"shape": list(array.shape), "dtype": str(array.dtype), "crc32": zlib.crc32(data)}


def _finite(array: np.ndarray) -> bool:
    if not jax.numpy.issubdtype(array.dtype, jax.numpy.floating):
        return True
    return bool(np.isfinite(array).all())
