"""Placement of arrays on a mesh ("data", "fsdp") of all devices of all processes."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from fer_jax.errors import UserError


def make_mesh(fsdp: int = 1) -> Mesh:
    """A mesh of all devices, in which each group of `fsdp` devices shares a copy of the parameters.

    Raises:
        UserError: the number of devices is not a multiple of `fsdp`.
    """
    devices = jax.device_count()
    if devices % fsdp:
        raise UserError(
            f"--config.fsdp={fsdp} does not divide the number of devices, {devices}; use a divisor"
        )
    auto = jax.sharding.AxisType.Auto
    return jax.make_mesh((devices // fsdp, fsdp), ("data", "fsdp"), axis_types=(auto, auto))


def state_shardings(state: Any, mesh: Mesh) -> Any:
    """The sharding of each leaf: split over "fsdp" along its largest axis that can be divided.

    Leaves without such an axis are replicated, as are all leaves if "fsdp" has size 1.
    """
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
    """Copies host arrays, which must be equal in all processes, to the devices in `shardings`."""

    def place(leaf: Any, sharding: NamedSharding) -> jax.Array:
        values = np.asarray(leaf)
        return jax.make_array_from_callback(values.shape, sharding, lambda index: values[index])

    return jax.tree.map(place, tree, shardings)


def fetch(leaf: jax.Array | np.ndarray) -> np.ndarray:
    """Fetches all values of an array to this host; all processes must call this together."""
    if isinstance(leaf, np.ndarray) or leaf.is_fully_addressable or leaf.is_fully_replicated:
        return np.asarray(leaf)
    return np.asarray(multihost_utils.process_allgather(leaf, tiled=True))


def shard() -> tuple[int, int]:
    """This process's index, which determines its part of a batch, and the number of processes."""
    return jax.process_index(), jax.process_count()


def put_batch(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Puts a batch on all devices, split along the first axis; each process passes its part."""
    sharding = NamedSharding(mesh, PartitionSpec(("data", "fsdp")))
    return {
        name: jax.make_array_from_process_local_data(sharding, array)
        for name, array in batch.items()
    }


def check_batch_size(batch_size: int, mesh: Mesh) -> None:
    """Checks that a batch can be divided equally between the devices.

    Raises:
        UserError: the batch size is not a multiple of the number of devices.
    """
    if batch_size % mesh.size:
        near = -(-batch_size // mesh.size) * mesh.size
        raise UserError(
            f"--config.batch_size={batch_size} cannot be divided between {mesh.size} devices; "
            f"use {near}, for example"
        )


def local_batch_size(batch_size: int) -> int:
    """The number of examples in the part of a batch that this process reads."""
    return batch_size // jax.process_count()
