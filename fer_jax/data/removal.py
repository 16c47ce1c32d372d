"""Removing a person from the photographs and from everything that was made from them.

Everything is found before anything is deleted: the photographs and rows (`fer_jax.data.originals`),
the workdirs that contain the person, and those made from them (`fer_jax.data.lineage`). In these
workdirs only files that a stage recorded as its own are deleted (`fer_jax.outputs`):

- A workdir of `photographs` or `predict` that shows the person loses the person's rows and pictures
  and the contact sheets, and keeps the rows and pictures of other people. If a workdir of `predict`
  shows nobody else, it is emptied.
- Other workdirs that contain the person or were made from such workdirs are emptied, including
  their models, since a model cannot forget a person, and since folds, reports and records mix
  people. They can be made again with the same commands.
- A workdir of `predict` that shows only other people is kept even if its model was deleted, unless
  it is part of a pipeline.
- A training run that was only measured on the person's photographs loses the files that show these
  photographs.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import pyarrow as pa

from fer_jax import outputs, records
from fer_jax.data import consent, names, originals
from fer_jax.data.lineage import PIPELINE, Workdir, descendants, read_workdir, workdirs_below
from fer_jax.data.originals import Originals
from fer_jax.data.person import Person, find_person
from fer_jax.errors import UserError
from fer_jax.locking import alone_in
from fer_jax.spreadsheets import possible_texts
from fer_jax.workdir import atomic_file

_BY_PICTURE = ("photographs", "predict")  # stages whose tables have one row per picture
_PICTURES = frozenset((".png", ".jpg"))
# Files of a training run that show the faces it was probed on.
_PROBE_FILES = ("neighbours.png", "embedding.png", records.PROBED)
# These are out of date after a removal, and may contain names.
_RUN_FILES = frozenset(("done.json", "error.log"))
_TEXTS = frozenset((".csv", ".html", ".json", ".jsonl", ".log", ".md", ".txt"))
_EXPORTED = (".onnx", ".stablehlo")  # models that the stage `export` wrote
_MOST_PROBLEMS = 10  # in the message


@dataclass(frozen=True, eq=False)
class Contents(Workdir):
    """A workdir, the files that stages recorded as their own in it, and the tables among them.

    Without a record, `written` contains all files except those in inner workdirs.
    """

    written: tuple[str, ...] = ()
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)


@dataclass
class Plan:
    """The plan of a removal; nothing is deleted yet.

    Attributes:
        person: the person to remove.
        originals: photographs and rows to delete.
        sources: `originals`, then the person's photographs and rows in the other folders from which
            workdirs were made.
        reduced: workdirs that lose the person's rows and pictures, and files that mix people.
        emptied: workdirs that lose everything, those that contain the person before those made from
            them.
        thinned: workdirs that lose only files that show the person, each with these files.
        kept: workdirs of `predict` that show only other people, and whose model is in an emptied
            workdir.
        videos: videos whose path contains the person's name, which are not deleted.
        problems: what the user has to do by hand first.
    """

    person: Person
    originals: list[Originals]
    sources: list[Originals]
    reduced: list[Contents] = field(default_factory=list)
    emptied: list[Contents] = field(default_factory=list)
    thinned: list[tuple[Contents, list[str]]] = field(default_factory=list)
    kept: list[Contents] = field(default_factory=list)
    videos: list[Path] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def changed(self) -> list[Contents]:
        """All workdirs in which something is deleted."""
        return [*self.reduced, *self.emptied, *(one for one, _ in self.thinned)]

    def __bool__(self) -> bool:
        return bool(self.changed or any(self.originals))


@dataclass
class Removed:
    """The result of a removal; paths are text.

    Attributes:
        nobody: True if nothing of a person with that name was found, and nothing was deleted.
        files: the deleted files.
        rows: the number of deleted table rows.
        models: the deleted models, which were made from the person's data, directly or indirectly.
        kept: workdirs of predictions that such models made for other pictures.
        left: files that may still show or name the person, which the user should check.
    """

    nobody: bool = False
    files: list[str] = field(default_factory=list)
    rows: int = 0
    models: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


def remove_person(
    name: str, photos: Path | None, work: Path, before: Callable[[], None] = lambda: None
) -> Removed:
    """Removes a person from the photographs at `photos` and from all workdirs below `work`.

    After an interruption, the same call completes the removal.

    Args:
        name: the id in the labels, or its pseudonym, in any spelling.
        photos: a folder or table of photographs; None: no photographs are deleted.
        work: the folder that contains all workdirs.
        before: called when everything has been found, before anything is deleted.

    Raises:
        UserError: `work` is not a folder, a table or a record of written files is damaged,
            something has to be done by hand first, or another process is using a workdir that would
            change. Nothing was deleted then, unless a table became unreadable during the removal.
    """
    if not work.is_dir():
        raise UserError(
            f"remove: there is no folder {work}; set --config.work to the folder of all workdirs"
        )
    contents = read_contents(work)
    roots = [originals.root_of(path) for path in _photos_of(contents)]
    roots += [originals.root_of(photos)] if photos else []
    plan = make_plan(find_person(name, roots), photos, contents, work)
    if not plan:
        return Removed(nobody=True, left=_left(plan, work, photos))
    if plan.problems:
        listed = "; ".join(plan.problems[:_MOST_PROBLEMS])
        raise UserError(
            f"remove: nothing was deleted, since {listed}; then run the same command again"
        )
    with _locked(plan.changed, contents):
        before()
        done = _carry_out(plan)
    for found in plan.originals:  # last, since an interrupted removal needs them to find the rest
        done.rows += len(found.rows)
        originals.delete_rows(found, plan.person)
    done.left = _left(plan, work, photos)
    return done


def read_contents(work: Path) -> list[Contents]:
    """All workdirs below `work` and their contents.

    Raises:
        UserError: a workdir's record of written files is damaged.
    """
    found = workdirs_below(work)
    return [_read_contents(one, [other.folder for other in found]) for one in found]


def make_plan(
    person: Person, photos: Path | None, contents: Sequence[Contents], work: Path
) -> Plan:
    """Finds everything that has to be deleted to remove a person, and the problems that prevent it.

    Raises:
        UserError: a table of photographs, consent or pseudonyms cannot be read.
    """
    given = [originals.find_originals(photos, person)] if photos else []
    roots = {one.root for one in given}
    others = [
        originals.find_originals(path, person)
        for path in _photos_of(contents)
        if originals.root_of(path) not in roots
    ]
    plan = Plan(person, given, [*given, *others])
    plan.problems += [problem for found in given for problem in found.problems]
    holders = [one for one in contents if _holds(one, plan)]
    affected = [*holders, *descendants([one.folder for one in holders], contents)]
    pipelines = {one.folder for one in contents if one.stage == PIPELINE}
    for one in affected:
        if one in holders and one.stage in _BY_PICTURE:
            plan.reduced.append(one)
        elif one.stage == "predict" and not pipelines & set(one.folder.parents):
            plan.kept.append(one)
        else:
            plan.emptied.append(one)
        plan.videos += _videos_of(one, person)
    for one in contents:
        if one not in affected:
            probed = one.probed in [other.folder for other in affected]
            shown = [
                name
                for name in one.written
                if (probed and f"{name}/".startswith(tuple(f"{p}/" for p in _PROBE_FILES)))
                or (person.is_distinct and person.in_path(name))
            ]
            if probed or shown or _record_names(one, person):
                plan.thinned.append((one, shown))
    plan.problems += [*_out_of_reach(plan.changed, work), *_would_return(plan)]
    return plan


def people_to_remove(photos: Path, work: Path) -> list[str]:
    """The people without consent, as named in the ledger, who still occur in workdirs below `work`.

    Workdirs of the stage `photographs` do not count, since it drops such people when it runs again.
    The list is empty if the ledger has problems, which that stage reports.

    Raises:
        UserError: a table of photographs or pseudonyms, or a workdir's record of written files, is
            damaged.
    """
    root = originals.root_of(photos)
    ledger = consent.read_ledger(root)
    withheld = [] if ledger.problems else ledger.withheld
    contents = read_contents(work) if withheld and work.is_dir() else []

    def has_other_stages(workdirs: Sequence[Contents]) -> bool:
        return any(one.stage not in ("photographs", PIPELINE) for one in workdirs)

    def occurs_in_other_stages(name: str) -> bool:
        plan = make_plan(find_person(name, [root]), None, contents, work)
        return has_other_stages(plan.changed)

    return [
        name for name in withheld if has_other_stages(contents) and occurs_in_other_stages(name)
    ]


def _read_contents(workdir: Workdir, all_folders: Sequence[Path]) -> Contents:
    """The contents of a workdir; without a record, all its files except those in inner workdirs."""
    folder = workdir.folder
    if (folder / outputs.RECORD).is_file():
        written = tuple(sorted(outputs.written(folder)))
    else:
        inner = {other for other in all_folders if folder in other.parents}
        files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        own = [path for path in files if not inner & set(path.parents)]
        written = tuple(path.relative_to(folder).as_posix() for path in own)
    read = {name: _read_table(folder / name) for name in written}
    tables = {name: table for name, table in read.items() if table is not None}
    return Contents(folder, workdir.stage, workdir.inputs, workdir.probed, written, tables)


def _read_table(file: Path) -> pd.DataFrame | None:
    """A table that a stage wrote; None for other files and for damaged ones."""
    with contextlib.suppress(OSError, ValueError, pa.ArrowException):
        if file.suffix == ".parquet":
            return pd.read_parquet(file)
        if file.suffix == ".csv":
            return pd.read_csv(file, dtype=str, keep_default_na=False)
    return None


def _photos_of(contents: Sequence[Contents]) -> list[Path]:
    """The folders and tables of photographs from which the workdirs were made."""
    named = [
        path
        for one in contents
        for kind in ("photos", "data.root")
        for path in one.inputs.get(kind, ())
        if path.exists() and read_workdir(path) is None
    ]
    return list(dict.fromkeys(named))


def _videos_of(workdir: Workdir, person: Person) -> list[Path]:
    """The videos from which a workdir was made and whose path contains the person's name.

    The list is empty if the name is not distinct (see `Person`).
    """
    found: list[Path] = []
    for path in workdir.inputs.get("videos", ()) if person.is_distinct else ():
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        found += [
            file
            for file in files
            if file.is_file() and person.in_words(str(file.relative_to(path.parent)))
        ]
    return found


def _holds(one: Contents, plan: Plan) -> bool:
    """Whether a workdir shows or names the person, or was made directly from their photographs."""
    person = plan.person
    inputs = one.inputs.get("input", ())
    return (
        _reads_originals(one, plan.sources)
        or (one.stage in _BY_PICTURE and any(_shows(name, person) for name in one.written))
        or any(person.rows(table).any() for table in one.tables.values())
        or (person.is_distinct and any(person.in_path(path.name) for path in inputs))
    )


def _reads_originals(workdir: Workdir, found: Sequence[Originals]) -> bool:
    """Whether one of the files in `found` is in a folder that the workdir's stage read.

    False for `photographs`, since its table says which files it read, and for pipelines.
    """
    if workdir.stage in ("photographs", PIPELINE):
        return False
    folders = [path.parent if path.suffix == ".csv" else path for path in workdir.made_from]
    files = [file for one in found for file in one.files]
    return any(file.is_relative_to(folder) for folder in folders for file in files)


def _shows(name: str, person: Person) -> bool:
    """Whether a recorded file shows the person, judging by its path.

    In `faces/<subject>/...`, the subject decides. In another path, a folder or the file must have
    the person's name, which must be distinct.
    """
    parts = name.split("/")
    if parts[0] == "faces" and len(parts) > 2:
        return person.is_named(parts[1])
    return person.is_distinct and person.in_path(name)


def _record_names(one: Contents, person: Person) -> bool:
    """Whether the record of written files contains the person's name.

    The record may list files that have already been deleted. False if there is no record, or if the
    name is not distinct.
    """
    record = one.folder / outputs.RECORD
    if not person.is_distinct or not record.is_file():
        return False
    return person.in_words(record.read_text("utf-8", errors="replace"))


def _out_of_reach(changed: Sequence[Contents], work: Path) -> Iterator[str]:
    """Yields a problem for each folder in which nothing can be deleted.

    Such folders are workdirs without a record, and folders behind a link that leads out of `work`
    or out of a workdir.
    """
    for one in changed:
        if not one.folder.is_relative_to(work.resolve()):
            yield (
                f"{one.folder} is outside {work}, behind a link; delete that folder by hand, or "
                f"set --config.work to a folder that contains both"
            )
        if not (one.folder / outputs.RECORD).is_file():
            yield (
                f"{one.folder} has no record of what was written there; delete that folder by hand"
            )
        parents = {(one.folder / name).parent for name in one.written}
        away = [path for path in parents if not path.resolve().is_relative_to(one.folder)]
        if away:
            yield (
                f"{min(away)} is behind a link that points out of {one.folder}; delete the files "
                f"that the run wrote there by hand"
            )


def _would_return(plan: Plan) -> Iterator[str]:
    """Yields a problem for each folder with photographs of the person that a run would read again.

    These are folders from which nothing will be deleted, and whose ledger does not withhold the
    person.
    """
    for found in plan.sources[len(plan.originals) :]:
        ledger = consent.read_ledger(found.root)
        rows = [row for row in ledger.people.values() if plan.person.is_named(row.subject)]
        withheld = rows and not ledger.problems and all(row.withheld for row in rows)
        if (found.files or found.problems) and not withheld:
            yield (
                f"{found.root} still contains photographs of the person; add "
                f"--config.photos={found.root} to delete them, or enter the date of the withdrawal "
                f"in {ledger.file}"
            )


@contextlib.contextmanager
def _locked(changed: Sequence[Contents], contents: Sequence[Contents]) -> Iterator[None]:
    """Locks `changed` and the workdirs that contain them, whose stages may start runs inside."""
    folders = {one.folder for one in changed}
    known = {one.folder for one in contents}
    folders |= {parent for folder in folders for parent in folder.parents if parent in known}
    with contextlib.ExitStack() as stack:
        for folder in sorted(folders):
            stack.enter_context(alone_in(folder, "remove"))
        yield


def _carry_out(plan: Plan) -> Removed:
    """Carries out the plan in an order that lets an interrupted removal continue.

    The lists `emptied` and `reduced` are processed from the end. The photographs come last.
    """
    done = Removed(kept=[str(one.folder) for one in plan.kept])
    for one, shown in plan.thinned:
        _delete(one.folder, shown, done)
        _tidy(one.folder, plan.person)
    for one in reversed(plan.emptied):
        _empty(one, plan.person, done)
    for one in reversed(plan.reduced):
        _reduce(one, plan, done)
    for one in plan.changed:
        outputs.forget(one.folder)
    for found in plan.originals:
        done.files += [str(file) for file in found.files]
        originals.delete_files(found)
    return done


def _empty(one: Contents, person: Person, done: Removed) -> None:
    """Deletes everything that stages wrote into a workdir.

    The files by which an interrupted removal finds the person again are deleted last.
    """
    tops = dict.fromkeys(name.split("/")[0] for name in one.written)
    models = [name for name in one.written if name.endswith("model.json")]
    done.models += [str((one.folder / name).parent) for name in models]
    done.models += [str(one.folder / name) for name in one.written if name.endswith(_EXPORTED)]
    done.models += [str(one.folder / top) for top in tops if top == "checkpoints"]
    done.rows += sum(
        int(person.rows(table).sum())
        for name, table in one.tables.items()
        if name.endswith(".parquet")
    )
    shown = [name.split("/")[0] for name, table in one.tables.items() if person.rows(table).any()]
    last = [*dict.fromkeys(shown), *(top for top in tops if top == "config.json")]
    _delete_tops(one.folder, [top for top in tops if top not in last])
    _tidy(one.folder, person)
    _delete_tops(one.folder, last)
    done.files += [str(one.folder / name) for name in one.written]
    done.models.sort()


def _delete_tops(folder: Path, names: Sequence[str]) -> None:
    """Deletes the recorded files at and below the entries `names` of a workdir."""
    for name in names:
        if (folder / name).is_dir():
            outputs.delete_folder(folder / name)
        else:
            outputs.delete(folder / name)


def _tidy(folder: Path, person: Person) -> None:
    """Deletes empty folders with the person's name, and drops deleted files from the record."""
    for parent, folders, _ in os.walk(folder, topdown=False):
        for path in (Path(parent) / name for name in folders):
            if _shows(f"{path.relative_to(folder).as_posix()}/-", person):
                with contextlib.suppress(OSError):  # not empty, or a link
                    path.rmdir()
    outputs.forget(folder)


