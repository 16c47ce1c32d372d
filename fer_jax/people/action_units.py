"""Facial expressions as intensities of the action units of FACS (Ekman & Friesen, 1978)."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

EMOTIONS = ("angry", "happy", "neutral", "sad")


@dataclass(frozen=True)
class ActionUnits:
    """Intensities of action units: 0 at rest, 1 at full contraction (FACS numbers in comments)."""

    inner_brow_raiser: float = 0.0  # AU 1
    outer_brow_raiser: float = 0.0  # AU 2
    brow_lowerer: float = 0.0  # AU 4
    upper_lid_raiser: float = 0.0  # AU 5
    cheek_raiser: float = 0.0  # AU 6
    lid_tightener: float = 0.0  # AU 7
    nose_wrinkler: float = 0.0  # AU 9
    lip_corner_puller: float = 0.0  # AU 12
    lip_corner_depressor: float = 0.0  # AU 15
    chin_raiser: float = 0.0  # AU 17
    lip_tightener: float = 0.0  # AU 23
    lips_part: float = 0.0  # AU 25
    jaw_drop: float = 0.0  # AU 26
    blink: float = 0.0  # AU 45

    def towards(self, other: ActionUnits, amount: float) -> ActionUnits:
        """The units interpolated linearly between these (`amount` 0) and `other` (`amount` 1)."""
        names = [unit.name for unit in fields(self)]
        moved = {
            n: getattr(self, n) + (getattr(other, n) - getattr(self, n)) * amount for n in names
        }
        return ActionUnits(**moved)

    def plus(self, **units: float) -> ActionUnits:
        """These units with the intensities in `units` added, by name."""
        return replace(self, **{name: getattr(self, name) + more for name, more in units.items()})


# Prototypes of EMFACS (Friesen & Ekman, 1983): happy 6+12, sad 1+4+15(+17), angry 4+5+7+23(+17).
_PROTOTYPES: dict[str, dict[str, float]] = {
    "angry": {
        "brow_lowerer": 1.0,
        "upper_lid_raiser": 0.45,
        "lid_tightener": 0.6,
        "lip_tightener": 0.9,
        "chin_raiser": 0.2,
    },
    "happy": {"cheek_raiser": 0.8, "lip_corner_puller": 1.0},
    "neutral": {},
    "sad": {
        "inner_brow_raiser": 0.9,
        "brow_lowerer": 0.35,
        "lip_corner_depressor": 0.95,
        "chin_raiser": 0.5,
    },
}
_REST = 0.06  # scale of the half-normal distribution of the intensities at rest
_ACTIVE_AT_REST = tuple(
    unit.name for unit in fields(ActionUnits) if unit.name not in ("blink", "jaw_drop")
)


def action_units(emotion: str, strength: float, rng: np.random.Generator) -> ActionUnits:
    """Draws the action units of `emotion` (one of EMOTIONS) with `strength` (0 none, 1 full).

    The expression varies: the units of the emotion have 0.75 to 1.1 times their usual intensity,
    smiles are closed or show teeth, anger may wrinkle the nose, and all units but `jaw_drop` and
    `blink` are slightly active.

    Raises:
        KeyError: `emotion` is not one of EMOTIONS.
    """
    prototype = dict(_PROTOTYPES[emotion])
    if emotion == "happy":
        prototype["lips_part"] = float(rng.choice([0.0, 0.55, 0.95]))
    if emotion == "angry":
        prototype["nose_wrinkler"] = float(rng.choice([0.0, 0.0, 0.7]))
    units = {name: float(abs(rng.normal(0, _REST))) for name in _ACTIVE_AT_REST}
    for name, intensity in prototype.items():
        units[name] += intensity * strength * float(rng.uniform(0.75, 1.1))
    return ActionUnits(**units)
