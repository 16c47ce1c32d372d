"""Where arrays lie: a mesh ("data", "fsdp") over all devices of all processes."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from fer_jax.errors import UserError


def make_mesh(fsdp: int = 1) -> Mesh:
    """All devices; `fsdp` of them share one copy of the parameters, the rest of them copies.

    Raises:
        UserError: the number of devices is no multiple of `fsdp`.
    """
    devices = jax.device_count()
    if devices % fsdp:
        raise UserError(f"config.fsdp={fsdp} does not divide the {devices} devices")
    auto = jax.sharding.AxisType.Auto
    return jax.make_mesh((devices // fsdp, fsdp), ("data", "fsdp"), axis_types=(auto, auto))


def state_shardings(state: Any, mesh: Mesh) -> Any:
    """Each leaf split over "fsdp" along its largest axis that divides, else on every device."""
    parts = mesh.shape["fsdp"]

    def shard(leaf: Any) -> NamedSharding:
        spec: list[str | None] = [None] * np.ndim(leaf)
        for axis in sorted(range(np.ndim(leaf)), key=lambda axis: -np.shape(leaf)[axis]):
            if parts > 1 and np.shape(leaf)[axis] % parts == 0:
                spec[axis] = "fsdp"
                return NamedSharding(mesh, PartitionSpec(*spec))
        return NamedSharding(mesh, PartitionSpec())

    return jax.tree.map(shard, state)


def put(tree: Any, shardings: Any) -> Any:
    """Host arrays onto the devices of the mesh; every process holds the same values."""

    def place(leaf: Any, sharding: NamedSharding) -> jax.Array:
        values = np.asarray(leaf)
        return jax.make_array_from_callback(values.shape, sharding, lambda index: values[index])

    return jax.tree.map(place, tree, shardings)


def fetch(leaf: jax.Array | np.ndarray) -> np.ndarray:
    """All values of an array on this host; every process gets them, so all must ask."""
    if isinstance(leaf, np.ndarray) or leaf.is_fully_addressable or leaf.is_fully_replicated:
        return np.asarray(leaf)
    return np.asarray(multihost_utils.process_allgather(leaf, tiled=True))


def shard() -> tuple[int, int]:
    """Which part of every batch this process reads, and of how many."""
    return jax.process_index(), jax.process_count()


def put_batch(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """This process's part of a batch, split along its first axis over all devices."""
    sharding = NamedSharding(mesh, PartitionSpec(("data", "fsdp")))
    return {
        name: jax.make_array_from_process_local_data(sharding, array)
        for name, array in batch.items()
    }


def check_batch_size(batch_size: int, mesh: Mesh) -> None:
    """Raises `UserError` unless the devices can share a batch equally."""
    if batch_size % mesh.size:
        near = -(-batch_size // mesh.size) * mesh.size
        raise UserError(
            f"config.batch_size={batch_size} does not split over {mesh.size} devices; "
            f"take {near}, for instance"
        )


def local_batch_size(batch_size: int) -> int:
    """This process's share of a batch, which `check_batch_size` found to split equally."""
    return batch_size // jax.process_count()
