"""Writing figures, with the names of people and files drawn as they are."""

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
        # A `$` in a name is not a formula; matplotlib would refuse it, or swallow it.
        text.set_parse_math(False)
    figure.savefig(file, **options)
