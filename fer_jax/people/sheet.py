"""Sheets: reliefs on which parts of a person are painted before light and pose are applied.

A sheet is a grid in head coordinates (half face widths, y downwards) with colour, height, gloss and
coverage of each point. For speed, painting can be limited to a window, such as that of an eye.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float32

Window = tuple[slice, slice]


@dataclass(frozen=True)
class Grid:
    """The pixels of a sheet: `resolution` pixels per unit, from (left, top) to (right, bottom)."""

    left: float
    top: float
    right: float
    bottom: float
    resolution: int

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return (
            round((self.bottom - self.top) * self.resolution),
            round((self.right - self.left) * self.resolution),
        )

    @cached_property
    def x(self) -> Float32[np.ndarray, "h w"]:
        """The x coordinate of each pixel's centre."""
        row = self.left + (np.arange(self.shape[1], dtype=np.float32) + 0.5) / self.resolution
        return np.broadcast_to(row.astype(np.float32), self.shape).copy()

    @cached_property
    def y(self) -> Float32[np.ndarray, "h w"]:
        """The y coordinate of each pixel's centre."""
        column = self.top + (np.arange(self.shape[0], dtype=np.float32) + 0.5) / self.resolution
        return np.broadcast_to(column.astype(np.float32)[:, None], self.shape).copy()

    def column(self, x: np.ndarray) -> np.ndarray:
        """The fractional pixel column of an x coordinate; 0 is the centre of the first column."""
        return (x - self.left) * self.resolution - 0.5

    def row(self, y: np.ndarray) -> np.ndarray:
        """The fractional pixel row of a y coordinate; 0 is the centre of the first row."""
        return (y - self.top) * self.resolution - 0.5

    def window(self, left: float, right: float, top: float, bottom: float) -> Window:
        """The slices (rows, columns) of the pixels of a rectangle, clipped to the grid."""
        height, width = self.shape
        one_past_end = np.array([0, 1])
        columns = np.clip(self.column(np.array([left, right])) + one_past_end, 0, width).astype(int)
        rows = np.clip(self.row(np.array([top, bottom])) + one_past_end, 0, height).astype(int)
        return slice(rows[0], rows[1]), slice(columns[0], columns[1])


@dataclass(frozen=True)
class Sheet:
    """A painted relief.

    Attributes:
        grid: the pixels.
        albedo: linear RGB.
        cover: opacity, 0..1.
        relief: height towards the viewer in units.
        gloss: strength of the highlight.
        glint: light that is added for any lighting, such as the reflection in an eye.
    """

    grid: Grid
    albedo: Float32[np.ndarray, "h w 3"]
    cover: Float32[np.ndarray, "h w"]
    relief: Float32[np.ndarray, "h w"]
    gloss: Float32[np.ndarray, "h w"]
    glint: Float32[np.ndarray, "h w"]

    @classmethod
    def blank(cls, grid: Grid) -> Sheet:
        """A black, flat, matt and transparent sheet."""
        zeros = [np.zeros(grid.shape, np.float32) for _ in range(4)]
        return cls(grid, np.zeros((*grid.shape, 3), np.float32), *zeros)

    def copy(self) -> Sheet:
        """A deep copy, which can be painted without changing this sheet."""
        arrays = (self.albedo, self.cover, self.relief, self.gloss, self.glint)
        return Sheet(self.grid, *(array.copy() for array in arrays))

    def paint(self, window: Window, colour: np.ndarray, coverage: np.ndarray) -> None:
        """Blends `colour` (linear, [3] or [h, w, 3]) into the albedo of `window`.

        `coverage` [h, w] is the opacity of the colour, clipped to 0..1.
        """
        area = self.albedo[window]
        area += (colour - area) * np.clip(coverage, 0.0, 1.0)[..., None]

    def cover_with(self, colour: np.ndarray, coverage: np.ndarray) -> None:
        """Paints a layer with the opacity `coverage` [h, w], also over transparent parts.

        At its edge, the colour of the layer is blended only with visible parts below it.
        """
        self.cover[:] = np.maximum(self.cover, coverage)
        self.paint(EVERYWHERE, colour, coverage / np.maximum(self.cover, 1e-3))


EVERYWHERE: Window = (slice(None), slice(None))
