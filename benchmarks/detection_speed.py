"""Measures the speed of our detector, mtcnn 1.0.0 and facenet-pytorch on the same frames.

    python -m benchmarks detection_speed --mtcnn=PYTHON --facenet=PYTHON VIDEOS...
    python -m benchmarks detection_speed VIDEOS...    # ours alone, on any device
    python -m benchmarks detection_speed VIDEOS... --save=F.npz
    python -m benchmarks detection_speed --frames=F.npz

--save stores the frames and our detector's weights, for --frames on a machine without videos, PyAV
or the package mtcnn. PYTHON is that of an environment with the packages of
benchmarks/requirements-mtcnn.txt or benchmarks/requirements-facenet.txt.

Frames have 640x360 pixels, are from videos of that aspect ratio (16:9), and come in batches of 8.
Detectors search for faces of 20 pixels or more. In each round the detectors run in turn on every
batch, so that other work on the machine affects all of them equally; ratios are medians over
rounds. Prints, for each detector, milliseconds per frame, processor milliseconds (which other work
on the machine hardly changes), the number of faces that it found, and how many of our faces it also
found (IoU over 0.5).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks import detection_peers
from fer_jax.faces import mtcnn
from fer_jax.faces.cascade.boxes import intersection_over_union
from fer_jax.faces.cascade.weights import load_weights

WIDTH, HEIGHT = 640, 360
Spent = tuple[float, float]  # seconds and processor seconds
# Searches frames for faces; returns the boxes in each frame, and the time spent.
Timed = Callable[[list[np.ndarray]], tuple[list[np.ndarray], Spent]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("videos", type=Path, nargs="*")
    detection_peers.add_flags(parser)
    parser.add_argument(
        "--frames", type=Path, help="read the frames from this file, not from videos"
    )
    parser.add_argument("--save", type=Path, help="write frames and weights to this file, and stop")
    parser.add_argument("--count", type=int, default=32, help="number of frames")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument(
        "--both-paths",
        action="store_true",
        help="also time our detector with sorting on the host, and entirely on the device",
    )
    options = parser.parse_args()

    if options.frames:
        frames = carried(options.frames)
    else:
        frames = take_frames(options.videos, options.count)
    if options.save:
        arrays = {f"{n}:{k}": v for n, part in load_weights().items() for k, v in part.items()}
        np.savez_compressed(options.save, frames=np.stack(frames), **arrays)
        print(f"wrote {len(frames)} frames and the weights to {options.save}")
        return
    detectors: dict[str, Timed] = {"ours": ours(None)}
    if options.both_paths:
        detectors |= {"ours, sorting on the host": ours(False), "ours, whole": ours(True)}
    with detection_peers.started(options) as peers:
        detectors |= {peer.version: with_peer(peer) for peer in peers}
        found, seconds = race(detectors, frames, options.batch, options.rounds)
    device = jax.devices()[0]
    print(f"{len(frames)} frames of {WIDTH}x{HEIGHT}, batch {options.batch}, {device.device_kind}")
    print(
        f"{'detector':26}{'ms':>8}{'frames/s':>10}{'x ours':>8}{'cpu ms':>9}{'x ours':>8}"
        f"{'faces':>7}{'shared':>8}"
    )
    for row in table(found, seconds):
        print("{:26}{:8.2f}{:10.1f}{:8.2f}{:9.2f}{:8.2f}{:7d}{:8d}".format(*row))


def carried(file: Path) -> list[np.ndarray]:
    """The frames of a file that --save wrote; its weights replace those of our detector."""
    with np.load(file) as stored:
        arrays = dict(stored)
    frames = list(arrays.pop("frames"))
    if arrays:
        weights: dict[str, dict[str, np.ndarray]] = {}
        for name, array in arrays.items():
            network, _, key = name.partition(":")
            weights.setdefault(network, {})[key] = array
        mtcnn.load_weights = lambda: weights  # type: ignore[assignment]
    return frames


def take_frames(folders: list[Path], count: int) -> list[np.ndarray]:
    """Up to `count` frames of 16:9 videos, resized and in random order.

    About the same number is taken from each video that is long enough; frames of a video are at
    least half a second apart.
    """
    import cv2

    from fer_jax.faces.video import list_videos, sample_frames

    clips = []
    for path in (path for folder in folders for path in list_videos(folder)):
        clip = [frame.image for frame in sample_frames(path, 0.5)]
        if clip and abs(clip[0].shape[1] / clip[0].shape[0] - WIDTH / HEIGHT) < 0.01:
            clips.append(clip)
    if not clips:
        sys.exit("no video with the aspect ratio 16:9 was found; pass such videos, or --frames")
    each = -(-count // len(clips))
    frames = [
        cv2.resize(clip[i], (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
        for clip in clips
        for i in np.linspace(0, len(clip) - 1, min(each, len(clip))).astype(int)
    ]
    order = np.random.default_rng(0).permutation(len(frames))[:count]
    return [frames[i] for i in order]


def ours(whole_on_device: bool | None) -> Timed:
    detector = mtcnn.Detector(
        min_face=detection_peers.MIN_FACE, thresholds=detection_peers.THRESHOLDS
    )

    def detect(images: list[np.ndarray]) -> tuple[list[np.ndarray], Spent]:
        started, cpu = time.perf_counter(), time.process_time()
        faces = detector.detect(images, whole_on_device=whole_on_device)
        spent = time.perf_counter() - started, time.process_time() - cpu
        return [one.boxes for one in faces], spent

    return detect


def with_peer(peer: detection_peers.Peer) -> Timed:
    def detect(images: list[np.ndarray]) -> tuple[list[np.ndarray], Spent]:
        found, seconds = peer.detect(images, batch=True)
        boxes = [np.array([f["box"] for f in faces]).reshape(-1, 4) for faces in found]
        return boxes, seconds

    return detect


def race(
    detectors: dict[str, Timed], frames: list[np.ndarray], batch: int, rounds: int
) -> tuple[dict[str, list[np.ndarray]], dict[str, list[list[Spent]]]]:
    """The boxes per frame of each detector, and its times by round and batch.

    The frames of an incomplete last batch are left out.
    """
    batches = [frames[i : i + batch] for i in range(0, len(frames) // batch * batch, batch)]
    found = {
        name: [boxes for images in batches for boxes in detect(images)[0]]
        for name, detect in detectors.items()
    }  # the first calls, which compile
    seconds: dict[str, list[list[Spent]]] = {name: [] for name in detectors}
    for _ in range(rounds):
        for spent in seconds.values():
            spent.append([])
        for images in batches:
            for name, detect in detectors.items():
                seconds[name][-1].append(detect(images)[1])
    return found, seconds


def table(
    found: dict[str, list[np.ndarray]], seconds: dict[str, list[list[Spent]]]
) -> list[tuple[Any, ...]]:
    """A row of values per detector; times and ratios are medians over rounds."""
    frames = len(found["ours"])
    own = np.sum(seconds["ours"], 1)  # [rounds, 2]: seconds and processor seconds
    rows = []
    for name, boxes in found.items():
        shared = also_found(found["ours"], boxes)
        spent = np.sum(seconds[name], 1)
        wall, cpu = np.median(spent, 0) / frames * 1e3
        times_wall, times_cpu = np.median(spent / own, 0)
        faces = sum(map(len, boxes))
        rows.append((name, wall, 1e3 / wall, times_wall, cpu, times_cpu, faces, shared))
    return rows


def also_found(faces: list[np.ndarray], others: list[np.ndarray]) -> int:
    """The number of boxes in `faces` that overlap (IoU over 0.5) a box in `others`.

    Both contain, for each frame, boxes [N, 4] (x0, y0, x1, y1) in pixels; boxes are compared with
    those of the same frame.
    """
    return sum(
        int((intersection_over_union(a.astype(float), b.astype(float)) > 0.5).any(1).sum())
        for a, b in zip(faces, others, strict=True)
        if len(a) and len(b)
    )


if __name__ == "__main__":
    main()
