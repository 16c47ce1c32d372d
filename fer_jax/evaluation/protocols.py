"""Who is trained on and who is tested on.

A protocol turns the subjects and emotions of the photographs into folds. Every protocol but
`random` keeps each person on one side of each fold; `random` has to be asked for by name, and
the report of a run that used it is stamped.
"""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int
from sklearn.model_selection import (
    GroupKFold,
    KFold,
    LeaveOneGroupOut,
    StratifiedGroupKFold,
    StratifiedKFold,
)

from fer_jax.errors import UserError


@dataclass(frozen=True, eq=False)
class Fold:
    """One split: positions into the photographs that `make_folds` was given, each ascending."""

    train: Int[np.ndarray, " n_train"]
    test: Int[np.ndarray, " n_test"]


_Pairs = Iterator[tuple[np.ndarray, np.ndarray]]
_Splitter = Callable[[np.ndarray, np.ndarray, int, int], _Pairs]


def make_folds(
    subjects: Sequence[str],
    emotions: Sequence[str],
    *,
    protocol: str,
    folds: int,
    seed: int,
) -> list[Fold]:
    """Splits photographs into folds; each photograph is tested in exactly one of them.

    Which people are tested together depends on the people, their emotions and the seed, not on
    the order of the rows.

    Args:
      subjects: pseudonymous id of the person, one a photograph.
      emotions: label, one a photograph.
      protocol: "leave_one_subject_out" (as many folds as people; `folds` and `seed` play no
        part), "grouped_kfold" (people shuffled by `seed`, spread so that the emotions are
        balanced over folds as far as whole people allow), or "random" (photographs shuffled,
        people on both sides: only for showing how much that flatters).
      folds: number of folds of the k-fold protocols, at least 2.
      seed: of the shuffling.

    Raises:
      UserError: unknown protocol, fewer than two folds, fewer people (or photographs) than folds.
      RuntimeError: a person ended up on both sides of a fold that promises otherwise.
    """
    if len(subjects) != len(emotions):
        raise ValueError(f"{len(subjects)} subjects but {len(emotions)} emotions")
    if protocol not in _PROTOCOLS:
        near = difflib.get_close_matches(protocol, _PROTOCOLS, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"choose from {', '.join(_PROTOCOLS)}"
        raise UserError(f"unknown protocol '{protocol}'; {hint}")
    if protocol != "leave_one_subject_out" and folds < 2:
        raise UserError(f"{folds} folds are too few; {protocol} needs 2 or more")
    people = np.asarray([str(subject) for subject in subjects], dtype=str)
    labels = np.asarray([str(emotion) for emotion in emotions], dtype=str)
    made = [Fold(train, test) for train, test in _PROTOCOLS[protocol](people, labels, folds, seed)]
    require_partition(made, len(people))
    if keeps_people_apart(protocol):
        require_disjoint_people(made, people)
    return made


def keeps_people_apart(protocol: str) -> bool:
    """Whether the protocol promises that no person stands on both sides of a fold."""
    return protocol != "random"


def require_disjoint_people(folds: Sequence[Fold], subjects: Sequence[str] | np.ndarray) -> None:
    """Raises RuntimeError if a person stands on both sides of any fold."""
    people = np.asarray(subjects)
    for number, fold in enumerate(folds):
        shared = np.intersect1d(people[fold.train], people[fold.test])
        if shared.size:
            names = ", ".join(str(name) for name in shared[:5])
            raise RuntimeError(f"fold {number}: {shared.size} people on both sides: {names}")


def require_partition(folds: Sequence[Fold], photographs: int) -> None:
    """Raises RuntimeError unless each photograph is tested once, and never while trained on."""
    tested = np.concatenate([fold.test for fold in folds])
    if not np.array_equal(np.sort(tested), np.arange(photographs)):
        raise RuntimeError("the folds do not test each photograph exactly once")
    for number, fold in enumerate(folds):
        if not fold.train.size or not fold.test.size:
            raise RuntimeError(f"fold {number} has an empty side")
        if np.intersect1d(fold.train, fold.test).size:
            raise RuntimeError(f"fold {number} tests photographs it was trained on")


def _leave_one_subject_out(people: np.ndarray, labels: np.ndarray, folds: int, seed: int) -> _Pairs:
    del folds, seed  # The people decide.
    found = len(np.unique(people))
    if found < 2:
        raise UserError(
            f"leave_one_subject_out needs at least 2 people, the photographs show {found}; "
            "add people"
        )
    return LeaveOneGroupOut().split(people, labels, groups=people)


def _grouped_kfold(people: np.ndarray, labels: np.ndarray, folds: int, seed: int) -> _Pairs:
    found = len(np.unique(people))
    if found < folds:
        advice = f"lower the folds to {found}, or add people" if found >= 2 else "add people"
        raise UserError(
            f"grouped_kfold with {folds} folds needs at least {folds} people, the photographs "
            f"show {found}; {advice}"
        )
    _, counts = np.unique(labels, return_counts=True)
    if counts.max() >= folds:  # Else scikit-learn refuses to stratify.
        balanced = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
        with warnings.catch_warnings():
            # "The least populated class has fewer members than splits": balanced as far as it goes.
            warnings.simplefilter("ignore", UserWarning)
            made = list(balanced.split(people, labels, groups=people))
        if all(len(test) for _, test in made):
            return iter(made)
    # Greedy balancing can leave a fold without people when they are few and uneven.
    shuffled = GroupKFold(folds, shuffle=True, random_state=seed)
    return shuffled.split(people, labels, groups=people)


def _random(people: np.ndarray, labels: np.ndarray, folds: int, seed: int) -> _Pairs:
    if len(people) < folds:
        raise UserError(
            f"random with {folds} folds needs at least {folds} photographs, there are "
            f"{len(people)}; lower the folds"
        )
    _, counts = np.unique(labels, return_counts=True)
    make = StratifiedKFold if counts.min() >= folds else KFold
    return make(folds, shuffle=True, random_state=seed).split(people, labels)


_PROTOCOLS: dict[str, _Splitter] = {
    "leave_one_subject_out": _leave_one_subject_out,
    "grouped_kfold": _grouped_kfold,
    "random": _random,
}

PROTOCOLS = tuple(_PROTOCOLS)
"""Names that `config.protocol` may take."""
