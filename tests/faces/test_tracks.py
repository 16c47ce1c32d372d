import numpy as np
import pytest

from fer_jax.faces.tracks import Tracker, longest_gap


def box(x, y=0):
    return [x, y, x + 100, y + 100]


def update(tracker, time_s, *boxes):
    return tracker.update(float(time_s), np.array(boxes, np.float32).reshape(-1, 4)).tolist()


def test_moving_faces_keep_their_numbers():
    tracker = Tracker()
    assert update(tracker, 0.0, box(0), box(300)) == [0, 1]
    assert update(tracker, 0.5, box(320), box(30)) == [1, 0]
    assert update(tracker, 1.0, box(60)) == [0]
    assert update(tracker, 1.5, box(330), box(70), box(600)) == [1, 0, 2]


def test_the_best_overlap_wins():
    tracker = Tracker()
    update(tracker, 0.0, box(0), box(40))
    assert update(tracker, 0.5, box(38), box(5)) == [1, 0]


def test_a_face_that_was_absent_too_long_starts_a_new_track():
    tracker = Tracker(longest_gap_s=1.0)
    assert update(tracker, 0.0, box(0)) == [0]
    assert update(tracker, 0.9) == []
    assert update(tracker, 2.0, box(0)) == [1]


def test_a_clock_that_goes_back_far_starts_new_tracks_as_a_long_absence_does():
    tracker = Tracker(longest_gap_s=1.0)
    assert update(tracker, 90.0, box(0)) == [0]
    assert update(tracker, 89.9, box(0)) == [0]  # a small step back, as in some videos
    assert update(tracker, 0.0, box(0)) == [1]


@pytest.mark.parametrize(("every_s", "expected"), [(0.0, 1.5), (0.2, 1.5), (2.0, 5.0)])
def test_the_longest_gap_spans_two_missed_frames(every_s, expected):
    assert longest_gap(every_s) == expected


def test_boxes_with_little_overlap_are_different_tracks():
    tracker = Tracker(least_overlap=0.3)
    update(tracker, 0.0, box(0))
    assert update(tracker, 0.1, box(60)) == [1]
