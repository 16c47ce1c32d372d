"""People keep their numbers through a video, also after a cut and an absence."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from fer_jax.faces import numbering
from fer_jax.faces.alignment import TEMPLATE
from fer_jax.faces.appearance import describe, difference
from fer_jax.faces.mtcnn import Faces
from fer_jax.faces.numbering import UNKNOWN, Numbering

SIDE, PLACES = 64, (20, 140)  # pixels
SIBLING = 10_000
"""Somebody whose face is accepted as the next face of person 1, but not as person 1."""


def _noise(person: int) -> np.ndarray:
    if person == SIBLING:
        return 0.6 * _noise(1) + 0.4 * _noise(2)
    return np.random.default_rng(person).normal(size=(9, 9))


def _face(person: int) -> np.ndarray:
    """A pattern of light and dark that is unique for the person."""
    noise = _noise(person)
    smooth = cv2.resize(noise, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    return np.clip(128 + 60 * smooth, 0, 255).astype(np.uint8)


def _frame(
    people: dict[int, int], scene: int = 0, light: float = 1.0, jitter: int = 0
) -> tuple[np.ndarray, Faces]:
    """A frame with `people`, by the index of their place, in front of a wall in the scene's colour.

    `light` multiplies all values, and `jitter` moves the people to the right, in pixels. Also
    returns their faces.
    """
    wall = np.random.default_rng([9, scene]).integers(0, 255, 3)
    image = np.broadcast_to(wall, (104, 224, 3)).astype(np.uint8).copy()
    boxes, landmarks = [], []
    for place, person in people.items():
        x, y = PLACES[place] + jitter, 20
        image[y : y + SIDE, x : x + SIDE] = _face(person)[..., None]
        boxes.append([x, y, x + SIDE, y + SIDE])
        landmarks.append(TEMPLATE * SIDE + [x, y] - 0.5)
    image = np.clip(light * image, 0, 255).astype(np.uint8)
    faces = Faces(
        np.array(boxes, float).reshape(-1, 4),
        np.linspace(0.99, 0.9, len(boxes)),
        np.array(landmarks, float).reshape(-1, 5, 2),
    )
    return image, faces


def _numbers(shots: list[tuple[np.ndarray, Faces]]) -> list[list[int]]:
    number, found = Numbering(0.2), []
    for index, (image, faces) in enumerate(shots):
        found += number.add(0.2 * index, image, faces)
    found += number.close()
    assert len(found) == len(shots)
    return [people.tolist() for people in found]


def test_two_people_keep_their_numbers_whoever_comes_first() -> None:
    shots = [
        _frame({0: 1, 1: 2} if index % 2 else {1: 2, 0: 1}, jitter=index % 3) for index in range(12)
    ]
    found = _numbers(shots)
    left = [one[0] if index % 2 else one[1] for index, one in enumerate(found)]
    right = [one[1] if index % 2 else one[0] for index, one in enumerate(found)]
    assert len(set(left)) == len(set(right)) == 1
    assert {left[0], right[0]} == {1, 2}


@pytest.mark.parametrize("light", [1.0, 0.6])
def test_a_person_who_returns_after_a_cut_has_the_old_number(light: float) -> None:
    shots = [_frame({0: 1}, scene=1) for _ in range(8)]
    shots += [_frame({0: 2}, scene=2) for _ in range(8)]
    shots += [_frame({1: 1}, scene=3, light=light) for _ in range(8)]
    assert _numbers(shots) == [[1]] * 8 + [[2]] * 8 + [[1]] * 8


def test_people_who_swap_sides_after_a_cut_keep_their_numbers() -> None:
    shots = [_frame({0: 1, 1: 2}, scene=1) for _ in range(8)]
    shots += [_frame({0: 3}, scene=2) for _ in range(8)]
    shots += [_frame({0: 2, 1: 1}, scene=3) for _ in range(8)]
    found = _numbers(shots)
    assert found[0] == found[-1][::-1] and found[0] != found[-1]


def test_similar_people_who_swap_sides_keep_their_numbers_if_the_cut_is_not_found() -> None:
    """If tracks were compared one by one, each face would continue the other person's track."""
    before, after = _frame({0: 1, 1: SIBLING}), _frame({0: SIBLING, 1: 1})
    assert _numbers([before] * 8 + [after] * 8 + [before] * 8) == (
        [[1, 2]] * 8 + [[2, 1]] * 8 + [[1, 2]] * 8
    )


def test_a_person_who_takes_the_place_of_a_similar_missing_one_keeps_the_number() -> None:
    shots = [_frame({0: 1, 1: SIBLING})] * 8 + [_frame({0: SIBLING})] * 6
    assert _numbers(shots) == [[1, 2]] * 8 + [[2]] * 6


def test_a_new_face_is_not_exchanged_for_an_earlier_face_of_unknown_person() -> None:
    """Both are the same person, who moved and looked different for one frame."""
    shots = [_frame({0: 1})] * 3 + [_frame({1: SIBLING})] + [_frame({1: 1})] * 8
    assert _numbers(shots) == [[1]] * 12


def test_a_new_person_at_the_same_place_without_a_cut_has_a_new_number() -> None:
    shots = [_frame({0: 1}) for _ in range(8)] + [_frame({0: 2}) for _ in range(8)]
    assert _numbers(shots) == [[1]] * 8 + [[2]] * 8


