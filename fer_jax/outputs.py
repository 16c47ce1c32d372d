"""The record of what a stage wrote; nothing that is not in it is ever replaced or deleted.

`written.jsonl` in a stage's workdir has one line per event, each written before the event:

    {"file": "faces/p01/happy/1.png"}     a file that the stage writes
    {"folder": "checkpoints"}             a folder that a library fills for the stage
    {"partial": ".sheet.4711.partial.png"}  a temporary file, which a killed run leaves behind
    {"deleted": "faces/p01/happy/1.png"}  a file that is no longer the stage's

Paths are relative to the workdir, with forward slashes. The record of a path is that of the
nearest folder above it that has one, so worker processes and other stages find it on the disk.
Where no folder above has a record, no stage is running, and nothing is recorded or checked.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import threading
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from fer_jax.errors import UserError

RECORD = "written.jsonl"


def begin(workdir: Path) -> None:
    """Starts the record of a workdir, or continues it: leftovers of a killed run are deleted.

    Raises:
        UserError: `written.jsonl` is there and is not such a record.
    """
    if not os.path.lexists(workdir / RECORD):
        (workdir / RECORD).touch()
    _records.pop(workdir, None)  # of a folder that was deleted since
    record = _record(workdir)
    for name in record.of_kind("partial"):
        _delete_any(workdir / name)
    record.rewrite()


def written(workdir: Path) -> frozenset[str]:
    """The files that stages wrote into a workdir, relative to it, as far as they exist.

    Files in a folder that a library filled (checkpoints, TensorBoard events) are included. Empty
    where there is no record.

    Raises:
        UserError: the record is damaged.
    """
    if not (workdir / RECORD).is_file():
        return frozenset()
    record = _record(workdir)
    files = {name for name in record.of_kind("file") if os.path.lexists(workdir / name)}
    for folder in record.of_kind("folder"):
        files |= {
            path.relative_to(workdir).as_posix()
            for path in (workdir / folder).rglob("*")
            if path.is_symlink() or not path.is_dir()
        }
    return frozenset(files)


def check(path: str | os.PathLike[str]) -> None:
    """Raises UserError if no stage may write to `path`, and records nothing.

    That is if something is there that no stage wrote, or if a symbolic link leads from the workdir
    to another place.
    """
    target = _absolute(path)
    owner = _owner(target)
    if owner is None:
        return
    _check_place(target, owner)
    if os.path.lexists(target):
        _check(_record(owner), target, owner)


def claim(path: str | os.PathLike[str]) -> None:
    """Records that the running stage is about to write the file at `path`.

    Raises:
        UserError: something is there that no stage wrote.
    """
    _claim(Path(path), "file")


def claim_folder(path: str | os.PathLike[str]) -> None:
    """As `claim`, for a folder that a library fills, whatever it calls its files.

    An empty folder may be there already.
    """
    _claim(Path(path), "folder")


@contextlib.contextmanager
def partial(path: str | os.PathLike[str]) -> Iterator[None]:
    """Records that a temporary file or folder is at `path` during the block.

    It is deleted afterwards if it is still there.
    """
    target = _absolute(path)
    owner = _owner(target)
    if owner is not None:
        _add(owner, ("partial", _name(target, owner)))
    try:
        yield
    finally:
        _delete_any(target)


def delete(path: str | os.PathLike[str]) -> None:
    """Deletes a file that a stage wrote; does nothing if it is gone.

    Raises:
        UserError: no stage wrote it.
    """
    target = _absolute(path)
    owner = _owner(target)
    if not os.path.lexists(target):
        return
    if owner is not None:
        _check(_record(owner), target, owner)
    target.unlink()
    if owner is not None:
        _add(owner, ("deleted", _name(target, owner)))


def delete_folder(path: str | os.PathLike[str], *, but: Collection[Path] = ()) -> None:
    """Deletes the files below `path` that a stage wrote, then the folders that are empty.

    Other files stay, those of `but`, and the folders that hold them. A symbolic link is not
    followed.
    """
    target = _absolute(path)
    owner = _owner(target)
    if target.is_symlink() or not target.is_dir():
        return
    if owner is None:
        shutil.rmtree(target)
        return
    record, deleted = _record(owner), []
    if record.in_folder(_name(target, owner)):
        shutil.rmtree(target)
        _add(owner, ("deleted", _name(target, owner)))
        return
    for parent, folders, names in os.walk(target, topdown=False):
        for name in names:
            file = Path(parent) / name
            relative = _name(file, owner)
            if relative in record and file not in but:
                file.unlink()
                deleted.append(("deleted", relative))
        for name in folders:
            with contextlib.suppress(OSError):  # not empty
                (Path(parent) / name).rmdir()
    with contextlib.suppress(OSError):
        target.rmdir()
    _add(owner, *deleted)


def replace_folder(source: Path, path: str | os.PathLike[str]) -> None:
    """Renames the folder `source` to `path`, and records its files; an older folder goes.

    Raises:
        UserError: a file is in the older folder that no stage wrote; nothing is deleted then.
    """
    target = _absolute(path)
    owner = _owner(target)
    if os.path.lexists(target):
        older = [file for file in target.rglob("*") if file.is_symlink() or not file.is_dir()]
        for file in older if target.is_dir() and not target.is_symlink() else [target]:
            check(file)
        delete_folder(target)
    if owner is not None:
        files = [file for file in source.rglob("*") if not file.is_dir()]
        name = _name(target, owner)
        names = [f"{name}/{file.relative_to(source).as_posix()}" for file in files]
        _add(owner, *[("file", name) for name in names])
    source.replace(target)


def abandon(workdir: Path, names: Iterable[str]) -> None:
    """Deletes those of the named files that a stage wrote, then the record itself.

    A `written.jsonl` that is not a record stays, and everything else with it.
    """
    with contextlib.suppress(UserError):
        for name in written(workdir) & frozenset(names):
            (workdir / name).unlink()
        (workdir / RECORD).unlink(missing_ok=True)


def forget(workdir: Path, names: Iterable[str] = ()) -> None:
    """Rewrites the record without deleted files, and without `names`, relative to `workdir`."""
    if (workdir / RECORD).is_file():
        _record(workdir).rewrite(without=frozenset(names))


class _Record:
    """What `written.jsonl` of a workdir says: "file", "folder" or "partial" by name.

    A line that is cut short, as by a full disk, counts for nothing.

    Raises:
        UserError: there is text in the file, and not one line of a record.
    """

    def __init__(self, workdir: Path) -> None:
        self._file = workdir / RECORD
        self._seen = b""
        self.kinds: dict[str, str] = {}
        self._read(self._file.read_bytes())

    def is_current(self) -> bool:
        """Reads what was appended since the last look; False if the file has become another."""
        text = self._file.read_bytes()
        if not text.startswith(self._seen):
            return False
        self._read(text)
        return True

    def _read(self, text: bytes) -> None:
        lines = text[len(self._seen) :].splitlines()
        events = [event for event in map(_event, lines) if event]
        if lines and not events and not self._seen:
            raise UserError(
                f"{self._file} is not a record of what a stage wrote; move it away, or choose "
                f"another --workdir"
            )
        self._seen = text[: text.rfind(b"\n") + 1]  # the rest is read again, when it is whole
        for kind, name in events:
            if kind == "deleted":
                self.kinds.pop(name, None)
            else:
                self.kinds[name] = kind

    def of_kind(self, kind: str) -> list[str]:
        return [name for name, found in self.kinds.items() if found == kind]

    def in_folder(self, name: str) -> bool:
        """Whether `name` is, or lies in, a folder that a library fills or a temporary one."""
        parts = name.split("/")
        heads = ("/".join(parts[:end]) for end in range(1, len(parts) + 1))
        return any(self.kinds.get(head) in ("folder", "partial") for head in heads)

    def __contains__(self, name: str) -> bool:
        return name in self.kinds or self.in_folder(name)

    def rewrite(self, without: frozenset[str] = frozenset()) -> None:
        """Writes the file anew: one line per file and folder that there still is."""
        temporary = self._file.with_name(f".{RECORD}.{os.getpid()}.partial")
        with temporary.open("w") as file:
            for name, kind in self.kinds.items():
                there = os.path.lexists(self._file.parent / name)
                if there and kind != "partial" and name not in without:
                    file.write(json.dumps({kind: name}) + "\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._file)


_records: dict[Path, _Record] = {}
_reading = threading.Lock()


def _record(workdir: Path) -> _Record:
    """The record of a workdir, of which only what is new since the last call is read."""
    with _reading:
        known = _records.get(workdir)
        if known is None or not known.is_current():
            known = _records[workdir] = _Record(workdir)
        return known


def _add(workdir: Path, *events: tuple[str, str]) -> None:
    """Appends lines. They are short, so those of several processes do not mix.

    Each has a line break before it too, in case the last one was cut short.
    """
    text = "".join(f"\n{json.dumps({kind: name})}\n" for kind, name in events)
    with (workdir / RECORD).open("a") as file:
        file.write(text)


def _event(line: bytes) -> tuple[str, str] | None:
    """The kind and the name in a line of a record; None if it is not such a line."""
    try:
        ((kind, name),) = json.loads(line).items()
    except (AttributeError, TypeError, ValueError, RecursionError):
        return None
    known = kind in ("file", "folder", "partial", "deleted")
    return (kind, name) if known and _is_inside(name) else None


def _absolute(path: str | os.PathLike[str]) -> Path:
    """Without `..`, and with links as they are: a link is not what it points to."""
    return Path(os.path.abspath(path))  # noqa: PTH100


def _owner(target: Path) -> Path | None:
    """The nearest folder above `target` that has a record."""
    return next((folder for folder in target.parents if (folder / RECORD).is_file()), None)


def _name(target: Path, owner: Path) -> str:
    return target.relative_to(owner).as_posix()


def _claim(path: Path, kind: str) -> None:
    target = _absolute(path)
    owner = _owner(target)
    if owner is None:
        return
    _check_place(target, owner)
    if os.path.lexists(target) and not (kind == "folder" and _is_empty(target)):
        _check(_record(owner), target, owner, kind)
    else:
        _add(owner, (kind, _name(target, owner)))


def _check(record: _Record, target: Path, owner: Path, kind: str = "file") -> None:
    _check_place(target, owner)
    # No stage makes links: one to a file of the user's would be appended to.
    took_its_place = kind == "file" and (target.is_symlink() or target.is_dir())
    if took_its_place or _name(target, owner) not in record:
        raise UserError(
            f"{target} is not a {kind} that a stage wrote into {owner}, so it is not replaced or "
            f"deleted; move it away, or choose another --workdir"
        )


def _check_place(target: Path, owner: Path) -> None:
    """A linked folder in a workdir could lead among the user's originals."""
    real = Path(os.path.realpath(target.parent))
    if not real.is_relative_to(os.path.realpath(owner)):
        raise UserError(
            f"{target.parent} is, or lies behind, a symbolic link that leads out of {owner}, to "
            f"{real}; remove that link, or make the whole workdir a link"
        )


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and not folder.is_symlink() and not any(folder.iterdir())


def _is_inside(name: object) -> bool:
    """Whether a recorded name is a relative path that stays below the workdir."""
    if not isinstance(name, str) or "\0" in name or Path(name).is_absolute():
        return False
    return not {"", ".", ".."} & set(name.split("/"))


def _delete_any(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
