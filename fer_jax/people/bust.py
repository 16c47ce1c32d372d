"""Parts behind and below the face: the neck, clothes, the drape of a scarf and long hair."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from fer_jax.people.fields import fractal_noise, linear, ridge, smoothstep
from fer_jax.people.hair import fabric_folds, hair_colour, strands
from fer_jax.people.identity import Identity
from fer_jax.people.sheet import Grid, Sheet


@lru_cache(maxsize=24)
def bust(person: Identity, resolution: int) -> Sheet:
    """The sheet of neck and clothes down to the chest, with the drape of a headscarf if worn.

    `resolution` is in pixels per unit (half a face width). The result is cached.
    """
    grid = Grid(-2.9, 0.3, 2.9, 3.6, resolution)
    sheet = Sheet.blank(grid)
    x, y = grid.x, grid.y
    rng = np.random.default_rng([17, person.person])
    man = person.hair_style in ("short", "bald", "curly")
    width = (0.62 if man else 0.53) + 0.22 * np.clip(y - 1.2, 0, 3) ** 2
    neck = smoothstep(0, 0.05, width - np.abs(x)) * smoothstep(0.45, 0.6, y)
    neck = neck * smoothstep(2.6, 2.4, y)
    sheet.relief[:] = 0.55 * np.sqrt(np.clip(1 - (x / (width * 1.05)) ** 2, 0, 1))
    for side in (-1, 1):  # the two muscles that frame the throat
        sheet.relief[:] += 0.03 * ridge(x - side * (0.42 - 0.22 * (y - 1.0)), 0.09)
    under_chin = 0.62 * smoothstep(1.75, 1.15, y)
    sheet.albedo[:] = linear(person.skin) * (0.92 - under_chin)[..., None]
    sheet.cover[:] = neck
    sheet.gloss[:] = 0.05

    # Clothes.
    aside = np.abs(x)
    shoulders = 1.50 + 0.75 * (1 - np.exp(-aside / 1.1)) + 1.3 * np.clip(aside - 1.75, 0, 2) ** 2
    depth = {"round": 1.78, "collar": 1.95, "vee": 2.15}[person.neckline]
    throat = (
        depth
        - {"round": 1.1 * aside**2.5, "collar": 0.9 * aside, "vee": 1.15 * aside}[person.neckline]
    )
    cloth = smoothstep(0.0, 0.05, y - np.maximum(shoulders, throat))
    wrinkles = np.sin(5 * x + 2.5 * y + person.person) * np.sin(3.1 * x - 2.2 * y)
    body = 0.8 * np.sqrt(np.clip(1 - (aside / 2.75) ** 2, 0, 1))
    body = body - 0.5 * np.exp(-np.clip(y - shoulders, 0, 9) * 2.2) + 0.04 * wrinkles
    tone = 1 + 0.05 * fractal_noise(rng, grid.shape, (2, 4, 16), 0.4)
    if person.person % 3 == 0:
        tone = tone * (1 - 0.30 * smoothstep(0.0, 0.3, np.sin(14 * y)))
    if person.neckline == "collar":
        flap = ridge(y - throat - 0.14, 0.13, flat=True) * smoothstep(0.75, 0.6, aside)
        tone = tone * (1 + 0.25 * flap)
        body = body + 0.05 * flap
    else:
        tone = tone * (1 - 0.25 * ridge(y - np.maximum(shoulders, throat) - 0.09, 0.02))
    sheet.relief[:] = np.where(cloth > 0.5, body, sheet.relief)
    sheet.cover_with(linear(person.cloth) * tone[..., None].astype(np.float32), cloth)
    sheet.gloss[:] *= 1 - cloth

    if person.hair_style == "hijab":
        folds = fabric_folds(person, x, y)
        edge = np.abs(x) - 0.95 - 0.50 * smoothstep(0.8, 2.2, y) - 0.03 * folds
        drape = smoothstep(0.03, -0.05, edge) * smoothstep(0.5, 0.7, y)
        drape = drape * smoothstep(0.05, -0.05, y - 2.55 + 0.25 * x**2)
        sheet.relief[:] += drape * (0.10 + 0.05 * folds)
        tone = (0.92 + 0.12 * folds)[..., None].astype(np.float32)
        sheet.cover_with(linear(person.scarf) * tone, drape)
        sheet.gloss[:] *= 1 - drape
    return sheet


@lru_cache(maxsize=24)
def hair_behind(person: Identity, resolution: int) -> Sheet | None:
    """The sheet of the hair behind the neck; None if the hair style has none there.

    `resolution` is in pixels per unit (half a face width). The result is cached.
    """
    length = {"long": 1.95, "bob": 1.05}.get(person.hair_style)
    if length is None:
        return None
    sheet = Sheet.blank(Grid(-1.6, -1.2, 1.6, 2.4, resolution))
    x, y = sheet.grid.x, sheet.grid.y
    texture = strands(person, sheet.grid)
    outline = 1.18 + 0.10 * smoothstep(0.4, 1.8, y) - np.abs(x) + 0.015 * texture
    hair = smoothstep(0.0, 0.06, outline) * smoothstep(0.15, -0.1, y - length + 0.06 * texture)
    dome = 1 - (np.abs(x) / 1.15) ** 2.3 - (np.minimum(y, 0) / person.skull_top) ** 2
    hair = hair * np.maximum(smoothstep(0.0, 0.1, dome), y > 0)
    sheet.relief[:] = 0.5 * np.sqrt(np.clip(1 - (x / 1.35) ** 2, 0, 1)) + 0.015 * texture
    sheet.albedo[:] = 0.75 * hair_colour(person, texture, sheet.grid)
    sheet.cover[:] = hair
    return sheet
