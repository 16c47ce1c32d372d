"""Detection of leakage between training and test faces, before a model is trained.

A leak is a photograph or a person in both train and test, where train includes validation and the
pretraining data. Leaks within a fold:

    shared_id           a subject is in both train and test
    similar_id          two ids look alike, such as p1 and p01
    identical_picture   the same pixels occur under two names
    near_duplicate      a picture occurs in two versions: compressed, resized, cropped, mirrored, …
    same_person         two ids have faces that look like the same person

Leaks between test people and the pretraining data:

    pretraining_labels      a test person's id, or one that looks like it, is among the people of
                            labelled pretraining data
    pretraining_duplicate   a pretraining face is the same picture as a test photograph
    pretraining_person      a test person looks like a person in the pretraining videos
    pretraining_name        the name of a pretraining video contains a test person's id

The pretraining data are found through the configs of the workdirs that led to `config.init`.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int, Shaped

from fer_jax import outputs
from fer_jax.auditing import likeness
from fer_jax.auditing.likeness import Faces
from fer_jax.crossval.protocols import Fold
from fer_jax.data import manifest, names, sources, stage_tables
from fer_jax.data.lineage import ancestors
from fer_jax.data.person import SHORTEST_NAME
from fer_jax.errors import UserError
from fer_jax.faces import drawing
from fer_jax.schemas.stages import LeakKind
from fer_jax.spreadsheets import safe_table
from fer_jax.workdir import atomic_file, write_json

KINDS: tuple[str, ...] = get_args(LeakKind)
_SHOWN = 60  # pairs on the contact sheet


@dataclass(frozen=True)
class Leak:
    """A suspected leak: what is tested, and what it resembles in the training data.

    `tested` is the id of a person or photograph. `other` is such an id or the name of a video; for
    "pretraining_labels" the person's workdir follows, for "pretraining_person" the person's track.
    A pair that is found in both directions as "same_person" is listed once, in alphabetical order.
    `score` is the similarity of the faces; 1 for equal pixels and for leaks that were found by
    names. `pictures` are the files of a tested and of a training face, for the contact sheet; empty
    for leaks that were found by names, and for identical pictures without a detected face.
    """

    kind: str
    tested: str
    other: str
    score: float = 1.0
    pictures: tuple[str, ...] = ()

    @property
    def of_pretraining(self) -> bool:
        """Whether the leak is between test people and the pretraining data."""
        return self.kind.startswith("pretraining_")


@dataclass(frozen=True)
class Pretraining:
    """The pretraining data of a network, as far as they are known from workdirs.

    `photographs` are workdirs of labelled photographs, `faces` workdirs of unlabelled faces.
    `known` is False if some of the data cannot be found or searched.
    """

    photographs: tuple[str, ...] = ()
    faces: tuple[str, ...] = ()
    known: bool = True


def pretraining_of(*inits: str) -> Pretraining:
    """The training data of the models at `inits` and of the models that initialised them."""
    ancestry = ancestors(inits)
    photographs: dict[str, None] = {}
    faces: dict[str, None] = {}
    known = not ancestry.unknown
    for workdir in ancestry.workdirs:
        photographs |= dict.fromkeys(map(str, workdir.inputs.get("photographs", ())))
        for root in workdir.inputs.get("data.root", ()):
            if (root / "manifest.parquet").is_file():
                faces[str(root)] = None
            elif (root / "photographs.parquet").is_file():
                photographs[str(root)] = None
            else:  # moved, deleted, or in a format that cannot be searched
                known = False
        known = known and not workdir.inputs.get("data.folders")  # pictures without a manifest
    return Pretraining(tuple(photographs), tuple(faces), known)


def audit(
    table: pd.DataFrame, folds: Sequence[Fold], pretraining: Pretraining | None = None
) -> list[Leak]:
    """All suspected leaks, sorted by kind and then by decreasing score.

    Args:
        table: one row per photograph, with the columns `photo`, `subject`, `status`, `file` (of its
            aligned face) and, if known, `digest` (of the picture's pixels).
        folds: the folds, as row positions in the table.
        pretraining: the pretraining data of the network; None if there are none.
    """
    tested = _Tested.of(table, folds)
    found = [*_ids(tested), *_identical(tested), *_near(tested), *_same_person(tested)]
    for root in pretraining.photographs if pretraining else ():
        found += _labelled(tested, root)
    for root in pretraining.faces if pretraining else ():
        found += _unlabelled(tested, root)
    unique = {(leak.kind, leak.tested, leak.other): leak for leak in found}
    return sorted(unique.values(), key=lambda leak: (KINDS.index(leak.kind), -leak.score))


def counts(leaks: Sequence[Leak]) -> dict[str, int]:
    """The number of leaks of each kind."""
    return dict(Counter(leak.kind for leak in leaks))


def unintended(leaks: Sequence[Leak], protocol: str) -> list[Leak]:
    """The leaks that are not a deliberate part of `protocol`.

    "random" puts people into both train and test, so only leaks between test people and the
    pretraining data are unintended. With the other protocols, all leaks are.
    """
    return [leak for leak in leaks if leak.of_pretraining or protocol != "random"]


def write(leaks: Sequence[Leak], folder: Path) -> None:
    """Writes `leaks.csv`, `leaks.json` (counts) and, if any leak has pictures, `suspects.png`."""
    folder.mkdir(parents=True, exist_ok=True)
    outputs.delete(folder / "suspects.png")
    columns = ["kind", "tested", "other", "score"]
    rows = [{name: asdict(leak)[name] for name in columns} for leak in leaks]
    with atomic_file(folder / "leaks.csv") as temporary:
        safe_table(pd.DataFrame(rows, columns=columns)).to_csv(temporary, index=False)
    write_json(folder / "leaks.json", counts(leaks))
    shown = [leak for leak in leaks if leak.pictures][:_SHOWN]
    if shown:
        pairs = [
            drawing.row(list(sources.read_images(leak.pictures, likeness.SIZE)), likeness.SIZE)
            for leak in shown
        ]
        captions = [f"{leak.kind} {leak.score:.2f}\n{leak.tested}\n{leak.other}" for leak in shown]
        title = f"{len(shown)} of {len(leaks)} suspected leaks: test (left), train (right)"
        sheet = drawing.contact_sheet(pairs, captions, title=title, cell=170, columns=5)
        drawing.write_image(folder / "suspects.png", sheet)


def stop_unless_allowed(leaks: Sequence[Leak], allowed: Sequence[str], folder: Path) -> None:
    """Stops the run if there is a leak of a kind that is not in `allowed`.

    Raises:
        UserError: there is such a leak.
    """
    forbidden = [leak for leak in leaks if leak.kind not in allowed]
    if not forbidden:
        return
    found = ", ".join(f"{number} {kind}" for kind, number in counts(forbidden).items())
    some = "; ".join(f"{leak.kind} of {leak.tested} and {leak.other}" for leak in forbidden[:3])
    names = ",".join(repr(kind) for kind in counts(forbidden))
    raise UserError(
        f"people or pictures seem to be in both train (or pretraining) and test: {found} ({some}); "
        f"see leaks.csv and, if it exists, suspects.png in {folder}; correct the labels or, if "
        f'these are not leaks, allow them with --config.allow_leaks="({names},)"; the '
        "report will mention them"
    )


@dataclass(frozen=True, eq=False)
class _Tested:
    """The photographs, with the fold that tests each of them and the folds that train on it.

    Attributes:
        table: one row per photograph.
        faces: the faces in the rows `rows` of the table.
        rows: the rows with a face, ascending.
        fold_of: the fold that tests each photograph; -1 for none.
        seen: which photographs each fold uses for training or the selection of hyperparameters.
    """

    table: pd.DataFrame
    faces: Faces
    rows: Int[np.ndarray, " faces"]
    fold_of: Int[np.ndarray, " n"]
    seen: Bool[np.ndarray, "folds n"]

    @classmethod
    def of(cls, table: pd.DataFrame, folds: Sequence[Fold]) -> _Tested:
        fold_of = np.full(len(table), -1)
        seen = np.zeros((len(folds), len(table)), bool)
        for number, fold in enumerate(folds):
            fold_of[fold.test] = number
            seen[number, [*fold.train, *fold.validation]] = True
        found = (table["status"] == "ok").to_numpy()
        faces = Faces.read(table["file"][found].tolist())
        return cls(table, faces, np.flatnonzero(found), fold_of, seen)

    @functools.cached_property
    def people(self) -> Shaped[np.ndarray, " n"]:
        """The person in each photograph."""
        return self.table["subject"].astype(str).to_numpy()

    @functools.cached_property
    def sides(self) -> list[tuple[set[str], set[str]]]:
        """For each fold, the people in train or validation, and the people in test."""
        return [
            (set(self.people[seen]), set(self.people[self.fold_of == number]))
            for number, seen in enumerate(self.seen)
        ]

    @property
    def names(self) -> list[str]:
        """The people who are tested in any fold, ascending."""
        return sorted(set(self.people[self.fold_of >= 0]))

    def leaks(self, tested: Any, other: Any) -> Any:
        """Whether the fold that tests row `tested` of the table uses row `other` (see `seen`).

        The arguments may be arrays of rows. False if no fold tests row `tested`.
        """
        fold = self.fold_of[tested]
        return (fold >= 0) & self.seen[fold, other]


def _ids(tested: _Tested) -> Iterator[Leak]:
    for train, test in tested.sides:
        for name in sorted(train & test):
            yield Leak("shared_id", name, name)
        plain = {_plain(name): name for name in sorted(train)}
        for name in sorted(test - train):
            if _plain(name) in plain:
                yield Leak("similar_id", name, plain[_plain(name)])


def _plain(name: str) -> str:
    """An id without case, punctuation and leading zeros, so that "P_01" and "p1" are the same."""
    kept = "".join(letter for letter in names.key(name) if letter.isalnum())
    return re.sub(r"(?<!\d)0+(?=\d)", "", kept) or names.key(name)


def _identical(tested: _Tested) -> Iterator[Leak]:
    """Tested pictures with the same pixels as a training picture, with or without a face."""
    if "digest" not in tested.table.columns:
        return
    photos, files = tested.table["photo"].to_numpy(), tested.table["file"].to_numpy()
    for _, rows in tested.table.groupby("digest").indices.items():
        for row in rows:
            others = rows[tested.leaks(row, rows) & (rows != row)]
            if len(others):
                found = tested.table["status"].iloc[row] == "ok"
                pair = (files[row], files[others[0]]) if found else ()
                yield Leak("identical_picture", photos[row], photos[others[0]], 1.0, pair)


def _near(tested: _Tested) -> Iterator[Leak]:
    """Tested faces whose nearest training face is, after registration, the same picture."""
    photos, files, rows = tested.table["photo"].to_numpy(), tested.faces.files, tested.rows

    def compared(block: slice) -> Bool[np.ndarray, "b faces"]:
        return tested.leaks(rows[block][:, None], rows[None])

    for one, other, score in likeness.copies(tested.faces, tested.faces, compared):
        pair = (files[one], files[other])
        yield Leak("near_duplicate", photos[rows[one]], photos[rows[other]], score, pair)


def _same_person(tested: _Tested) -> Iterator[Leak]:
    owners = tested.people[tested.rows]
    names, alike = likeness.people_alike(tested.faces.features, owners.tolist())

    def crosses(test_person: str, train_person: str) -> bool:
        return any(test_person in test and train_person in train for train, test in tested.sides)

    for i, j in zip(*np.nonzero(alike >= likeness.SAME_PERSON), strict=True):
        first, second = names[i], names[j]
        if i == j or not crosses(first, second):
            continue
        if second < first and crosses(second, first):
            continue  # the pair is found in both directions, and is listed once
        pair = tuple(
            tested.faces.files[np.flatnonzero(owners == name)[0]] for name in (first, second)
        )
        yield Leak("same_person", first, second, float(alike[i, j]), pair)


def _labelled(tested: _Tested, root: str) -> Iterator[Leak]:
    """Leaks through labelled photographs on which the network was pretrained."""
    other = stage_tables.read_photographs(root)
    trained = {_plain(name): name for name in other["subject"].astype(str).unique()}
    for name in tested.names:
        if _plain(name) in trained:
            yield Leak("pretraining_labels", name, f"{trained[_plain(name)]} in {root}")
    found = other[other["status"] == "ok"]
    faces = Faces.read([str(Path(root) / crop) for crop in found["crop"]])
    yield from _among(tested, faces, found["photo"].tolist())


def _unlabelled(tested: _Tested, root: str) -> Iterator[Leak]:
    """Leaks through unlabelled faces in videos on which the network was pretrained."""
    rows = manifest.read_manifest(Path(root) / "manifest.parquet")
    videos_of: dict[str, list[str]] = {}
    for video in sorted(set(rows["video"])):
        for word in {_plain(word) for word in re.split(r"[^\w]|_", names.key(video)) if word}:
            videos_of.setdefault(word, []).append(video)
    for name in tested.names:
        if len(_plain(name)) >= SHORTEST_NAME:
            for video in videos_of.get(_plain(name), []):
                yield Leak("pretraining_name", name, video)
    rows = rows[rows["status"] == manifest.KEPT]
    faces = Faces.read([str(Path(root) / crop) for crop in rows["crop"]])
    yield from _among(tested, faces, rows["video"].tolist())
    tracks = (rows["video"] + " track " + rows["track"].astype(str)).tolist()
    yield from _people_in_videos(tested, faces, tracks)


def _among(tested: _Tested, faces: Faces, names: list[str]) -> Iterator[Leak]:
    """Tested faces whose nearest neighbour in `faces` is the same picture.

    `names` contains the photograph or video of each of `faces`.
    """
    rows = np.flatnonzero(tested.fold_of[tested.rows] >= 0)
    photos = tested.table["photo"].to_numpy()[tested.rows[rows]]
    own = tested.faces.take(rows)
    for one, near, score in likeness.copies(own, faces):
        pair = (own.files[one], faces.files[near])
        yield Leak("pretraining_duplicate", photos[one], names[near], score, pair)


def _people_in_videos(tested: _Tested, faces: Faces, tracks: list[str]) -> Iterator[Leak]:
    """Test people who resemble a person in a video.

    People and tracks with a single face are not compared. `tracks` contains the track of each of
    `faces`.
    """
    owners = [f"person {name}" for name in tested.people[tested.rows]]
    others = [f"track {name}" for name in tracks]
    features = np.concatenate([tested.faces.features, faces.features])
    names, alike = likeness.people_alike(features, [*owners, *others])
    ours = {f"person {name}" for name in tested.names}
    for i, j in zip(*np.nonzero(alike > likeness.SAME_PERSON), strict=True):
        person, track = names[i], names[j]
        if person in ours and track in others:
            pair = (tested.faces.files[owners.index(person)], faces.files[others.index(track)])
            name, video = person.removeprefix("person "), track.removeprefix("track ")
            yield Leak("pretraining_person", name, video, float(alike[i, j]), pair)
