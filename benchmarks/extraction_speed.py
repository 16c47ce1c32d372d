r"""Measures `extract` of this revision, an earlier one and other detectors on the same videos.

    python -m benchmarks extraction_speed --videos=CLIPS --earlier=EARLIER --workdir=WORK/speed \
        --mtcnn=PYTHON --facenet=PYTHON
    python -m benchmarks extraction_speed --generated=60 --earlier=EARLIER --workdir=WORK/speed \
        --mtcnn=PYTHON --facenet=PYTHON --peer-frames=75

--generated=MINUTES writes twelve videos of generated people, which last MINUTES in all. EARLIER is
a checkout of the earlier revision. In each round, `launch.py --config=configs/extract.py` runs with
its defaults at both revisions, and at this revision also with a `min_face` of 20 pixels, the former
default; the runs alternate, so that other work on the machine affects all of them equally. Each of
the three has a separate compilation cache, which is empty in the first round. Times are those of
the whole process. Prints seconds and processor seconds of the first round and of the later ones
(medians), the number of faces, and the ratios to the earlier revision.

With --mtcnn or --facenet, each round then runs our detector and these peers, one after another
on each video, in batches of frames of this video. PYTHON is that of an environment with the
packages of benchmarks/requirements-mtcnn.txt or benchmarks/requirements-facenet.txt. The frames are
those that `extract` samples, at full size; minimum face (20 pixels) and thresholds are equal. With
--peer-frames=N, only every 2nd, 4th, 8th ... of them is searched, so that each video has at most N.
Prints for each detector frames/s and processor milliseconds per frame (medians of the rounds) of

- "detection": detection alone, on decoded frames, after an untimed search that compiles;
- "decoding + detection": our decoding and then this detection. A user of the peer needs at least
  these two; `extract` also aligns and writes faces;
- "extract": the whole process with a `min_face` of 20 pixels (medians of the later rounds),

and how many times as fast ours is: our detection compared with "detection", and our `extract` with
"decoding + detection". Prints also the number of faces, how many of our faces the peer also found
and how many of its faces ours also found (IoU over 0.5).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd

from benchmarks import detection_peers
from benchmarks.detection_speed import Timed, also_found, ours, with_peer
from benchmarks.flat import write_video
from configs import extract
from fer_jax.faces.video import VideoError, list_videos, sample_frames

ROOT = Path(__file__).parents[1]
_FILES = 12  # number of generated videos
_Any = TypeVar("_Any")


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


class Detection:
    """Searches the frames that `extract` samples with several detectors, in rounds.

    Attributes:
        detectors: the detectors by name; the first is "ours".
        most: the maximum number of frames of each video that are searched; None: no maximum.
        decoding: seconds and processor seconds per sampled frame, by round.
        spent: for each detector, seconds and processor seconds per searched frame, by round.
        sampled, searched: the number of frames in the last round.
        found: for each detector, the boxes [N, 4] in each searched frame of the last round.
    """

    def __init__(self, detectors: dict[str, Timed], most: int | None) -> None:
        self.detectors, self.most = detectors, most
        self.decoding: list[np.ndarray] = []
        self.spent: dict[str, list[np.ndarray]] = {name: [] for name in detectors}

    def run(self, videos: list[Path]) -> None:
        """Runs one round; the first round begins each video with untimed searches to compile."""
        config = extract.get_config()
        self.sampled = self.searched = 0
        self.found: dict[str, list[np.ndarray]] = {name: [] for name in self.detectors}
        decoding, spent = np.zeros(2), {name: np.zeros(2) for name in self.detectors}
        for path in videos:
            started = np.array([time.perf_counter(), time.process_time()])
            frames, sampled = thinned(decoded(path, config.every_s), self.most)
            decoding += [time.perf_counter(), time.process_time()] - started
            self.sampled += sampled
            self.searched += len(frames)
            batches = [frames[i : i + config.batch] for i in range(0, len(frames), config.batch)]
            for name, detect in self.detectors.items():
                if not self.decoding:
                    for images in (*batches[:1], *batches[-1:]):  # the last one may be smaller
                        detect(images)
                for images in batches:
                    boxes, seconds = detect(images)
                    self.found[name] += boxes
                    spent[name] += seconds
        self.decoding.append(decoding / self.sampled)
        for name, one in spent.items():
            self.spent[name].append(one / self.searched)


def decoded(path: Path, every_s: float) -> Iterable[np.ndarray]:
    """Yields the sampled frames of a video; those that cannot be decoded are left out."""
    with contextlib.suppress(VideoError):
        for frame in sample_frames(path, every_s):
            yield frame.image


def thinned(items: Iterable[_Any], most: int | None) -> tuple[list[_Any], int]:
    """At most `most` of the items (None: all), and the number of all items.

    If there are more than `most`, only every 2nd, 4th, 8th ... item is returned.
    """
    kept: list[_Any] = []
    number, step = 0, 1
    for number, item in enumerate(items, 1):
        if (number - 1) % step == 0:
            kept.append(item)
        if most is not None and len(kept) > most:
            kept, step = kept[::2], step * 2
    return kept, number


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
    detection_peers.add_flags(parser)
    parser.add_argument(
        "--peer-frames",
        type=int,
        default=500,
        metavar="N",
        help="search at most N frames of each video with our detector and the peers",
    )
    flags = parser.parse_args()
    if flags.peer_frames < 1:
        parser.error("--peer-frames must be at least 1")
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
        Variant(
            "now-min-face-20", ROOT, (f"--config.detector.min_face={detection_peers.MIN_FACE}",)
        ),
    ]
    for variant in variants:
        shutil.rmtree(workdir / f"cache-{variant.name}", ignore_errors=True)
    with detection_peers.started(flags) as peers:
        detectors = {"ours": ours(None)} | {peer.version: with_peer(peer) for peer in peers}
        detection = Detection(detectors, flags.peer_frames)
        for _ in range(flags.rounds):
            for variant in variants:
                variant.run(videos, workdir)
            if peers:
                detection.run(list_videos(videos))
    print("\n".join(table(variants)))
    if peers:
        print("\n" + "\n".join(detection_table(detection, variants[-1])))


def table(variants: list[Variant]) -> list[str]:
    """The lines of a Markdown table, with the speed-up of each variant over the first one."""
    lines = [
        "| | s, first round | s, later | processor s, first | processor s, later | faces | "
        "times as fast, first | later | by processor time, first | later |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    first, *_ = variants
    for one in variants:
        wall, used = first_and_later(one.seconds), first_and_later(one.processor)
        faster = np.divide(first_and_later(first.seconds), wall)
        cheaper = np.divide(first_and_later(first.processor), used)
        lines.append(
            f"| {one.name} | {wall[0]:.1f} | {wall[1]:.1f} | {used[0]:.1f} | {used[1]:.1f} | "
            f"{one.faces} | {faster[0]:.2f} | {faster[1]:.2f} | {cheaper[0]:.2f} | "
            f"{cheaper[1]:.2f} |"
        )
    return lines


def first_and_later(values: list[float]) -> tuple[float, float]:
    """The value of the first round, and the median of the later ones (the same value if none)."""
    return values[0], float(np.median(values[1:] or values))


def detection_table(detection: Detection, extraction: Variant) -> list[str]:
    """The lines of a Markdown table that compares our detector and `extract` with the peers."""
    of = f"{detection.searched} of {detection.sampled} sampled frames searched"
    lines = [
        f"| {of}, minimum face {detection_peers.MIN_FACE} | frames/s | processor ms per frame | "
        "ours is times as fast | by processor time | faces | of our faces | also found by ours |",
        "|---|---|---|---|---|---|---|---|",
    ]
    whole = np.array(
        [first_and_later(extraction.seconds)[1], first_and_later(extraction.processor)[1]]
    )
    whole /= detection.sampled
    boxes = detection.found["ours"]
    alone = np.median(detection.spent["ours"], 0)

    def add(name: str, spent: np.ndarray, base: np.ndarray, *faces: int | str) -> None:
        times = spent / base
        figures = f"{1 / spent[0]:.1f} | {spent[1] * 1e3:.1f} | {times[0]:.2f} | {times[1]:.2f}"
        lines.append(f"| {name} | {figures} | {' | '.join(map(str, faces))} |")

    add("ours, extract", whole, whole, extraction.faces, "", "")
    for name, found in detection.found.items():
        faces = sum(map(len, found)), also_found(boxes, found), also_found(found, boxes)
        spent = np.array(detection.spent[name])
        add(f"{name}, detection", np.median(spent, 0), alone, *faces)
        if name != "ours":
            both = np.median(spent + detection.decoding, 0)
            add(f"{name}, decoding + detection", both, whole, *faces)
    return lines


if __name__ == "__main__":
    main()
