"""The features that change with the expression: brows, eyes, mouth and creases of the skin.

`express` copies a head sheet; the other functions paint on the copy, in the window of a feature.
The effect of each action unit on the skin follows the FACS manual (Ekman, Friesen & Hager, 2002).
"""

from __future__ import annotations

import numpy as np

from fer_jax.people.action_units import ActionUnits
from fer_jax.people.fields import bump, linear, ridge, smoothstep
from fer_jax.people.head import SIDES, Head
from fer_jax.people.identity import Identity
from fer_jax.people.sheet import Sheet


def express(head: Head, person: Identity, units: ActionUnits, gaze: float) -> Sheet:
    """A new sheet of the head, with the expression `units` and the `gaze` (see `View`)."""
    sheet = head.sheet.copy()
    _crease_cheeks(sheet, person, units)
    _crease_forehead(sheet, person, units)
    for side in SIDES:
        _paint_eye(sheet, person, units, side, gaze)
        _paint_brow(sheet, head, person, units, side)
    _paint_mouth(sheet, head, person, units)
    if person.glasses:
        _paint_glasses(sheet, head, person)
    return sheet


def _crease_cheeks(sheet: Sheet, person: Identity, units: ActionUnits) -> None:
    """Paints the creases of cheeks, eyes and nose in the relief and, faintly, in the colour."""
    window = sheet.grid.window(-1.0, 1.0, 0.0, 1.05)
    x, y = sheet.grid.x[window], sheet.grid.y[window]
    smile, age = units.lip_corner_puller, person.age
    raised = units.cheek_raiser * smile
    lift = 0.04 * smile + 0.09 * raised
    depth = 0.014 + 0.018 * age + 0.05 * smile + 0.022 * units.lip_corner_depressor
    depth += 0.025 * units.nose_wrinkler
    fold = np.abs(x) - (0.24 + 0.21 * smoothstep(0.45, 0.95, y) + 0.07 * smile)
    fold_mask = ridge(fold, 0.042) * smoothstep(0.42, 0.56, y) * smoothstep(1.0, 0.84, y)
    change = -depth * fold_mask
    shade = (0.8 * smile + 0.35 * units.lip_corner_depressor + 0.25 * age) * fold_mask
    for side in SIDES:
        change = change + lift * bump(x, y, (side * 0.57, 0.38 - 0.06 * raised), (0.25, 0.20))
        outwards = side * x - person.eye_x - person.eye_width
        feet = ridge(np.abs(y - 0.03) - 0.10 - 0.45 * outwards, 0.018)
        feet = feet + ridge(y - 0.03, 0.016)
        feet = feet * smoothstep(0.02, 0.07, outwards) * smoothstep(0.28, 0.16, outwards)
        strength = 0.75 * raised + 0.25 * max(0.0, age - 0.4)
        change = change - 0.012 * strength * feet
        shade = shade + 0.6 * strength * feet
        puff = ridge(y - 0.19 + 0.03 * raised, 0.028) * ridge(
            x - side * person.eye_x, 0.19, flat=True
        )
        change = change - 0.02 * units.cheek_raiser * puff
        shade = shade + 0.35 * units.cheek_raiser * puff
        wrinkles = np.sin(60 * (y + 0.6 * np.abs(x))) * bump(x, y, (side * 0.10, 0.12), (0.08, 0.1))
        change = change + 0.014 * units.nose_wrinkler * wrinkles
    sheet.relief[window] += change
    sheet.albedo[window] *= 1 - np.clip(0.22 * shade, 0, 0.6)[..., None]
    flush = bump(np.abs(x), y, (0.55, 0.42), (0.24, 0.2)) * 0.16 * smile
    sheet.albedo[window][..., 1:] *= (1 - flush)[..., None]


