"""Person-relative answers: a face is compared with other photographs of the same person.

The features of a face minus a reference of its person keep the expression and lose the identity
(person-specific normalisation: Baltrušaitis, Mahmoud and Robinson 2015,
doi:10.1109/FG.2015.7284869). The head is linear, so that subtracting features before it is
subtracting their responses after it: a reference is a response [views, classes], and a face that
has been seen once need not be kept. See docs/person_relative.md.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import softmax

NEUTRAL = "neutral"  # the reference that is one photograph known to be neutral; also its emotion
ROUNDS = 10  # of the balanced reference; it changes little after three
_STRENGTH = 0.5  # faces that the reference of the population counts as


def relative_answers(
    responses: Float[np.ndarray, "n v c"],
    people: Sequence[str],
    known: Bool[np.ndarray, " n"],
    *,
    reference: str,
    bias: Float[np.ndarray, " c"],
    population: Float[np.ndarray, "v c"],
) -> Float[np.ndarray, "n c"]:
    """Class probabilities before the temperature, of faces relative to their people's references.

    Args:
        responses: of the head to each view, without its bias.
        people: the person on each face.
        known: the faces that make the references: all, or for "neutral" those known to be neutral.
        reference: "mean", "balanced" or "neutral".
        bias: of the head.
        population: response to the mean reference of the people trained on. It stands in for
            that of a person with fewer than `least_faces`; see `shrunk`.
    """
    answers = np.zeros((len(responses), len(bias)))
    for person in set(people):
        rows = np.array([name == person for name in people])
        own = responses[rows & known]
        if len(own) < least_faces(reference):
            answers[rows] = _answers(responses[rows] - population + bias)
            continue
        middle = shrunk(own.mean(axis=0), len(own), population)
        for _ in range(ROUNDS if reference == "balanced" else 0):
            likeliest = _answers(own - middle + bias).argmax(axis=1)
            middle = shrunk(class_balanced_mean(own, likeliest), len(own), population)
        answers[rows] = _answers(responses[rows] - middle + bias)
    return answers


def least_faces(reference: str) -> int:
    """Faces that a reference is made from: relative to itself, a single face is nothing."""
    return 1 if reference == NEUTRAL else 2


def shrunk(
    mean: Float[np.ndarray, "v f"], faces: int, population: Float[np.ndarray, "v f"]
) -> Float[np.ndarray, "v f"]:
    """The reference that is made from the mean of some faces: the fewer, the less it is trusted.

    People trained on and people tested have it alike.
    """
    share = faces / (faces + _STRENGTH)
    return share * mean + (1 - share) * population


def class_balanced_mean(
    features: Float[np.ndarray, "n v f"], labels: Int[np.ndarray, " n"]
) -> Float[np.ndarray, "v f"]:
    """The mean over the classes of the mean of each, so that rare classes count as much.

    With their labels it is the reference of a person trained on. The balanced reference of a
    person tested takes what the model answers for labels, and repeats.
    """
    means = [features[labels == label].mean(axis=0) for label in np.unique(labels)]
    return np.asarray(np.mean(means, axis=0))


def _answers(logits: Float[np.ndarray, "n v c"]) -> Float[np.ndarray, "n c"]:
    return np.asarray(softmax(logits, axis=-1).mean(axis=1))
