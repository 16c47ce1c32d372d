import cv2
import numpy as np
import pytest

from fer_jax.people.action_units import ActionUnits
from fer_jax.people.identity import identity
from fer_jax.people.lighting import Lighting
from fer_jax.people.renderer import View, render

SIZE = (160, 160)
GREY = np.full((*SIZE, 3), 0.2, np.float32)
FRONT = Lighting((0.0, -0.2, 1.0), (0.8, 0.8, 0.8), (0.3, 0.3, 0.3))
VIEW = View((80.0, 75.0), 44.0)


def changed(person, units, *, view=VIEW, lighting=FRONT):
    """The mean absolute difference of each pixel from the face at rest, [h, w]."""
    rest = render(identity(person), ActionUnits(), VIEW, FRONT, GREY)
    return np.abs(render(identity(person), units, view, lighting, GREY) - rest).mean(-1)


def test_the_background_is_unchanged_outside_the_person():
    picture = render(identity(3), ActionUnits(), VIEW, FRONT, GREY)
    np.testing.assert_array_equal(picture[:10, :10], GREY[:10, :10])
    assert np.abs(picture[75, 80] - GREY[75, 80]).max() > 0.05
    assert (np.float32(0.2) == GREY).all()


@pytest.mark.parametrize(
    ("unit", "top", "bottom"),
    [("brow_lowerer", 50, 80), ("blink", 65, 85), ("lip_tightener", 100, 130)],
)
def test_an_action_unit_changes_only_its_part_of_the_face(unit, top, bottom):
    for person in range(6):
        difference = changed(person, ActionUnits(**{unit: 1.0}))
        assert difference.max() > 0.05
        assert difference[top:bottom].sum() > 0.9 * difference.sum()


def test_corners_of_the_mouth_rise_in_a_smile_and_drop_in_a_frown():
    who = identity(3)
    heights = {}
    for name, units in {
        "smile": ActionUnits(lip_corner_puller=1.0),
        "frown": ActionUnits(lip_corner_depressor=1.0),
    }.items():
        picture = render(who, units, VIEW, FRONT, GREY).mean(-1)
        beside = slice(int(80 + 0.30 * 44), int(80 + 0.34 * 44))
        heights[name] = np.argmin(picture[100:128, beside].mean(1))
    assert heights["frown"] - heights["smile"] >= 4


def test_yaw_moves_the_nose_and_is_limited():
    turned = View((80.0, 75.0), 44.0, yaw=0.3)
    assert changed(3, ActionUnits(), view=turned).max() > 0.1
    assert View((0.0, 0.0), 1.0, yaw=5.0, pitch=-5.0, roll=5.0).yaw == 0.38


def test_light_from_the_side_brightens_that_side():
    sideways = Lighting((0.9, 0.0, 0.6), (0.9, 0.9, 0.9), (0.2, 0.2, 0.2))
    picture = render(identity(9), ActionUnits(), VIEW, sideways, GREY).mean(-1)
    cheek = slice(75, 105)
    assert picture[cheek, 100:115].mean() > 1.3 * picture[cheek, 45:60].mean()


def test_a_person_outside_the_picture_does_not_change_the_background():
    away = View((-400.0, 75.0), 44.0)
    np.testing.assert_array_equal(render(identity(2), ActionUnits(), away, FRONT, GREY), GREY)


def test_a_larger_picture_is_the_same_picture_in_more_detail():
    big_background = np.full((320, 320, 3), 0.2, np.float32)
    big = render(identity(1), ActionUnits(), View((160.5, 150.5), 88.0), FRONT, big_background)
    small = render(identity(1), ActionUnits(), VIEW, FRONT, GREY)
    assert np.abs(cv2.resize(big, SIZE, interpolation=cv2.INTER_AREA) - small).mean() < 0.02
