"""Face detectors of other packages, each in a separate Python process.

    PEER_PYTHON benchmarks/detection_peers.py NAME

The benchmarks start this file with the Python of another environment
(benchmarks/requirements-mtcnn.txt, benchmarks/requirements-facenet.txt), so that ours needs
neither TensorFlow nor torch. It imports nothing of this project. Its first line of output is
{"version": ...}. Each request is a JSON line, {"images": FILE.npz, "batch": bool}, and so is each
answer, {"seconds": ..., "cpu": processor seconds, "faces": for each image a list of {"box",
"score", "landmarks"}}.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

MIN_FACE = 20
THRESHOLDS = (0.6, 0.7, 0.8)
Found = list[list[dict[str, Any]]]


class Peer:
    """A detector in another process, as a context manager."""

    def __init__(self, name: str, python: str, environment: dict[str, str] | None = None) -> None:
        self.name, self._command = name, [python, __file__, name]
        self._environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"} | (environment or {})

    def __enter__(self) -> Peer:
        self._folder = tempfile.TemporaryDirectory()
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=self._environment,
        )
        self.version = json.loads(self._read())["version"]
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)
        self._folder.cleanup()

    def detect(
        self, images: Sequence[np.ndarray], *, batch: bool
    ) -> tuple[Found, tuple[float, float]]:
        """The faces of each image, and the seconds and processor seconds of detection.

        With `batch`, all images are passed in a single call, otherwise each in a separate call.
        """
        file = Path(self._folder.name, "images.npz")
        np.savez(file, **{f"{i:06d}": image for i, image in enumerate(images)})
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"images": str(file), "batch": batch}) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._read())
        return answer["faces"], (answer["seconds"], answer["cpu"])

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            sys.exit(
                f"{self.name}: {' '.join(self._command)} ended; run this command to see the reason"
            )
        return line


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds --mtcnn and --facenet, the Python of the environment of each peer."""
    parser.add_argument("--mtcnn", help="Python of an environment with mtcnn")
    parser.add_argument("--facenet", help="Python of an environment with facenet-pytorch")


@contextlib.contextmanager
def started(options: argparse.Namespace) -> Iterator[list[Peer]]:
    """Starts the peers whose flags are given, and ends them after the block."""
    with contextlib.ExitStack() as stack:
        given = {name: getattr(options, name) for name in ("mtcnn", "facenet")}
        yield [stack.enter_context(Peer(name, python)) for name, python in given.items() if python]


def _mtcnn(stable: bool = False) -> tuple[Callable[[list[np.ndarray]], Found], str]:
    import importlib.metadata

    from mtcnn import MTCNN  # type: ignore[import-not-found]

    if stable:
        from mtcnn.utils import bboxes  # type: ignore[import-not-found]

        bboxes.sort_by_scores = _sorted_stably

    detector = MTCNN(device="CPU:0")

    def detect(images: list[np.ndarray]) -> Found:
        # An array, since mtcnn's dictionaries have coordinates rounded to whole pixels.
        rows = detector.detect_faces(
            images,
            box_format="xyxy",
            output_type="numpy",
            min_face_size=MIN_FACE,
            threshold_pnet=THRESHOLDS[0],
            threshold_rnet=THRESHOLDS[1],
            threshold_onet=THRESHOLDS[2],
        )
        found: Found = [[] for _ in images]
        for row in rows.tolist():
            points = [[row[6 + i], row[11 + i]] for i in range(5)]
            found[int(row[0])].append({"box": row[1:5], "score": row[5], "landmarks": points})
        return found

    return detect, f"mtcnn {importlib.metadata.version('mtcnn')}"


def _sorted_stably(tensor: np.ndarray, scores: np.ndarray, ascending: bool = True) -> np.ndarray:
    """Replaces mtcnn's `sort_by_scores`, whose order of equal scores depends on the processor."""
    order = np.argsort(scores, kind="stable")
    return tensor[order if ascending else order[::-1]]


def _facenet() -> tuple[Callable[[list[np.ndarray]], Found], str]:
    import importlib.metadata

    from facenet_pytorch import MTCNN  # type: ignore[import-not-found]

    detector = MTCNN(
        keep_all=True, min_face_size=MIN_FACE, thresholds=list(THRESHOLDS), post_process=False
    )

    def detect(images: list[np.ndarray]) -> Found:
        boxes, scores, points = detector.detect(np.stack(images), landmarks=True)
        return [
            [
                {
                    "box": [float(v) for v in box],
                    "score": float(score),
                    "landmarks": np.asarray(marks).tolist(),
                }
                for box, score, marks in zip(b, s, p, strict=True)
            ]
            if b is not None
            else []
            for b, s, p in zip(boxes, scores, points, strict=True)
        ]

    return detect, f"facenet-pytorch {importlib.metadata.version('facenet-pytorch')}"


def _serve(name: str) -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints must not be read as an answer
    peers = {
        "mtcnn": _mtcnn,
        "mtcnn-stable": functools.partial(_mtcnn, stable=True),
        "facenet": _facenet,
    }
    detect, version = peers[name]()
    print(json.dumps({"version": version}), file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        with np.load(request["images"]) as stored:
            images = [stored[key] for key in sorted(stored)]
        calls = [images] if request["batch"] else [[image] for image in images]
        started, cpu = time.perf_counter(), time.process_time()
        found = [faces for call in calls for faces in detect(call)]
        answer = {
            "seconds": time.perf_counter() - started,
            "cpu": time.process_time() - cpu,
            "faces": found,
        }
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    _serve(sys.argv[1])