def _crease_forehead(sheet: Sheet, person: Identity, units: ActionUnits) -> None:
    window = sheet.grid.window(-0.75, 0.75, person.hairline - 0.1, 0.1)
    x, y = sheet.grid.x[window], sheet.grid.y[window]
    inner, outer, lowered = units.inner_brow_raiser, units.outer_brow_raiser, units.brow_lowerer
    # AU 1 alone wrinkles the middle of the forehead; together with AU 2, the whole forehead.
    lines = np.sin((y + 0.10 * np.cos(2.5 * x)) * 40) * bump(
        x, y, (0, -0.56), (0.34 + 0.25 * min(1.0, outer), 0.15)
    )
    raised = min(1.2, inner + 0.5 * outer)
    change = -0.017 * raised * lines
    shade = 0.5 * raised * np.clip(lines, 0, 1)
    for side in SIDES:
        furrow = bump(x - 0.15 * side * (y + 0.25), y, (side * 0.065, -0.27), (0.024, 0.14))
        change = change - 0.034 * lowered * furrow
        shade = shade + 1.9 * lowered * furrow
        change = change + 0.03 * lowered * bump(x, y, (side * 0.20, -0.24), (0.12, 0.07))
    sheet.relief[window] += change
    sheet.albedo[window] *= 1 - np.clip(0.30 * shade, 0, 0.6)[..., None]


def _paint_eye(sheet: Sheet, person: Identity, units: ActionUnits, side: int, gaze: float) -> None:
    eye = side * person.eye_x
    window = sheet.grid.window(eye - 0.36, eye + 0.36, -0.26, 0.24)
    x, y = sheet.grid.x[window], sheet.grid.y[window]
    px = 1.0 / sheet.grid.resolution
    along = side * (x - eye) / person.eye_width  # -1 at the inner corner, 1 at the outer
    arch = np.clip(1 - along**2, 0, 1)
    opening = max(0.03, 1 - units.blink)
    sad = min(1.0, units.inner_brow_raiser * units.lip_corner_depressor)
    raised = units.cheek_raiser * units.lip_corner_puller
    above = 1 + 0.40 * units.upper_lid_raiser - 0.22 * units.lid_tightener
    above -= 0.20 * units.cheek_raiser + 0.26 * sad
    below = 0.62 * (1 - 0.70 * raised - 0.45 * units.lid_tightener)
    tilt = (person.eye_tilt + 0.035 * sad) * along
    closed = 0.03 * (1 - opening)
    upper = -person.eye_height * max(0.05, above) * opening * arch**0.75 + tilt + closed * arch
    lower = person.eye_height * max(0.1, below) * max(0.3, opening) * arch**0.8 + tilt
    lower = np.maximum(lower, upper)
    slit = smoothstep(-px, px, y - upper) * smoothstep(-px, px, lower - y) * (np.abs(along) < 1)

    shadow = 1 - 0.45 * ridge(y - upper, 0.05) - 0.25 * along**4
    sheet.paint(window, linear((0.90, 0.87, 0.85)) * shadow[..., None], slit)
    radius = 0.087
    iris_x = eye + 0.06 * gaze
    distance = np.hypot(x - iris_x, y + 0.012)
    rim = 1 - 0.6 * smoothstep(0.6 * radius, radius, distance)
    iris = linear(person.iris) * (1.7 * rim * shadow)[..., None]
    sheet.paint(window, iris.astype(np.float32), slit * smoothstep(-px, px, radius - distance))
    sheet.paint(
        window, linear((0.03, 0.03, 0.03)), slit * smoothstep(-px, px, 0.45 * radius - distance)
    )
    spark = np.hypot(x - iris_x - 0.028, y + 0.045)
    sheet.glint[window] += 0.75 * slit * smoothstep(0.027, 0.012, spark)
    sheet.gloss[window] *= 1 - slit
    sheet.relief[window] += 0.03 * slit

    ends = smoothstep(0.0, 0.12, 1.06 - np.abs(along))
    feminine = person.hair_style in ("long", "hijab", "bob")
    lash = linear((0.10, 0.07, 0.06))
    thickness = (0.023 if feminine else 0.017) * (0.75 + 0.35 * smoothstep(-1, 1, along))
    sheet.paint(window, lash, 0.95 * ridge(y - upper, thickness + 0.4 * px) * ends)
    skin = linear(person.skin)
    sheet.paint(window, skin * 0.30, 0.5 * ridge(y - lower, 0.013 + 0.4 * px) * ends)
    crease = upper - 0.052 + 0.022 * units.upper_lid_raiser - 0.01 * units.inner_brow_raiser
    sheet.paint(window, skin * 0.35, 0.6 * ridge(y - crease, 0.014 + 0.4 * px) * ends)


