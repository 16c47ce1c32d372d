"""Who is trained on, who is tested on, and on whom choices are made.

A protocol turns the subjects and emotions of the photographs into folds. Every protocol but
`random` keeps each person on one side of each fold; `random` has to be chosen by name, and
the report of a run that used it says so. Whatever is chosen (steps, temperature, the strength
of a penalty) is chosen on people of the training side: `inner_split`.
"""

from __future__ import annotations

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
from fer_jax.plugins import did_you_mean


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

    Each photograph is tested in exactly one of them, except by "fixed_split" and "cross_set",
    which are given their split: their one fold tests what is called "test". Who is tested together
    depends on the people, their emotions and the seed, not on the order of the rows.

    Args:
        subjects: pseudonym of the person on each photograph.
        emotions: label of each photograph.
        protocol: "leave_one_subject_out" (as many folds as people; `folds` and `seed` play no
            part), "grouped_kfold" (people shuffled by `seed`, spread so that the emotions are
            balanced over folds as far as whole people allow), "fixed_split" (by the column `split`
            of the labels), "cross_set" (one set of people is trained on, another tested), or
            "random" (photographs shuffled, people in both train and test: only for showing how
            much that flatters).
        folds: number of folds of the k-fold protocols, at least 2.
        seed: of the shuffling.
        splits: "train", "validation" or "test" for each photograph, for the protocols that are
            given their split.

    Raises:
        UserError: unknown protocol, fewer than two folds, fewer people (or photographs) than
            folds, a split that is missing or has another name.
        RuntimeError: a person is in both train and test of a fold that promises otherwise.
    """
    if len(subjects) != len(emotions):
        raise ValueError(f"{len(subjects)} subjects but {len(emotions)} emotions")
    if protocol not in PROTOCOLS:
        hint = did_you_mean(protocol, PROTOCOLS)
        raise UserError(f"unknown protocol '{protocol}'{hint}; choose from {', '.join(PROTOCOLS)}")
    if protocol in GIVEN:
        return [_given(protocol, splits, len(subjects))]
    people = _people(subjects)
    labels = np.asarray(emotions, dtype=str)
    made = [Fold(train, test) for train, test in _SPLITTERS[protocol](people, labels, folds, seed)]
    require_partition(made, len(people))
    if protocol != "random":
        require_disjoint_people(made, people)
    return made


def require_disjoint_people(folds: Sequence[Fold], subjects: Sequence[str] | np.ndarray) -> None:
    """Raises RuntimeError if a person is in both train and test of any fold."""
    for number, shared in enumerate(people_on_both_sides(folds, subjects)):
        if shared:
            some = ", ".join(shared[:5])
            raise RuntimeError(
                f"fold {number}: {len(shared)} people in both train and test: {some}"
            )


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
    people = _people(subjects)[rows]
    found = len(np.unique(people))
    if found < 2:
        raise UserError(
            f"inner validation needs at least 2 people to train on, a fold has {found}; "
            "add people, or set --config.inner.share=0"
        )
    inner = make_folds(
        people.tolist(),
        np.asarray(emotions)[rows].tolist(),
        protocol="grouped_kfold",
        folds=min(found, max(2, round(1.0 / share))),
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
    kept = [rng.permutation(group)[:shots] for group in _by_emotion(rows, emotions)]
    return np.sort(np.concatenate(kept))


def balanced(
    rows: Int[np.ndarray, " n"], emotions: Sequence[str], *, seed: int
) -> Int[np.ndarray, " m"]:
    """The rows with those of rarer emotions repeated until each occurs as often as the commonest.

    So classes are balanced without another compilation, and by the labels of the people trained on
    alone.
    """
    rng = np.random.default_rng([seed, len(rows)])
    groups = _by_emotion(rows, emotions)
    most = max(map(len, groups))
    more = [
        rng.permutation(np.resize(rng.permutation(group), most - len(group))) for group in groups
    ]
    return np.concatenate([rows, *more])


def _by_emotion(rows: np.ndarray, emotions: Sequence[str]) -> list[np.ndarray]:
    """The rows of each emotion, in alphabetical order."""
    labels = np.asarray(emotions, dtype=str)[rows]
    return [rows[labels == label] for label in np.unique(labels)]


def _people(subjects: Sequence[str] | np.ndarray) -> np.ndarray:
    """The person on each photograph, so that two spellings of one subject are one person."""
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
    sides = [np.flatnonzero(given == name) for name in (TRAIN, TEST, VALIDATION)]
    for name, rows in zip((TRAIN, TEST), sides, strict=False):
        if not rows.size:
            raise UserError(f"{protocol}: no photograph has the split '{name}'")
    return Fold(*sides)


def _leave_one_subject_out(people: np.ndarray, labels: np.ndarray, folds: int, seed: int) -> _Pairs:
    del folds, seed  # the people decide
    _require("leave_one_subject_out", 2, len(np.unique(people)), "people")
    return LeaveOneGroupOut().split(people, labels, groups=people)


def _grouped_kfold(people: np.ndarray, labels: np.ndarray, folds: int, seed: int) -> _Pairs:
    _require("grouped_kfold", folds, len(np.unique(people)), "people")
    _, counts = np.unique(labels, return_counts=True)
    if counts.max() >= folds:  # else scikit-learn refuses to stratify
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
    _require("random", folds, len(people), "photographs")
    _, counts = np.unique(labels, return_counts=True)
    make = StratifiedKFold if counts.min() >= folds else KFold
    return make(folds, shuffle=True, random_state=seed).split(people, labels)


def _require(protocol: str, folds: int, found: int, units: str) -> None:
    """Raises UserError unless there are as many people, or photographs, as folds."""
    if folds < 2:
        raise UserError(f"{folds} folds are too few; {protocol} needs 2 or more")
    if found < folds:
        advice = f"lower the folds to {found}, or add {units}" if found >= 2 else f"add {units}"
        there = "the photographs show" if units == "people" else "there are"
        raise UserError(f"{protocol} needs at least {folds} {units}, {there} {found}; {advice}")


_SPLITTERS: dict[str, _Splitter] = {
    "leave_one_subject_out": _leave_one_subject_out,
    "grouped_kfold": _grouped_kfold,
    "random": _random,
}

GIVEN = ("fixed_split", "cross_set")
PROTOCOLS = (*_SPLITTERS, *GIVEN)
"""Names that `config.protocol` may take."""
