"""Checks that a tree of arrays has the names, shapes, types and checksums that were saved.

Neither Orbax nor TensorStore detects a flipped byte in the file of an array; wrong values are read
without an error. So a checksum of every array is stored with the arrays.
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
    """The description of an array; `crc32` is computed from its little-endian bytes in C order."""

    shape: list[int]
    dtype: str
    crc32: int


def describe(tree: Any) -> tuple[dict[str, Leaf], list[str]]:
    """The description of every leaf by path, and the paths of leaves that contain NaN or Inf.

    All processes that share an array must call it together.
    """
    arrays = {name: sharding.fetch(leaf) for name, leaf in named_leaves(tree).items()}
    with ThreadPoolExecutor() as threads:
        described = dict(zip(arrays, threads.map(_describe, arrays.values()), strict=True))
        finite = dict(zip(arrays, threads.map(_finite, arrays.values()), strict=True))
    return described, [name for name, good in finite.items() if not good]


def named_leaves(tree: Any) -> dict[str, Any]:
    """The leaves of `tree` by path, e.g. "parameters/backbone/stem/conv_1a/conv/kernel"."""
    pairs, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in pairs}


def misfits(saved: Mapping[str, Leaf], like: Any) -> list[str]:
    """The differences of the saved leaves from those of `like` in name, shape or type."""
    wanted = named_leaves(like)
    problems = [f"{name} is missing" for name in sorted(wanted.keys() - saved.keys())]
    problems += [f"{name} is unknown" for name in sorted(saved.keys() - wanted.keys())]
    for name in sorted(wanted.keys() & saved.keys()):
        was, now = saved[name], wanted[name]
        if (tuple(was["shape"]), was["dtype"]) != (np.shape(now), str(now.dtype)):
            problems.append(
                f"{name} is {was['dtype']} {was['shape']}, expected "
                f"{now.dtype} {list(np.shape(now))}"
            )
    return problems


def differences(saved: Mapping[str, Leaf], restored: Any) -> list[str]:
    """The paths of leaves of `restored` whose shape, type or checksum differs from `saved`."""
    described, _ = describe(restored)
    return [name for name, leaf in described.items() if leaf != saved[name]]


def seal(content: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of JSON-serialisable content with its checksum, which `unseal` verifies.

    It is a copy, since a checkpoint is written in the background while the content may change.
    """
    copy = json.loads(json.dumps(content))
    return {"sha256": _digest(copy), "content": copy}


def unseal(sealed: Any) -> dict[str, Any]:
    """The content of a sealed record.

    Raises:
        ValueError: it is not a sealed record, or its content was modified.
    """
    if not isinstance(sealed, dict) or sealed.keys() != {"sha256", "content"}:
        raise ValueError("it does not consist of a checksum (sha256) and its content")
    if sealed["sha256"] != _digest(sealed["content"]):
        raise ValueError("its checksum is wrong")
    return dict(sealed["content"])


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _describe(array: np.ndarray) -> Leaf:
    # As bytes, since NumPy's buffers do not support bfloat16.
    data = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
    return {"shape": list(array.shape), "dtype": str(array.dtype), "crc32": zlib.crc32(data)}


def _finite(array: np.ndarray) -> bool:
    if not jax.numpy.issubdtype(array.dtype, jax.numpy.floating):
        return True
    return bool(np.isfinite(array).all())
