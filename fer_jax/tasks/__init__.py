"""The tasks on which a network is trained, one file each, and `make` to build one by name."""

from fer_jax.tasks.task import Task, make

__all__ = ["Task", "make"]
