"""Generated people: photographs and clips of faces that do not belong to real people.

`identity` defines a person, and `action_units` a facial expression. `head`, `features`, `hair` and
`bust` paint the parts of a person as reliefs, `lighting` lights them, `renderer` rotates and
combines them, and `pictures` makes photographs and clips. `background` and `scenes` make
pictures without people.
"""

from fer_jax.people.action_units import EMOTIONS
from fer_jax.people.background import texture
from fer_jax.people.pictures import clip_frames, photograph
from fer_jax.people.scenes import scene_frames

__all__ = ["EMOTIONS", "clip_frames", "photograph", "scene_frames", "texture"]
