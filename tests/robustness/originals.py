"""The originals that the harness gives to a stage, and digests to check that they are unchanged."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import struct
import zlib
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

Digests = Mapping[Path, str]

PEOPLE = ("ann", "bob", "cem")
EMOTIONS = ("happy", "sad")


def digests(*roots: Path) -> dict[Path, str]:
    """A digest of everything below the roots, by path.

    Links are not followed: the digest of a link is its target. Pipes are not opened; their digest
    is "pipe".
    """
    found: dict[Path, str] = {}
    for root in roots:
        if root.is_symlink() or not root.is_dir():
            found[root] = _digest(root)
            continue
        for folder, folders, files in os.walk(root):
            for name in (*folders, *files):
                path = Path(folder, name)
                found[path] = _digest(path)
    return found


def _digest(path: Path) -> str:
    try:
        status = path.lstat()
    except FileNotFoundError:
        return "absent"
    if stat.S_ISLNK(status.st_mode):
        return f"link to {path.readlink()}"
    if stat.S_ISREG(status.st_mode):
        return hashlib.sha256(path.read_bytes()).hexdigest()
    return "folder" if stat.S_ISDIR(status.st_mode) else "pipe"


def lost(before: Digests, after: Digests) -> list[str]:
    """The files in `before` that are missing or different in `after`, as text."""
    return [
        f"{str(path)!r}: {digest[:20]} before, {after.get(path, 'absent')[:20]} now"
        for path, digest in before.items()
        if after.get(path) != digest
    ]


def picture(seed: int, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    """A noisy picture, uint8 [H, W, 3], in which the stand-in detector finds a face."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return cv2.resize(small, size[::-1], interpolation=cv2.INTER_CUBIC)


def encoded(image: np.ndarray, suffix: str) -> bytes:
    """The bytes of a picture file with this suffix."""
    good, data = cv2.imencode(suffix, image)
    assert good
    return data.tobytes()


def write_picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(picture(seed), path.suffix))


def blank_png(width: int, height: int) -> bytes:
    """A PNG of black pixels, one bit each: small as a file, whatever its size in pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes((1 + (width + 7) // 8) * height), 9)
    start = b"\x89PNG\r\n\x1a\n"
    return start + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def write_video(
    path: Path, seed: int, frames: int = 4, codec: str = "mpeg4", title: str = ""
) -> None:
    """Writes a clip of noise with 4 frames/s."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        if title:
            container.metadata["title"] = title
        stream = container.add_stream(codec, rate=Fraction(4))
        stream.width, stream.height = 64, 48
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(picture(seed * 100 + number), "rgb24")
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)


def write_photos(root: Path) -> None:
    """Writes photographs of three people with two emotions, and a ledger in which all consent."""
    for number, person in enumerate(PEOPLE):
        for second, emotion in enumerate(EMOTIONS):
            for third in range(2):
                name = f"{third}.png"
                write_picture(root / person / emotion / name, 100 * number + 10 * second + third)
    rows = "".join(f"{person},no,yes,no,\n" for person in PEOPLE)
    (root / "consent.csv").write_text("subject,share,train,demo,revoked\n" + rows)


def write_videos(root: Path) -> None:
    for number in range(2):
        write_video(root / f"clip {number}.mp4", number)


def write_media(root: Path) -> None:
    """Writes pictures and a clip for `predict`, and a text file."""
    write_picture(root / "one.jpg", 1)
    write_picture(root / "deep" / "two.png", 2)
    write_video(root / "clip.mp4", 3, frames=3)
    (root / "notes.txt").write_text("no picture\n")


def copy(source: Path, target: Path) -> None:
    """Copies a folder with its links and times."""
    shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
