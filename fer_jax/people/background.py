"""Backgrounds: rooms, gardens, streets, studios and abstract shapes, blurred as by a lens."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from fer_jax.people.fields import fractal_noise


def background(rng: np.random.Generator, size: tuple[int, int]) -> Float32[np.ndarray, "h w 3"]:
    """A random background of `size` (height, width) in pixels, as linear RGB in 0..1."""
    painter = (_room, _garden, _street, _studio, _abstract)[rng.integers(5)]
    image = painter(rng, *size)
    blur = size[0] / 240 * float(rng.uniform(0.8, 3.5))
    image = cv2.GaussianBlur(np.clip(image, 0, 1), (0, 0), blur)
    scales = tuple(max(2, size[0] * s // 240) for s in (3, 8, 40))
    grain = fractal_noise(rng, size, scales, 0.4)
    return np.square(np.clip(image * (1 + 0.03 * grain)[..., None], 0, 1)).astype(np.float32)


def texture(seed: int, size: tuple[int, int]) -> UInt8[np.ndarray, "h w 3"]:
    """A picture without a face, uint8 RGB: a scene, noise, stripes, checks or blobs.

    `size` is (height, width) in pixels. The same arguments give the same picture.
    """
    rng = np.random.default_rng([23, seed])
    kind = int(rng.integers(5))
    height, width = size
    if kind == 0:
        image = np.sqrt(background(rng, size))
    else:
        first, second = _colour(rng, 0.9), _colour(rng, 0.9)
        y, x = np.mgrid[:height, :width].astype(np.float32) / max(size)
        angle, pitch = rng.uniform(0, np.pi), rng.uniform(3, 25)
        along = pitch * (x * np.cos(angle) + y * np.sin(angle))
        across = pitch * (y * np.cos(angle) - x * np.sin(angle))
        scales = tuple(int(s) for s in rng.choice([2, 4, 8, 16, 32], 3, replace=False))
        noise = fractal_noise(rng, size, scales, float(rng.uniform(0.2, 1.0)))
        wave = {
            1: noise,
            2: np.sin(6.3 * along + 0.5 * noise),
            3: np.sign(np.sin(6.3 * along) * np.sin(6.3 * across)),
            4: np.tanh(3 * np.abs(noise) - 2),
        }[kind]
        mix = np.clip(0.5 + 0.35 * wave, 0, 1)[..., None]
        image = first * mix + second * (1 - mix) + 0.03 * rng.standard_normal((*size, 1))
    return (np.clip(image, 0, 1) * 255).astype(np.uint8)


def _colour(rng: np.random.Generator, chroma: float = 0.35) -> Float32[np.ndarray, " 3"]:
    """A random display colour with a saturation of at most `chroma`."""
    hue, grey = rng.uniform(0, 2 * np.pi), rng.uniform(0.15, 0.8)
    angles = hue + np.array([0.0, 2.1, 4.2])
    saturation = chroma * rng.uniform(0, 1)
    return np.clip(grey * (1 + saturation * np.cos(angles)), 0.03, 0.97).astype(np.float32)


def _wash(rng: np.random.Generator, height: int, width: int, chroma: float = 0.25) -> np.ndarray:
    """A wall of one colour, whose brightness changes slowly across the picture."""
    corners = np.stack([_colour(rng, chroma)] * 4) * rng.uniform(0.75, 1.15, (4, 1))
    return cv2.resize(corners.reshape(2, 2, 3).astype(np.float32), (width, height))


def _rectangle(
    image: np.ndarray,
    left: float,
    top: float,
    right: float,
    bottom: float,
    colour: Sequence[float] | np.ndarray,
) -> None:
    """Fills a rectangle, given as fractions of width and height, in place."""
    height, width = image.shape[:2]
    corner = (int(left * width), int(top * height))
    opposite = (int(right * width), int(bottom * height))
    cv2.rectangle(image, corner, opposite, tuple(float(c) for c in colour), -1)


def _room(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A wall that may have a window, pictures, a shelf of books and a lamp."""
    image = _wash(rng, height, width)
    if rng.random() < 0.5:
        left, wide = rng.uniform(-0.1, 0.8), rng.uniform(0.2, 0.4)
        _rectangle(image, left, -0.1, left + wide, 0.55, _colour(rng, 0.2) * 0.5)
        _rectangle(image, left + 0.02, -0.1, left + wide - 0.02, 0.52, (0.86, 0.92, 0.97))
        _rectangle(image, left + wide / 2, -0.1, left + wide / 2 + 0.015, 0.52, _colour(rng, 0.2))
    for _ in range(rng.integers(0, 3)):
        left, top, wide = rng.uniform(0, 0.85), rng.uniform(0.03, 0.45), rng.uniform(0.1, 0.25)
        _rectangle(image, left, top, left + wide, top + wide, _colour(rng, 0.3) * 0.5)
        right, bottom = left + wide - 0.015, top + wide - 0.02
        _rectangle(image, left + 0.015, top + 0.02, right, bottom, _colour(rng, 0.5))
    if rng.random() < 0.6:
        shelf, book = rng.uniform(0.35, 0.8), rng.uniform(-0.1, 0.5)
        end = book + rng.uniform(0.3, 0.8)
        _rectangle(image, book - 0.02, shelf, end + 0.02, shelf + 0.03, _colour(rng, 0.3) * 0.5)
        while book < end:
            wide = rng.uniform(0.015, 0.05)
            top = shelf - rng.uniform(0.12, 0.26)
            _rectangle(image, book, top, book + wide, shelf, _colour(rng, 0.8))
            book += wide
    if rng.random() < 0.4:
        x, y, radius = rng.uniform(0, 1) * width, rng.uniform(0.1, 0.6) * height, 0.08 * height
        cv2.circle(image, (int(x), int(y)), int(radius), (1.0, 0.93, 0.75), -1)
    return image


