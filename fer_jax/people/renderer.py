"""Rendering a person: head, bust and hair are lit, posed and composited over a background.

To rotate the head, the position on its sheet is computed for the pixels of the picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from jaxtyping import Float32

from fer_jax.people.action_units import ActionUnits
from fer_jax.people.bust import bust, hair_behind
from fer_jax.people.features import express
from fer_jax.people.head import head_at_rest
from fer_jax.people.identity import Identity
from fer_jax.people.lighting import Lighting, shade
from fer_jax.people.sheet import Grid

_RESOLUTIONS = (72, 144, 288)  # of painted sheets, in pixels per unit
_JAW_DROP = 0.12  # units by which AU 26 at full contraction lengthens the face
_PIVOT = 0.5  # depth of the axis of the neck behind the sheet, in units
_COARSE = 2  # the rotation is smooth, so it is computed on every second pixel
_ITERATIONS = 8
_LIMITS = {"yaw": 0.38, "pitch": 0.25, "roll": 0.30}


@dataclass(frozen=True)
class View:
    """The pose of a head in the picture.

    `centre` (x, y) and `scale` (half face width) are in pixels. Angles are in radians and limited
    to the range in which a relief can be rotated: yaw 0.38, pitch 0.25, roll 0.30. `gaze` is the
    sideways direction of the eyes, about -1..1, and positive to the viewer's right.
    """

    centre: tuple[float, float]
    scale: float
    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    gaze: float = 0.0

    def __post_init__(self) -> None:
        for name, limit in _LIMITS.items():
            object.__setattr__(self, name, float(np.clip(getattr(self, name), -limit, limit)))

    def rotation(self) -> Float32[np.ndarray, "3 3"]:
        """The rotation matrix of the head: yaw first, then pitch, then roll."""
        cy, sy = np.cos(self.yaw), np.sin(self.yaw)
        cp, sp = np.cos(self.pitch), np.sin(self.pitch)
        cr, sr = np.cos(self.roll), np.sin(self.roll)
        yaw = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
        pitch = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
        roll = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
        return (roll @ pitch @ yaw).astype(np.float32)


def render(
    person: Identity,
    units: ActionUnits,
    view: View,
    lighting: Lighting,
    background: Float32[np.ndarray, "h w 3"],
) -> Float32[np.ndarray, "h w 3"]:
    """Renders a person over `background`; both pictures are linear RGB, mostly in 0..1."""
    picture = background.copy()
    resolution = next((r for r in _RESOLUTIONS if r >= view.scale), _RESOLUTIONS[-1])
    lag = -0.12 * float(np.sin(view.yaw))  # hanging hair and the bust follow the rotation partly

    hair = hair_behind(person, resolution // 2)
    if hair is not None:
        _composite(picture, shade(hair, lighting), view, hair.grid, shift=lag)

    body = bust(person, resolution // 2)
    layer = _lit_bust(person, resolution // 2, lighting)
    _composite(picture, layer, View(view.centre, view.scale), body.grid, shift=0.5 * lag)

    head = head_at_rest(person, resolution)
    face = express(head, person, units, view.gaze)
    layer = shade(face, lighting.turned(view.rotation()))
    drop = _JAW_DROP * units.jaw_drop + 0.04 * units.lips_part
    _composite(picture, layer, view, face.grid, bulge=head.bulge, chin=person.chin, jaw_drop=drop)
    return picture


@lru_cache(maxsize=2)
def _lit_bust(
    person: Identity, resolution: int, lighting: Lighting
) -> Float32[np.ndarray, "h w 4"]:
    """The lit bust; it is cached, since it does not rotate and all frames of a clip share it."""
    return shade(bust(person, resolution), lighting)


def _composite(
    picture: Float32[np.ndarray, "h w 3"],
    layer: Float32[np.ndarray, "sh sw 4"],
    view: View,
    grid: Grid,
    *,
    bulge: Float32[np.ndarray, "sh sw"] | None = None,
    shift: float = 0.0,
    chin: float = 1.3,
    jaw_drop: float = 0.0,
) -> None:
    """Composites `layer`, a sheet lit by `shade`, over a picture in the pose `view`, in place.

    With `bulge` the sheet is rotated as a relief by yaw and pitch; without it, the sheet is shifted
    sideways by `shift` units instead. The part below the mouth is stretched downwards, so that
    `chin` moves by `jaw_drop` units.
    """
    left, top, right, bottom = _bounds(view, grid, picture.shape[:2])
    if right - left < 2 or bottom - top < 2:
        return
    width, height = -(-(right - left) // _COARSE) + 1, -(-(bottom - top) // _COARSE) + 1
    px = left + _COARSE * np.arange(width, dtype=np.float32)[None, :] - view.centre[0]
    py = top + _COARSE * np.arange(height, dtype=np.float32)[:, None] - view.centre[1]
    cos, sin = float(np.cos(view.roll)) / view.scale, float(np.sin(view.roll)) / view.scale
    u, v = cos * px + sin * py, cos * py - sin * px
    x, y = (u - shift, v) if bulge is None else _sheet_points(view, grid, bulge, u, v)
    if jaw_drop:
        mouth = chin - 0.45
        y = np.where(y > mouth, mouth + (y - mouth) * (chin - mouth) / (chin + jaw_drop - mouth), y)
    # Interpolate from every `_COARSE`-th pixel to every pixel.
    step = np.array([[1 / _COARSE, 0, 0], [0, 1 / _COARSE, 0]], np.float32)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    columns, rows = (
        cv2.warpAffine(
            field.astype(np.float32), step, (width * _COARSE, height * _COARSE),
            flags=flags, borderMode=cv2.BORDER_REPLICATE,
        )[: bottom - top, : right - left]
        for field in (grid.column(x), grid.row(y))
    )  # fmt: skip
    seen = cv2.remap(layer, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    area = picture[top:bottom, left:right]
    area *= 1 - seen[..., 3:]
    area += seen[..., :3]


def _bounds(view: View, grid: Grid, picture: tuple[int, ...]) -> tuple[int, int, int, int]:
    """The rectangle of the picture (left, top, right, bottom) that a sheet can cover."""
    cos, sin = np.cos(view.roll), np.sin(view.roll)
    corners = np.array([(x, y) for x in (grid.left, grid.right) for y in (grid.top, grid.bottom)])
    x = view.centre[0] + view.scale * (cos * corners[:, 0] - sin * corners[:, 1])
    y = view.centre[1] + view.scale * (sin * corners[:, 0] + cos * corners[:, 1])
    margin = 0.25 * view.scale
    left, right = np.clip([x.min() - margin, x.max() + margin], 0, picture[1]).astype(int)
    top, bottom = np.clip([y.min() - margin, y.max() + margin], 0, picture[0]).astype(int)
    return int(left), int(top), int(right), int(bottom)


def _sheet_points(
    view: View, grid: Grid, bulge: np.ndarray, u: np.ndarray, v: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The points (x, y) of the sheet that are visible at (u, v), by damped fixed-point iteration.

    `u` and `v` are positions in the picture relative to `view.centre`, in units, without the roll.
    """
    sy, cy, sp, cp = (float(f(angle)) for angle in (view.yaw, view.pitch) for f in (np.sin, np.cos))
    x, y = u.copy(), v.copy()
    for _ in range(_ITERATIONS):
        depth = cv2.remap(
            bulge,
            grid.column(x),
            grid.row(y),
            interpolation=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        depth = depth - _PIVOT
        x = 0.4 * x + 0.6 * (u - sy * depth) / cy
        y = 0.4 * y + 0.6 * (v - sp * (depth * cy - sy * x)) / cp
    return x, y
