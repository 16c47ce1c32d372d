"""Generated people: photographs and clips of faces that belong to nobody.

``identity`` says who a person is, ``action_units`` what their face does, ``head``, ``features``,
``mouth``, ``hair`` and ``bust`` paint reliefs of it, ``lighting`` and ``pose`` turn these into a
picture, ``renderer`` combines them, ``photographs`` and ``clips`` decide what a picture shows.
"""

from fer_jax.people.action_units import EMOTIONS, ActionUnits, action_units
from fer_jax.people.background import background, texture
from fer_jax.people.clips import clip_frames, write_clip, write_scene
from fer_jax.people.identity import Identity, identity
from fer_jax.people.photographs import photograph, write_photograph

__all__ = [
    "EMOTIONS",
    "ActionUnits",
    "Identity",
    "action_units",
    "background",
    "clip_frames",
    "identity",
    "photograph",
    "texture",
    "write_clip",
    "write_photograph",
    "write_scene",
]
