r"""Measures the time to the first answer of a new process, without and with compiled programs.

    python -m benchmarks first_answers
    python -m benchmarks first_answers --earlier=EARLIER --rounds=5

EARLIER is a checkout of an earlier revision, which is measured in turn with this one, so that
other work on the machine affects both. Each measurement is a new process, timed from the start of
Python; photographs and videos show generated people. "Cold" is with an empty compilation cache,
"warm" with the cache that the preceding cold run of the same case and revision filled. Cases:

- `import fer_jax`, which needs no cache;
- `fer-jax predict photo.jpg`, the whole command, on a photograph of 960×1280 pixels;
- `fer_jax.read(photo)`: the same from Python;
- serve: the first answer of the web page about the photograph, from the start of the command;
- video: the rows of the first frames of a video of 480×640 pixels, read from Python;
- extract: the first frames of the stage `extract`, on the same video;
- train: the first step of the stage `train`, for the task rotation and the small network
  on pictures of 48 pixels.

Prints medians of the seconds to the answer and of the processor seconds of the whole process, which
for `extract` and `train` continues after the answer.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fer_jax.faces.drawing import write_image
from fer_jax.people import EMOTIONS, photograph
from fer_jax.stages.render import write_clip

ROOT = Path(__file__).parents[1]
_READ = "import sys, fer_jax; fer_jax.read(sys.argv[1], progress=False)"
_FIRST_ROWS = """
import sys
from fer_jax import backend
from fer_jax.reading import Reader, find_sources
from fer_jax.recogniser import Recogniser
backend.keep_compiled()
recogniser = Recogniser.load("starter")
reader = Reader(recogniser, find_sources(sys.argv[1], every_s=0.2).sources)
assert next(iter(reader)).readings(recogniser.labels)
"""
# The page accepts only requests with its own address as the origin.
_FIRST_PAGE = """
import re, subprocess, sys, urllib.request
command = [sys.executable, "-m", "fer_jax", "serve", "--port=0"]
with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
    try:
        lines = (re.search("http://[^/]+", line) for line in server.stdout)
        address = next(found[0] for found in lines if found)
        picture = open(sys.argv[1], "rb").read()
        headers = {"Origin": address, "Content-Type": "image/jpeg"}
        request = urllib.request.Request(address + "/api/picture", picture, headers)
        assert b"probabilities" in urllib.request.urlopen(request).read()
    finally:
        server.terminate()
