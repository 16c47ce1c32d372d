"""Saves figures; texts in them, such as names of people, are not parsed as formulas."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fer_jax.workdir import atomic_file

if TYPE_CHECKING:  # importing matplotlib takes 0.3 s, and not every stage draws
    from matplotlib.figure import Figure


def save_figure(figure: Figure, file: Path, *, dpi: int) -> None:
    """Writes a figure atomically, in the format of the file's suffix, at `dpi` dots per inch."""
    with atomic_file(file) as temporary:
        _write(figure, temporary, dpi=dpi)


def svg_text(figure: Figure) -> str:
    """A figure as the text of an SVG file, with a transparent background and without a date."""
    buffer = io.StringIO()
    _write(figure, buffer, format="svg", transparent=True, metadata={"Date": None})
    return buffer.getvalue()


def _write(figure: Figure, file: Path | io.StringIO, **options: Any) -> None:
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        # Otherwise matplotlib would read text between two `$` as a formula.
        text.set_parse_math(False)
    figure.savefig(file, **options)
