"""Is a frame ever lost when extraction is killed? Kills it again and again at random moments.

    python benchmarks/kill_extraction.py --workdir=work/kill_extraction --kills=100

Draws 36 short clips of generated people, extracts them once undisturbed, and then in folders where
SIGKILL meets the whole process group at a random moment of the extraction, and the same command is
given again, until the folder is done; then in the next folder, until there were enough kills.
Every finished folder is compared with the undisturbed one, byte for byte. Exit code 1 if any
differs. Further flags, as --config.workers=2, go to the stage.
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
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from fer_jax.people import write_clip, write_scene  # noqa: E402

CLIPS, SHAPE = 36, (12, 6, (120, 160))  # frames, frames a second, pixels
EMOTIONS = ("happy", "sad", "angry", "neutral")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--longest", type=float, default=15.0, help="seconds until a kill at most")
    parser.add_argument("--seed", type=int, default=0)
    options, flags = parser.parse_known_args()
    work = options.workdir.absolute()

    videos = draw(work / "videos")
    command = [sys.executable, "launch.py", "--config=configs/extract.py", *flags]
    command += [f"--config.videos={videos}", "--config.every_s=0.25"]
    subprocess.run([*command, f"--workdir={work / 'undisturbed'}"], cwd=ROOT, check=True)
    expected = contents(work / "undisturbed")

    dice = random.Random(options.seed)
    kills = folders = wrong = 0
    while kills < options.kills:
        folder = work / "killed"
        shutil.rmtree(folder, ignore_errors=True)
        here = 0
        while not (folder / "done.json").exists():
            after = dice.uniform(0, options.longest) if kills < options.kills else None
            killed = run([*command, f"--workdir={folder}"], folder, after)
            kills, here = kills + killed, here + killed
        found = contents(folder)
        differing = {n for n in expected.keys() | found.keys() if expected.get(n) != found.get(n)}
        folders, wrong = folders + 1, wrong + bool(differing)
        verdict = f"DIFFERENT: {sorted(differing)[:5]}" if differing else "equal"
        print(f"{kills} kills, {folders} folders; the last, killed {here} times: {verdict}",
              flush=True)  # fmt: skip
    print(f"{kills} kills over {CLIPS} videos: {folders - wrong} of {folders} folders equal")
    sys.exit(bool(wrong))


def draw(folder: Path) -> Path:
    """Clips of 33 people and three scenes without any."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(CLIPS):
        path = folder / f"{number:02d}.mp4"
        if path.exists():
            continue
        if number % 12 == 11:
            write_scene(path, number, *SHAPE)
        else:
            write_clip(path, 400 + number, EMOTIONS[number % 4], 0, *SHAPE)
    return folder


def run(command: list[str], folder: Path, after: float | None) -> bool:
    """Runs the stage; kills it `after` seconds from when it began on `folder`. Whether it did."""
    environment = folder / "environment.json"  # written last before the work begins
    before = environment.stat().st_mtime_ns if environment.exists() else None
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    if after is None:
        process.wait()
        return False
    while process.poll() is None and (
        not environment.exists() or environment.stat().st_mtime_ns == before
    ):
        time.sleep(0.01)
    deadline = time.time() + after
    while process.poll() is None and time.time() < deadline:
        time.sleep(0.01)
    ended = process.poll() is not None
    if not ended:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return not ended


def contents(folder: Path) -> dict[str, bytes]:
    """Every file that extraction writes, by name."""
    tables = [*folder.glob("*.parquet"), folder / "skipped.csv"]
    files = [*tables, *(p for p in (folder / "shards").rglob("*") if p.is_file())]
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


if __name__ == "__main__":
    main()
