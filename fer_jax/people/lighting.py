"""Lighting of a sheet (diffuse light, occlusion, cast shadows, highlights), and a camera."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from fer_jax.people.fields import Colour
from fer_jax.people.sheet import Sheet

# Light scattered inside skin wraps around edges, red most (after Penner, SIGGRAPH 2011).
_WRAP = (0.38, 0.24, 0.20)
_SHADOW_REACH = (0.07, 0.16, 0.30)  # units; distances at which shadow casters are searched for


@dataclass(frozen=True)
class Lighting:
    """A key light and ambient light.

    Attributes:
        direction: from the face to the key light (x right, y down, z to the viewer), of any length.
        key, ambient: strengths of red, green and blue.
    """

    direction: Colour
    key: Colour
    ambient: Colour

    def turned(self, rotation: Float32[np.ndarray, "3 3"]) -> Lighting:
        """The same light in the coordinates of a head that is rotated by `rotation`."""
        x, y, z = (float(value) for value in rotation.T @ np.asarray(self.direction, np.float32))
        return Lighting((x, y, z), self.key, self.ambient)


def draw_lighting(rng: np.random.Generator) -> Lighting:
    """Draws a warm or cool key light from the front, mostly from above, and ambient light."""
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
    """Lights a sheet; returns [h, w, 4]: linear RGB multiplied by the cover, and the cover."""
    resolution = sheet.grid.resolution
    light = np.asarray(lighting.direction, np.float32)
    light = light / np.linalg.norm(light)
    # Sobel returns eight times the slope per pixel.
    slope_x = cv2.Sobel(sheet.relief, cv2.CV_32F, 1, 0, ksize=3, scale=resolution / 8)
    slope_y = cv2.Sobel(sheet.relief, cv2.CV_32F, 0, 1, ksize=3, scale=resolution / 8)
    inverse = 1.0 / np.sqrt(1.0 + slope_x * slope_x + slope_y * slope_y)
    towards = (light[2] - slope_x * light[0] - slope_y * light[1]) * inverse
    half = light + np.array([0, 0, 1], np.float32)
    half /= np.linalg.norm(half)
    mirror = (half[2] - slope_x * half[0] - slope_y * half[1]) * inverse

    # Cast shadow: how far the relief towards the light rises above the ray to the light.
    blocked = np.zeros(sheet.grid.shape, np.float32)
    sideways = float(np.hypot(light[0], light[1]))
    for reach in _SHADOW_REACH if sideways >= 0.05 else ():
        step = (light[:2] / sideways) * reach * resolution
        shift = np.array([[1, 0, -step[0]], [0, 1, -step[1]]], np.float32)
        size = sheet.grid.shape[::-1]
        neighbour = cv2.warpAffine(sheet.relief, shift, size, borderMode=cv2.BORDER_REPLICATE)
        ray = reach * float(light[2]) / sideways
        np.maximum(blocked, (neighbour - sheet.relief - ray) / reach, out=blocked)
    lit = 1 - np.clip(cv2.blur(blocked, (5, 5)) * 1.6, 0, 0.6)

    # Ambient occlusion: relief against its own blur, 1 in the open and 0.5 in hollows.
    window = (int(0.22 * resolution) | 1,) * 2
    mean = cv2.blur(cv2.blur(sheet.relief, window), window)
    open_sky = 1 - np.clip((mean - sheet.relief) * 4.0, 0, 0.5)
    sky = open_sky * (0.85 + 0.15 * slope_y * inverse)

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


@dataclass(frozen=True)
class Camera:
    """The exposure, blur and noise of a simulated camera.

    Attributes:
        gain: factors of red, green and blue, for exposure and white balance.
        blur: standard deviation of the Gaussian blur in pixels.
        noise: standard deviation of the noise that is added to display values (0..1).
    """

    gain: tuple[float, float, float]
    blur: float
    noise: float


def draw_camera(rng: np.random.Generator) -> Camera:
    """Draws the exposure, white balance, blur and noise of an ordinary camera."""
    red, green, blue = (rng.uniform(0.8, 1.3) * rng.uniform(0.9, 1.1, 3)).tolist()
    return Camera(
        (red, green, blue), float(rng.uniform(0.35, 0.75)), float(rng.uniform(0.004, 0.016))
    )


def develop(
    light: Float32[np.ndarray, "h w 3"], camera: Camera, rng: np.random.Generator
) -> UInt8[np.ndarray, "h w 3"]:
    """Converts linear `light` to a photograph, uint8 RGB with gamma 2, with noise from `rng`."""
    image = cv2.GaussianBlur(light, (0, 0), camera.blur)
    image *= np.asarray(camera.gain, np.float32)
    np.sqrt(np.maximum(image, 0, out=image), out=image)
    noise = np.float32(camera.noise) * rng.standard_normal(image.shape[:2], dtype=np.float32)
    image += noise[..., None]
    image *= 255
    return np.clip(image, 0, 255, out=image).astype(np.uint8)
