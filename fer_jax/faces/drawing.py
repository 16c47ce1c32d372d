"""Annotated photographs and frames, and contact sheets of crops."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image, ImageDraw, ImageFont, ImageOps, features

from fer_jax.errors import UserError
from fer_jax.faces.cascade.boxes import shared_area
from fer_jax.languages.language import ENGLISH, Language
from fer_jax.workdir import atomic_file

Colour = tuple[int, int, int]

# One colour per class, by its position in the labels; they differ in hue and in lightness.
PALETTE: tuple[Colour, ...] = (
    (238, 92, 66),
    (248, 194, 44),
    (84, 204, 158),
    (92, 166, 250),
    (204, 128, 232),
    (214, 160, 108),
    (170, 178, 190),
)
_INK: Colour = (255, 255, 255)
_DARK: Colour = (16, 20, 28)
_PLATE = (*_DARK, 224)  # slightly transparent
_TRACK: Colour = (70, 76, 88)
_WITHHELD: Colour = (128, 134, 146)
_SMALLEST_SIDE = 360  # pixels; text on smaller pictures is unreadable, so they are enlarged
_LARGEST_FACTOR = 8
_LONGEST_SIDE = 4000  # pixels; nothing is enlarged beyond it
_WIDEST = 4  # largest width of a picture in a row, in units of its height
_PAPER: Colour = (250, 250, 248)
_PRINT: Colour = (34, 38, 46)


def annotate(
    image: UInt8[np.ndarray, "h w 3"],
    boxes: Float[np.ndarray, "n 4"],
    probabilities: Float[np.ndarray, "n classes"],
    labels: Sequence[str],
    *,
    answered: Bool[np.ndarray, " n"] | None = None,
    people: Int[np.ndarray, " n"] | None = None,
    words: Language = ENGLISH,
) -> UInt8[np.ndarray, "hh ww 3"]:
    """Draws the box of each face, and a plate with its most probable class and a bar per class.

    A plate is placed next to its face, where it covers no faces and no earlier plates. If there is
    no room for the full plate, a small one with unlabelled bars is drawn instead, where it covers
    as little of the faces and earlier plates as possible.

    Args:
        image: uint8 [H, W, 3] RGB.
        boxes: (x0, y0, x1, y1) in pixels of `image`.
        probabilities: one row per face, which sums to 1, with the classes in the order of `labels`.
        labels: the class names.
        answered: which faces have an answer; the others get a grey box, and "withheld" instead of a
            class. None: all have one.
        people: the number of the person to whom each face belongs, shown first on the plate; 0 for
            a face without a number. None: no numbers.
        words: the language of the plates; they are mirrored for a language written from right to
            left.

    Returns:
        A new RGB picture of the size of `image`, or enlarged by the factor that `enlargement`
        returns for this size.
    """
    factor = enlargement(image.shape[0], image.shape[1])
    if factor > 1:
        image = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    height, width = image.shape[:2]
    size = int(np.clip(round(min(height, width) / 30), 13, 34))
    faces = np.round(np.reshape(boxes, (-1, 4)).astype(np.float64) * factor).astype(int)

    canvas = Image.fromarray(image)
    draw = ImageDraw.Draw(canvas)
    shown = np.ones(len(faces), bool) if answered is None else answered
    colours = [
        PALETTE[int(row.argmax()) % len(PALETTE)] if is_shown else _WITHHELD
        for row, is_shown in zip(probabilities, shown, strict=True)
    ]
    for face, colour in zip(faces, colours, strict=True):
        _draw_box(draw, face, colour, thickness=max(2, size // 7))

    taken, names = faces, [words.emotion(label) for label in labels]
    for number, (face, row) in enumerate(zip(faces, probabilities, strict=True)):
        others = np.delete(taken, number, axis=0)
        heading = (
            _heading(row, names, words) if shown[number] else words.text("annotation.withheld")
        )
        if people is not None and people[number]:
            person = words.number(int(people[number]))
            heading = words.text("annotation.person", person=person, answer=heading)
        for draw_plate in (_full_plate, _small_plate):
            plate = draw_plate(row, names, heading, size, words.direction == "rtl")
            places = _places(plate.size, face, (width, height), gap=size // 3)
            cost = shared_area(places, face[None])[:, 0] + 2 * shared_area(places, others).sum(1)
            if not cost.min():
                break
        place = places[cost.argmin()]
        canvas.paste(plate, tuple(place[:2].tolist()), plate)
        taken = np.concatenate([taken, place[None]])
    return np.array(canvas)


def enlargement(height: int, width: int) -> int:
    """The integer factor by which `annotate` enlarges a picture of this size in pixels.

    The shorter side becomes at least 360 pixels, unless the factor would exceed 8 or the longer
    side 4000 pixels.
    """
    most = min(_LARGEST_FACTOR, max(1, _LONGEST_SIDE // max(height, width, 1)))
    return int(np.clip(-(-_SMALLEST_SIDE // max(min(height, width), 1)), 1, most))


def contact_sheet(
    crops: Sequence[UInt8[np.ndarray, "_ _ 3"]],
    captions: Sequence[str],
    *,
    title: str,
    cell: int = 128,
    columns: int = 8,
) -> UInt8[np.ndarray, "hh ww 3"]:
    """A page with a title and crops in reading order, each with a caption below it.

    Args:
        crops: RGB, of any sizes. Without crops, the page contains only the title.
        captions: one per crop; may have several lines. A line wider than `cell` is shortened.
        title: the line at the top.
        cell: side in pixels of the square in which a crop is shown.
        columns: crops per row.

    Returns:
        An RGB picture.

    Raises:
        ValueError: the numbers of crops and captions differ.
    """
    if len(crops) != len(captions):
        raise ValueError(f"there are {len(crops)} crops, but {len(captions)} captions")
    gap, size, header = 10, 12, 44
    lines = max((caption.count("\n") + 1 for caption in captions), default=0)
    text_height = lines * (size + 3) + 4
    rows = -(-len(crops) // columns)
    width = gap + columns * (cell + gap)
    height = header + rows * (cell + text_height + gap) + gap

    canvas = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(canvas)
    draw.text((gap, header / 2), title, _PRINT, _font(17, bold=True), anchor="lm")
    for index, (crop, caption) in enumerate(zip(crops, captions, strict=True)):
        row, column = divmod(index, columns)
        left = gap + column * (cell + gap)
        top = header + row * (cell + text_height + gap)
        shown = ImageOps.contain(Image.fromarray(crop), (cell, cell))
        canvas.paste(shown, (left + (cell - shown.width) // 2, top + (cell - shown.height) // 2))
        for number, line in enumerate(caption.split("\n")):
            place = (left, top + cell + 4 + number * (size + 3))
            draw.text(place, _shorten(line, _font(size), cell), _PRINT, _font(size))
    return np.array(canvas)


def row(
    images: Sequence[UInt8[np.ndarray, "_ _ 3"]], height: int
) -> UInt8[np.ndarray, "height _ 3"]:
    """Pictures side by side, each scaled to `height`.

    A picture that would be wider than 4 times `height` is squeezed to this width.
    """
    resized = []
    for image in images:
        width = int(np.clip(round(image.shape[1] * height / image.shape[0]), 1, _WIDEST * height))
        resized.append(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA))
    return np.concatenate(resized, axis=1)


def clock(seconds: float) -> str:
    """A time as minutes and seconds, such as 1:05, with a decimal if the seconds are not whole."""
    minutes, rest = divmod(round(seconds, 1), 60)
    whole = f"{rest:02.0f}" if rest == int(rest) else f"{rest:04.1f}"
    return f"{int(minutes)}:{whole}"


def write_image(path: Path, image: UInt8[np.ndarray, "h w 3"], *, quality: int = 94) -> None:
    """Writes an RGB picture atomically, in the format that the path's suffix names.

    `quality`, 0 to 100, applies to JPEG files.

    Raises:
        UserError: the file cannot be written.
        ValueError: the format does not support a picture of this size.
    """
    options = (
        [cv2.IMWRITE_JPEG_QUALITY, quality] if path.suffix.lower() in {".jpg", ".jpeg"} else []
    )
    taken, encoded = cv2.imencode(path.suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    if not taken:
        height, width = image.shape[:2]
        raise ValueError(f"{path.suffix} does not support a picture of {width} x {height} pixels")
    try:
        with atomic_file(path) as temporary:
            temporary.write_bytes(encoded.tobytes())
    except OSError as error:
        raise UserError(f"cannot write {path} ({error.strerror}); fix that, then retry") from error


def _draw_box(
    draw: ImageDraw.ImageDraw, box: Int[np.ndarray, " 4"], colour: Colour, thickness: int
) -> None:
    """Draws a coloured frame between two dark lines, so that it stands out on any background."""
    frame = [(-k, colour) for k in range(thickness + 1)]
    for inset, shade in [(-thickness - 1, _DARK), (1, _DARK), *frame]:
        x0, y0, x1, y1 = (box + inset * np.array([1, 1, -1, -1])).tolist()
        if x1 > x0 and y1 > y0:
            draw.rectangle((x0, y0, x1, y1), outline=shade)


def check_text_layout(words: Language) -> None:
    """Checks that Pillow can join and order the letters of a language written from right to left.

    Raises:
        UserError: `words` is such a language, and the text layout library is missing.
    """
    if words.direction == "rtl" and not (features.check("raqm") and features.check("fribidi")):
        raise UserError(
            f"with --config.language={words.code}, Pillow cannot join letters, "
            "since the text layout library FriBiDi is missing; install it (Debian and Ubuntu: apt "
            "install libfribidi0; macOS: brew install fribidi), or use --config.language=en"
        )


def _full_plate(
    probabilities: Float[np.ndarray, " classes"],
    names: Sequence[str],
    heading: str,
    size: int,
    mirrored: bool,
) -> Image.Image:
    """A plate with a heading and one labelled bar per class."""
    head_font, row_font = _font(size, bold=True), _font(round(size * 0.8))
    pad, row = round(size * 0.5), round(size * 1.05)
    widest = max(round(row_font.getlength(name)) for name in names)
    bar = max(round(size * 4.5), round(head_font.getlength(heading)) - widest - pad)
    width = 3 * pad + widest + bar
    head = round(size * 1.5)
    plate = Image.new("RGBA", (width, pad + head + row * len(names) + pad // 2), _PLATE)
    draw = _Mirror(ImageDraw.Draw(plate), width if mirrored else None)
    draw.text((pad, pad + head * 0.4), heading, head_font)
    for index, (name, value) in enumerate(zip(names, probabilities, strict=True)):
        middle = pad + head + row * index + row // 2 - pad // 4
        draw.text((pad, middle), name, row_font)
        left, thick = 2 * pad + widest, max(2, round(size * 0.22))
        draw.rectangle((left, middle - thick, left + bar, middle + thick), _TRACK)
        if round(bar * float(value)) > 0:
            right = left + round(bar * float(value))
            colour = PALETTE[index % len(PALETTE)]
            draw.rectangle((left, middle - thick, right, middle + thick), colour)
    return plate


def _small_plate(
    probabilities: Float[np.ndarray, " classes"],
    names: Sequence[str],
    heading: str,
    size: int,
    mirrored: bool,
) -> Image.Image:
    """A plate with a heading, followed by a small vertical bar per class."""
    size = max(11, round(size * 0.75))
    font = _font(size, bold=True)
    pad, thick, height = round(size * 0.35), max(4, size // 3), round(size * 1.6)
    text = round(font.getlength(heading))
    width = 3 * pad + text + (thick + 1) * len(names)
    plate = Image.new("RGBA", (width, height), _PLATE)
    draw = _Mirror(ImageDraw.Draw(plate), width if mirrored else None)
    draw.text((pad, height / 2), heading, font)
    for index, value in enumerate(probabilities):
        left, bottom = 2 * pad + text + (thick + 1) * index, height - 3
        draw.rectangle((left, 2, left + thick - 1, bottom), _TRACK)
        rise = round((bottom - 2) * float(value))
        colour = PALETTE[index % len(PALETTE)]
        draw.rectangle((left, bottom - rise, left + thick - 1, bottom), colour)
    return plate


@dataclass(frozen=True)
class _Mirror:
    """Draws on a plate; mirrored if `width`, the width of the plate in pixels, is not None."""

    draw: ImageDraw.ImageDraw
    width: int | None

    def text(self, place: tuple[int, float | int], text: str, font: ImageFont.FreeTypeFont) -> None:
        """Draws text that begins at the position `place` (x, y) and is vertically centred there."""
        x, y = place
        if self.width is None:
            self.draw.text((x, y), text, _INK, font, anchor="lm")
        else:
            self.draw.text((self.width - x, y), text, _INK, font, anchor="rm")

    def rectangle(self, box: tuple[int, int, int, int], colour: Colour) -> None:
        """Draws a filled rectangle (x0, y0, x1, y1)."""
        x0, y0, x1, y1 = box
        if self.width is not None:
            x0, x1 = self.width - 1 - x1, self.width - 1 - x0
        self.draw.rectangle((x0, y0, x1, y1), fill=colour)


def _places(
    plate: tuple[int, int], face: Int[np.ndarray, " 4"], picture: tuple[int, int], gap: int
) -> Int[np.ndarray, "9 4"]:
    """Nine candidate boxes (x0, y0, x1, y1) for a plate, in order of preference.

    Eight are beside, below and above the face, and the last is inside the face box. All are moved
    into the picture, and are at most as large as the picture. `plate` and `picture` are sizes
    (w, h), and `gap` is the distance from the face, in pixels.
    """
    (w, h), (x0, y0, x1, y1) = plate, face.tolist()
    lines = 1 + gap  # distance of a plate, which must not cover the frame of the box
    corners = [
        (x1 + lines, y0),
        (x0 - lines - w, y0),
        (x0, y1 + lines),
        (x0, y0 - lines - h),
        (x1 + lines, y1 - h),
        (x0 - lines - w, y1 - h),
        (x1 - w, y1 + lines),
        (x1 - w, y0 - lines - h),
        (x0, y1 - h),
    ]
    size = np.minimum(plate, picture)
    inside = np.clip(corners, 0, picture - size)
    return np.concatenate([inside, inside + size], 1)


def _heading(
    probabilities: Float[np.ndarray, " classes"], names: Sequence[str], words: Language
) -> str:
    best = int(probabilities.argmax())
    percent = words.number(100 * float(probabilities[best]))
    return words.text("annotation.answer", emotion=names[best], percent=percent)


def _shorten(line: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """The line, shortened with an ellipsis if it is wider than `width` pixels."""
    shown = line
    while shown and font.getlength(shown) > width:
        shown = shown[:-2] + "…" if len(shown) > 1 else ""
    return shown


@functools.cache
def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """The font DejaVu Sans, which matplotlib includes, and which has Arabic and Persian letters."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(_fonts() / name), size)


@functools.cache
def _fonts() -> Path:
    """The folder of matplotlib's fonts, found without importing matplotlib, which takes 0.1 s."""
    found = importlib.util.find_spec("matplotlib")
    assert found is not None and found.origin is not None, "matplotlib is required"
    return Path(found.origin).parent / "mpl-data" / "fonts" / "ttf"