def _reduce(one: Contents, plan: Plan, done: Removed) -> None:
    """Deletes the contact sheets, the person's pictures and, last, the person's rows in the tables.

    `_RUN_FILES` are also deleted. A workdir of predictions is emptied if all rows are the person's.
    """
    person = plan.person
    rows = {
        name: person.rows(table) | _from_originals(table, one, plan.sources)
        for name, table in one.tables.items()
    }
    if one.stage == "predict" and all(found.all() for found in rows.values()):
        _empty(one, person, done)
        return
    shown = {name for name in one.written if _shows(name, person)}
    for name, found in rows.items():
        shown |= _pictures_of(one.tables[name][found], one.written)
    sheets = {name for name in one.written if "/" not in name and Path(name).suffix in _PICTURES}
    _delete(one.folder, sorted(_RUN_FILES & set(one.written) | shown | sheets), done)
    _tidy(one.folder, person)
    for name, found in rows.items():
        if found.any():
            done.rows += int(found.sum())
            _write_table(one.folder / name, one.tables[name][~found].reset_index(drop=True))


def _write_table(file: Path, table: pd.DataFrame) -> None:
    with atomic_file(file) as temporary:
        if file.suffix == ".parquet":
            table.to_parquet(temporary)
        else:
            table.to_csv(temporary, index=False)


