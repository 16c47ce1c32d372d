import numpy as np
import pytest

from fer_jax.people.action_units import EMOTIONS, ActionUnits, action_units


def draw_units(emotion, strength=1.0):
    rng = np.random.default_rng(0)
    return [action_units(emotion, strength, rng) for _ in range(50)]


@pytest.mark.parametrize(
    ("emotion", "unit"),
    [
        ("happy", "lip_corner_puller"),
        ("happy", "cheek_raiser"),
        ("sad", "inner_brow_raiser"),
        ("sad", "lip_corner_depressor"),
        ("angry", "brow_lowerer"),
        ("angry", "lip_tightener"),
    ],
)
def test_emotions_activate_the_units_of_emfacs(emotion, unit):
    for other in EMOTIONS:
        level = np.mean([getattr(units, unit) for units in draw_units(other)])
        assert level > 0.6 if other == emotion else level < 0.45


def test_emotions_without_strength_are_neutral():
    for emotion in EMOTIONS:
        for units in draw_units(emotion, strength=0.0):
            assert units.lip_corner_puller < 0.35 and units.brow_lowerer < 0.35


def test_towards_interpolates_and_plus_adds():
    rest, smile = ActionUnits(), ActionUnits(lip_corner_puller=1.0)
    assert rest.towards(smile, 0.25).lip_corner_puller == 0.25
    assert smile.towards(rest, 1.0) == rest
    assert smile.plus(jaw_drop=0.5) == ActionUnits(lip_corner_puller=1.0, jaw_drop=0.5)


def test_an_unknown_emotion_raises():
    with pytest.raises(KeyError):
        action_units("bored", 1.0, np.random.default_rng(0))
