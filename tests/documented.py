"""Finds the commands in documents, and runs the code of a page in docs/ as it is written."""

import ast
import itertools
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
FOLDERS = ("configs", "benchmarks")  # whose docstrings show commands
_PROGRAM = re.compile(
    r"(?:[A-Z_]+=\S+ )*"  # variables of the environment
    r"(?:\S*bin/)?(python3?|PEER_PYTHON|fer-jax|make|pip|srun|gcloud|git|docker|\S*\.ci/run)(?= |$)"
)
# Inline code that names a program without telling how to call it.
_MENTION = re.compile(r"\S+|python -m benchmarks \w+")
_SEED = re.compile(r"(?<=[=(])S\b")  # any number, as in "--config.seed=S"
_OPTIONAL = re.compile(r"\[[A-Z]+\]")  # an argument that may be left out, as in "serve [MODEL]"


def repository_files(*patterns: str) -> list[str]:
    """The matching files of the repository, tracked or new, relative to its root."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *patterns]
    found = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True)
    return found.stdout.split("\0")[:-1]


class Command(NamedTuple):
    """A documented command.

    Attributes:
        page: the file that shows it, relative to the repository.
        words: the command as a shell splits it, without comments.
        name: what the command runs, such as "configs/predict.py", "benchmarks coverage" or
            "make demo".
    """

    page: str
    words: tuple[str, ...]
    name: str

    @property
    def text(self) -> str:
        return shlex.join(self.words)


def all_commands() -> list[Command]:
    """The documented commands, each once per page.

    They are in code blocks and inline code of the Markdown files in the root and in docs/, and in
    the docstrings of configs and benchmarks.
    """
    found: dict[Command, None] = {}
    for file in (*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))):
        text = file.read_text("utf-8")
        fenced = re.findall(r"^```(\w*)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
        blocks = [block for language, block in fenced if language in ("", "sh")]
        text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
        blocks += re.findall(r"(?:^    .*\n)+", text, re.MULTILINE)
        inline = re.findall(r"`([^`\n]+)`", text)
        blocks += [_SEED.sub("0", code) for code in inline if not _MENTION.fullmatch(code)]
        found.update(dict.fromkeys(_commands(file, blocks)))
    for folder in FOLDERS:
        for file in sorted((ROOT / folder).glob("*.py")):
            text = ast.get_docstring(ast.parse(file.read_text("utf-8"))) or ""
            blocks = re.findall(r"(?:^    .*\n?)+", text + "\n", re.MULTILINE)
            found.update(dict.fromkeys(_commands(file, blocks)))
    return list(found)


def _commands(file: Path, blocks: list[str]) -> Iterator[Command]:
    page = str(file.relative_to(ROOT))
    for block in blocks:
        for line in re.sub(r"\\\n\s*", " ", block).splitlines():
            line = _OPTIONAL.sub("", line.strip()).removeprefix("$ ")
            if not _PROGRAM.match(line):
                continue
            words = shlex.split(line, comments=True)
            for joined, group in itertools.groupby(words, key="&&".__eq__):
                if not joined:
                    part = tuple(group)
                    yield Command(page, part, _name(part))


def _name(words: tuple[str, ...]) -> str:
    """The name of the program that a command runs, as in `Command.name`."""
    rest = [word for word in words if not re.match(r"[A-Z_]+=", word)]
    program = Path(rest[0]).name
    if rest[1:3] == ["-m", "benchmarks"]:
        return " ".join(rest[2:4])
    for word in rest:
        if word.startswith("--config=configs/"):
            return word.removeprefix("--config=").partition(":")[0]
    if "launch.py" in words:
        return "launch.py ..."
    if rest[1:2] == ["-m"]:
        return " ".join(("python", *rest[1:3]))
    if program == "fer-jax":
        return f"configs/{rest[1]}.py"
    return " ".join((program, *rest[1:2]))


def files(page: str) -> dict[str, str]:
    """The Python code of each file that a page of docs/ shows, by the name of the file."""
    text = (ROOT / "docs" / page).read_text()
    return dict(re.findall(r"[Tt]he file `(\S+)`:\n\n```python\n(.*?)```", text, re.DOTALL))


def commands(page: str) -> list[str]:
    """The blocks of shell commands in a page of docs/."""
    return re.findall(r"```sh\n(.*?)```", (ROOT / "docs" / page).read_text(), re.DOTALL)


def run(page: str, folder: Path) -> None:
    """Copies the code to `folder`, adds a page's files, and runs the page's commands there."""
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