"""


@dataclass(frozen=True)
class Used:
    """Measurements of one process: seconds to its answer, and processor seconds to its end."""

    seconds: float
    processor: float


@dataclass(frozen=True)
class Case:
    """One kind of first answer.

    Attributes:
        name: the name of the case in the table.
        arguments: the arguments of Python, in which {photo}, {video}, {faces} and {workdir} are
            replaced by paths.
        answered: takes the workdir and returns the time of the answer, in seconds since the epoch;
            None if the answer comes at the end of the process.
        compiles: whether the case compiles anything.
    """

    name: str
    arguments: tuple[str, ...]
    answered: Callable[[Path], float] | None = None
    compiles: bool = True


def first_step(workdir: Path) -> float:
    """The time at which the first training step was logged, in seconds since the epoch."""
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return float(next(line["time"] for line in lines if line.get("step") == 1))


def first_frame(workdir: Path) -> float:
    """The time of the end of the first search for faces, in seconds since the epoch.

    It is accurate to some milliseconds.
    """
    began = (workdir / "environment.json").stat().st_mtime  # written just before the work begins
    summary = json.loads((workdir / "done.json").read_text())["summary"]
    return began + float(summary["time_to_first_frame_s"])


_STAGE = ("-m", "fer_jax")
_WORKDIR = "--workdir={workdir}"
_ONE_STEP = ("--data.config=all", "--epochs=0.01", "--log_every=1")
CASES = {
    "import": Case("`import fer_jax`", ("-c", "import fer_jax"), compiles=False),
    "predict": Case("`fer-jax predict photo.jpg`", (*_STAGE, "predict", "{photo}", _WORKDIR)),
    "read": Case("`fer_jax.read(photo)`", ("-c", _READ, "{photo}")),
    "serve": Case("serve: first picture", ("-c", _FIRST_PAGE, "{photo}")),
    "video": Case("video: first rows", ("-c", _FIRST_ROWS, "{video}")),
    "extract": Case(
        "extract: first frames",
        (*_STAGE, "extract", "--videos={video}", "--every_s=0.0", _WORKDIR),
        first_frame,
    ),
    "train": Case(
        "train: first step",
        (*_STAGE, "pretrain:rotation", "--data.root={faces}", *_ONE_STEP, _WORKDIR),
        first_step,
    ),
}


@dataclass
class Variant:
    """A checkout; `used` contains measurements by case name and by whether the cache was warm."""

    name: str
    checkout: Path
    used: dict[tuple[str, bool], list[Used]] = field(default_factory=dict)

    def measure(self, case: Case, material: dict[str, Path], folder: Path) -> None:
        """Runs a case with an empty cache and, if it compiles anything, again.

        The second run uses the cache that the first one filled.
        """
        cache = folder / f"cache-{self.name}"
        shutil.rmtree(cache, ignore_errors=True)
        for warm in (False, True) if case.compiles else (False,):
            one = run(case, self.checkout, cache, material, folder / f"work-{self.name}")
            self.used.setdefault((case.name, warm), []).append(one)


def run(case: Case, checkout: Path, cache: Path, material: dict[str, Path], workdir: Path) -> Used:
    """Runs a case in a new process.

    Raises:
        SystemExit: the process failed; its errors are shown.
    """
    shutil.rmtree(workdir, ignore_errors=True)
    places = {"{workdir}": workdir, **{f"{{{name}}}": path for name, path in material.items()}}
    command = [sys.executable, *case.arguments]
    for place, path in places.items():
        command = [word.replace(place, str(path)) for word in command]
    started, before = time.time(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        command,
        cwd=checkout,
        env=os.environ | {"JAX_COMPILATION_CACHE_DIR": str(cache)},
        capture_output=True,
        text=True,
    )
    ended, after = time.time(), resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"{case.name} failed in {checkout}:\n{done.stderr}")
    return Used(
        (case.answered(workdir) if case.answered else ended) - started,
        after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
    )


def prepare(folder: Path, *, training: bool) -> dict[str, Path]:
    """Writes a photograph, a video and, if `training`, faces; returns their paths by name."""
    photo, video, people = folder / "photo.jpg", folder / "video.mp4", folder / "people"
    write_image(photo, photograph(1, "happy", 0, (960, 1280)))
    write_clip(video, 1, "happy", 0, frames=24, fps=6, size=(480, 640))
    material = {"photo": photo, "video": video, "faces": folder / "faces"}
    if not training:
        return material
    people.mkdir()
    for number, emotion in enumerate(EMOTIONS):
        write_clip(people / f"{number}.mp4", number, emotion, 0, frames=36, fps=6, size=(240, 320))
    extract = (*_STAGE, "extract", f"--videos={people}", "--every_s=0.0", _WORKDIR)
    run(Case("extract", extract), ROOT, folder / "cache", material, material["faces"])
    # The first training on these faces also writes records, which takes time only once.
    run(CASES["train"], ROOT, folder / "cache", material, folder / "trained")
    return material


def table(variants: Sequence[Variant]) -> list[str]:
    """The lines of a Markdown table of medians over the rounds, a row per case and revision."""
    lines = [
        "| | revision | s, cold | s, warm | processor s, cold | processor s, warm |",
        "|---|---|---|---|---|---|",
    ]
    for case in CASES.values():
        for variant in variants:
            if not any(name == case.name for name, _ in variant.used):
                continue
            runs = [variant.used.get((case.name, warm), []) for warm in (False, True)]
            seconds = " | ".join(_median([one.seconds for one in some]) for some in runs)
            processor = " | ".join(_median([one.processor for one in some]) for some in runs)
            lines.append(f"| {case.name} | {variant.name} | {seconds} | {processor} |")
    return lines


def _median(values: Sequence[float]) -> str:
    return f"{np.median(values):.2f}" if values else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--earlier", type=Path, help="a checkout of an earlier revision")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    flags = parser.parse_args()
    variants = [Variant("now", ROOT)]
    if flags.earlier:
        variants.insert(0, Variant("earlier", flags.earlier.absolute()))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        material = prepare(folder, training="train" in flags.cases)
        for _ in range(flags.rounds):
            for case in map(CASES.__getitem__, flags.cases):
                for variant in variants:
                    variant.measure(case, material, folder)
    print("\n".join(table(variants)))


if __name__ == "__main__":
    main()
