"""Measures whether speed and memory stay constant on a long video, in `extract` or `predict`.

    python -m benchmarks flat --workdir=work/flat --frames=20000
    python -m benchmarks flat --workdir=work/flat --frames=20000 --predict

Writes a video of 320x240 pixels, unless it exists, which plays a clip of a generated person again
and again, forwards and backwards. Every frame is processed by the code of the stage `extract` or,
with --predict, by that of `predict`, with the starter, numbered people and smoothing. Prints, for
each thousand frames, milliseconds and processor milliseconds per frame, and the resident memory.
The exit code is 1 if memory or processor time per frame changes by 10 % or more between the second
thousand and the last.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from fer_jax import following, reading
from fer_jax.faces import shards, video
from fer_jax.recogniser import Recogniser
from fer_jax.schemas.faces import Crop, Detector, Limits, Negatives
from fer_jax.schemas.stages import Extract
from fer_jax.stages.render import write_clip

SIZE = 240, 320
WINDOW = 1000  # frames


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--frames", type=int, default=20000)
    parser.add_argument(
        "--min-face", type=int, default=40, help="smallest face in pixels, for extract"
    )
    parser.add_argument("--predict", action="store_true", help="read the video as predict does")
    options = parser.parse_args()
    path = options.workdir / f"{options.frames}.mp4"
    if not path.exists():
        write_video(path, options.frames)

    rows: list[tuple[int, float, float, float]] = []
    done = 0

    def progress(frames: int) -> None:
        nonlocal done
        before, done = done, done + frames
        if not before or before // WINDOW != done // WINDOW:
            rows.append((done, time.perf_counter(), time.process_time(), resident()))
            print(f"{done} frames, {rows[-1][3]:.0f} MB", flush=True)

    (read if options.predict else extract)(path, progress, options)
    table = by_window(rows)
    print(table.to_string(index=False))
    second, last = table.iloc[1], table.iloc[-1]
    changes = {name: last[name] / second[name] - 1 for name in ("cpu ms per frame", "MB")}
    print(", ".join(f"{name} {change:+.1%}" for name, change in changes.items()))
    sys.exit(any(abs(change) >= 0.1 for change in changes.values()))


def extract(path: Path, progress: Callable[[int], None], options: argparse.Namespace) -> None:
    config = Extract(
        stage="extract", videos=str(path), every_s=0.0, crop=Crop(size=80, margin=0.0),
        detector=Detector(min_face=options.min_face), negatives=Negatives(per_frame=1, floor=0.3),
        limits=Limits(), batch=8, workers=0, runner="", runner_options="", seed=0,
    )  # fmt: skip
    shard = options.workdir / "shard"
    shutil.rmtree(shard, ignore_errors=True)
    stats = shards.extract(shards.Job(path, path.name, shard, config), progress)
    print(f"{stats.frames} frames = {stats.with_faces} with faces + {stats.without_faces} without "
          f"+ {stats.failed} failed")  # fmt: skip


def read(path: Path, progress: Callable[[int], None], options: argparse.Namespace) -> None:
    sources = reading.find_sources(path, every_s=0.0).sources
    reader = reading.Reader(Recogniser.load(), sources, follow=following.follower())
    faces = 0
    for analysed in reader:
        faces += len(analysed.analysis.faces)
        progress(1)
    print(f"{faces} faces, {len(reader.skips.rows)} skipped")


def by_window(rows: list[tuple[int, float, float, float]]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["frames", "wall", "cpu", "MB"])
    steps = table.diff().iloc[1:]
    return pd.DataFrame(
        {
            "frames": table["frames"].iloc[1:],
            "ms per frame": (steps["wall"] / steps["frames"] * 1e3).round(2),
            "cpu ms per frame": (steps["cpu"] / steps["frames"] * 1e3).round(2),
            "MB": table["MB"].iloc[1:].round(1),
        }
    )


def resident() -> float:
    """The current resident memory of this process in MB (Linux only)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def write_video(path: Path, frames: int, person: int = 501) -> None:
    """Writes a video of 25 frames/s that repeats a clip, also backwards, in changing light."""
    path.parent.mkdir(parents=True, exist_ok=True)
    clip = path.with_name("clip.mp4")
    write_clip(clip, person, "happy", 0, 30, 10, SIZE)
    images = [frame.image for frame in video.sample_frames(clip, 0.0)]
    clip.unlink()
    images += images[::-1]

    def lit() -> Iterator[np.ndarray]:
        for number in range(frames):
            light = 1 + 0.2 * np.sin(number / 700)
            image = images[number % len(images)].astype(np.float32) * light
            yield np.clip(image, 0, 255).astype(np.uint8)

    video.write_video(path, 25, lit())


if __name__ == "__main__":
    main()
