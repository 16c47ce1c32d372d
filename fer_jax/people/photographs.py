"""Labelled photographs of generated people."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from fer_jax.people.action_units import EMOTIONS, action_units
from fer_jax.people.background import background
from fer_jax.people.identity import identity
from fer_jax.people.lighting import develop, draw_camera, draw_lighting
from fer_jax.people.pose import View
from fer_jax.people.renderer import render


def photograph(
    person: int, emotion: str, index: int, size: tuple[int, int] = (240, 320)
) -> UInt8[np.ndarray, "h w 3"]:
    """Photograph ``index`` of a person showing one of EMOTIONS, RGB of ``size`` (height, width).

    Pose, light, background, camera and strength of the emotion differ from one photograph to the
    next, whoever is on it and whatever the emotion. The same arguments give the same picture.

    Raises:
        ValueError: for an emotion that is not one of EMOTIONS.
    """
    rng = np.random.default_rng([1, person, EMOTIONS.index(emotion), index])
    height, width = size
    view = View(
        centre=(width * float(rng.uniform(0.36, 0.64)), height * float(rng.uniform(0.44, 0.53))),
        scale=height * float(rng.uniform(0.22, 0.29)),
        yaw=float(rng.normal(0, 0.17)),
        pitch=float(rng.normal(0, 0.09)),
        roll=float(rng.normal(0, 0.08)),
        gaze=float(rng.normal(0, 0.35)),
    )
    units = action_units(emotion, float(rng.uniform(0.65, 1.1)), rng)
    light = render(identity(person), units, view, draw_lighting(rng), background(rng, size))
    return develop(light, draw_camera(rng), rng)


def write_photograph(
    path: Path, person: int, emotion: str, index: int, size: tuple[int, int] = (240, 320)
) -> None:
    """Write ``photograph(...)`` to ``path`` as JPEG."""
    image = photograph(person, emotion, index, size)
    encoded, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 93])
    if not encoded:
        raise OSError(f"{path}: OpenCV could not encode the photograph")
    path.write_bytes(data.tobytes())
