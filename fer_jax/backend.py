"""What has to be set in JAX before a stage runs: the compilation cache, and what it tells."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import jax


def compiler_options() -> dict[str, str | bool]:
    """What XLA is told for the programs of a network, by measurement (docs/results.md).

    On CPU, JAX 0.10 and 0.11 hand unpadded convolutions to YNNPACK, which takes up to 15 times as
    long for the gradients of large images' kernels as Eigen does; Eigen gets them back, and
    YNNPACK keeps the matrix products.
    """
    if jax.default_backend() != "cpu":
        return {}
    return {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"}


def prepare() -> None:
    """Keeps compiled programs between runs, so that a second start is quick.

    They lie in the folder that the environment variable JAX_COMPILATION_CACHE_DIR names, else
    in the user's cache folder.
    """
    logging.getLogger("jax").setLevel(logging.WARNING)  # it tells which accelerators are absent
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(base / "fer_jax" / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
