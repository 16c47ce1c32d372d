"""Smooths the probabilities of each person in a video over time."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from jaxtyping import Float, Int

from fer_jax.faces.tracks import LONGEST_GAP_S

SMOOTHING_S = 0.5
"""Time constant in seconds. Posed and felt expressions last 0.5 to 4 s (Matsumoto and Hwang 2011,
"Evidence for training the ability to read microexpressions of emotion")."""
_LEAST = 1e-6  # a probability of 0 would veto an emotion for as long as it is remembered
_REMEMBERED_PEOPLE = 500


@dataclasses.dataclass
class _State:
    time_s: float
    logarithms: Float[np.ndarray, " classes"]


class Smoother:
    """Exponential moving averages of log probabilities, one for each person.

    If the person's last face was seen `dt` seconds before, the old average has the weight
    exp(-dt / tau) and the new face the remaining weight, so the spacing of frames does not matter
    (Zumbach and Müller 2001, "Operators on inhomogeneous time series", the operator EMA). The
    averaged probabilities are normalised to sum to 1 (the logarithmic opinion pool; Genest and
    Zidek 1986, "Combining probability distributions"). The filter uses no later frames, so it
    lags by about tau.

    Args:
        tau_s: time constant in seconds; 0: no smoothing.
        longest_gap_s: an average is reset if its person was absent for more than this number of
            seconds, or if time goes backwards.

    Raises:
        ValueError: `tau_s` is negative or not finite.
    """

    def __init__(self, tau_s: float = SMOOTHING_S, longest_gap_s: float = LONGEST_GAP_S) -> None:
        if not 0 <= tau_s < math.inf:
            raise ValueError(f"tau_s is {tau_s}; it must be 0 or a positive number of seconds")
        self._tau_s, self._longest_gap_s = tau_s, longest_gap_s
        self._states: dict[int, _State] = {}

    def add(
        self,
        time_s: float,
        people: Int[np.ndarray, " n"],
        probabilities: Float[np.ndarray, "n classes"],
    ) -> Float[np.ndarray, "n classes"]:
        """The smoothed probabilities of the faces of the next frame, float32.

        Args:
            time_s: the time of the frame in seconds. If it is earlier than the time of a person's
                last face, as in joined recordings, the person's average is reset.
            people: the number of each face's person. Faces without a number (0) are not smoothed.
            probabilities: rows that sum to 1.
        """
        smoothed = np.array(probabilities, np.float32)
        if not self._tau_s:
            return smoothed
        for row, person in enumerate(people.tolist()):
            if not person:
                continue
            new = np.log(np.maximum(probabilities[row].astype(np.float64), _LEAST))
            state = self._states.pop(person, None)
            if state is not None and 0 <= time_s - state.time_s <= self._longest_gap_s:
                kept = np.exp(-(time_s - state.time_s) / self._tau_s)
                new = kept * state.logarithms + (1 - kept) * new
            self._states[person] = _State(time_s, new)
            weights = np.exp(new - new.max())
            smoothed[row] = weights / weights.sum()
        while len(self._states) > _REMEMBERED_PEOPLE:
            del self._states[next(iter(self._states))]
        return smoothed
