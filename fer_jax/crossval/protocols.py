"""Protocols that split photographs into folds.

A fold has a training part, a test part and, if the labels define one, a validation part. Three
protocols compute the folds. With "leave_one_subject_out" and "grouped_kfold", no person is in both
train and test of a fold; "random" ignores people, and the report warns about this. For
"fixed_split" and "cross_set", the user defines the split; the leakage search
(`fer_jax.auditing.leakage`) finds people who are in both train and test.

`inner_split` holds out some training people of a fold, on whom methods select hyperparameters
(`Facts.wants_inner`). If the labels define validation people, those are used instead.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Int

from fer_jax.data import names
from fer_jax.errors import UserError
from fer_jax.plugins import did_you_mean


@dataclass(frozen=True, eq=False)
class Fold:
    """One split, as ascending positions in the photographs that were passed to `make_folds`.

    `validation` is empty unless the user's split defines it. If it is not empty, methods get it for
    the selection of hyperparameters, instead of a part of `train`.
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

    Each photograph is tested in exactly one fold. The exceptions are "fixed_split" and "cross_set",
    which have a single fold, defined by `splits`. Except for "random", the order of the photographs
    does not change which of them a fold tests.

    Args:
        subjects: the person in each photograph; ids with the same `names.key` are one person.
        emotions: label of each photograph.
        protocol: "leave_one_subject_out" (as many folds as people; ignores `folds` and `seed`),
            "grouped_kfold" (people shuffled by `seed`, with the emotions balanced over folds as far
            as possible), "fixed_split" (by the column `split` of the labels), "cross_set" (trains
            on one set of people and tests on another), or "random" (photographs shuffled by `seed`
            regardless of people, only to show how optimistic the resulting accuracy is).
        folds: number of folds of "grouped_kfold" and "random", at least 2.
        seed: seed of the shuffling.
        splits: "train", "validation" or "test" for each photograph, for "fixed_split" and
            "cross_set".

    Raises:
        UserError: the protocol is unknown; `folds` is below 2, or above the number of people (for
            "random", of photographs); there are fewer than two people for "leave_one_subject_out";
            or a name in `splits` is missing or unknown, or there is no "train" or no "test".
        ValueError: `subjects` and `emotions` have different lengths.
        RuntimeError: computed folds break one of these rules: each photograph is tested once, each
            fold has training photographs and tests none of them, and, except for "random", no
            person is in both train and test. Folds of a given split are not checked.
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
                f"fold {number} has {len(shared)} people in both train and test, such as {some}"
            )


def people_on_both_sides(
    folds: Sequence[Fold], subjects: Sequence[str] | np.ndarray
) -> list[list[str]]:
    """For each fold, the keys (`names.key`) of the people who are in both train and test."""
    people = _people(subjects)
    return [np.intersect1d(people[fold.train], people[fold.test]).tolist() for fold in folds]


def require_partition(folds: Sequence[Fold], photographs: int) -> None:
    """Raises RuntimeError unless each photograph is tested in exactly one fold.

    A fold that trains on its test photographs, or has no training or test photographs, is an error
    too.
    """
    tested = np.concatenate([fold.test for fold in folds])
    if not np.array_equal(np.sort(tested), np.arange(photographs)):
        raise RuntimeError("the folds do not test each photograph exactly once")
    for number, fold in enumerate(folds):
        if not fold.train.size or not fold.test.size:
            raise RuntimeError(f"fold {number} has no training or no test photographs")
        if np.intersect1d(fold.train, fold.test).size:
            raise RuntimeError(f"fold {number} also trains on photographs that it tests")