def _paint_brow(sheet: Sheet, head: Head, person: Identity, units: ActionUnits, side: int) -> None:
    eye = side * person.eye_x
    window = sheet.grid.window(eye - 0.36, eye + 0.36, -0.62, 0.0)
    x, y = sheet.grid.x[window], sheet.grid.y[window]
    length = person.eye_width * 1.28
    along = side * (x - eye * (1 - 0.10 * units.brow_lowerer)) / length  # -1 inner .. 1 outer
    inner, outer = smoothstep(0.5, -1.0, along), smoothstep(-0.4, 1.0, along)
    sad = units.inner_brow_raiser * units.lip_corner_depressor
    height = person.brow_y + 0.03 - person.brow_arch * (1 - (along - 0.25) ** 2)
    height = height + units.brow_lowerer * (0.055 + 0.075 * smoothstep(0.4, -1.0, along))
    height = (
        height - 0.15 * units.inner_brow_raiser * inner - 0.07 * units.outer_brow_raiser * outer
    )
    height = height + 0.05 * sad * smoothstep(0.0, 1.0, along)
    thickness = person.brow_thickness * (1 - 0.5 * smoothstep(0.0, 1.0, along))
    brow = ridge(y - height, thickness, flat=True)
    brow = brow * smoothstep(-1.10, -0.85, along) * smoothstep(1.10, 0.85, along)
    hairs = 0.90 + 0.07 * head.texture[window]
    sheet.paint(window, linear(person.hair), 0.93 * brow * hairs)
    sheet.relief[window] += 0.012 * brow
    sheet.gloss[window] *= 1 - brow


def _paint_glasses(sheet: Sheet, head: Head, person: Identity) -> None:
    window = sheet.grid.window(-1.1, 1.1, -0.3, 0.35)
    x, y = sheet.grid.x[window], sheet.grid.y[window]
    sharp = 2.3 if person.age < 0.5 else 4.0
    frame = np.zeros_like(x)
    lens = np.zeros_like(x)
    for side in SIDES:
        across, down = np.abs(x - side * person.eye_x) / 0.30, np.abs(y - 0.03) / 0.23
        distance = (across**sharp + down**sharp) ** (1 / sharp) - 1
        frame = np.maximum(frame, ridge(distance, 0.085, flat=True))
        lens = np.maximum(lens, smoothstep(0.0, -0.1, distance))
    bridge = smoothstep(0, 0.02, person.eye_x - 0.29 - np.abs(x)) * ridge(y + 0.05, 0.022)
    arms = smoothstep(0, 0.02, np.abs(x) - person.eye_x - 0.29) * ridge(y + 0.04, 0.024)
    frame = np.maximum(frame, np.maximum(bridge, arms * head.skin[window]))
    streak = ridge((x + 0.8 * y) % 0.85 - 0.3, 0.08) * lens
    sheet.glint[window] += 0.035 * lens + 0.05 * streak
    sheet.paint(window, linear((0.13, 0.10, 0.10)), 0.95 * frame)
    sheet.relief[window] += 0.03 * frame


def _paint_mouth(sheet: Sheet, head: Head, person: Identity, units: ActionUnits) -> None:
    """Paints the mouth with the expression `units`, and the moustache."""
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