def _from_originals(table: pd.DataFrame, workdir: Workdir, found: Sequence[Originals]) -> pd.Series:
    """Whether the `source` of each row is one of the person's photographs: bool [N].

    False everywhere if the table has no such column.
    """
    files = {file for one in found for file in one.files}
    roots = workdir.inputs.get("input", ())
    if "source" not in table.columns or not files:
        return pd.Series(False, index=table.index)

    def is_original(source: str) -> bool:
        texts = possible_texts(source)
        places = [root / text if root.is_dir() else root for root in roots for text in texts]
        return any(place.resolve() in files for place in places)

    return table["source"].isin([name for name in table["source"].unique() if is_original(name)])


def _pictures_of(rows: pd.DataFrame, written: Sequence[str]) -> set[str]:
    """The recorded pictures that belong to rows of a table: crops, annotated copies, timelines."""
    sources = {text for cell in set(rows.get("source", ())) for text in possible_texts(cell)}
    named = set(rows.get("crop", ())) | {f"annotated/{source}" for source in sources}
    # The name of a copy ends in a digest if the name of the source is too long or already used.
    digests = {names.digest(source) for source in sources}
    return {
        name
        for name in written
        for copy in [_annotated_copy(name)]
        for stem in [copy.rpartition(".")[0]]
        if copy in named or stem in named or stem.rpartition("-")[2] in digests
    }


