"""Lips, teeth, moustache and the skin around the mouth."""

from __future__ import annotations

import numpy as np

from fer_jax.people.action_units import ActionUnits
from fer_jax.people.fields import bump, linear, ridge, smoothstep
from fer_jax.people.head import SIDES, Head
from fer_jax.people.identity import Identity
from fer_jax.people.sheet import Sheet


def paint_mouth(sheet: Sheet, head: Head, person: Identity, units: ActionUnits) -> None:
    """Paint the mouth that ``units`` make, moustache included."""
    window = sheet.grid.window(-0.68, 0.68, 0.5, 1.4)
    x, y = sheet.grid.x[window], sheet.grid.y[window]
    px = 1.0 / sheet.grid.resolution
    smile, frown = units.lip_corner_puller, units.lip_corner_depressor
    tight = min(1.0, units.lip_tightener)

    # The shape: heights in units; `along` is -1 at the left corner and 1 at the right one.
    half_width = person.mouth_width * (1 + 0.30 * smile - 0.08 * tight + 0.05 * frown)
    along = x / half_width
    squared = np.clip(along**2, 0, 1)
    corners = (-0.17 * smile + 0.13 * frown) * np.clip(along**2, 0, 1.6)
    height = person.mouth_y + 0.03 * (units.lips_part + smile - units.chin_raiser) + 0.02 * frown
    # At rest the lips do not meet in a straight line: there is a dip under the cupid's bow.
    line = height + corners + 0.012 * ridge(x, 0.07) - 0.008 * np.cos(np.pi * along) * (1 - squared)
    widest = float(np.clip(0.16 * units.lips_part + 0.20 * units.jaw_drop, 0, 0.4))
    opening = widest * np.sqrt(1 - squared)
    thickness = person.lip * (1 - 0.62 * tight) * (1 - 0.2 * smile)
    bow = 1 - 0.30 * ridge(x, 0.05) + 0.12 * ridge(np.abs(x) - 0.09, 0.06)
    upper = thickness * bow * (1 - squared) ** 0.6
    lower = 1.25 * thickness * (1 - squared) ** 0.55
    inside = smoothstep(0, 0.02, 1 - np.abs(along))

    # Relief of lips, chin and the hollows under the corners.
    relief = sheet.relief[window]
    low = y - line - 0.5 * (lower + opening)
    high = y - line + 0.5 * (upper + opening)
    relief += 0.06 * ridge(low, 0.6 * lower + 0.02) * inside
    relief += 0.045 * ridge(high, 0.6 * upper + 0.02) * inside
    chin = units.chin_raiser
    dimples = np.sin(70 * x + 3 * np.sin(50 * y)) * np.sin(60 * y)
    ball = bump(x, y, (0, person.chin - 0.19), (0.22, 0.13))
    relief += (0.05 * chin + 0.006 * chin * dimples) * ball
    relief -= 0.035 * chin * ridge(y - line - lower - 0.09, 0.035) * ridge(x, 0.25)
    for side in SIDES:
        hollow = (side * (half_width + 0.06), person.mouth_y + 0.15)
        relief -= 0.03 * frown * bump(x, y, hollow, (0.05, 0.09))

    if person.moustache:
        middle = line - 0.5 * opening - upper - 0.055
        hair = ridge(y - middle - 0.02 * np.abs(along), 0.055, flat=True)
        hair = hair * smoothstep(0, 0.10, half_width * 1.08 - np.abs(x))
        hair = hair * np.clip(0.88 + 0.15 * head.texture[window] - 0.4 * ridge(x, 0.02), 0, 1)
        sheet.paint(window, linear(person.hair) * 1.1, person.moustache * hair)
        sheet.relief[window] += 0.025 * person.moustache * hair
        sheet.gloss[window] *= 1 - 0.8 * person.moustache * hair

    above, below = line - opening / 2, line + opening / 2
    red = smoothstep(-px, px, y - above + upper) * smoothstep(-px, px, below + lower - y)
    shade = np.where(y < line, 0.82, 1.0).astype(np.float32)
    sheet.paint(window, linear(person.lips) * shade[..., None], 0.92 * red * inside)
    sheet.gloss[window] += 0.10 * red * inside * (y > below)

    gap = smoothstep(-px, px, y - above) * smoothstep(-px, px, below - y) * inside
    gap = gap * (opening > px)
    sheet.paint(window, linear((0.26, 0.08, 0.08)), gap)
    bite = above + np.minimum(0.11, 0.8 * opening)
    teeth = gap * smoothstep(-px, px, bite - y) * smoothstep(0, 0.2, 0.92 - np.abs(along))
    tooth = 0.94 - 0.05 * ridge(np.abs(np.sin(14 * along)), 0.18) - 0.18 * along**2
    sheet.paint(window, linear((0.94, 0.92, 0.87)) * tooth[..., None] ** 2, teeth)
    sheet.gloss[window] *= 1 - gap

    seam = ridge(y - line, 0.013 + px) * smoothstep(-0.02, 0.03, 1.05 - np.abs(along))
    seam = seam * (opening <= 2 * px)
    sheet.paint(window, linear(person.skin) * 0.08, (0.75 + 0.1 * units.lip_tightener) * seam)

    # Dark corners and the shadow under the lower lip.
    corner = person.mouth_y - 0.14 * smile + 0.17 * frown
    dark = np.zeros_like(x)
    for side in SIDES:
        dark = dark + bump(x, y, (side * half_width * 1.02, corner), (0.035, 0.03))
    sheet.paint(window, linear(person.skin) * 0.2, 0.6 * dark)
    under = ridge(y - line - opening / 2 - lower - 0.045, 0.03) * inside
    sheet.albedo[window] *= 1 - (0.22 * under)[..., None]
