"""The software versions, devices and git revision that are recorded to reproduce a run."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from fer_jax import __version__

_PACKAGES = (
    "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "tensorflow-datasets",
    "numpy", "scipy", "scikit-learn", "pandas", "opencv-python", "av", "mtcnn",
)  # fmt: skip
_NO_CHECKOUT = "no git checkout"


def environment() -> dict[str, Any]:
    """The content of `environment.json`; initialises JAX's backend."""
    import jax

    return {
        "fer_jax": __version__,
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "devices": [f"{device.platform}:{device.device_kind}" for device in jax.devices()],
        "process_count": jax.process_count(),
        "git_revision": git_revision(),
        "packages": {package: version(package) for package in _PACKAGES},
    }


def versions() -> dict[str, str]:
    """The versions of fer_jax, Python and the main packages, for error reports.

    The packages are not imported.
    """
    ours = {"fer_jax": __version__, "python": sys.version.split()[0]}
    return ours | {package: version(package) for package in ("jax", "jaxlib", "flax", "numpy")}


@functools.cache
def git_revision(package: Path = Path(__file__).parent) -> str:
    """The git revision of the checkout that contains `package`; else "no git checkout".

    The revision ends with "-dirty" if tracked files were changed.

    An installed copy may be inside the repository of another project, for example in its virtual
    environment. So a repository counts only if `package` is directly below its top level and
    tracked in it. The result is cached for the process.
    """
    try:
        top = Path(_git(package, "rev-parse", "--show-toplevel"))
        _git(package, "ls-files", "--error-unmatch", "__init__.py")
        if not top.samefile(package.parent):
            return _NO_CHECKOUT
        return _git(package, "describe", "--always", "--dirty", "--abbrev=12")
    except (OSError, ValueError, subprocess.SubprocessError):
        return _NO_CHECKOUT


def _git(folder: Path, *arguments: str) -> str:
    # With GIT_DIR set, as in a hook, git would describe another repository.
    variables = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    result = subprocess.run(
        ["git", *arguments],
        cwd=folder,
        env=variables,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    return result.stdout.strip()


@functools.cache
def version(package: str) -> str:
    """The version of a package; "absent" if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "absent"
