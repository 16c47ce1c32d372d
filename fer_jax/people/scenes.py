"""Panning shots of objects that a face detector may mistake for faces; no people are shown."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
from jaxtyping import UInt8

from fer_jax.people.background import background
from fer_jax.people.fields import bump, ridge, smoothstep
from fer_jax.people.lighting import develop, draw_camera

_OBJECTS = 5


def scene_frames(
    index: int, frames: int, size: tuple[int, int]
) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """RGB frames of scene `index`: a panning shot over three to seven objects.

    The objects are balls, mugs, plates, clocks and wall sockets. `frames` is the number of frames,
    and `size` is (height, width) in pixels.
    """
    rng = np.random.default_rng([3, index])
    height, width = size
    wide = (height + height // 4, width + width // 2)
    picture = background(rng, wide)
    for _ in range(int(rng.integers(3, 8))):
        centre = (float(rng.uniform(0, wide[1])), float(rng.uniform(0.2, 0.9) * wide[0]))
        _draw_object(
            picture, int(rng.integers(_OBJECTS)), centre, height * rng.uniform(0.08, 0.2), rng
        )
    camera = draw_camera(rng)
    start, end = rng.uniform(0, 1, 2), rng.uniform(0, 1, 2)
    room = np.array([wide[0] - height, wide[1] - width])
    for time in np.linspace(0, 1, frames):
        top, left = (start + (end - start) * time) * room
        crop = cv2.getRectSubPix(
            picture, (width, height), (left + (width - 1) / 2, top + (height - 1) / 2)
        )
        yield develop(crop, camera, rng)


def _draw_object(
    picture: np.ndarray,
    kind: int,
    centre: tuple[float, float],
    radius: float,
    rng: np.random.Generator,
) -> None:
    """Paints an object into `picture` (linear RGB), in place.

    `kind` is its number: ball, mug, plate, clock or socket. `radius` is in pixels.
    """
    top, left = (max(0, int(c - 2 * radius)) for c in (centre[1], centre[0]))
    area = picture[top : int(centre[1] + 2 * radius), left : int(centre[0] + 2 * radius)]
    y, x = np.mgrid[: area.shape[0], : area.shape[1]].astype(np.float32)
    x, y = (x + left - centre[0]) / radius, (y + top - centre[1]) / radius
    painter = (_ball, _mug, _plate, _clock, _socket)[kind]
    cover, tone = painter(x, y, rng)
    # Skin-like colours are the most difficult ones.
    skin = rng.uniform(0.4, 0.95) * np.array([1.0, 0.78, 0.66])
    colour = np.square(skin if rng.random() < 0.4 else rng.uniform(0.1, 0.95, 3))
    cover = cover[..., None]
    area *= 1 - cover
    area += (colour * tone[..., None] * cover).astype(np.float32)


# Each painter returns the opacity and the brightness of an object at (x, y), which are distances
# from its centre in units of its radius.


def _ball(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    away = np.hypot(x, y)
    light = np.sqrt(np.clip(1 - away**2, 0, 1)) - rng.uniform(-0.4, 0.4) * x - 0.3 * y
    seams = 1 - 0.5 * ridge(np.abs(x) - 0.5 + 0.25 * y**2, 0.05) * (rng.random() < 0.5)
    return smoothstep(1.02, 0.97, away), (0.35 + 0.75 * light) * seams


def _mug(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    side = int(rng.choice([-1, 1]))
    body = smoothstep(0.03, -0.03, np.abs(x) - 0.75) * smoothstep(0.03, -0.03, np.abs(y) - 0.95)
    handle = smoothstep(0.03, -0.03, np.abs(np.hypot(x - side * 0.8, y * 0.9) - 0.42) - 0.09)
    rim = bump(x, y + 0.9, (0, 0), (0.75, 0.14))
    dots = sum(bump(x, y, (dx, dy), (0.1, 0.1)) for dx, dy in rng.uniform(-0.5, 0.5, (3, 2)))
    tone = (0.45 + 0.6 * np.sqrt(np.clip(1 - (x / 0.8) ** 2, 0, 1))) * (1 - 0.6 * rim)
    return np.maximum(body, handle), tone * (1 - 0.7 * np.clip(dots, 0, 1))


def _plate(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    away = np.hypot(x, y / rng.uniform(0.6, 1.0))
    rings = ridge(away - 0.68, 0.04) + 0.6 * ridge(away - 0.92, 0.05)
    food = sum(bump(x, y, (dx, dy), (0.16, 0.12)) for dx, dy in rng.uniform(-0.4, 0.4, (4, 2)))
    return smoothstep(1.02, 0.97, away), 1.0 - 0.35 * rings - 0.6 * np.clip(food, 0, 1) - 0.12 * y


def _clock(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    away, angle = np.hypot(x, y), np.arctan2(y, x)
    marks = ridge(np.sin(6 * angle), 0.2) * ridge(away - 0.78, 0.08)
    hands = np.zeros_like(x)
    for length in (0.45, 0.65):
        turn = rng.uniform(0, 2 * np.pi)
        across, along = x * np.sin(turn) - y * np.cos(turn), x * np.cos(turn) + y * np.sin(turn)
        hands = np.maximum(hands, ridge(across, 0.04) * (along > 0) * (along < length))
    rim = ridge(away - 0.95, 0.06)
    return smoothstep(1.02, 0.97, away), 1.0 - 0.85 * np.clip(marks + hands + rim, 0, 1)


def _socket(
    x: np.ndarray, y: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A wall socket: two dark holes and a slit in a rounded square, similar to a face."""
    box = (np.abs(x) ** 4 + np.abs(y) ** 4) ** 0.25
    apart = rng.uniform(0.25, 0.4)
    holes = bump(np.abs(x), y, (apart, -0.15), (0.12, 0.13))
    slit = smoothstep(0.3, 0.25, np.abs(x)) * ridge(y - 0.45, 0.07)
    return smoothstep(1.02, 0.97, box), 0.9 - 0.8 * np.clip(holes + slit, 0, 1) - 0.15 * y
