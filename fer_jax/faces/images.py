"""Reading pictures of any kind as RGB."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from fer_jax.errors import UserError

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jfif", ".png", ".tif", ".tiff", ".bmp", ".webp", ".ppm", ".pgm", ".jp2"}
)


class ImageError(UserError):
    """A file that is absent, unreadable or no picture."""


def read_image(path: str | os.PathLike[str]) -> UInt8[np.ndarray, "h w 3"]:
    """A picture as uint8 [H, W, 3] RGB, upright.

    16 bits become 8, grey and palettes become RGB, transparency is laid on mid-grey, and the
    EXIF orientation is applied.

    Raises:
        ImageError: the file is absent, unreadable or no picture.
    """
    try:
        content = np.frombuffer(Path(path).read_bytes(), np.uint8)
    except OSError as error:
        raise ImageError(f"cannot read {path} ({error.strerror})") from error
    try:
        image = cv2.imdecode(content, cv2.IMREAD_COLOR_RGB) if len(content) else None
        alpha = _alpha(content) if image is not None else None
    except cv2.error as error:
        raise ImageError(f"{path}: {error.err or 'not a picture'}") from error
    if image is None:
        raise ImageError(f"{path} is empty or no picture of a known kind")
    if alpha is not None and alpha.shape == image.shape[:2]:
        share = alpha[:, :, None].astype(np.float32)
        image = np.rint(image * share + 128 * (1 - share)).astype(np.uint8)
    return image


def _alpha(content: UInt8[np.ndarray, " n"]) -> np.ndarray | None:
    """The opacity [H, W] in 0..1 of an encoded picture, None where all of it is opaque."""
    if content[:2].tobytes() == b"\xff\xd8":  # JPEG has none; do not decode it twice
        return None
    image = cv2.imdecode(content, cv2.IMREAD_UNCHANGED)
    if image is None or image.ndim != 3 or image.shape[2] != 4:
        return None
    opaque = {"uint8": 255, "uint16": 65535}.get(image.dtype.name, 1)
    alpha = image[:, :, 3] / np.float32(opaque)
    return None if alpha.min() >= 1 else alpha
