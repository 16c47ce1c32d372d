"""From linear light to the bytes of a camera: exposure, white balance, blur, noise, gamma."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32, UInt8


@dataclass(frozen=True)
class Camera:
    """``gain`` [3] exposure and white balance, ``blur`` sigma in pixels, ``noise`` sigma 0..1."""

    gain: tuple[float, float, float]
    blur: float
    noise: float


def draw_camera(rng: np.random.Generator) -> Camera:
    """A random camera of ordinary quality."""
    red, green, blue = (rng.uniform(0.8, 1.3) * rng.uniform(0.9, 1.1, 3)).tolist()
    return Camera(
        (red, green, blue), float(rng.uniform(0.35, 0.75)), float(rng.uniform(0.004, 0.016))
    )


def develop(
    light: Float32[np.ndarray, "h w 3"], camera: Camera, rng: np.random.Generator
) -> UInt8[np.ndarray, "h w 3"]:
    """Take a photograph of linear ``light`` (gamma 2); ``rng`` draws the noise."""
    image = cv2.GaussianBlur(light, (0, 0), camera.blur)
    image *= np.asarray(camera.gain, np.float32)
    np.sqrt(np.maximum(image, 0, out=image), out=image)
    noise = np.float32(camera.noise) * rng.standard_normal(image.shape[:2], dtype=np.float32)
    image += noise[..., None]
    image *= 255
    return np.clip(image, 0, 255, out=image).astype(np.uint8)
