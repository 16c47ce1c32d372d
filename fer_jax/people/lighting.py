"""Light on a sheet: soft skin-like diffuse light, occlusion, cast shadow and highlights."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32

from fer_jax.people.fields import Colour
from fer_jax.people.sheet import Sheet

# Light scattered inside skin wraps around edges, red farthest (after Penner, SIGGRAPH 2011).
_WRAP = (0.38, 0.24, 0.20)
_SHADOW_REACH = (0.07, 0.16, 0.30)  # units


@dataclass(frozen=True)
class Lighting:
    """One key light and an even ambient one.

    ``direction`` points from the face to the light (x right, y down, z to the viewer); ``key`` and
    ``ambient`` are RGB strengths.
    """

    direction: Colour
    key: Colour
    ambient: Colour

    def turned(self, rotation: Float32[np.ndarray, "3 3"]) -> Lighting:
        """The same light seen from a head that was turned by ``rotation``."""
        x, y, z = (float(value) for value in rotation.T @ np.asarray(self.direction, np.float32))
        return Lighting((x, y, z), self.key, self.ambient)


def draw_lighting(rng: np.random.Generator) -> Lighting:
    """A random room: key light from the upper front, warm or cool, more or less ambient."""
    direction = (float(rng.uniform(-0.85, 0.85)), float(rng.uniform(-0.8, 0.05)), 1.0)
    warmth = float(rng.uniform(-0.10, 0.12))
    ambient = float(rng.uniform(0.22, 0.42))
    key = 1.12 - 0.75 * ambient
    return Lighting(
        direction,
        (key * (1 + warmth), key, key * (1 - warmth)),
        (ambient * (1 - 0.5 * warmth), ambient, ambient * (1 + 0.5 * warmth)),
    )


def shade(sheet: Sheet, lighting: Lighting) -> Float32[np.ndarray, "h w 4"]:
    """Light a sheet: linear RGB times its cover, and the cover."""
    resolution = sheet.grid.resolution
    light = np.asarray(lighting.direction, np.float32)
    light = light / np.linalg.norm(light)
    # Sobel sums eight times the central difference of one pixel.
    slope_x = cv2.Sobel(sheet.relief, cv2.CV_32F, 1, 0, ksize=3, scale=resolution / 8)
    slope_y = cv2.Sobel(sheet.relief, cv2.CV_32F, 0, 1, ksize=3, scale=resolution / 8)
    inverse = 1.0 / np.sqrt(1.0 + slope_x * slope_x + slope_y * slope_y)
    towards = (light[2] - slope_x * light[0] - slope_y * light[1]) * inverse
    half = light + np.array([0, 0, 1], np.float32)
    half /= np.linalg.norm(half)
    mirror = (half[2] - slope_x * half[0] - slope_y * half[1]) * inverse

    lit = 1 - _cast_shadow(sheet, light)
    sky = _ambient_occlusion(sheet) * (0.85 + 0.15 * slope_y * inverse)
    np.maximum(mirror, 0, out=mirror)
    for _ in range(4):  # to the 16th power
        np.square(mirror, out=mirror)
    highlight = sheet.gloss * mirror * lit * lighting.key[1] + sheet.glint
    shaded = np.empty((*sheet.grid.shape, 4), np.float32)
    for channel, wrap in enumerate(_WRAP):
        received = np.maximum(towards + wrap, 0)
        received *= lit
        received *= lighting.key[channel] / (1 + wrap)
        received += lighting.ambient[channel] * sky
        received *= sheet.albedo[..., channel]
        received += highlight
        np.multiply(received, sheet.cover, out=shaded[..., channel])
    shaded[..., 3] = sheet.cover
    return shaded


def _cast_shadow(sheet: Sheet, light: np.ndarray) -> np.ndarray:
    """0 (lit) .. 0.6: how far the relief towards the light stands above the ray to it."""
    sideways = float(np.hypot(light[0], light[1]))
    if sideways < 0.05:
        return np.zeros(sheet.grid.shape, np.float32)
    blocked = np.zeros(sheet.grid.shape, np.float32)
    height, width = sheet.grid.shape
    for reach in _SHADOW_REACH:
        step = (light[:2] / sideways) * reach * sheet.grid.resolution
        shift = np.array([[1, 0, -step[0]], [0, 1, -step[1]]], np.float32)
        neighbour = cv2.warpAffine(
            sheet.relief, shift, (width, height), borderMode=cv2.BORDER_REPLICATE
        )
        ray = reach * float(light[2]) / sideways
        np.maximum(blocked, (neighbour - sheet.relief - ray) / reach, out=blocked)
    return np.clip(cv2.blur(blocked, (5, 5)) * 1.6, 0, 0.6)


def _ambient_occlusion(sheet: Sheet) -> np.ndarray:
    """1 in the open .. 0.5 in hollows: relief against its own blur."""
    size = int(0.22 * sheet.grid.resolution) | 1
    mean = cv2.blur(cv2.blur(sheet.relief, (size, size)), (size, size))
    return 1 - np.clip((mean - sheet.relief) * 4.0, 0, 0.5)
