"""Labelled photographs, and clips in which an expression becomes stronger."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from fer_jax.people.action_units import EMOTIONS, ActionUnits, action_units
from fer_jax.people.background import background
from fer_jax.people.identity import identity
from fer_jax.people.lighting import develop, draw_camera, draw_lighting
from fer_jax.people.renderer import View, render

_LATECOMERS = 0.08  # share of the clips in which the person enters after the start
_TALKERS = 0.5  # share of the clips in which the person talks


def photograph(
    person: int, emotion: str, index: int, size: tuple[int, int] = (240, 320)
) -> UInt8[np.ndarray, "h w 3"]:
    """Photograph `index` of a person who shows `emotion`, uint8 [H, W, 3] RGB.

    `size` is (height, width) in pixels. Pose, light, background, camera and strength of the emotion
    are drawn for each photograph, from the same distributions for all people and emotions. The same
    arguments give the same picture.

    Raises:
        ValueError: `emotion` is not one of EMOTIONS.
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


def clip_frames(
    person: int,
    emotion: str,
    index: int,
    frames: int = 12,
    fps: int = 6,
    size: tuple[int, int] = (240, 320),
) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """RGB frames of clip `index` of a person whose expression grows towards `emotion`.

    In the first frame, the emotion has about a third of its final strength; after a second, about
    nine tenths. Background, light, camera and final strength are drawn for each clip. The head
    moves, and the eyes may blink. In about half of the clips the person talks; in about 8 % the
    person enters after the start. The same arguments give the same frames.

    Args:
        person: the number of the person.
        emotion: one of EMOTIONS.
        index: the number of the clip.
        frames: number of frames.
        fps: frames per second.
        size: (height, width) in pixels.

    Raises:
        ValueError: `emotion` is not one of EMOTIONS; raised when the first frame is requested.
    """
    rng = np.random.default_rng([2, person, EMOTIONS.index(emotion), index])
    who = identity(person)
    scenery, lighting, camera = background(rng, size), draw_lighting(rng), draw_camera(rng)
    for view, units in _perform(emotion, frames, fps, size, rng):
        yield develop(render(who, units, view, lighting, scenery), camera, rng)


def _perform(
    emotion: str, frames: int, fps: int, size: tuple[int, int], rng: np.random.Generator
) -> list[tuple[View, ActionUnits]]:
    """The view and the action units in each frame."""
    height, width = size
    drift = lambda sigma, seconds: _drift(rng, frames, sigma, seconds * fps)  # noqa: E731
    yaw, pitch, roll = drift(0.16, 1.0), drift(0.08, 1.0), drift(0.06, 1.0)
    x = width * np.clip(0.5 + drift(0.05, 1.3), 0.36, 0.64)
    y = height * np.clip(0.48 + drift(0.02, 1.3), 0.43, 0.53)
    if rng.random() < _LATECOMERS:
        x = x + width * rng.choice([-1, 1]) * _entrance(frames)
    scale = height * float(rng.uniform(0.22, 0.29))
    gaze = np.clip(drift(0.3, 0.6), -1, 1)

    rest, apex = action_units("neutral", 0.0, rng), action_units(emotion, 1.0, rng)
    seconds = np.arange(frames) / fps
    strength = float(rng.uniform(0.5, 1.1)) * (1 - np.exp(-(seconds + 0.2) / 0.5))
    talk = np.clip(drift(0.2, 0.2), 0, 1) * (rng.random() < _TALKERS)
    blinks = rng.random(frames) < 0.3 / fps  # about 18 per minute
    motion = np.stack([x, y, yaw, pitch, roll, gaze], axis=1).tolist()
    shown = []
    for t, (at_x, at_y, *turn) in enumerate(motion):
        units = rest.towards(apex, float(strength[t]))
        units = units.plus(jaw_drop=float(talk[t]), blink=0.95 * float(blinks[t]))
        shown.append((View((at_x, at_y), scale, *turn), units))
    return shown


def _drift(
    rng: np.random.Generator, frames: int, sigma: float, smoothing: float
) -> Float32[np.ndarray, " frames"]:
    """Random motion with a standard deviation of about `sigma`.

    It is smoothed by a Gaussian with a standard deviation of `smoothing` frames.
    """
    margin = int(4 * smoothing) + 1
    walk = rng.standard_normal((1, frames + 2 * margin), dtype=np.float32)
    walk = cv2.GaussianBlur(walk, (2 * margin + 1, 1), smoothing)[0]
    return (walk[margin : margin + frames] * np.float32(sigma) / (walk.std() + 1e-6)).astype(
        np.float32
    )


def _entrance(frames: int) -> np.ndarray:
    """The distance from the final position in each frame, in picture widths.

    The person is outside the picture for the first 30 % of the clip, and has arrived after 60 %.
    """
    progress = np.arange(frames) / max(1, frames - 1)
    return 1.1 * np.clip((0.6 - progress) / 0.3, 0, 1)
