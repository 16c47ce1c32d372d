"""Runs a page of docs/: writes its files and runs its commands."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def files(page: str) -> dict[str, str]:
    """The code of each file that a page names."""
    text = (ROOT / "docs" / page).read_text()
    return dict(re.findall(r"[Tt]he file `(\S+)`:\n\n```python\n(.*?)```", text, re.DOTALL))


def commands(page: str) -> list[str]:
    """The blocks of shell commands."""
    return re.findall(r"```sh\n(.*?)```", (ROOT / "docs" / page).read_text(), re.DOTALL)


def run(page: str, folder: Path) -> None:
    """Writes the page's files into a copy of the repository at `folder`; runs its commands."""
    for name in ("fer_jax", "configs", "datasets"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "launch.py", folder)
    for name, code in files(page).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(code)
    python = Path(sys.executable).parent
    environment = os.environ | {"PATH": f"{python}{os.pathsep}{os.environ['PATH']}"}
    for block in commands(page):
        done = subprocess.run(
            ["bash", "-ec", block], cwd=folder, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, (block, done.stdout[-2000:], done.stderr[-2000:])
