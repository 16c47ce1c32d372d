"""Compares the detector of fer_jax with mtcnn 1.0.0 on your own pictures and videos.

    python -m venv peer && peer/bin/pip install -r benchmarks/requirements-mtcnn.txt
    python -m benchmarks mtcnn_parity --peer=peer/bin/python PICTURES_AND_VIDEOS...

Reads up to `--pictures` evenly spaced pictures below each folder, and `--frames` evenly spaced
frames of every video. mtcnn is given one picture per call, since it misplaces boxes in batches of
pictures with different sizes. Prints one row per folder, the total, and the pictures in which faces
are missing or extra, or a landmark differs by more than 2 pixels. The exit code is 1 unless, on 50
or more pictures, both find the same faces, the mean IoU is 0.995 or more, scores differ by at most
1e-3 and landmarks by at most 2 pixels.

The scores of easy faces saturate at 1. Which of two equal scores mtcnn prefers depends on NumPy's
sort, which differs between processors. With `--stable`, mtcnn uses a stable sort, so that the
remaining differences are not due to ties.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks import detection_peers
from fer_jax.errors import UserError
from fer_jax.faces import images as image_files
from fer_jax.faces import video as video_files
from fer_jax.faces.cascade.boxes import intersection_over_union
from fer_jax.faces.mtcnn import Detector, Faces

Picture = tuple[str, str, np.ndarray]  # the folder given, the picture's name, its pixels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument(
        "--peer", required=True, help="Python executable of an environment with mtcnn"
    )
    parser.add_argument("--frames", type=int, default=4, help="frames per video")
    parser.add_argument("--pictures", type=int, default=60, help="maximum pictures per folder")
    parser.add_argument("--stable", action="store_true", help="use a stable sort in mtcnn")
    options = parser.parse_args()

    rows = []
    pending: list[Picture] = []
    with detection_peers.Peer("mtcnn-stable" if options.stable else "mtcnn", options.peer) as peer:
        for picture in pictures(options.folders, options.frames, options.pictures):
            pending.append(picture)
            if len(pending) == 8:
                rows += compare(peer, pending)
                pending = []
        rows += compare(peer, pending)
    table = pd.DataFrame(rows)
    print(summary(table).to_string(index=False))
    for row in table[(table.missed + table.extra > 0) | (table.landmark > 2)].itertuples():
        print(
            f"{row.folder}/{row.picture}: {row.missed} missed, {row.extra} extra, "
            f"landmark {row.landmark:.2f} px, IoU {row.iou:.4f}, score {row.score:.1e}"
        )
    sys.exit(not passes(summary(table).iloc[-1]))


def pictures(folders: list[Path], frames: int, limit: int) -> Iterator[Picture]:
    """Yields up to `limit` pictures of each folder and up to `frames` frames of each video in it.

    Damaged files are left out, with a message.
    """
    for folder in folders:
        found = sorted(
            path for path in folder.rglob("*") if path.suffix.lower() in image_files.SUFFIXES
        )
        for i in np.unique(np.linspace(0, len(found) - 1, min(limit, len(found))).astype(int)):
            try:
                yield folder.name, found[i].name, image_files.read_image(found[i])
            except UserError as error:
                print(f"left out: {error}")
        try:
            videos = video_files.list_videos(folder)
        except UserError:
            continue
        for path in videos:
            for frame in spread(path, frames):
                yield folder.name, f"{path.name}#{frame.index}", frame.image


def spread(path: Path, count: int) -> Iterator[video_files.Frame]:
    """Yields up to `count` evenly spaced frames of a video; prints the error if it is damaged."""
    counts = video_files.SampleCounts()
    try:
        for _ in video_files.sample_frames(path, 1e9, counts):
            pass
        chosen = set(np.linspace(0, counts.decoded - 1, count).astype(int).tolist())
        for frame in video_files.sample_frames(path, 0.0):
            if frame.index in chosen:
                yield frame
    except video_files.VideoError as error:
        print(f"left out: {error}")


def compare(peer: detection_peers.Peer, chosen: list[Picture]) -> list[dict]:
    """One row per picture: the numbers of faces, and the largest differences of matching faces."""
    images = [image for _, _, image in chosen]
    theirs, _ = peer.detect(images, batch=False)
    ours = Detector(min_face=detection_peers.MIN_FACE).detect(images)
    rows = []
    for (folder, name, _), expected, faces in zip(chosen, theirs, ours, strict=True):
        distances = match(expected, faces)
        iou, score, landmark = np.array(distances).reshape(-1, 3).T
        rows.append(
            {
                "folder": folder,
                "picture": name,
                "theirs": len(expected),
                "ours": len(faces),
                "missed": len(expected) - len(distances),
                "extra": len(faces) - len(distances),
                "iou_sum": iou.sum(),
                "iou": iou.min(initial=1),
                "score": score.max(initial=0),
                "landmark": landmark.max(initial=0),
            }
        )
    return rows


def match(expected: list[dict], faces: Faces) -> list[tuple[float, float, float]]:
    """Compares each pair of matching faces, whose IoU is above 0.5.

    Returns:
        For each pair the IoU, the absolute difference of the scores, and the largest distance of
        landmarks in pixels.
    """
    if not expected or not len(faces):
        return []
    boxes = np.array([face["box"] for face in expected], float)
    overlap = intersection_over_union(boxes, faces.boxes.astype(float))
    found = []
    while overlap.max() > 0.5:
        a, b = np.unravel_index(overlap.argmax(), overlap.shape)
        points = np.array(expected[a]["landmarks"]) - faces.landmarks[b]
        score = abs(expected[a]["score"] - float(faces.scores[b]))
        found.append((float(overlap[a, b]), score, float(np.hypot(*points.T).max())))
        overlap[a], overlap[:, b] = -1, -1
    return found


def summary(table: pd.DataFrame) -> pd.DataFrame:
    groups = [*table.groupby("folder"), ("all", table)]
    rows = []
    for name, group in groups:
        found = group.theirs.sum() - group.missed.sum()
        rows.append(
            {
                "folder": name,
                "pictures": len(group),
                "faces of mtcnn": group.theirs.sum(),
                "found": found,
                "extra": group.extra.sum(),
                "mean IoU": round(group.iou_sum.sum() / max(found, 1), 5),
                "worst IoU": round(group.iou.min(), 4),
                "score": f"{group.score.max():.1e}",
                "landmark px": round(group.landmark.max(), 3),
            }
        )
    return pd.DataFrame(rows)


def passes(total: pd.Series) -> bool:
    return bool(
        total["pictures"] >= 50
        and total["found"] == total["faces of mtcnn"]
        and total["extra"] == 0
        and total["mean IoU"] >= 0.995
        and float(total["score"]) <= 1e-3
        and total["landmark px"] <= 2
    )


if __name__ == "__main__":
    main()