def _garden(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Sky over foliage, with up to three trunks and up to eleven spots of light."""
    sky = np.array([0.62, 0.75, 0.92], np.float32) * rng.uniform(0.75, 1.05)
    green = np.array([rng.uniform(0.15, 0.4), rng.uniform(0.3, 0.5), rng.uniform(0.1, 0.25)])
    scales = tuple(max(2, height * s // 240) for s in (8, 20, 60))
    leaves = fractal_noise(rng, (height, width), scales, 0.6)[..., None]
    horizon = rng.uniform(0.0, 0.6)
    down = np.linspace(0, 1, height)[:, None, None]
    mask = np.clip((down - horizon) * 8 + leaves, 0, 1)
    image = (sky * (1 - mask) + green * (1 + 0.35 * leaves) * mask).astype(np.float32)
    for _ in range(rng.integers(0, 4)):
        left = rng.uniform(0, 1)
        brown = np.array([0.32, 0.25, 0.19]) * rng.uniform(0.6, 1.3)
        _rectangle(image, left, -0.1, left + rng.uniform(0.02, 0.08), 1.1, brown)
    return _light_spots(rng, image, int(rng.integers(0, 12)))


def _street(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Houses with rows of windows, by day or by night."""
    night = rng.random() < 0.35
    image = _wash(rng, height, width, 0.2) * (0.35 if night else 1.0)
    left = -0.1
    while left < 1:
        wide, top = rng.uniform(0.15, 0.4), rng.uniform(-0.1, 0.4)
        wall = _colour(rng, 0.3) * (0.3 if night else 0.9)
        _rectangle(image, left, top, left + wide, 1.1, wall)
        pane = np.array([0.95, 0.8, 0.5]) if night else wall * rng.uniform(0.4, 0.7)
        for row in np.arange(top + 0.06, 0.9, 0.16):
            for column in np.arange(left + 0.03, left + wide - 0.04, 0.09):
                if rng.random() < (0.5 if night else 0.9):
                    _rectangle(image, column, row, column + 0.045, row + 0.09, pane)
        left += wide
    return _light_spots(rng, image, int(rng.integers(4, 16)) if night else 0)


def _studio(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A plain backdrop with a bright spot, as if lit from behind the person."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    cx, cy = rng.uniform(0.2, 0.8) * width, rng.uniform(0.1, 0.7) * height
    away = np.hypot(x - cx, y - cy) / width
    glow = np.exp(-((away / rng.uniform(0.4, 0.9)) ** 2))[..., None]
    return _wash(rng, height, width) * (0.55 + 0.75 * glow)


def _abstract(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Patches and discs of any colour."""
    image = _wash(rng, height, width, 0.5)
    for _ in range(rng.integers(3, 9)):
        x, y, wide, high = rng.uniform(-0.1, 1), rng.uniform(-0.1, 1), *rng.uniform(0.08, 0.45, 2)
        colour = _colour(rng, 0.7)
        if rng.random() < 0.6:
            _rectangle(image, x, y, x + wide, y + high, colour)
        else:
            centre = (int(x * width), int(y * height))
            cv2.circle(image, centre, int(high * height / 2), tuple(float(c) for c in colour), -1)
    return image


def _light_spots(rng: np.random.Generator, image: np.ndarray, count: int) -> np.ndarray:
    """A copy of the image with `count` bright discs, like lights that are out of focus."""
    height, width = image.shape[:2]
    spots = np.zeros_like(image)
    for _ in range(count):
        centre = (int(rng.uniform(0, width)), int(rng.uniform(0, height)))
        colour = np.array([1.0, rng.uniform(0.7, 1.0), rng.uniform(0.4, 1.0)])
        colour *= rng.uniform(0.1, 0.4)
        radius = int(height * rng.uniform(0.015, 0.05))
        cv2.circle(spots, centre, radius, tuple(float(c) for c in colour), -1)
    return np.clip(image + spots, 0, 1)
