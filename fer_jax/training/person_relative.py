"""Person-relative answers: a face is compared with a reference from the same person's photographs.

Subtracting a person's reference from the features of a face reduces the influence of the identity
(person-specific normalisation: Baltrušaitis, Mahmoud and Robinson 2015,
doi:10.1109/FG.2015.7284869). Since the head is linear, the subtraction can be done on its
responses: a reference is a response [views, classes], and features need not be stored. See
docs/person_relative.md.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from fer_jax.training.inference import softmax

NEUTRAL = "neutral"  # the reference from known neutral faces; also the name of the emotion
ROUNDS = 10  # iterations for the balanced reference, which changes little after three
_STRENGTH = 0.5  # weight of the population's reference, in faces


def relative_answers(
    responses: Float[np.ndarray, "n v c"],
    people: Sequence[str],
    known: Bool[np.ndarray, " n"],
    *,
    reference: str,
    bias: Float[np.ndarray, " c"],
    population: Float[np.ndarray, "v c"],
) -> Float[np.ndarray, "n c"]:
    """Class probabilities, before temperature scaling, of faces relative to their references.

    Args:
        responses: responses of the head to each view, without its bias.
        people: the person of each face.
        known: marks the faces from which references are computed: all faces or, for "neutral",
            those known to be neutral.
        reference: "mean", "balanced" or "neutral".
        bias: the bias of the head.
        population: the response to the mean reference of the training people. It is the reference
            of people with fewer than `least_faces` known faces; see also `shrunk`.
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
            predicted = _answers(own - middle + bias).argmax(axis=1)
            middle = shrunk(class_balanced_mean(own, predicted), len(own), population)
        answers[rows] = _answers(responses[rows] - middle + bias)
    return answers


def least_faces(reference: str) -> int:
    """The minimum number of known faces for a reference: 1 for "neutral", 2 for the others."""
    return 1 if reference == NEUTRAL else 2


def shrunk(
    mean: Float[np.ndarray, "v f"], faces: int, population: Float[np.ndarray, "v f"]
) -> Float[np.ndarray, "v f"]:
    """A person's reference: the mean of their faces, shrunk towards `population`.

    The weight of the person's mean is n / (n + 0.5) for n faces. The formula is the same for
    training and test people.

    Args:
        mean: the mean of the person's faces, as features or as responses of the head.
        faces: the number of these faces.
        population: the mean over the training people of their `class_balanced_mean`.
    """
    share = faces / (faces + _STRENGTH)
    return share * mean + (1 - share) * population


def class_balanced_mean(
    features: Float[np.ndarray, "n v f"], labels: Int[np.ndarray, " n"]
) -> Float[np.ndarray, "v f"]:
    """The mean of the means of the classes that occur, so that each class has equal weight.

    The reference of a training person with at least `least_faces` known faces is this mean with
    true labels, after `shrunk`. For the balanced reference of a test person, the model's
    predictions are used as labels, iteratively.
    """
    means = [features[labels == label].mean(axis=0) for label in np.unique(labels)]
    return np.asarray(np.mean(means, axis=0))


def _answers(logits: Float[np.ndarray, "n v c"]) -> Float[np.ndarray, "n c"]:
    return np.asarray(softmax(logits).mean(axis=1))