def _annotated_copy(name: str) -> str:
    """The annotated copy of the video whose timeline has this name; other names are unchanged."""
    if not name.startswith("timeline/"):
        return name
    return "annotated/" + name.removeprefix("timeline/").removesuffix(".png")


def _delete(folder: Path, names: Sequence[str], done: Removed) -> None:
    for name in names:
        outputs.delete(folder / name)
        done.files.append(str(folder / name))


def _left(plan: Plan, work: Path, photos: Path | None) -> list[str]:
    """Files that the user should check: the person's videos, and the result of `_mentions`."""
    return [str(video) for video in plan.videos] + sorted(_mentions(plan, work, photos))


def _mentions(plan: Plan, work: Path, photos: Path | None) -> Iterator[str]:
    """Yields the paths that may still show or name the person.

    These are the files in the person's folders, and the files and empty folders whose path or text
    contains one of the person's names. Files that a table assigns to other people are not included,
    whatever they are called.
    """
    person = plan.person
    listed = frozenset(file for found in plan.originals for file in found.listed)
    own = {folder for found in plan.originals for folder in found.folders}
    for root in [work, *([originals.root_of(photos)] if photos else [])]:
        for path in sorted(root.rglob("*")):
            is_folder = path.is_dir() and not path.is_symlink()
            if (is_folder and any(path.iterdir())) or path.resolve() in listed:
                continue
            named = person.is_distinct and person.in_path(path.relative_to(root).as_posix())
            named = named or not own.isdisjoint((path.parent.resolve() / "file").parents)
            if named or (path.is_file() and _mentions_in_content(path, person)):
                yield str(path)


def _mentions_in_content(file: Path, person: Person) -> bool:
    table = _read_table(file)
    if table is not None and person.rows(table).any():
        return True
    if not person.is_distinct or file.suffix.lower() not in _TEXTS:
        return False
    try:
        return person.in_words(file.read_text("utf-8", errors="replace"))
    except OSError:
        return True
