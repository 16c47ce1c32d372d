"""The identity of a generated person: what is the same in all pictures of the person."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fer_jax.people.fields import Colour

HAIR_STYLES = ("short", "hijab", "long", "bald", "curly", "bob")

# Display colours. Those of a person are interpolated between two neighbours in a palette.
_SKIN = np.array([(0.95, 0.79, 0.69), (0.86, 0.66, 0.53), (0.72, 0.51, 0.38), (0.50, 0.34, 0.25)])
_HAIR = np.array([(0.10, 0.08, 0.08), (0.20, 0.13, 0.09), (0.33, 0.21, 0.13), (0.50, 0.36, 0.20)])
_GREY = np.array([0.66, 0.65, 0.64])
_IRIS = np.array([(0.24, 0.14, 0.08), (0.33, 0.20, 0.10), (0.36, 0.40, 0.25), (0.36, 0.46, 0.55)])


@dataclass(frozen=True)
class Identity:
    """The number of a generated person, and their appearance in all pictures.

    Lengths and positions are in half face widths, with the origin between the eyes, x to the
    viewer's right and y downwards. `eye_width` and `mouth_width` are half widths, `lip` is the
    thickness of the upper lip, and `parting` is the x position of the parting of the hair.
    `nose_width` is a factor, and `jaw` is the exponent of the outline below the eyes. Colours are
    display RGB in 0..1. `age`, `beard`, `moustache` and `freckles` are in 0..1.
    """

    person: int
    hair_style: str
    skin: Colour
    hair: Colour
    iris: Colour
    lips: Colour
    scarf: Colour
    cloth: Colour
    neckline: str
    age: float
    beard: float
    moustache: float
    glasses: bool
    freckles: float
    half_width: float
    chin: float
    jaw: float
    skull_top: float
    hairline: float
    parting: float
    fringe: bool
    eye_x: float
    eye_width: float
    eye_height: float
    eye_tilt: float
    brow_y: float
    brow_thickness: float
    brow_arch: float
    nose_width: float
    nose_length: float
    nose_height: float
    mouth_y: float
    mouth_width: float
    lip: float


def identity(person: int) -> Identity:
    """The identity of the person with the number `person` (>= 0), which determines all attributes.

    Hair styles are assigned in turn, and skin and age follow low-discrepancy sequences, so that
    any dozen consecutive people are varied; the rest is random, with the number as the seed.
    """
    rng = np.random.default_rng([7, person])
    uniform = lambda low, high: float(rng.uniform(low, high))  # noqa: E731
    style = HAIR_STYLES[person % len(HAIR_STYLES)]
    man = style in ("short", "bald") or (style == "curly" and person // 6 % 2 == 0)
    age = _radical_inverse(person, 7)
    skin = _along(_SKIN, _radical_inverse(person, 5)) * rng.uniform(0.96, 1.04, 3)
    hair = _along(_HAIR, uniform(0, 1) ** 2.2)
    hair = hair + (_GREY - hair) * float(np.clip((age - 0.62) * 3.0, 0, 1)) * uniform(0.6, 1.0)
    lips = skin * (0.86, 0.58, 0.58) * uniform(0.92, 1.06) + (0.04, 0.0, 0.0)
    beard = float(rng.choice([0.0, 0.0, 0.45, 0.8, 1.0])) if man else 0.0
    return Identity(
        person=person,
        hair_style=style,
        skin=_colour(skin),
        hair=_colour(hair),
        iris=_colour(_along(_IRIS, uniform(0, 1) ** 2.0)),
        lips=_colour(lips),
        scarf=_fabric(rng),
        cloth=_fabric(rng),
        neckline=str(rng.choice(["round", "collar", "vee"])),
        age=age,
        beard=beard,
        moustache=(max(beard, float(rng.choice([0.0, 0.9]))) if man else 0.0),
        glasses=uniform(0, 1) < 0.22,
        freckles=max(0.0, uniform(-1.5, 1.0)),
        half_width=uniform(0.93, 1.07),
        chin=uniform(1.24, 1.42),
        jaw=uniform(2.2, 3.2) if man else uniform(1.9, 2.6),
        skull_top=uniform(-1.42, -1.27),
        hairline=uniform(-0.98, -0.78) + (0.0 if style != "short" else -0.08 * age),
        parting=uniform(-0.5, 0.5),
        fringe=uniform(0, 1) < 0.35,
        eye_x=uniform(0.39, 0.445),
        eye_width=uniform(0.19, 0.225),
        eye_height=uniform(0.085, 0.112),
        eye_tilt=uniform(-0.03, 0.012),
        brow_y=uniform(-0.29, -0.23),
        brow_thickness=uniform(0.042, 0.062) if man else uniform(0.028, 0.045),
        brow_arch=uniform(0.02, 0.06) if man else uniform(0.04, 0.09),
        nose_width=uniform(0.85, 1.2),
        nose_length=uniform(0.46, 0.55),
        nose_height=uniform(0.32, 0.48),
        mouth_y=uniform(0.80, 0.89),
        mouth_width=uniform(0.30, 0.37),
        lip=uniform(0.045, 0.07) if man else uniform(0.055, 0.085),
    )


def _radical_inverse(index: int, base: int) -> float:
    """Element `index` of the sequence of van der Corput (1935) in `base`, in [0, 1)."""
    value, fraction = 0.0, 1.0 / base
    while index:
        index, digit = divmod(index, base)
        value += digit * fraction
        fraction /= base
    return value


def _along(palette: np.ndarray, position: float) -> np.ndarray:
    """The colour at `position` (0..1) in a palette `[n, 3]`, interpolated linearly."""
    stops = np.linspace(0, 1, len(palette))
    return np.array([np.interp(position, stops, palette[:, channel]) for channel in range(3)])


def _fabric(rng: np.random.Generator) -> Colour:
    """A random colour of cloth: any hue, mostly muted."""
    hue, chroma, value = rng.uniform(0, 1), rng.uniform(0.03, 0.40), rng.uniform(0.18, 0.75)
    angles = 2 * np.pi * (hue + np.array([0.0, 1 / 3, 2 / 3]))
    return _colour(value * (1 + chroma * np.cos(angles)))


def _colour(rgb: np.ndarray) -> Colour:
    red, green, blue = (float(value) for value in np.clip(rgb, 0.02, 0.98))
    return red, green, blue
