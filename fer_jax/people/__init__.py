"""Generated people: photographs and clips of faces that belong to nobody.

``identity`` says who a person is, ``action_units`` what their face does, ``head``, ``features``,
``hair`` and ``bust`` paint reliefs of it, ``lighting`` lights them, ``renderer`` turns and combines
them, ``pictures`` decides what a photograph or a clip shows.
"""

from fer_jax.people.action_units import EMOTIONS
from fer_jax.people.background import texture
from fer_jax.people.pictures import clip_frames, photograph
from fer_jax.people.scenes import scene_frames

__all__ = ["EMOTIONS", "clip_frames", "photograph", "scene_frames", "texture"]
