"""What a network learns, one small file each, and `make` to build one by its name."""

from fer_jax.tasks.task import Task, make

__all__ = ["Task", "make"]
