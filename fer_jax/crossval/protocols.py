"""Who is trained on, who is tested on, and on whom choices are made.

A protocol turns the subjects and emotions of the photographs into folds. Every protocol but
`random` keeps each person on one side of each fold; `random` has to be asked for by name, and
the report of a run that used it is stamped. Whatever is chosen (steps, temperature, the strength
of a penalty) is chosen on people of the training side: `inner_split`.
"""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Int
from sklearn.model_selection import (
    GroupKFold,
    KFold,
    LeaveOneGroupOut,
    StratifiedGroupKFold,
    StratifiedKFold,
)

from fer_jax.data import names
from fer_jax.errors import UserError


@dataclass(frozen=True, eq=False)
class Fold:
    """One split: positions into the photographs that `make_folds` was given, each ascending.

    `validation` is empty unless the user's own split names photographs for it: then they, and
    not a part of `train`, are what choices are made on.
    """

    train: Int[np.ndarray, " n_train"]
    test: Int[np.ndarray, " n_test"]
    validation: Int[np.ndarray, " n_validation"] = field(
        default_factory=lambda: np.zeros(0, np.int64)
    )


TRAIN, VALIDATION, TEST = "train", "validation", "test"
_Pairs = Iterator[tuple[np.ndarray, np.ndarray]]
_Splitter = Callable[[np.ndarray, np.ndarray, int, int], _Pairs]


def make_folds(
    subjects: Sequence[str],
    emotions: Sequence[str],
    *,
    protocol: str,
    folds: int,
    seed: int,
    splits: Sequence[str] = (),
) -> list[Fold]:
    """Splits photographs into folds.

    Each photograph is tested in exactly one of them, but for the protocols that are given their
    split, "fixed_split" and "cross_set": these have one fold, which tests what is called "test".

    Which people are tested together depends on the people, their emotions and the seed, not on
    the order of the rows.

    Args:
      subjects: pseudonymous id of the person, one a photograph.
      emotions: label, one a photograph.
      protocol: "leave_one_subject_out" (as many folds as people; `folds` and `seed` play no
        part), "grouped_kfold" (people shuffled by `seed`, spread so that the emotions are
        balanced over folds as far as whole people allow), "fixed_split" (by the column `split`
        of the labels), "cross_set" (one set of people is trained on, another tested), or
        "random" (photographs shuffled, people on both sides: only for showing how much that
        flatters).
      folds: number of folds of the k-fold protocols, at least 2.
      seed: of the shuffling.
      splits: "train", "validation" or "test", one a photograph, for the protocols that are given
        their split.

    Raises:
      UserError: unknown protocol, fewer than two folds, fewer people (or photographs) than folds,
        a split that is missing or has another name.
      RuntimeError: a person ended up on both sides of a fold that promises otherwise.
    """
    if len(subjects) != len(emotions):
        raise ValueError(f"{len(subjects)} subjects but {len(emotions)} emotions")
    if protocol not in PROTOCOLS:
        near = difflib.get_close_matches(protocol, PROTOCOLS, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"choose from {', '.join(PROTOCOLS)}"
        raise UserError(f"unknown protocol '{protocol}'; {hint}")
    if protocol in GIVEN:
        return [_given(protocol, splits, len(subjects))]
    if protocol != "leave_one_subject_out" and folds < 2:
        raise UserError(f"{folds} folds are too few; {protocol} needs 2 or more")
    people = _people(subjects)
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
    for number, shared in enumerate(people_on_both_sides(folds, subjects)):
        if shared:
            some = ", ".join(shared[:5])
            raise RuntimeError(f"fold {number}: {len(shared)} people on both sides: {some}")


def people_on_both_sides(
    folds: Sequence[Fold], subjects: Sequence[str] | np.ndarray
) -> list[list[str]]:
    """For each fold, the people (by `names.key`) both trained on and tested."""
    people = _people(subjects)
    return [np.intersect1d(people[fold.train], people[fold.test]).tolist() for fold in folds]


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


def inner_split(
    rows: Int[np.ndarray, " n"],
    subjects: Sequence[str],
    emotions: Sequence[str],
    *,
    share: float,
    seed: int,
) -> tuple[Int[np.ndarray, " a"], Int[np.ndarray, " b"]]:
    """Parts the rows of a fold's training side by people: to train on, and to choose on.

    Args:
      rows: positions into `subjects` and `emotions`.
      subjects, emotions: of all photographs.
      share: the part of the people to choose on; at least one person, at most half.
      seed: of the drawing.

    Raises:
      UserError: the rows show fewer than two people.
    """
    found = len({names.key(str(subjects[row])) for row in rows})
    if found < 2:
        raise UserError(
            f"inner validation needs at least 2 people to train on, a fold has {found}; "
            "add people, or set --config.inner.share=0"
        )
    parts = min(found, max(2, round(1.0 / share)))
    inner = make_folds(
        [str(subjects[row]) for row in rows],
        [str(emotions[row]) for row in rows],
        protocol="grouped_kfold",
        folds=parts,
        seed=seed,
    )[0]
    return rows[inner.train], rows[inner.test]


def few_shots(
    rows: Int[np.ndarray, " n"], emotions: Sequence[str], *, shots: int, seed: int
) -> Int[np.ndarray, " m"]:
    """At most `shots` of the rows of each emotion, drawn by `seed`; all of them where it is 0."""
    if not shots:
        return rows
    rng = np.random.default_rng([seed, len(rows)])
    labels = np.asarray([str(emotions[row]) for row in rows])
    kept = [rng.permutation(rows[labels == label])[:shots] for label in np.unique(labels)]
    return np.sort(np.concatenate(kept))


def balanced(
    rows: Int[np.ndarray, " n"], emotions: Sequence[str], *, seed: int
) -> Int[np.ndarray, " m"]:
    """The rows with those of rarer emotions repeated until each occurs as often as the commonest.

    So classes are balanced without another compilation, and by nobody's labels but those of the
    people trained on.
    """
    rng = np.random.default_rng([seed, len(rows)])
    labels = np.asarray([str(emotions[row]) for row in rows])
    classes, counts = np.unique(labels, return_counts=True)
    more = [
        rng.permutation(np.resize(rng.permutation(rows[labels == name]), counts.max() - count))
        for name, count in zip(classes, counts, strict=True)
    ]
    return np.concatenate([rows, *more])


def _people(subjects: Sequence[str] | np.ndarray) -> np.ndarray:
    """The person of each photograph, so that two spellings of one subject are one person."""
    return np.asarray([names.key(str(subject)) for subject in subjects], dtype=str)


def _given(protocol: str, splits: Sequence[str], photographs: int) -> Fold:
    """The one fold of a split that the user made."""
    given = np.asarray([str(name).strip().lower() for name in splits])
    if len(given) != photographs or not all(given):
        raise UserError(
            f"{protocol} needs a column `split` in labels.csv (train, validation, test); run the "
            "stage photographs on such a table"
        )
    unknown = sorted(set(given) - {TRAIN, VALIDATION, TEST})
    if unknown:
        raise UserError(
            f"{protocol}: unknown splits {', '.join(unknown)}; use train, validation and test"
        )
    for needed in (TRAIN, TEST):
        if needed not in given:
            raise UserError(f"{protocol}: no photograph has the split '{needed}'")
    train, test, validation = (
        np.flatnonzero(given == name).astype(np.int64) for name in (TRAIN, TEST, VALIDATION)
    )
    return Fold(train, test, validation)


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

GIVEN = ("fixed_split", "cross_set")
PROTOCOLS = (*_PROTOCOLS, *GIVEN)
"""Names that `config.protocol` may take."""
