r"""Measures the stage `extract` of this revision and of an earlier one on the same videos.

    python -m benchmarks extraction_speed --videos=CLIPS --earlier=EARLIER --workdir=WORK/speed
    python -m benchmarks extraction_speed --generated=60 --earlier=EARLIER --workdir=WORK/speed

--generated=MINUTES writes twelve videos of generated people, which last MINUTES in all. EARLIER is
a checkout of the earlier revision. In each round, `launch.py --config=configs/extract.py` runs with
its defaults at both revisions, and at this revision also with a `min_face` of 20 pixels, the former
default; the runs alternate, so that other work on the machine affects all of them equally. Each of
the three has a separate compilation cache, which is empty in the first round. Times are those of
the whole process. Prints seconds and processor seconds of the first round and of the later ones
(medians), the number of faces, and the ratios to the earlier revision.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.flat import write_video

ROOT = Path(__file__).parents[1]
_FILES = 12  # number of generated videos


@dataclass
class Variant:
    """A checkout, the flags of its command, its times by round, and the faces in the last round."""

    name: str
    checkout: Path
    flags: tuple[str, ...] = ()
    seconds: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)
    faces: int = 0

    def run(self, videos: Path, workdir: Path) -> None:
        """Extracts all videos once, and records the times and the number of faces."""
        out = workdir / self.name
        shutil.rmtree(out, ignore_errors=True)
        started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [
                *(sys.executable, "launch.py", "--config=configs/extract.py"),
                *(f"--config.videos={videos}", f"--workdir={out}", *self.flags),
            ],
            cwd=self.checkout,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"JAX_COMPILATION_CACHE_DIR": str(workdir / f"cache-{self.name}")},
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.seconds.append(time.perf_counter() - started)
        self.processor.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        self.faces = len(pd.read_parquet(out / "manifest.parquet"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("--videos", type=Path)
    given.add_argument("--generated", type=int, metavar="MINUTES")
    parser.add_argument(
        "--earlier", type=Path, required=True, help="a checkout of the earlier revision"
    )
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    flags = parser.parse_args()
    workdir = flags.workdir.absolute()
    workdir.mkdir(parents=True, exist_ok=True)
    if flags.generated:
        videos = workdir / f"{flags.generated}_minutes"
        for number in range(_FILES):
            path = videos / f"{number:02}.mp4"
            if not path.exists():
                write_video(path, flags.generated * 60 * 25 // _FILES, person=501 + number)
    else:
        videos = flags.videos.absolute()
    variants = [
        Variant("earlier", flags.earlier.absolute()),
        Variant("now", ROOT),
        Variant("now-min-face-20", ROOT, ("--config.detector.min_face=20",)),
    ]
    for variant in variants:
        shutil.rmtree(workdir / f"cache-{variant.name}", ignore_errors=True)
    for _ in range(flags.rounds):
        for variant in variants:
            variant.run(videos, workdir)
    print("\n".join(table(variants)))


def table(variants: list[Variant]) -> list[str]:
    """The lines of a Markdown table, with the speed-up of each variant over the first one."""
    lines = [
        "| | s, first round | s, later | processor s, first | processor s, later | faces | "
        "times as fast, first | later | by processor time, first | later |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    first, *_ = variants

    def row(values: list[float]) -> tuple[float, float]:
        return values[0], float(np.median(values[1:] or values))

    for one in variants:
        wall, used = row(one.seconds), row(one.processor)
        faster = np.divide(row(first.seconds), wall)
        cheaper = np.divide(row(first.processor), used)
        lines.append(
            f"| {one.name} | {wall[0]:.1f} | {wall[1]:.1f} | {used[0]:.1f} | {used[1]:.1f} | "
            f"{one.faces} | {faster[0]:.2f} | {faster[1]:.2f} | {cheaper[0]:.2f} | "
            f"{cheaper[1]:.2f} |"
        )
    return lines


if __name__ == "__main__":
    main()
