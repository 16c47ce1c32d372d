"""Kills extraction at random moments, and compares the result with an uninterrupted run.

    python -m benchmarks kill_extraction --workdir=work/kill_extraction --kills=100

Writes 36 short clips, most of them of generated people, and extracts them once without
interruption. Then it extracts them again and again, each time into a new folder: SIGKILL ends the
process group at a random moment, and the same command runs again until the folder is complete; the
next folder follows, until there have been `--kills` kills. A kill comes up to `--longest` seconds
after zero to four further videos were finished, since a moment drawn from the whole run would
mostly hit the imports.

`--stand-in` replaces the networks with a function that detects a face at the brightest place, and
forks the runs from a process that has imported everything. Hundreds of kills then take minutes, and
decoding, cropping and writing are tested as before.

The tables, skipped.csv and the shards in each finished folder are compared with those of the
uninterrupted run, byte for byte. The exit code is 1 if any differs. Without `--stand-in`, further
flags, such as --config.workers=2, go to the stage.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fer_jax.faces.mtcnn import Faces
from fer_jax.stages.render import write_clip, write_scene

ROOT = Path(__file__).parents[1]

# SHAPE: frames, frames per second, and (height, width) in pixels.
CLIPS, SHAPE = 36, (12, 6, (120, 160))
# Starts the stage in a folder; returns the process id, and a function that tells whether it ended.
Start = Callable[[Path], tuple[int, Callable[[], bool]]]
EMOTIONS = ("happy", "sad", "angry", "neutral")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument(
        "--minutes", type=float, default=1e9, help="stop killing after this many minutes"
    )
    parser.add_argument(
        "--longest", type=float, default=1.5, help="longest delay of a kill in seconds"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--stand-in", action="store_true", help="replace the networks, and fork the runs"
    )
    options, flags = parser.parse_known_args()
    work = options.workdir.absolute()

    videos = draw(work / "videos", CLIPS, SHAPE, scene_every=12)
    command = [sys.executable, "launch.py", "--config=configs/extract.py", *flags]
    command += [f"--config.videos={videos}", "--config.every_s=0.25"]
    start = forked(videos) if options.stand_in else in_a_process(command)
    run(start, work / "undisturbed", None)
    expected = contents(work / "undisturbed")

    dice = random.Random(options.seed)
    kills = folders = wrong = 0
    end = time.time() + 60 * options.minutes
    while kills < options.kills and time.time() < end:
        folder = work / "killed"
        shutil.rmtree(folder, ignore_errors=True)
        here = 0
        while not (folder / "done.json").exists():
            enough = kills >= options.kills or time.time() >= end
            moment = None if enough else (dice.randrange(5), dice.uniform(0, options.longest))
            killed = run(start, folder, moment)
            kills, here = kills + killed, here + killed
        found = contents(folder)
        differing = {n for n in expected.keys() | found.keys() if expected.get(n) != found.get(n)}
        folders, wrong = folders + 1, wrong + bool(differing)
        verdict = f"DIFFERENT: {sorted(differing)[:5]}" if differing else "equal"
        print(f"{kills} kills, {folders} folders; the last, killed {here} times: {verdict}",
              flush=True)  # fmt: skip
    print(f"{kills} kills over {CLIPS} videos: {folders - wrong} of {folders} folders equal")
    sys.exit(bool(wrong))


def draw(
    folder: Path, clips: int, shape: tuple[int, int, tuple[int, int]], *, scene_every: int
) -> Path:
    """Writes clips of one generated person each, but every `scene_every`-th without a person.

    Args:
        folder: the folder of the clips, which is also returned.
        clips: the number of clips; those that exist are kept.
        shape: frames, frames per second, and (height, width) in pixels.
        scene_every: the interval of clips without a person; with 12, these are the 12th, 24th, ...
    """
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(clips):
        path = folder / f"{number:03d}.mp4"
        if path.exists():
            continue
        if (number + 1) % scene_every:
            write_clip(path, 400 + number, EMOTIONS[number % 4], 0, *shape)
        else:
            write_scene(path, number, *shape)
    return folder


def run(start: Start, folder: Path, moment: tuple[int, float] | None) -> bool:
    """Runs the stage and kills it at `moment`; returns whether it was killed before its end.

    Args:
        start: starts the stage in a folder.
        folder: the workdir of the stage.
        moment: the number of further videos to wait for, and the seconds after them; None: the
            stage is not killed.
    """
    before = finished(folder)
    process, ended = start(folder)
    videos, seconds = moment or (CLIPS + 1, 0.0)
    while not ended() and (
        finished(folder) < before + videos or not (folder / "environment.json").exists()
    ):
        time.sleep(0.01)
    deadline = time.time() + seconds
    while not ended() and time.time() < deadline:
        time.sleep(0.01)
    if ended():
        return False
    os.killpg(process, signal.SIGKILL)
    while not ended():
        time.sleep(0.01)
    return True


def in_a_process(command: list[str]) -> Start:
    """A function that starts the stage as a user does, by `command` with a workdir."""

    def start(folder: Path) -> tuple[int, Callable[[], bool]]:
        process = subprocess.Popen(
            [*command, f"--workdir={folder}"],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        return process.pid, lambda: process.poll() is not None

    return start


def forked(videos: Path) -> Start:
    """A function that starts the stage in a fork, with `bright_places` in place of the networks."""
    from configs import extract as extract_config
    from fer_jax.faces.mtcnn import Detector
    from fer_jax.stages import extract

    config = extract_config.get_config()
    config.update({"videos": str(videos), "every_s": 0.25})
    Detector.detect = bright_places  # type: ignore[method-assign]

    def start(folder: Path) -> tuple[int, Callable[[], bool]]:
        process = os.fork()
        if not process:
            os.setsid()
            cv2.setNumThreads(1)
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, 1)
            os.dup2(nothing, 2)
            try:
                extract.run(config, folder)
            finally:
                os._exit(0)
        state = []

        def ended() -> bool:
            if not state and os.waitpid(process, os.WNOHANG)[0]:
                state.append(True)
            return bool(state)

        return process, ended

    return start


def bright_places(
    self: Any, images: list[np.ndarray], *, floor: float | None = None
) -> list[Faces]:
    """Replaces `Detector.detect`: returns one face per image, near its brightest place."""
    found = []
    for image in images:
        coarse = image[::4, ::4].sum(2)
        y, x = np.unravel_index(coarse.argmax(), coarse.shape)
        centre = np.clip([4.0 * x, 4.0 * y], 30, np.array(image.shape[1::-1]) - 30)
        box = np.concatenate([centre - 25, centre + 25])[None].astype(np.float32)
        points = np.array([[-10, -8], [10, -8], [0, 2], [-8, 12], [8, 12]]) + centre
        score = np.array([0.9 + float(image.mean()) / 2560], np.float32)
        found.append(Faces(box, score, points[None].astype(np.float32)))
    return found


def finished(folder: Path) -> int:
    """The number of videos whose shard is complete."""
    return len(list(folder.glob("shards/[!.]*/stats.json")))


def contents(folder: Path) -> dict[str, bytes]:
    """The content of the tables, skipped.csv and all files of the shards, by relative path."""
    tables = [*folder.glob("*.parquet"), folder / "skipped.csv"]
    files = [*tables, *(p for p in (folder / "shards").rglob("*") if p.is_file())]
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


if __name__ == "__main__":
    main()
