"""The head of a person at rest: skin, skull, nose, ears, beard, hair and headscarf.

Nothing here depends on the expression, so painted heads are cached.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from jaxtyping import Float32

from fer_jax.people.fields import bump, fractal_noise, linear, ridge, smoothstep
from fer_jax.people.hair import paint_front_hair, paint_hijab, strands
from fer_jax.people.identity import Identity
from fer_jax.people.sheet import EVERYWHERE, Grid, Sheet

SIDES = (-1, 1)


@dataclass(frozen=True)
class Head:
    """The painted head of a person without an expression.

    Attributes:
        sheet: the painted head.
        bulge: the smoothed depth of each point in units (half face widths), for rotating the head.
        skin: 1 where neither hair nor cloth covers the skin, else 0.
        texture: fine noise, which varies the tone of the skin.
    """

    sheet: Sheet
    bulge: Float32[np.ndarray, "h w"]
    skin: Float32[np.ndarray, "h w"]
    texture: Float32[np.ndarray, "h w"]


@lru_cache(maxsize=24)
def head_at_rest(person: Identity, resolution: int) -> Head:
    """Paints the head of a person at `resolution` pixels per unit; the result is cached."""
    grid = Grid(-1.45, -1.80, 1.45, 1.78, resolution)
    sheet = Sheet.blank(grid)
    x, y = grid.x, grid.y
    rng = np.random.default_rng([13, person.person])
    scales = tuple(max(2, round(resolution * size)) for size in (0.03, 0.06, 0.12, 0.35))
    texture = fractal_noise(rng, grid.shape, scales, 0.5)
    # Half the width of the face: a dome above the eyes, a jaw below.
    dome = np.clip(1 - np.abs(np.minimum(y, 0) / person.skull_top) ** 2.4, 1e-4, 1) ** 0.5
    jaw = np.clip(1 - np.clip(y / person.chin, 0, 1) ** person.jaw, 1e-4, 1) ** 0.55
    width = person.half_width * np.where(y < 0, dome, jaw * (1 - 0.11 * smoothstep(0, 1, y)))
    face = smoothstep(0, 0.045, 1 - np.abs(x) / np.maximum(width, 1e-3))
    face *= smoothstep(0, 0.04, person.chin - y) * smoothstep(0, 0.04, y - person.skull_top)

    sheet.cover[:] = face
    tip = person.nose_length
    rise = smoothstep(-0.22, tip, y) * (1 - smoothstep(tip + 0.02, tip + 0.13, y))
    bridge = 0.62 * person.nose_height * rise
    nose = bridge * ridge(x, person.nose_width * (0.10 + 0.05 * float(rise.max())))
    across = np.sqrt(np.clip(1 - (x / (width * 1.03)) ** 2, 0, 1))
    dome = np.sqrt(np.clip(1 - (np.abs(y) / -person.skull_top) ** 2.4, 0, 1))
    down = np.where(y < 0, dome, np.sqrt(np.clip(1 - (np.abs(y) / 1.78) ** 2.6, 0, 1)))
    sheet.relief[:] = (0.92 * across * down + nose) + 0.0035 * texture
    _add_features_of_the_skull(sheet, person)
    sheet.albedo[:] = linear(person.skin) * (1 + 0.035 * texture)[..., None]
    sheet.gloss[:] = 0.13 + 0.10 * bump(x, y, (0, 0.3), (0.25, 0.4)) + 0.04 * texture
    _tint_skin(sheet, person, rng)
    if person.hair_style in ("short", "bald", "curly"):
        _paint_ears(sheet, person, face)
    if person.beard:
        _paint_beard(sheet, person)
    if person.hair_style == "hijab":
        paint_hijab(sheet, person, width)
    elif person.hair_style != "bald":
        paint_front_hair(sheet, person, width)
    # The depth for rotation is smooth enough that nothing folds over at the largest angle.
    across = 1 - np.minimum(np.abs(x) / 1.2, 1.2) ** 2.2
    down = 1 - np.minimum(np.abs(y) / 1.9, 1.0) ** 2.4
    bulge = 0.95 * across * down + cv2.GaussianBlur(nose, (0, 0), 3)
    skin = (sheet.gloss > 0.05).astype(np.float32)
    return Head(sheet, bulge.astype(np.float32), skin, texture)


def _add_features_of_the_skull(sheet: Sheet, person: Identity) -> None:
    """Adds eye sockets, brows, cheekbones, wings of the nose, chin and wrinkles to the relief."""
    x, y, relief = sheet.grid.x, sheet.grid.y, sheet.relief
    for side in SIDES:
        eye = side * person.eye_x
        relief -= 0.105 * bump(x, y, (eye * 0.92, -0.02), (0.24, 0.15))
        relief += 0.05 * bump(x, y, (eye * 1.05, -0.27), (0.30, 0.09))
        relief += 0.05 * bump(x, y, (side * 0.57, 0.36), (0.25, 0.20))
        wing = (side * 0.135 * person.nose_width, person.nose_length + 0.01)
        relief += 0.055 * person.nose_width * bump(x, y, wing, (0.075, 0.07))
        bag = ridge(y - 0.17 - 0.04 * np.cos((x - eye) * 8), 0.03) * ridge(x - eye, 0.17, flat=True)
        relief -= 0.016 * person.age * bag
    relief += 0.07 * bump(x, y, (0, person.chin - 0.19), (0.22, 0.13))
    relief -= 0.05 * ridge(y - person.mouth_y - 0.21, 0.05) * ridge(x, 0.25)
    relief -= 0.012 * ridge(x, 0.035) * smoothstep(0.60, 0.66, y) * smoothstep(0.80, 0.74, y)
    lines = np.sin((y + 0.05 * np.cos(3 * x)) * 44) * bump(x, y, (0, -0.58), (0.5, 0.16))
    relief -= 0.007 * max(0.0, person.age - 0.35) * lines


def _tint_skin(sheet: Sheet, person: Identity, rng: np.random.Generator) -> None:
    """Adds red to cheeks and nose, shade around eyes and nose, and the freckles of the person."""
    x, y, albedo = sheet.grid.x, sheet.grid.y, sheet.albedo
    red = 0.45 * bump(x, y, (0, person.nose_length), (0.16, 0.13))
    dark = np.zeros_like(x)
    for side in SIDES:
        red = red + 0.5 * bump(x, y, (side * 0.56, 0.40), (0.26, 0.20))
        dark = dark + 0.30 * bump(x, y, (side * person.eye_x, 0.03), (0.27, 0.15))
        dark = dark + 0.35 * bump(x, y, (side * 0.09, 0.02), (0.07, 0.12))
        nostril = (side * 0.085 * person.nose_width, person.nose_length + 0.07)
        dark = dark + 0.85 * bump(x, y, nostril, (0.048, 0.026))
        wing = (side * 0.185 * person.nose_width, person.nose_length + 0.04)
        dark = dark + 0.35 * bump(x, y, wing, (0.030, 0.06))
    dark = dark + 0.30 * bump(x, y, (0, person.nose_length + 0.115), (0.16, 0.035))
    albedo *= 1 - red[..., None] * np.array([0.0, 0.24, 0.22], np.float32)
    albedo *= 1 - np.clip(dark, 0, 0.95)[..., None] * np.array([0.78, 0.90, 0.92], np.float32)
    if person.freckles:
        scale = max(2, round(0.04 * sheet.grid.resolution))
        spots = smoothstep(1.2, 2.0, fractal_noise(rng, sheet.grid.shape, (scale,)))
        where = bump(x, y, (0, 0.30), (0.75, 0.22)) * person.freckles
        albedo *= 1 - (0.4 * spots * where)[..., None]


def _paint_ears(sheet: Sheet, person: Identity, face: np.ndarray) -> None:
    x, y = sheet.grid.x, sheet.grid.y
    for side in SIDES:
        across = (x - side * person.half_width * 1.03) / 0.14
        down = (y - 0.16) / 0.29
        round_ = 1 - across**2 - down**2
        ear = smoothstep(0, 0.15, round_) * (1 - face)
        sheet.relief[:] += ear * (0.10 * np.sqrt(np.clip(round_, 0, 1)))
        inner = ridge(np.hypot(across * 1.1, down) - 0.55, 0.22)
        skin = linear(person.skin) * np.array([1.0, 0.86, 0.84], np.float32)
        sheet.cover_with(skin * (1 - 0.35 * inner)[..., None].astype(np.float32), ear)


def _paint_beard(sheet: Sheet, person: Identity) -> None:
    """Paints stubble for low values of `person.beard`, and a full beard with volume for 1."""
    x, y = sheet.grid.x, sheet.grid.y
    texture = strands(person, sheet.grid)
    jawline = smoothstep(0.30, 0.62, y + 0.42 * np.abs(x) ** 2)
    cheeks = smoothstep(-0.08, 0.12, np.abs(x) - 0.52 + 0.62 * smoothstep(0.55, 1.0, y))
    around_mouth = bump(x, y, (0, person.mouth_y), (person.mouth_width * 1.1, 0.11))
    beard = jawline * cheeks * (1 - np.clip(1.3 * around_mouth, 0, 1))
    beard *= np.clip(0.85 + 0.15 * texture, 0, 1)
    sheet.relief[:] += beard * person.beard * (0.03 + 0.012 * texture)
    colour = linear(person.hair) * np.clip(1.1 + 0.3 * texture, 0.4, 2)[..., None]
    sheet.paint(EVERYWHERE, colour.astype(np.float32), beard * person.beard**0.8 * 0.93)
    sheet.gloss[:] *= 1 - 0.8 * beard * person.beard
