"""Is a frame ever lost when extraction is killed? Kills it again and again at random moments.

    python benchmarks/kill_extraction.py --workdir=work/kill_extraction --kills=100

Draws 36 short clips of generated people, extracts them once undisturbed, and then in folders where
SIGKILL meets the whole process group at a random moment, and the same command is given again, until
the folder is done; then in the next folder, until there were enough kills. The moment is up to
`--longest` seconds after none to four further videos were finished, since starting takes most of
the time and a moment drawn from all of it would seldom meet an extraction.
`--stand-in` puts a function that sees a face where it is bright in the place of the networks, whose
loading takes nearly all the time of a run that is killed soon: hundreds of kills then take minutes,
and what is tested, everything that is decoded, cut and written, stays the same.

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
    parser.add_argument("--longest", type=float, default=1.5, help="seconds, see below")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stand-in", action="store_true", help="in place of the networks")
    options, flags = parser.parse_known_args()
    work = options.workdir.absolute()

    videos = draw(work / "videos")
    program = [sys.executable, __file__ if options.stand_in else "launch.py"]
    command = [*program, "--config=configs/extract.py", *flags]
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
            enough = kills >= options.kills
            moment = None if enough else (dice.randrange(5), dice.uniform(0, options.longest))
            killed = run([*command, f"--workdir={folder}"], folder, moment)
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


def run(command: list[str], folder: Path, moment: tuple[int, float] | None) -> bool:
    """Runs the stage; kills it so many videos, and then seconds, on. Whether it was killed."""
    before = finished(folder)
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    if moment is None:
        process.wait()
        return False
    videos, seconds = moment
    while process.poll() is None and (
        finished(folder) < before + videos or not (folder / "environment.json").exists()
    ):
        time.sleep(0.01)
    deadline = time.time() + seconds
    while process.poll() is None and time.time() < deadline:
        time.sleep(0.01)
    if process.poll() is not None:
        return False
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return True


def finished(folder: Path) -> int:
    """Videos whose shard is whole."""
    return len(list(folder.glob("shards/[!.]*/stats.json")))


def contents(folder: Path) -> dict[str, bytes]:
    """Every file that extraction writes, by name."""
    tables = [*folder.glob("*.parquet"), folder / "skipped.csv"]
    files = [*tables, *(p for p in (folder / "shards").rglob("*") if p.is_file())]
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def run_with_stand_in() -> None:
    """launch.py, with a detector that needs no networks."""
    import numpy as np

    import launch
    from fer_jax.faces.mtcnn import Detector, Faces

    def detect(self: Detector, images: list[np.ndarray], *, floor: float = 0.0) -> list[Faces]:
        found = []
        for image in images:
            y, x = np.unravel_index(image[::4, ::4].sum(2).argmax(), image[::4, ::4].shape[:2])
            centre = np.clip([4.0 * x, 4.0 * y], 30, np.array(image.shape[1::-1]) - 30)
            box = np.concatenate([centre - 25, centre + 25])[None].astype(np.float32)
            points = np.array([[-10, -8], [10, -8], [0, 2], [-8, 12], [8, 12]]) + centre
            score = np.array([0.9 + float(image.mean()) / 2560], np.float32)
            found.append(Faces(box, score, points[None].astype(np.float32)))
        return found

    Detector.detect = detect  # type: ignore[assignment,method-assign]
    launch.app.run(launch.main, flags_parser=launch._parse_flags)


if __name__ == "__main__":
    if any(argument.startswith("--config=") for argument in sys.argv):
        run_with_stand_in()
    else:
        main()
