"""One picture of one person: head, bust and hair, lit, turned and laid over a background."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from jaxtyping import Float32

from fer_jax.people.action_units import ActionUnits
from fer_jax.people.bust import bust, hair_behind
from fer_jax.people.features import express
from fer_jax.people.head import head_at_rest
from fer_jax.people.identity import Identity
from fer_jax.people.lighting import Lighting, shade
from fer_jax.people.pose import View, composite

_RESOLUTIONS = (72, 144, 288)  # pixels per unit that sheets are painted at
_JAW_DROP = 0.12  # units by which a full AU 26 lengthens the face


def render(
    person: Identity,
    units: ActionUnits,
    view: View,
    lighting: Lighting,
    background: Float32[np.ndarray, "h w 3"],
) -> Float32[np.ndarray, "h w 3"]:
    """Draw a person over a background; both are linear light, 0..1 and somewhat above."""
    picture = background.copy()
    resolution = next((r for r in _RESOLUTIONS if r >= view.scale), _RESOLUTIONS[-1])
    lag = -0.12 * float(np.sin(view.yaw))  # what hangs from the head follows its turn

    hair = hair_behind(person, resolution // 2)
    if hair is not None:
        composite(picture, shade(hair, lighting), view, hair.grid, shift=lag)

    body = bust(person, resolution // 2)
    layer = _lit_bust(person, resolution // 2, lighting)
    composite(picture, layer, View(view.centre, view.scale), body.grid, shift=0.5 * lag)

    head = head_at_rest(person, resolution)
    face = express(head, person, units, view.gaze)
    layer = shade(face, lighting.turned(view.rotation()))
    drop = _JAW_DROP * units.jaw_drop + 0.04 * units.lips_part
    composite(picture, layer, view, face.grid, bulge=head.bulge, chin=person.chin, jaw_drop=drop)
    return picture


@lru_cache(maxsize=2)
def _lit_bust(
    person: Identity, resolution: int, lighting: Lighting
) -> Float32[np.ndarray, "h w 4"]:
    """The bust does not turn: through a clip its light stays the same."""
    return shade(bust(person, resolution), lighting)
