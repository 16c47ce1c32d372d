"""Persian words as the shapes of their joined letters: a reference that needs no text layout."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

# The Arabic presentation forms of each letter at its place in the word.
SHAPES = {
    "خشمگین": "ﺧﺸﻤﮕﯿﻦ",
    "شاد": "ﺷﺎﺩ",
    "خنثی": "ﺧﻨﺜﯽ",
    "غمگین": "ﻏﻤﮕﯿﻦ",
}
_FONT = Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")


def drawn(word: str, size: int, *, joined: bool = True) -> np.ndarray:
    """A word in white on black, uint8 [h, w], drawn letter by letter from left to right.

    Unless `joined`, the letters have their separate shapes.
    """
    shapes = (SHAPES[word] if joined else word)[::-1]
    font = ImageFont.truetype(str(_FONT), size, layout_engine=ImageFont.Layout.BASIC)
    left, top, right, bottom = font.getbbox(shapes)
    image = Image.new("L", (int(right - left), int(bottom - top)))
    ImageDraw.Draw(image).text((-left, -top), shapes, 255, font)
    return np.asarray(image)