def inner_split(
    rows: Int[np.ndarray, " n"],
    subjects: Sequence[str],
    emotions: Sequence[str],
    *,
    share: float,
    seed: int,
) -> tuple[Int[np.ndarray, " a"], Int[np.ndarray, " b"]]:
    """Splits the training rows of a fold, by people, into inner training and validation rows.

    Args:
        rows: the training rows, as positions in `subjects` and `emotions`.
        subjects: the person in each photograph of the data set.
        emotions: the emotion of each photograph of the data set.
        share: approximate fraction of the people whose rows are for validation, above 0; values
            above 1/2 count as 1/2.
        seed: determines which people are for validation.

    Returns:
        The inner training rows and the validation rows, both part of `rows`.

    Raises:
        UserError: the photographs in `rows` show fewer than two people.
    """
    people = _people(subjects)[rows]
    found = len(np.unique(people))
    if found < 2:
        raise UserError(
            f"crossval: inner validation needs at least 2 training people in each fold, but a fold "
            f"has only {found}; add people, or set --config.inner.share=0"
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
    """At most `shots` random rows of each emotion, ascending; `rows` if `shots` is 0.

    `rows` are positions in `emotions`, the emotions of the photographs of the data set.
    """
    if not shots:
        return rows
    rng = np.random.default_rng([seed, len(rows)])
    kept = [rng.permutation(group)[:shots] for group in _by_emotion(rows, emotions)]
    return np.sort(np.concatenate(kept))


def balanced(
    rows: Int[np.ndarray, " n"], emotions: Sequence[str], *, seed: int
) -> Int[np.ndarray, " m"]:
    """`rows`, with random rows of rarer emotions repeated until all emotions are equally frequent.

    `rows` are positions in `emotions`, the emotions of the photographs of the data set. Frequencies
    are counted in `rows` only, so the labels of held-out people are not used. The train step is the
    same as without balancing, so nothing is compiled again.
    """
    rng = np.random.default_rng([seed, len(rows)])
    groups = _by_emotion(rows, emotions)
    most = max(map(len, groups))
    more = [
        rng.permutation(np.resize(rng.permutation(group), most - len(group))) for group in groups
    ]
    return np.concatenate([rows, *more])


def _by_emotion(rows: np.ndarray, emotions: Sequence[str]) -> list[np.ndarray]:
    """One array of rows for each emotion, with the emotions in alphabetical order."""
    labels = np.asarray(emotions, dtype=str)[rows]
    return [rows[labels == label] for label in np.unique(labels)]


def _people(subjects: Sequence[str] | np.ndarray) -> np.ndarray:
    """The key (`names.key`) of the person in each photograph."""
    return np.asarray([names.key(str(subject)) for subject in subjects], dtype=str)


def _given(protocol: str, splits: Sequence[str], photographs: int) -> Fold:
    """The only fold of a user-defined split; `photographs` is the number of photographs."""
    given = np.asarray([str(name).strip().lower() for name in splits])
    if len(given) != photographs or not all(given):
        raise UserError(
            f"{protocol} needs a `split` (train, validation or test) for each photograph in "
            "labels.csv; add it, and run the stage photographs in a new workdir"
        )
    unknown = sorted(set(given) - {TRAIN, VALIDATION, TEST})
    if unknown:
        raise UserError(
            f"{protocol}: the column `split` of labels.csv contains {', '.join(unknown)}; use "
            "train, validation and test"
        )
    sides = [np.flatnonzero(given == name) for name in (TRAIN, TEST, VALIDATION)]
    for name, rows in zip((TRAIN, TEST), sides, strict=False):
        if not rows.size:
            raise UserError(
                f"{protocol}: no photograph has the split '{name}'; use it in labels.csv, and run "
                "the stage photographs in a new workdir"
            )
    return Fold(*sides)


def _leave_one_subject_out(people: np.ndarray, labels: np.ndarray, folds: int, seed: int) -> _Pairs:
    del folds, seed  # each person is one fold
    from sklearn.model_selection import LeaveOneGroupOut  # takes 1 s; training does not need it

    _require("leave_one_subject_out", 2, len(np.unique(people)), "people")
    return LeaveOneGroupOut().split(people, labels, groups=people)


def _grouped_kfold(people: np.ndarray, labels: np.ndarray, folds: int, seed: int) -> _Pairs:
    from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

    _require("grouped_kfold", folds, len(np.unique(people)), "people")
    _, counts = np.unique(labels, return_counts=True)
    if counts.max() >= folds:  # otherwise scikit-learn raises an error
        balanced = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
        with warnings.catch_warnings():
            # "The least populated class has fewer members than splits", which is no problem here.
            warnings.simplefilter("ignore", UserWarning)
            made = list(balanced.split(people, labels, groups=people))
        if all(len(test) for _, test in made):
            return iter(made)
    # With few people, greedy balancing can leave a fold without people.
    shuffled = GroupKFold(folds, shuffle=True, random_state=seed)
    return shuffled.split(people, labels, groups=people)


def _random(people: np.ndarray, labels: np.ndarray, folds: int, seed: int) -> _Pairs:
    from sklearn.model_selection import KFold, StratifiedKFold

    _require("random", folds, len(people), "photographs")
    _, counts = np.unique(labels, return_counts=True)
    make = StratifiedKFold if counts.min() >= folds else KFold
    return make(folds, shuffle=True, random_state=seed).split(people, labels)


def _require(protocol: str, folds: int, found: int, units: str) -> None:
    """Raises UserError if `folds` is below 2 or above `found`, the number of `units`.

    `units` is "people" or "photographs".
    """
    if folds < 2:
        raise UserError(f"--config.folds={folds} is too small; {protocol} needs 2 folds or more")
    if found < folds:
        advice = f"set --config.folds={found}, or add {units}" if found >= 2 else f"add {units}"
        shown = f"the photographs show {found}" if units == "people" else f"there are {found}"
        raise UserError(f"{protocol} needs at least {folds} {units}, but {shown}; {advice}")


_SPLITTERS: dict[str, _Splitter] = {
    "leave_one_subject_out": _leave_one_subject_out,
    "grouped_kfold": _grouped_kfold,
    "random": _random,
}

GIVEN = ("fixed_split", "cross_set")
PROTOCOLS = (*_SPLITTERS, *GIVEN)
"""The names of all protocols, as in `config.protocol`."""
