"""Hair and headscarf: their outlines, strands and folds."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float32

from fer_jax.people.fields import fractal_noise, linear, ridge, smoothstep
from fer_jax.people.identity import Identity
from fer_jax.people.sheet import Grid, Sheet

_STRAND_TABLE = (48, 1024)


def strands(person: Identity, grid: Grid) -> Float32[np.ndarray, "h w"]:
    """Noise that is coarse along the hair and fine across it, with standard deviation about 1.

    Above the eyes, strands follow the meridians of the skull from the parting; below, they hang
    down.
    """
    rng = np.random.default_rng([11, person.person])
    rows, columns = _STRAND_TABLE
    fine = cv2.resize(rng.standard_normal((6, columns), dtype=np.float32), (columns, rows))
    locks = cv2.resize(rng.standard_normal((4, 90), dtype=np.float32), (columns, rows))
    table = cv2.GaussianBlur(fine, (0, 0), sigmaX=1.2) * 0.9 + locks
    latitude = np.clip(np.minimum(grid.y, 0.0) / 1.75, -0.999, 0.0)
    spread = np.sqrt(1.0 - latitude**2)
    across = (grid.x - person.parting * (1 - spread)) / (0.12 + spread)
    along = np.hypot(grid.x * 0.6, grid.y + 1.7)
    wave = 0.03 * np.sin(5.0 * grid.y + person.person) * smoothstep(0.0, 0.6, grid.y)
    return cv2.remap(
        table,
        ((across + wave) * 250 + columns / 2).astype(np.float32),
        (along * 13).astype(np.float32),
        interpolation=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_WRAP,
    )


def paint_front_hair(sheet: Sheet, person: Identity, face_width: np.ndarray) -> None:
    """Paints the hair around the face, and over the forehead and temples, in place.

    `sheet` is a head sheet. `face_width` is half the width of the face at each pixel's height, in
    units. The person must have one of the hair styles "short", "long", "bob" and "curly".
    """
    grid, style = sheet.grid, person.hair_style
    x, y = grid.x, grid.y
    if style == "curly":  # tufts without a direction
        scales = tuple(max(2, round(grid.resolution * size)) for size in (0.035, 0.07, 0.13))
        rng = np.random.default_rng([12, person.person])
        texture = fractal_noise(rng, grid.shape, scales, 0.4)
    else:
        texture = strands(person, grid)
    volume = {"short": 0.09, "long": 0.16, "bob": 0.17, "curly": 0.28}[style]
    outline = (np.abs(x) / (person.half_width + volume)) ** 2.3 + (
        np.minimum(y, 0) / (person.skull_top - 1.3 * volume)
    ) ** 2
    ragged = 0.05 * texture if style == "curly" else 0.02 * texture
    silhouette = smoothstep(0.0, 0.05, 1 - outline + ragged)
    lowest = {"short": 0.12, "long": 1.75, "bob": 0.98, "curly": 0.25}[style]
    silhouette *= 1 - smoothstep(lowest - 0.10, lowest + 0.10, y + 0.03 * texture)

    # The height at which the hair starts on the forehead.
    if style in ("short", "curly"):  # recedes at the temples, more so with age
        recess = (0.05 + 0.12 * person.age) * ridge(np.abs(x) - 0.42, 0.22)
        hairline = person.hairline - recess + 0.62 * np.abs(x) ** 3.4
    elif person.fringe:
        hairline = person.hairline + 0.40 - 0.07 * np.cos(2.4 * (x - person.parting))
        hairline = np.maximum(hairline - 0.5 * np.abs(x) ** 3, person.hairline)
    else:
        parted = smoothstep(0.0, 0.7, np.abs(x - person.parting))
        hairline = person.hairline - 0.12 + 0.42 * parted**1.5 + 0.30 * np.abs(x) ** 3
    above = smoothstep(-0.04, 0.04, hairline - y + 0.022 * texture)
    # Below the cheekbones hair hangs straight instead of following the jaw.
    frame = np.maximum(face_width, 0.93 * person.half_width * (y > 0))
    edge = {"short": 0.95, "curly": 0.93}.get(style, 0.86 + 0.05 * np.sin(3 * y + 1))
    beside = smoothstep(-0.02, 0.045, np.abs(x) / np.maximum(frame, 0.05) - edge)
    beside = beside * smoothstep(-0.95, -0.6, y)
    hair = silhouette * np.maximum(above, beside)

    soft = cv2.GaussianBlur(hair, (0, 0), 0.03 * grid.resolution)
    sheet.relief[:] += 0.05 * soft + 0.012 * texture * hair
    # A soft shadow of the hair on the adjacent skin.
    shadow = cv2.GaussianBlur(hair, (0, 0), 0.07 * grid.resolution)
    sheet.albedo[:] *= (1 - 0.45 * shadow * (1 - hair))[..., None]
    sheet.cover_with(hair_colour(person, texture, grid), hair)
    sheet.gloss[:] *= 1 - hair


def hair_colour(person: Identity, texture: np.ndarray, grid: Grid) -> Float32[np.ndarray, "h w 3"]:
    """The linear RGB albedo of hair, with the highlight of smooth hair below the crown."""
    base = linear(person.hair)
    tone = np.clip(1 + 0.30 * texture, 0.35, 2.2)
    shine = 0.0 if person.hair_style == "curly" else 0.055
    band = ridge(grid.y + 0.95 - 0.25 * grid.x**2, 0.20) * np.clip(0.4 + 0.5 * texture, 0, 2)
    colour = base * tone[..., None] + (shine * band)[..., None] * (0.4 + base)
    return colour.astype(np.float32)


def paint_hijab(sheet: Sheet, person: Identity, face_width: np.ndarray) -> None:
    """Paints a headscarf around the face and under the chin on a head sheet, in place.

    `face_width` is half the width of the face at each pixel's height, in units.
    """
    grid = sheet.grid
    x, y = grid.x, grid.y
    outline = (x / 1.24) ** 2 + ((y - 0.02) / 1.60) ** 2
    drape = smoothstep(0.03, -0.03, np.abs(x) - 1.02 - 0.10 * y) * smoothstep(0.3, 0.7, y)
    drape = drape * smoothstep(1.72, 1.35, y)
    silhouette = np.maximum(smoothstep(0.0, 0.05, 1 - outline), drape)
    opening = np.maximum(
        smoothstep(-0.03, 0.03, person.hairline + 0.06 + 0.5 * np.abs(x) ** 3 - y),
        smoothstep(-0.02, 0.02, np.abs(x) / np.maximum(face_width, 0.05) - 0.90),
    )
    opening = np.maximum(opening, smoothstep(-0.03, 0.03, y - person.chin + 0.03 + 0.08 * x**2))
    cloth = silhouette * opening

    shadow = cv2.GaussianBlur(cloth, (0, 0), 0.08 * grid.resolution)
    sheet.albedo[:] *= (1 - 0.5 * shadow * (1 - cloth))[..., None]
    folds = fabric_folds(person, x, y)
    soft = cv2.GaussianBlur(cloth, (0, 0), 0.03 * grid.resolution)
    sheet.relief[:] += soft * (0.09 + 0.03 * folds)
    hem = ridge(opening - 0.55, 0.35) * cloth
    tone = 0.95 + 0.10 * folds - 0.18 * hem
    sheet.cover_with(linear(person.scarf) * tone[..., None].astype(np.float32), cloth)
    sheet.gloss[:] *= 1 - 0.8 * cloth


def fabric_folds(person: Identity, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The relative height (-1..1) of a scarf's folds, which run from the crown to one shoulder."""
    side = 1 if person.person % 2 else -1
    around = np.hypot(x / 1.1, y / 1.45)
    upper = np.sin(9.0 * around + 1.5 * side * x + person.person)
    lower = np.sin(7.0 * x * side + 4.0 * y + 1.3 * np.sin(3.0 * y))
    blend = smoothstep(0.5, 1.2, y)
    return upper * (1 - blend) * smoothstep(0.7, 0.95, around) + lower * blend
