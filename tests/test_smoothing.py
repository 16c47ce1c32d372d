"""Smoothing over time: its time constant, and when averages are reset."""

from __future__ import annotations

import numpy as np
import pytest

from fer_jax.smoothing import Smoother

CALM, GLAD = np.array([[0.9, 0.1]]), np.array([[0.1, 0.9]])
ONE = np.array([1])


def test_after_one_time_constant_the_average_has_63_percent_of_a_step() -> None:
    smoother = Smoother(tau_s=0.5)
    np.testing.assert_allclose(smoother.add(0.0, ONE, CALM), CALM, atol=1e-6)
    after = smoother.add(0.5, ONE, GLAD)[0]
    logit = np.log(9) * (-np.exp(-1) + (1 - np.exp(-1)))
    assert np.log(after[1] / after[0]) == pytest.approx(logit, abs=1e-4)
    assert after.sum() == pytest.approx(1, abs=1e-6)


def test_the_spacing_of_the_frames_does_not_matter() -> None:
    ends = []
    for frames in (1, 5, 20):
        smoother = Smoother(tau_s=0.5)
        smoother.add(0.0, ONE, CALM)
        for index in range(frames):
            end = smoother.add((index + 1) / frames, ONE, GLAD)
        ends.append(end)
    np.testing.assert_allclose(ends[1], ends[0], atol=1e-5)
    np.testing.assert_allclose(ends[2], ends[0], atol=1e-5)


def test_each_person_is_smoothed_separately_in_any_order() -> None:
    smoother = Smoother()
    smoother.add(0.0, np.array([1, 2]), np.concatenate([CALM, GLAD]))
    again = smoother.add(0.2, np.array([2, 1]), np.concatenate([GLAD, CALM]))
    np.testing.assert_allclose(again, np.concatenate([GLAD, CALM]), atol=1e-5)


def test_an_average_is_reset_after_a_long_gap() -> None:
    smoother = Smoother(longest_gap_s=1.5)
    smoother.add(0.0, ONE, CALM)
    np.testing.assert_allclose(smoother.add(1.6, ONE, GLAD), GLAD, atol=1e-6)


def test_faces_without_a_number_are_not_smoothed_and_zero_is_no_veto() -> None:
    smoother, sure = Smoother(), np.array([[1.0, 0.0]])
    for time_s in (0.0, 0.2):
        np.testing.assert_array_equal(smoother.add(time_s, np.array([0]), sure), sure)
    smoother.add(0.0, ONE, sure)
    assert smoother.add(1.4, ONE, 1 - sure)[0, 1] > 0.5


@pytest.mark.parametrize("back_s", [0.2, 5.0, 1e6])
def test_an_average_is_reset_if_time_goes_backwards(back_s: float) -> None:
    smoother = Smoother()
    smoother.add(back_s, ONE, CALM)
    np.testing.assert_allclose(smoother.add(0.0, ONE, GLAD), GLAD, atol=1e-6)
    assert smoother.add(0.1, ONE, CALM)[0, 1] > 0.5  # the average continues from the new time


def test_a_time_constant_of_zero_changes_nothing() -> None:
    smoother, sure = Smoother(tau_s=0.0), np.array([[1.0, 0.0]], np.float32)
    for time_s, probabilities in [(0.0, CALM.astype(np.float32)), (0.2, sure), (0.1, 1 - sure)]:
        np.testing.assert_array_equal(smoother.add(time_s, ONE, probabilities), probabilities)


@pytest.mark.parametrize("tau_s", [-0.5, np.inf, np.nan])
def test_an_impossible_time_constant_is_refused(tau_s: float) -> None:
    with pytest.raises(ValueError, match="tau_s is"):
        Smoother(tau_s=tau_s)
