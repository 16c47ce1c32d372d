"""Measures frames per second of `fer_jax.read` and of other packages on the same videos.

    python -m venv ENV && ENV/bin/pip install -r benchmarks/requirements-fer.txt
    ENV/bin/pip install -r benchmarks/requirements-facenet.txt --no-deps
    python -m benchmarks predict_speed --fer=ENV/bin/python VIDEOS...
    python -m benchmarks predict_speed VIDEOS...  # ours alone

Every frame is decoded, its faces are found and their emotions are predicted, each package with its
defaults: fer_jax, `fer` with its Haar cascade, and `fer` with its MTCNN. --min-face sets the
smallest face that `fer` looks for, in pixels; fer_jax uses the setting of the starter. Each package
runs in a separate process. A round reads every video once with each package in turn, so that other
work on the machine affects all of them; ratios are medians over rounds. The first round includes
compilation, and is printed separately.

Prints frames per second, processor milliseconds per frame, how much faster fer_jax is by either
measure, and how many of the faces of fer_jax a package also found (IoU over 0.3; the boxes of
different detectors differ in margin).
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

Boxes = list[list[list[float]]]  # per frame, per face: x0, y0, x1, y1
Predict = Callable[[str], Boxes]
OVERLAP = 0.3
PACKAGES = ("fer_jax", "fer (Haar)", "fer (MTCNN)")


@dataclass
class Worker:
    """A package in another process, and its measurements.

    Attributes:
        name: one of PACKAGES.
        python: the Python of the environment that has the package.
        min_face: the smallest face that `fer` looks for, in pixels; None for its default.
        seconds, processor: seconds and processor seconds of each round, summed over the videos.
        boxes: the boxes that were found in the last round, by video.
    """

    name: str
    python: str
    min_face: int | None
    seconds: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)
    boxes: dict[str, Boxes] = field(default_factory=dict)

    def start(self) -> None:
        """Starts the process; waits until the package is loaded, and stores its `version`."""
        self._process = subprocess.Popen(
            [self.python, __file__, "--serve", self.name, f"--min-face={self.min_face or 0}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "JAX_PLATFORMS": "cpu"},
        )
        self.version = self._answer()["version"]

    def round(self, videos: list[Path]) -> None:
        """Reads every video once, and records times and boxes."""
        self.seconds.append(0.0)
        self.processor.append(0.0)
        for video in videos:
            assert self._process.stdin is not None
            print(video, file=self._process.stdin, flush=True)
            answer = self._answer()
            self.seconds[-1] += answer["seconds"]
            self.processor[-1] += answer["processor"]
            self.boxes[str(video)] = answer["boxes"]

    def stop(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)

    def _answer(self) -> dict:  # type: ignore[type-arg]
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            sys.exit(f"{self.name}: {self.python} ended; check that the package is installed")
        return json.loads(line)  # type: ignore[no-any-return]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("videos", type=Path, nargs="*")
    parser.add_argument("--fer", help="Python executable of an environment with fer")
    parser.add_argument(
        "--rounds",
        type=int,
        default=5,
        help="number of rounds after the first one, which includes compilation",
    )
    parser.add_argument(
        "--min-face", type=int, help="smallest face for fer, in pixels; by default that of fer"
    )
    parser.add_argument("--serve", choices=PACKAGES, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.serve:
        serve(flags.serve, flags.min_face or None)
        return
    if not flags.videos:
        parser.error("pass at least one video")
    pythons = [sys.executable] + ([flags.fer] * 2 if flags.fer else [])
    workers = [
        Worker(name, python, flags.min_face)
        for name, python in zip(PACKAGES, pythons, strict=False)
    ]
    for worker in workers:
        worker.start()
    for number in range(1 + flags.rounds):
        for worker in workers[number % 2 :] + workers[: number % 2]:
            worker.round(flags.videos)
    for line in table(workers):
        print(line)
    for worker in workers:
        worker.stop()


def table(workers: list[Worker]) -> list[str]:
    """A line of totals, and a Markdown table with a row per package; the first worker is ours."""
    ours = workers[0]
    frames = sum(len(boxes) for boxes in ours.boxes.values())
    lines = [
        f"{len(ours.boxes)} videos, {frames} frames, {len(ours.seconds) - 1} rounds",
        "| package | frames/s | first round | processor ms per frame | faces | of our faces | "
        "ours is faster by | in processor time |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for worker in workers:
        faces = sum(len(boxes) for video in worker.boxes.values() for boxes in video)
        shared, total = common(ours.boxes, worker.boxes)
        wall = np.median(np.divide(worker.seconds[1:], ours.seconds[1:]))
        processor = np.median(np.divide(worker.processor[1:], ours.processor[1:]))
        lines.append(
            f"| {worker.version} | {frames / np.median(worker.seconds[1:]):.1f} | "
            f"{frames / worker.seconds[0]:.1f} | "
            f"{1000 * np.median(worker.processor[1:]) / frames:.1f} | {faces} | "
            f"{shared} of {total} | {wall:.2f} | {processor:.2f} |"
        )
    return lines


def common(ours: dict[str, Boxes], theirs: dict[str, Boxes]) -> tuple[int, int]:
    """The number of our faces that overlap with one of theirs, and the number of our faces."""
    shared = total = 0
    for video, frames in ours.items():
        for mine, other in zip(frames, theirs[video], strict=True):
            total += len(mine)
            shared += sum(any(overlap(box, their) > OVERLAP for their in other) for box in mine)
    return shared, total


def overlap(first: list[float], second: list[float]) -> float:
    """The intersection over union of two boxes (x0, y0, x1, y1)."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    both = max(width, 0) * max(height, 0)
    areas = [(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in (first, second)]
    return both / (sum(areas) - both)


def serve(name: str, min_face: int | None) -> None:
    """Reads videos, named on standard input; writes boxes and times to standard output."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints must not be read as an answer
    predict, version = fer_jax_predict() if name == "fer_jax" else fer_predict(name, min_face)
    print(json.dumps({"version": version}), file=answers, flush=True)
    for line in sys.stdin:
        started, processor = time.perf_counter(), time.process_time()
        boxes = predict(line.rstrip("\n"))
        answer = {
            "seconds": time.perf_counter() - started,
            "processor": time.process_time() - processor,
            "boxes": boxes,
        }
        print(json.dumps(answer), file=answers, flush=True)


def fer_jax_predict() -> tuple[Predict, str]:
    """A function that uses `fer_jax.read` to find boxes in a video, and the package's name."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    import fer_jax
    from fer_jax.reading import BOX

    def predict(video: str) -> Boxes:
        faces = fer_jax.read(video, every_s=0, progress=False)
        frames: Boxes = [[] for _ in range(faces["frame"].nunique())]
        found = faces.dropna(subset=["x0"])
        for frame, box in zip(found["frame"], found[list(BOX)].to_numpy().tolist(), strict=True):
            frames[frame].append(box)
        return frames

    return predict, "fer_jax"


def fer_predict(name: str, min_face: int | None) -> tuple[Predict, str]:
    """A function that uses `fer` to find boxes in a video, and the package's name and version."""
    import cv2

    mtcnn = name.endswith("(MTCNN)")
    if mtcnn:
        import facenet_pytorch  # type: ignore[import-not-found]  # noqa: F401  before TensorFlow
    from fer.fer import FER  # type: ignore[import-not-found]

    size = {"min_face_size": min_face} if min_face else {}
    detector = FER(mtcnn=mtcnn, **size)

    def predict(video: str) -> Boxes:
        capture, frames = cv2.VideoCapture(video), []
        while True:
            read, frame = capture.read()
            if not read:
                return frames
            found = [face["box"] for face in detector.detect_emotions(frame)]
            frames.append([[int(x), int(y), int(x + w), int(y + h)] for x, y, w, h in found])

    version = importlib.metadata.version("fer")
    return predict, name.replace("fer", f"fer {version}")


if __name__ == "__main__":
    main()
