"""Lips, teeth, moustache and the skin around the mouth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fer_jax.people.action_units import ActionUnits
from fer_jax.people.fields import bump, linear, ridge, smoothstep
from fer_jax.people.head import SIDES, Head
from fer_jax.people.identity import Identity
from fer_jax.people.sheet import Sheet, Window


@dataclass(frozen=True)
class _Lips:
    """Shape of a mouth over its window: heights in units, each [h, w] unless a float."""

    half_width: float
    line: np.ndarray  # y where the lips meet
    opening: np.ndarray  # gap between the lips
    upper: np.ndarray  # thickness of the upper lip
    lower: np.ndarray
    inside: np.ndarray  # 0..1, fades out at the corners
    along: np.ndarray  # -1 left corner .. 1 right corner


def paint_mouth(sheet: Sheet, head: Head, person: Identity, units: ActionUnits) -> None:
    """Paint the mouth that ``units`` make, moustache included."""
    window = sheet.grid.window(-0.68, 0.68, 0.5, 1.4)
    x, y = sheet.grid.x[window], sheet.grid.y[window]
    lips = _shape(person, units, x)
    _raise_lips(sheet, window, person, units, lips)
    if person.moustache:
        _paint_moustache(sheet, head, window, person, lips)
    _colour_lips(sheet, window, person, units, lips)
    _paint_corners(sheet, window, person, units, lips, x, y)


def _shape(person: Identity, units: ActionUnits, x: np.ndarray) -> _Lips:
    smile, frown = units.lip_corner_puller, units.lip_corner_depressor
    tight = min(1.0, units.lip_tightener)
    half_width = person.mouth_width * (1 + 0.30 * smile - 0.08 * tight + 0.05 * frown)
    along = x / half_width
    squared = np.clip(along**2, 0, 1)
    corners = (-0.17 * smile + 0.13 * frown) * np.clip(along**2, 0, 1.6)
    height = person.mouth_y + 0.03 * (units.lips_part + smile - units.chin_raiser) + 0.02 * frown
    # The resting line of lips is no straight cut: a slight dip under the cupid's bow.
    line = height + corners + 0.012 * ridge(x, 0.07) - 0.008 * np.cos(np.pi * along) * (1 - squared)
    widest = float(np.clip(0.16 * units.lips_part + 0.20 * units.jaw_drop, 0, 0.4))
    thickness = person.lip * (1 - 0.62 * tight) * (1 - 0.2 * smile)
    bow = 1 - 0.30 * ridge(x, 0.05) + 0.12 * ridge(np.abs(x) - 0.09, 0.06)
    return _Lips(
        half_width=half_width,
        line=line,
        opening=widest * np.sqrt(1 - squared),
        upper=thickness * bow * (1 - squared) ** 0.6,
        lower=1.25 * thickness * (1 - squared) ** 0.55,
        inside=smoothstep(0, 0.02, 1 - np.abs(along)),
        along=along,
    )


def _raise_lips(
    sheet: Sheet, window: Window, person: Identity, units: ActionUnits, lips: _Lips
) -> None:
    """Relief of lips, chin and the hollow under the corners."""
    x, y = sheet.grid.x[window], sheet.grid.y[window]
    relief = sheet.relief[window]
    low = y - lips.line - 0.5 * (lips.lower + lips.opening)
    high = y - lips.line + 0.5 * (lips.upper + lips.opening)
    relief += 0.06 * ridge(low, 0.6 * lips.lower + 0.02) * lips.inside
    relief += 0.045 * ridge(high, 0.6 * lips.upper + 0.02) * lips.inside
    chin = units.chin_raiser
    dimples = np.sin(70 * x + 3 * np.sin(50 * y)) * np.sin(60 * y)
    ball = bump(x, y, (0, person.chin - 0.19), (0.22, 0.13))
    relief += (0.05 * chin + 0.006 * chin * dimples) * ball
    relief -= 0.035 * chin * ridge(y - lips.line - lips.lower - 0.09, 0.035) * ridge(x, 0.25)
    for side in SIDES:
        hollow = (side * (lips.half_width + 0.06), person.mouth_y + 0.15)
        relief -= 0.03 * units.lip_corner_depressor * bump(x, y, hollow, (0.05, 0.09))


def _paint_moustache(
    sheet: Sheet, head: Head, window: Window, person: Identity, lips: _Lips
) -> None:
    x, y = sheet.grid.x[window], sheet.grid.y[window]
    middle = lips.line - 0.5 * lips.opening - lips.upper - 0.055
    hair = ridge(y - middle - 0.02 * np.abs(lips.along), 0.055, flat=True)
    hair = hair * smoothstep(0, 0.10, lips.half_width * 1.08 - np.abs(x))
    hair = hair * np.clip(0.88 + 0.15 * head.texture[window] - 0.4 * ridge(x, 0.02), 0, 1)
    sheet.paint(window, linear(person.hair) * 1.1, person.moustache * hair)
    sheet.relief[window] += 0.025 * person.moustache * hair
    sheet.gloss[window] *= 1 - 0.8 * person.moustache * hair


def _colour_lips(
    sheet: Sheet, window: Window, person: Identity, units: ActionUnits, lips: _Lips
) -> None:
    """Red of the lips, dark of the mouth, teeth."""
    y = sheet.grid.y[window]
    px = 1.0 / sheet.grid.resolution
    above, below = lips.line - lips.opening / 2, lips.line + lips.opening / 2
    red = smoothstep(-px, px, y - above + lips.upper) * smoothstep(-px, px, below + lips.lower - y)
    shade = np.where(y < lips.line, 0.82, 1.0).astype(np.float32)
    sheet.paint(window, linear(person.lips) * shade[..., None], 0.92 * red * lips.inside)
    sheet.gloss[window] += 0.10 * red * lips.inside * (y > below)

    gap = smoothstep(-px, px, y - above) * smoothstep(-px, px, below - y) * lips.inside
    gap = gap * (lips.opening > px)
    sheet.paint(window, linear((0.26, 0.08, 0.08)), gap)
    bite = above + np.minimum(0.11, 0.8 * lips.opening)
    teeth = gap * smoothstep(-px, px, bite - y) * smoothstep(0, 0.2, 0.92 - np.abs(lips.along))
    tooth = 0.94 - 0.05 * ridge(np.abs(np.sin(14 * lips.along)), 0.18) - 0.18 * lips.along**2
    sheet.paint(window, linear((0.94, 0.92, 0.87)) * tooth[..., None] ** 2, teeth)
    sheet.gloss[window] *= 1 - gap

    seam = ridge(y - lips.line, 0.013 + px) * smoothstep(-0.02, 0.03, 1.05 - np.abs(lips.along))
    seam = seam * (lips.opening <= 2 * px)
    sheet.paint(window, linear(person.skin) * 0.08, (0.75 + 0.1 * units.lip_tightener) * seam)


def _paint_corners(
    sheet: Sheet,
    window: Window,
    person: Identity,
    units: ActionUnits,
    lips: _Lips,
    x: np.ndarray,
    y: np.ndarray,
) -> None:
    smile, frown = units.lip_corner_puller, units.lip_corner_depressor
    corner = person.mouth_y - 0.14 * smile + 0.17 * frown
    dark = np.zeros_like(x)
    for side in SIDES:
        dark = dark + bump(x, y, (side * lips.half_width * 1.02, corner), (0.035, 0.03))
    sheet.paint(window, linear(person.skin) * 0.2, 0.6 * dark)
    under = ridge(y - lips.line - lips.opening / 2 - lips.lower - 0.045, 0.03) * lips.inside
    sheet.albedo[window] *= 1 - (0.22 * under)[..., None]
