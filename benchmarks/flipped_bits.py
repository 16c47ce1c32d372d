"""Measures how often a flipped bit in a checkpoint is detected, by Orbax and by fer_jax.

    python -m benchmarks flipped_bits --flips=400

For each flip, copies a small checkpoint, flips a random bit of one of its files, and restores it
with Orbax alone and with `fer_jax.training.checkpoint`, which verifies checksums. Prints, for each
of the two and each file, how many flips led to an error, to the saved values ("same") and to other
values ("WRONG"). The exit code is 1 if `fer_jax.training.checkpoint` returned other values.
"""

from __future__ import annotations

import argparse
import collections
import random
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from fer_jax.training import checkpoint

STEP = 7


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--flips", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    sys.unraisablehook = lambda _: None  # TensorStore reports to event loops that are closed
    state = {
        "step": jnp.int32(STEP),
        "kernel": jax.random.normal(jax.random.key(0), (64, 64)),
        "ramp": jnp.arange(5000.0),
        "bias": jnp.ones(3),
    }
    with tempfile.TemporaryDirectory() as there:
        whole, damaged = Path(there) / "whole", Path(there) / "damaged"
        with checkpoint.Checkpoints(whole) as checkpoints:
            checkpoints.save(state, {"iterator": {"next_batch": 7}})
        counts = flip(state, whole / str(STEP), damaged / str(STEP), options)
    kinds = ("error", "same", "WRONG")
    print(f"{'read by':10s}{'file':28s}" + "".join(f"{kind:>8s}" for kind in kinds))
    for reader, file in sorted({key[:2] for key in counts}):
        row = "".join(f"{counts[reader, file, kind]:8d}" for kind in kinds)
        print(f"{reader:10s}{file:28s}{row}")
    sys.exit(any(reader == "fer_jax" and kind == "WRONG" for reader, _, kind in counts))


def flip(
    state: Any, whole: Path, damaged: Path, options: argparse.Namespace
) -> collections.Counter[tuple[str, str, str]]:
    dice = random.Random(options.seed)
    files = [path for path in sorted(whole.rglob("*")) if path.is_file() and path.stat().st_size]
    counts: collections.Counter[tuple[str, str, str]] = collections.Counter()
    readers: dict[str, Callable[[Path, Any], Any]] = {"orbax": by_orbax, "fer_jax": by_us}
    for _ in range(options.flips):
        shutil.rmtree(damaged, ignore_errors=True)
        shutil.copytree(whole, damaged)
        file = damaged / dice.choice(files).relative_to(whole)
        data = bytearray(file.read_bytes())
        data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
        file.write_bytes(data)
        parts = file.relative_to(damaged).parts
        name = "/".join("*" if len(part) == 32 else part for part in parts[1:] or parts)
        for reader, read in readers.items():
            counts[reader, name, outcome(read, damaged, state)] += 1
    return counts


def outcome(read: Callable[[Path, Any], Any], path: Path, state: Any) -> str:
    try:
        restored = read(path, state)
    except Exception:
        return "error"
    pairs = zip(jax.tree.leaves(restored), jax.tree.leaves(state), strict=True)
    return "same" if all(np.array_equal(a, b) for a, b in pairs) else "WRONG"


def by_orbax(path: Path, state: Any) -> Any:
    like = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state
    )
    with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as reader:
        return reader.restore(path / "state", args=ocp.args.StandardRestore(like))


def by_us(path: Path, state: Any) -> Any:
    restored, reason = checkpoint._attempt(path, state)
    if restored is None:
        raise ValueError(reason)
    return restored.state


if __name__ == "__main__":
    main()
