"""The wheel in an environment of its own, with what it requires and nothing else.

The environment is in .venv-wheel. All tests and test processes share it; it is replaced if one of
the package's files changes. A package that is missing in pyproject.toml is missing there, even if
the environment of the tests has it. The versions are the pinned ones, so that a new release of a
package does not change what is tested. Ipykernel, which runs the notebooks, is in a folder of its
own, which only the notebooks see.
"""

import functools
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from fer_jax.locking import turn_in
from tests import documented

ROOT = Path(__file__).parents[1]
ENVIRONMENT = ROOT / ".venv-wheel"
KERNEL = ENVIRONMENT / "kernel"
PINS = ROOT / "requirements-dev.txt"
_SOURCES = (
    "fer_jax", "configs", "datasets", "pyproject.toml", "setup.py", "README.md", "LICENSE",
)  # fmt: skip
_PLACES = {"base": str(ENVIRONMENT), "platbase": str(ENVIRONMENT)}
PACKAGE = Path(sysconfig.get_path("purelib", vars=_PLACES), "fer_jax")
_PROGRAMS = Path(sysconfig.get_path("scripts", vars=_PLACES))
PYTHON = _PROGRAMS / "python"


@functools.cache
def install() -> None:
    """Makes the environment, unless it has the wheel of the repository's present files.

    Files that Git ignores are not part of the wheel. Packages come from pip's index or cache.
    """
    files = [name for name in documented.repository_files(*_SOURCES) if (ROOT / name).is_file()]
    digest = hashlib.sha256(sys.version.encode())
    for name in (*files, PINS, __file__):
        digest.update(f"\n{name}\n".encode() + (ROOT / name).read_bytes())
    ENVIRONMENT.mkdir(exist_ok=True)
    with turn_in(ENVIRONMENT):
        done = ENVIRONMENT / "done"
        if not done.exists() or done.read_text() != digest.hexdigest():
            _make(files)
            done.write_text(digest.hexdigest())


def _make(files: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "source")
        for name in files:
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
        offline = ["--no-deps", "--no-build-isolation", "--no-index"]
        _run("pip", "wheel", *offline, f"--wheel-dir={folder}", source)
        (built,) = Path(folder).glob("*.whl")
        _run("venv", "--clear", "--without-pip", ENVIRONMENT)
        pip = ["pip", f"--python={PYTHON}", "install", "--no-compile", "-c", PINS]
        _run(*pip, built)
        _run(*pip, f"--target={KERNEL}", "ipykernel")


def _run(module: str, *arguments: str | Path) -> None:
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, (command, done.stdout, done.stderr)


def run(folder: Path, program: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs a program of the environment, such as "python" or "fer-jax", in `folder`."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [_PROGRAMS / program, *arguments],
        cwd=folder,
        env=kept | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
