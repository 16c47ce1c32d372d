"""What would let a model know the people it is tested on, looked for before it is trained.

A leak is a photograph or a person on both sides. Those between the sides of a fold:

    shared_id           the same subject is trained on and tested
    similar_id          two ids that look like one: p1 and p01
    identical_picture   the same pixels under two names
    near_duplicate      one picture in two versions: compressed, resized, cropped, mirrored, …
    same_person         two ids whose faces look like one person

and those between the people tested and what the network was pretrained on:

    pretraining_labels      it was taught these very photographs, or others of these ids
    pretraining_duplicate   a test photograph is among the pretraining faces
    pretraining_person      a test person looks like somebody in the pretraining videos
    pretraining_name        a pretraining video bears a test person's id in its name

What was pretrained on is read from the configs of the workdirs that led to `config.init`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import UInt8

from fer_jax import outputs
from fer_jax.auditing import likeness
from fer_jax.crossval.protocols import Fold
from fer_jax.data import manifest, names, sources, stage_tables
from fer_jax.data.lineage import ancestors
from fer_jax.errors import UserError
from fer_jax.faces import drawing
from fer_jax.spreadsheets import safe_table
from fer_jax.workdir import atomic_file, write_json

BETWEEN_PEOPLE = (
    "shared_id", "similar_id", "identical_picture", "near_duplicate", "same_person",
)  # fmt: skip
OF_PRETRAINING = (
    "pretraining_labels", "pretraining_duplicate", "pretraining_person", "pretraining_name",
)  # fmt: skip
KINDS = (*BETWEEN_PEOPLE, *OF_PRETRAINING)
_SHOWN = 60  # pairs on the contact sheet
_SHORTEST_NAME = 3  # letters of an id that may be looked for in a video's name


@dataclass(frozen=True)
class Leak:
    """One suspect pair: what is tested, and where it stands on the other side.

    `pictures` are files of the two faces, for the contact sheet.
    """

    kind: str
    tested: str
    other: str
    score: float = 1.0
    pictures: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pool:
    """What a network was pretrained on, as far as its workdirs tell.

    `photographs` are workdirs of labelled photographs, `faces` those of unlabelled ones; `known`
    is False where a model came without the workdir that made it.
    """

    photographs: tuple[str, ...] = ()
    faces: tuple[str, ...] = ()
    known: bool = True


@dataclass(frozen=True, eq=False)
class _Side:
    """Faces to compare: files, descriptors, pictures of SIZE pixels."""

    files: list[str]
    crops: UInt8[np.ndarray, "n s s 3"]
    features: np.ndarray = field(repr=False)


def lineage(*inits: str) -> Pool:
    """What the models at `inits`, and those that they started from, were trained on."""
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
    return Pool(tuple(photographs), tuple(faces), known)


def audit(table: pd.DataFrame, folds: Sequence[Fold], pool: Pool | None = None) -> list[Leak]:
    """Every leak that was found, the surest first within a kind.

    Args:
      table: a row a photograph: `photo`, `subject`, `status`, `file` (of its aligned face) and, if
        it is there, `digest` (of the picture's pixels).
      folds: positions into the table.
      pool: what the network was pretrained on; None for nothing.
    """
    found = [*_ids(table, folds)]
    faces = _faces(table)
    positions = np.flatnonzero((table["status"] == "ok").to_numpy())
    crossing = _crossing(folds, len(table))
    found += _identical(table, crossing)
    found += _near(table, faces, positions, crossing)
    found += _same_person(table, faces, positions, folds)
    if pool is not None:
        tested = np.unique(np.concatenate([fold.test for fold in folds]))
        for root in pool.photographs:
            found += _taught(table, tested, faces, positions, root)
        for root in pool.faces:
            found += _pretrained(table, tested, faces, positions, root)
    unique = {(leak.kind, leak.tested, leak.other): leak for leak in found}
    return sorted(unique.values(), key=lambda leak: (KINDS.index(leak.kind), -leak.score))


def counts(leaks: Sequence[Leak]) -> dict[str, int]:
    """How many of each kind."""
    return dict(Counter(leak.kind for leak in leaks))


def write(leaks: Sequence[Leak], folder: Path) -> None:
    """Writes `leaks.csv`, and `suspects.png` with the pairs that can be shown; old ones go."""
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
        title = f"{len(shown)} of {len(leaks)} suspects: tested (left), other side (right)"
        sheet = drawing.contact_sheet(pairs, captions, title=title, cell=170, columns=5)
        drawing.write_image(folder / "suspects.png", sheet)


def stop_unless_allowed(leaks: Sequence[Leak], allowed: Sequence[str], folder: Path) -> None:
    """Raises UserError if there is a leak of a kind that `allowed` does not name.

    Also if `allowed` names a kind that does not exist.
    """
    unknown = [kind for kind in allowed if kind not in KINDS]
    if unknown:
        raise UserError(f"allow_leaks: there is no kind {unknown[0]}; there are {', '.join(KINDS)}")
    forbidden = [leak for leak in leaks if leak.kind not in allowed]
    if not forbidden:
        return
    told = ", ".join(f"{number} {kind}" for kind, number in counts(forbidden).items())
    some = "; ".join(f"{leak.kind}: {leak.tested} and {leak.other}" for leak in forbidden[:3])
    names = ",".join(repr(kind) for kind in counts(forbidden))
    raise UserError(
        f"people or pictures would stand on both sides: {told} ({some}); see {folder}/leaks.csv "
        f"and suspects.png; mend the labels, or, if they are none, go on with "
        f'--config.allow_leaks="({names},)", which the report will say'
    )


def _ids(table: pd.DataFrame, folds: Sequence[Fold]) -> Iterator[Leak]:
    people = table["subject"].astype(str).to_numpy()
    for fold in folds:
        train, test = set(people[_seen(fold)]), set(people[fold.test])
        for name in sorted(train & test):
            yield Leak("shared_id", name, name)
        plain = {_plain(name): name for name in sorted(train)}
        for name in sorted(test - train):
            if _plain(name) in plain:
                yield Leak("similar_id", name, plain[_plain(name)])


def _seen(fold: Fold) -> np.ndarray:
    """Whom a model is taught or chosen on."""
    return np.concatenate([fold.train, fold.validation])


def _plain(name: str) -> str:
    """An id without case, signs and leading zeros: "P_01" and "p1" are one."""
    kept = "".join(letter for letter in names.key(name) if letter.isalnum())
    return re.sub(r"(?<!\d)0+(?=\d)", "", kept) or names.key(name)


def _crossing(folds: Sequence[Fold], size: int) -> Any:
    """Which pairs (tested, trained on) meet in a fold."""
    if len(folds) == 1:
        return _Given(folds[0], size)
    fold_of = np.full(size, -1)
    train = np.zeros((len(folds), size), bool)
    for number, fold in enumerate(folds):
        fold_of[fold.test] = number
        train[number, fold.train] = True
    return np.where(fold_of[:, None] >= 0, train[fold_of], False)


@dataclass(frozen=True, eq=False)
class _Given:
    """The pairs of a single fold, without a matrix of all photographs."""

    fold: Fold
    size: int

    def __getitem__(self, rows: Any) -> Any:
        tested = np.isin(np.arange(self.size), self.fold.test)
        trained = np.isin(np.arange(self.size), _seen(self.fold))
        first, second = rows
        return tested[first] & trained[second]


def _faces(table: pd.DataFrame) -> _Side:
    files = table["file"][table["status"] == "ok"].tolist()
    crops = sources.read_images(files, likeness.SIZE)
    return _Side(files, crops, likeness.descriptors(crops))


def _identical(table: pd.DataFrame, crossing: Any) -> Iterator[Leak]:
    """By the pixels of the whole picture, so also where no face was found."""
    if "digest" not in table.columns:
        return
    photos, files = table["photo"].to_numpy(), table["file"].to_numpy()
    for _, rows in table.groupby("digest").indices.items():
        for a in rows:
            for b in rows:
                if a != b and crossing[a, b]:
                    both = (files[a], files[b]) if table["status"].iloc[a] == "ok" else ()
                    yield Leak("identical_picture", photos[a], photos[b], 1.0, both)
                    break


def _near(
    table: pd.DataFrame, faces: _Side, positions: np.ndarray, crossing: Any
) -> Iterator[Leak]:
    """Of each tested face the nearest one on the other side, if registering shows one picture."""
    photos = table["photo"].to_numpy()
    mean = faces.features.mean(axis=0)
    units = likeness.centred(faces.features, mean)
    for start in range(0, len(units), 512):
        block = np.arange(start, min(start + 512, len(units)))
        mask = crossing[positions[block][:, None], positions[None]]
        if not mask.any():
            continue
        mirrored = likeness.descriptors(np.ascontiguousarray(faces.crops[block][:, :, ::-1]))
        alike = np.maximum(units[block] @ units.T, likeness.centred(mirrored, mean) @ units.T)
        alike = np.where(mask, alike, -1.0)
        for row, other in zip(block, alike.argmax(axis=1), strict=True):
            if alike[row - start, other] < likeness.NEAR:
                continue
            score = likeness.same_picture(faces.crops[row], faces.crops[other])
            if score >= likeness.SAME_PICTURE:
                pair = (faces.files[row], faces.files[other])
                yield Leak(
                    "near_duplicate", photos[positions[row]], photos[positions[other]], score, pair
                )


def _same_person(
    table: pd.DataFrame, faces: _Side, positions: np.ndarray, folds: Sequence[Fold]
) -> Iterator[Leak]:
    people = table["subject"].astype(str).to_numpy()
    owners = people[positions]
    names, alike = likeness.people_alike(faces.features, owners.tolist())
    sides = [(set(people[_seen(fold)]), set(people[fold.test])) for fold in folds]
    for i, first in enumerate(names):
        for j, second in enumerate(names):
            if i == j or alike[i, j] < likeness.SAME_PERSON:
                continue
            if any(second in train and first in test for train, test in sides):
                pair = tuple(faces.files[np.flatnonzero(owners == n)[0]] for n in (first, second))
                one, other = sorted((first, second))
                yield Leak("same_person", one, other, float(alike[i, j]), pair)


def _taught(
    table: pd.DataFrame, tested: np.ndarray, faces: _Side, positions: np.ndarray, root: str
) -> Iterator[Leak]:
    """Labelled photographs that the network was taught before."""
    other = stage_tables.read_photographs(root)
    people = table["subject"].astype(str).to_numpy()
    taught = {_plain(name): name for name in other["subject"].astype(str).unique()}
    for name in sorted(set(people[tested])):
        if _plain(name) in taught:
            yield Leak("pretraining_labels", name, f"{taught[_plain(name)]} in {root}")
    found = other[other["status"] == "ok"]
    files = [str(Path(root) / crop) for crop in found["crop"]]
    yield from _among(table, tested, faces, positions, files, found["photo"].tolist())


def _pretrained(
    table: pd.DataFrame, tested: np.ndarray, faces: _Side, positions: np.ndarray, root: str
) -> Iterator[Leak]:
    """Unlabelled faces, in videos."""
    rows = manifest.read_manifest(Path(root) / "manifest.parquet")
    people = table["subject"].astype(str).to_numpy()
    videos_of: dict[str, list[str]] = {}
    for video in sorted(set(rows["video"])):
        for word in {_plain(word) for word in re.split(r"[^\w]|_", names.key(video)) if word}:
            videos_of.setdefault(word, []).append(video)
    for name in sorted(set(people[tested])):
        if len(_plain(name)) >= _SHORTEST_NAME:
            for video in videos_of.get(_plain(name), []):
                yield Leak("pretraining_name", name, video)
    rows = rows[rows["status"] == manifest.KEPT]
    files = [str(Path(root) / crop) for crop in rows["crop"]]
    yield from _among(table, tested, faces, positions, files, rows["video"].tolist())
    pool = sources.read_images(files, likeness.SIZE)
    tracks = (rows["video"] + " track " + rows["track"].astype(str)).tolist()
    yield from _people_in_videos(table, tested, faces, positions, pool, tracks, files)


def _among(
    table: pd.DataFrame,
    tested: np.ndarray,
    faces: _Side,
    positions: np.ndarray,
    files: list[str],
    names: list[str],
) -> Iterator[Leak]:
    """Tested faces that are also among those of `files`."""
    rows = np.flatnonzero(np.isin(positions, tested))
    if not len(rows) or not files:
        return
    photos = table["photo"].to_numpy()
    pool = sources.read_images(files, likeness.SIZE)
    for one, near, same in likeness.copies(faces.crops[rows], pool):
        pair = (faces.files[rows[one]], files[near])
        yield Leak("pretraining_duplicate", photos[positions[rows[one]]], names[near], same, pair)


def _people_in_videos(
    table: pd.DataFrame,
    tested: np.ndarray,
    faces: _Side,
    positions: np.ndarray,
    pool: UInt8[np.ndarray, "n s s 3"],
    tracks: list[str],
    files: list[str],
) -> Iterator[Leak]:
    """A weak test: it finds a person whose track resembles the photographs, not every one."""
    people = table["subject"].astype(str).to_numpy()
    owners = [f"person {people[p]}" for p in positions]
    features = np.concatenate([faces.features, likeness.descriptors(pool)])
    names, alike = likeness.people_alike(features, [*owners, *(f"track {t}" for t in tracks)])
    ours = {f"person {name}" for name in people[tested]}
    for i, person in enumerate(names):
        for j, track in enumerate(names):
            if person in ours and track.startswith("track ") and alike[i, j] > likeness.SAME_PERSON:
                pair = (
                    faces.files[owners.index(person)],
                    files[tracks.index(track.removeprefix("track "))],
                )
                name, video = person.removeprefix("person "), track.removeprefix("track ")
                yield Leak("pretraining_person", name, video, float(alike[i, j]), pair)