def test_a_person_who_looks_different_for_a_moment_keeps_the_number() -> None:
    shots = [_frame({0: 2 if index in (9, 10) else 1}) for index in range(20)]
    assert _numbers(shots) == [[1]] * 20


def test_a_face_that_looks_as_before_resumes_its_track() -> None:
    """By themselves, the faces after the different one resemble nobody."""
    looks = [1] * 8 + [2] + [SIBLING] * 6
    assert _numbers([_frame({0: look}) for look in looks]) == [[1]] * 15


def test_a_track_does_not_resume_if_its_person_is_elsewhere_in_the_frame() -> None:
    shots = [_frame({0: 1})] * 8 + [_frame({1: 1})] * 3
    shots += [_frame({0: 2, 1: 1})] * 3 + [_frame({0: SIBLING, 1: 1})] * 8
    assert _numbers(shots) == [[1]] * 11 + [[2, 1]] * 3 + [[3, 1]] * 8


@pytest.mark.parametrize(
    "places",
    [
        [{1: 1}] * 2 + [{0: 2}] * 2 + [{1: 1}] * 2 + [{0: 1, 1: 1}] * 3,
        [{1: 1}] * 3 + [{0: 2}] * 2 + [{1: 1}] * 6 + [{0: 2, 1: 1}] * 3,
    ],
)
def test_two_faces_of_a_frame_never_have_the_same_number(places) -> None:
    """People who look alike, are missed at times, and replace each other without a cut."""
    found = _numbers([_frame(people) for people in [{0: 1}] * 10 + places])
    for numbers in found:
        known = [number for number in numbers if number != UNKNOWN]
        assert len(known) == len(set(known)), found


def test_a_person_who_is_not_detected_for_a_while_keeps_the_number() -> None:
    away = [_frame({}) for _ in range(12)]  # 2.4 s: the track has ended
    shots = [_frame({0: 1}) for _ in range(8)]
    assert _numbers(shots + away + shots) == [[1]] * 8 + [[]] * 12 + [[1]] * 8


def test_people_keep_their_numbers_if_the_clock_goes_back() -> None:
    number, found = Numbering(0.2), []
    for people, start_s in (({0: 1, 1: 2}, 90.0), ({0: 2, 1: 1}, 0.0)):
        for index in range(8):
            found += number.add(start_s + 0.2 * index, *_frame(people))
    found += number.close()
    assert [one.tolist() for one in found] == [[1, 2]] * 8 + [[2, 1]] * 8


def test_two_similar_people_in_a_frame_have_different_numbers() -> None:
    """The second of two twins in a frame gets another number."""
    shots = [_frame({0: 1}) for _ in range(8)] + [_frame({0: 1, 1: 1}) for _ in range(8)]
    assert _numbers(shots) == [[1]] * 8 + [[1, 2]] * 8


def test_a_face_in_very_few_frames_has_no_number() -> None:
    shots = [_frame({0: 1, 1: 2} if index == 4 else {0: 1}) for index in range(16)]
    found = _numbers(shots)
    assert found[4] == [1, UNKNOWN]
    assert set(map(tuple, found)) == {(1,), (1, UNKNOWN)}


def test_people_in_a_short_shot_have_numbers() -> None:
    shots = [_frame({0: 1}, scene=1) for _ in range(8)] + [_frame({0: 2}, scene=2)]
    assert _numbers(shots)[-1] == [2]


def test_numbers_are_delayed_by_at_most_five_frames() -> None:
    number, given = Numbering(), 0
    for index in range(20):
        image, faces = _frame({0: 1} if index < 10 else {0: 1, 1: 2})
        given += len(list(number.add(0.2 * index, image, faces)))
        assert index + 1 - given <= numbering._WAIT
    assert given == 20


def test_memory_does_not_grow_with_the_number_of_people(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many people are seen once each."""
    monkeypatch.setattr(numbering, "_REMEMBERED_PEOPLE", 10)
    number = Numbering()
    for index in range(3 * numbering._REMEMBERED_PEOPLE):
        image, faces = _frame({0: index}, scene=index)
        for _ in number.add(2.0 * index, image, faces):
            pass
    assert len(number._people) <= numbering._REMEMBERED_PEOPLE
    assert len(number._waiting) <= numbering._WAIT + 1
    assert len(number._live) <= 1 and len(number._undecided) <= numbering._WAIT + 1


def test_the_description_of_a_face_hardly_depends_on_lighting_and_size() -> None:
    image, faces = _frame({0: 1})
    look = describe(image, faces.landmarks[0])
    assert look.shape == (1120,) and look.dtype == np.float32
    dim = (0.5 * image).astype(np.uint8)
    assert difference(look, describe(dim, faces.landmarks[0])) < 0.01
    small = cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    assert difference(look, describe(small, (faces.landmarks[0] + 0.5) / 2 - 0.5)) < 0.065
    mirrored = image[:, ::-1].copy()
    points = faces.landmarks[0][[1, 0, 2, 4, 3]] * [-1, 1] + [image.shape[1] - 1, 0]
    assert difference(look, describe(mirrored, points)) < 0.02
    other, faces = _frame({0: 2})
    assert difference(look, describe(other, faces.landmarks[0])) > 0.15
