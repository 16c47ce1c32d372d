"""Follows the people of a video: numbers them, and smooths their probabilities over time."""

from __future__ import annotations

import dataclasses
import itertools
from collections import deque
from collections.abc import Iterator

import numpy as np
from jaxtyping import Int

from fer_jax.faces.numbering import Numbering
from fer_jax.faces.tracks import longest_gap
from fer_jax.reading import AnalysedFrame, Follow
from fer_jax.smoothing import SMOOTHING_S, Smoother


def follower(smoothing_s: float = SMOOTHING_S) -> Follow:
    """A function for `Reader(follow=...)` that numbers people and smooths their probabilities.

    `smoothing_s` is the time constant in seconds. A frame is yielded when all its faces have
    numbers, at most 5 frames later.

    Raises:
        ValueError: the time constant is negative or not finite.
    """
    Smoother(smoothing_s)  # checks the time constant before any frame is read

    def follow(frames: Iterator[AnalysedFrame]) -> Iterator[AnalysedFrame]:
        first = next(frames, None)
        if first is None:
            return
        every_s = getattr(first.source, "every_s", 0.0)
        numbering = Numbering(every_s)
        smoother = Smoother(smoothing_s, longest_gap(every_s))
        waiting: deque[AnalysedFrame] = deque()

        def finished(numbers: Iterator[Int[np.ndarray, " _"]]) -> Iterator[AnalysedFrame]:
            for people in numbers:
                one = waiting.popleft()
                smoothed = smoother.add(one.frame.time_s, people, one.analysis.probabilities)
                yield dataclasses.replace(one, people=people, smoothed=smoothed)

        for one in itertools.chain([first], frames):
            waiting.append(one)
            frame = one.frame
            yield from finished(numbering.add(frame.time_s, frame.image, one.analysis.faces))
        yield from finished(numbering.close())

    return follow
