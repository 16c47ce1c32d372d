"""Writing figures. The names of people and files in them are not parsed as formulas."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.text import Text

from fer_jax.workdir import atomic_file


def save_figure(figure: Figure, file: Path, *, dpi: int) -> None:
    """Writes a figure in the format of the file's suffix, atomically."""
    with atomic_file(file) as temporary:
        _write(figure, temporary, dpi=dpi)


def svg_text(figure: Figure) -> str:
    """A figure as the text of an SVG file, on a clear background and without its date."""
    buffer = io.StringIO()
    _write(figure, buffer, format="svg", transparent=True, metadata={"Date": None})
    return buffer.getvalue()


def _write(figure: Figure, file: Path | io.StringIO, **options: Any) -> None:
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        # matplotlib would take `$` in a name for a formula.
        text.set_parse_math(False)
    figure.savefig(file, **options)
