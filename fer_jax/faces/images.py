"""Reading pictures as RGB: supported formats, size limits, and problems with files."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageFile, ImageOps
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.Jpeg2KImagePlugin import Jpeg2KImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from fer_jax.errors import UserError
from fer_jax.files import read_file

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jfif", ".png", ".tif", ".tiff", ".bmp", ".webp", ".ppm", ".pgm", ".jp2"}
)
# About twice the pixels of an 8K frame. The detector would need gigabytes for a larger picture.
MOST_PIXELS = 1 << 26
_MOST_BYTES = 1 << 30  # of a file; without compression, MOST_PIXELS pixels take less

# The format is detected from the content, as in OpenCV. Pillow's other readers are not used, since
# one of them passes the file to Ghostscript.
_READERS = (
    JpegImageFile, PngImageFile, TiffImageFile, BmpImageFile, WebPImageFile, PpmImageFile,
    Jpeg2KImageFile, GifImageFile,
)  # fmt: skip
_HEIF_BRANDS = {
    b"avif": "AVIF", b"avis": "AVIF", b"heic": "HEIC", b"heix": "HEIC", b"heim": "HEIC",
    b"heis": "HEIC", b"hevc": "HEIC", b"mif1": "HEIC", b"msf1": "HEIC",
}  # fmt: skip
_SIGNATURES = (
    b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM", b"II*\0", b"MM\0*",
    b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51",
)  # fmt: skip
_NOT_READ = {
    ".heic": "HEIC", ".heif": "HEIC", ".avif": "AVIF",
    ".arw": "raw", ".cr2": "raw", ".cr3": "raw", ".dng": "raw", ".nef": "raw", ".orf": "raw",
    ".pef": "raw", ".raf": "raw", ".rw2": "raw", ".srw": "raw",
}  # fmt: skip
_GREY = 128  # behind transparent pixels


Reason = Literal["unreadable", "empty", "too_large", "not_a_picture", "not_read", "damaged"]


class ImageError(UserError):
    """A picture is missing, unreadable, empty, too large, damaged, or in an unsupported format.

    Attributes:
        reason: "unreadable" (missing, no permission, not a regular file, more than 1 GiB), "empty",
            "too_large" (more than 67 million pixels), "not_a_picture", "not_read" (a picture in a
            format that is not supported, such as HEIC), or "damaged".
    """

    def __init__(self, text: str, reason: Reason = "damaged") -> None:
        super().__init__(text)
        self.reason: Reason = reason


def read_image(path: str | os.PathLike[str]) -> UInt8[np.ndarray, "h w 3"]:
    """Reads a picture as uint8 [H, W, 3] RGB, upright; see `decode_image`.

    Raises:
        ImageError: the file cannot be read, or its content cannot be decoded.
    """
    with _named(path):
        return decode_image(read_file(path, _MOST_BYTES))


def read_encoded(path: str | os.PathLike[str]) -> bytes:
    """The content of a picture file, of which only the header is checked.

    Raises:
        ImageError: as in `read_image`, except for damage after the header.
    """
    with _named(path):
        content = read_file(path, _MOST_BYTES)
        _header(content)
        return content


def decode_image(content: bytes) -> UInt8[np.ndarray, "h w 3"]:
    """Decodes a picture to uint8 [H, W, 3] RGB, upright.

    16 bits become 8, grey and palettes become RGB, transparency is blended with mid-grey (in 16-bit
    grey it is ignored), and the EXIF orientation is applied. Truncated files of some formats are
    decoded as far as possible.

    Raises:
        ImageError: the content is empty or damaged, its format is not supported, or it has more
            than 67 million pixels, which is checked before decoding.
    """
    try:
        header = _header(content)
        # OpenCV decodes 16-bit grey, which Pillow would turn into white.
        if header.has_transparency_data and not header.mode.startswith("I"):
            return _on_grey(header)
        if isinstance(header, PngImageFile):
            # Rejects damaged chunks: OpenCV 5 trusts their length and allocates up to 4 GB.
            header.verify()
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)
    except ImageError:
        raise
    except Exception as error:  # invalid bytes cause exceptions of any type
        raise ImageError(f"the picture is damaged ({_reason(error)})") from error
    if image is None:
        raise ImageError("the picture is damaged, or OpenCV cannot decode it")
    return image


def resize(image: UInt8[np.ndarray, "h w 3"], image_size: int) -> UInt8[np.ndarray, "s s 3"]:
    """Resizes an image to a square with sides of `image_size` pixels.

    If both sides shrink, areas are averaged, which avoids aliasing; otherwise the method is
    bilinear.
    """
    if image.shape[:2] == (image_size, image_size):
        return image
    shrinks = min(image.shape[:2]) > image_size
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(image, (image_size, image_size), interpolation=method).astype(np.uint8)


def halve(image: UInt8[np.ndarray, "h w 3"], times: int) -> UInt8[np.ndarray, "h2 w2 3"]:
    """Halves the sides of an image `times` times, by averaging blocks of 2×2 pixels.

    An odd last row or column is left out. If a side would become 0, the result is empty.
    """
    for _ in range(times):
        height, width = (length // 2 for length in image.shape[:2])
        if not height or not width:
            return image[:0, :0]
        even = image[: 2 * height, : 2 * width]
        image = cv2.resize(even, (width, height), interpolation=cv2.INTER_AREA)
    return image


def fault(path: str | os.PathLike[str]) -> str | None:
    """The reason why a picture cannot be read completely; None if it can.

    A truncated picture is reported here, even if `read_image` would decode a part of it.
    """
    try:
        _header(read_file(path, _MOST_BYTES)).load()
    except ImageError as error:
        return str(error)
    except Exception as error:  # invalid bytes cause exceptions of any type
        return _reason(error)
    return None


def looks_like_picture(head: bytes) -> bool:
    """Whether a file that begins with the bytes `head` (12 or more) has a picture's signature.

    This is also True for some formats that are not supported, such as HEIC.
    """
    return (
        head.startswith(_SIGNATURES)
        or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")
        or (head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS)
        or (head[:1] == b"P" and head[1:2] in b"123456" and head[2:3].isspace())
    )


def advice(path: str | os.PathLike[str]) -> str:
    """Advice on converting a file with the suffix of an unsupported format; "" for other files."""
    kind = _NOT_READ.get(Path(path).suffix.lower())
    return _convert(kind) if kind else ""


@contextlib.contextmanager
def _named(path: str | os.PathLike[str]) -> Iterator[None]:
    """Raises an `OSError` or `ImageError` of the block as an `ImageError` that names the file."""
    try:
        yield
    except OSError as error:
        raise ImageError(f"cannot read {path} ({error.strerror})", "unreadable") from error
    except ImageError as error:
        raise ImageError(f"cannot read {path}: {error}", error.reason) from error


def _header(content: bytes) -> ImageFile.ImageFile:
    """Opens a picture and reads its size and format, without decoding it.

    Raises:
        ImageError: the content is empty, the header is damaged, the format is not supported, or the
            picture has too many pixels.
    """
    if not content:
        raise ImageError("it is empty", "empty")
    if content[4:8] == b"ftyp" and content[8:12] in _HEIF_BRANDS:
        raise ImageError(_convert(_HEIF_BRANDS[content[8:12]]), "not_read")
    for reader in _READERS:
        try:
            header = reader(io.BytesIO(content))
        except SyntaxError:  # another format
            continue
        except Exception as error:  # invalid bytes cause exceptions of any type
            raise ImageError(f"the picture is damaged ({_reason(error)})") from error
        width, height = header.size
        if width * height > MOST_PIXELS:
            raise ImageError(
                f"it has {width} x {height} pixels, more than the limit of "
                f"{MOST_PIXELS // 10**6} million; make it smaller",
                "too_large",
            )
        return header
    reason: Reason = "damaged" if looks_like_picture(content) else "not_a_picture"
    raise ImageError("it is not a picture in a supported format, or its header is damaged", reason)


def _on_grey(picture: ImageFile.ImageFile) -> UInt8[np.ndarray, "h w 3"]:
    """Blends a picture that has transparency with mid-grey, and turns it upright."""
    upright = ImageOps.exif_transpose(picture).convert("RGBA")
    ground = Image.new("RGB", upright.size, (_GREY, _GREY, _GREY))
    ground.paste(upright, mask=upright)
    return np.array(ground)


def _convert(kind: str) -> str:
    return (
        f"{kind} pictures are not supported; convert them to JPEG or PNG, for example with "
        f"ImageMagick: magick INPUT OUTPUT.jpg"
    )


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or getattr(error, "err", None) or str(error)
    return " ".join(str(text or type(error).__name__).split())
