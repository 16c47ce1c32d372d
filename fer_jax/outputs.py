"""The record of the files that a stage wrote; files that are not in it are never changed.

`written.jsonl` in a stage's workdir has one line per event:

    {"file": "faces/p01/happy/1.png"}       a file that the stage is about to write
    {"folder": "checkpoints"}               a folder that a library is about to fill
    {"partial": ".sheet.4711.partial.png"}  a temporary file or folder, left if a process is killed
    {"deleted": "faces/p01/happy/1.png"}    a file or folder that was deleted

Paths are relative to the workdir, with forward slashes. A path belongs to the record in the
nearest folder above it that has one, so worker processes and other stages find it on the disk.
If no folder above a path has a record, no stage is running, and nothing is recorded or checked.
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
from fer_jax.files import absolute, replace_text

RECORD = "written.jsonl"
_KINDS = ("file", "folder", "partial", "deleted")


def begin(workdir: Path) -> None:
    """Starts or continues the record of a workdir, and deletes the temporary files of killed runs.

    Raises:
        UserError: there is a `written.jsonl` that is not such a record.
    """
    if not os.path.lexists(workdir / RECORD):
        (workdir / RECORD).touch()
    _records.pop(workdir, None)  # it may describe a folder that was deleted
    record = _record(workdir)
    for name in record.of_kind("partial"):
        _delete_any(workdir / name)
    record.rewrite()


def written(workdir: Path) -> frozenset[str]:
    """The paths of the existing files that stages wrote into a workdir, relative to it.

    Files in a folder that a library filled (checkpoints, TensorBoard events) are included. The set
    is empty if there is no record.

    Raises:
        UserError: the record is damaged.
    """
    if not (workdir / RECORD).is_file():
        return frozenset()
    record = _record(workdir)
    files = {name for name in record.of_kind("file") if os.path.lexists(workdir / name)}
    for folder in record.of_kind("folder"):
        files |= {path.relative_to(workdir).as_posix() for path in _files(workdir / folder)}
    return frozenset(files)


def check(path: str | os.PathLike[str]) -> None:
    """Checks that a stage may write to `path`, without recording anything.

    Raises:
        UserError: there is something at `path` that no stage wrote, or a symbolic link on the way
            leads out of the workdir.
    """
    target, record = _at(path)
    if record is not None:
        record.check_place(target)
        if os.path.lexists(target):
            record.check(target)


def claim(path: str | os.PathLike[str], kind: str = "file") -> None:
    """Records that the running stage is about to write the file at `path`.

    The kind "folder" is for a folder in which a library chooses the names of the files. The folder
    may already exist if it is empty or recorded.

    Raises:
        UserError: there is something at `path` that no stage wrote, or a symbolic link on the way
            leads out of the workdir.
    """
    target, record = _at(path)
    if record is None:
        return
    record.check_place(target)
    is_folder = kind == "folder" and target.is_dir() and not target.is_symlink()
    if os.path.lexists(target) and not (is_folder and not any(target.iterdir())):
        record.check(target, kind)
    else:
        record.add(kind, target)


@contextlib.contextmanager
def partial(path: str | os.PathLike[str]) -> Iterator[None]:
    """Records a temporary file or folder, and deletes it after the block if it still exists."""
    target, record = _at(path)
    if record is not None:
        record.add("partial", target)
    try:
        yield
    finally:
        _delete_any(target)


def delete_leftovers(folder: Path) -> None:
    """Deletes the temporary files and folders in `folder` that killed processes have left.

    A worker that was wrongly considered dead may still use such a file. It then fails, which does
    no harm, since another worker has finished the same video.
    """
    target, record = _at(folder)
    if record is None:
        return
    for name in record.of_kind("partial"):
        leftover = record.workdir / name
        if leftover.parent == target:
            with contextlib.suppress(OSError):
                _delete_any(leftover)


def delete(path: str | os.PathLike[str]) -> None:
    """Deletes a file that a stage wrote; does nothing if it does not exist.

    Raises:
        UserError: no stage wrote the file, or a symbolic link on the way leads out of the workdir.
    """
    target, record = _at(path)
    if not os.path.lexists(target):
        return
    if record is not None:
        record.check(target)
    target.unlink()
    if record is not None:
        record.add("deleted", target)


def delete_folder(path: str | os.PathLike[str], *, but: Collection[Path] = ()) -> None:
    """Deletes the files below `path` that a stage wrote, then the folders that are empty.

    Other files and those in `but` stay, with the folders that contain them. Symbolic links are not
    followed. The whole folder is deleted if a library filled it, if it is temporary, or if no
    folder above it has a record; `but` has no effect then. Nothing happens if `path` is a
    symbolic link or not a folder.
    """
    target, record = _at(path)
    if target.is_symlink() or not target.is_dir():
        return
    if record is None:
        shutil.rmtree(target)
        return
    record.refresh()
    if record.is_in_folder(target):
        shutil.rmtree(target)
        record.add("deleted", target)
        return
    deleted = []
    for parent, folders, names in os.walk(target, topdown=False):
        for file in (Path(parent) / name for name in names):
            if file in record and file not in but:
                file.unlink()
                deleted.append(file)
        for name in folders:
            with contextlib.suppress(OSError):  # not empty
                (Path(parent) / name).rmdir()
    with contextlib.suppress(OSError):
        target.rmdir()
    record.add("deleted", *deleted)


def replace_folder(source: Path, path: str | os.PathLike[str]) -> None:
    """Renames the folder `source` to `path` and records its files; an older `path` is deleted.

    Raises:
        UserError: the older folder contains a file that no stage wrote; nothing is deleted then.
    """
    target, record = _at(path)
    if os.path.lexists(target):
        is_folder = target.is_dir() and not target.is_symlink()
        for file in _files(target) if is_folder else [target]:
            check(file)
        delete_folder(target)
    if record is not None:
        files = [file for file in source.rglob("*") if not file.is_dir()]
        record.add("file", *[target / file.relative_to(source) for file in files])
    source.replace(target)


def abandon(workdir: Path, names: Iterable[str]) -> None:
    """Deletes the named files if a stage wrote them, and the record if it then lists no files.

    Does nothing if `written.jsonl` is not a record.
    """
    with contextlib.suppress(UserError):
        for name in written(workdir) & (frozenset(names) - {RECORD}):
            (workdir / name).unlink()
        forget(workdir)
        if not written(workdir) - {RECORD}:
            (workdir / RECORD).unlink(missing_ok=True)


def forget(workdir: Path) -> None:
    """Rewrites the record without the deleted files, whose names may identify people."""
    if (workdir / RECORD).is_file():
        _record(workdir).rewrite()


class _Record:
    """The current content of a workdir's `written.jsonl`.

    `kinds` maps each recorded name to "file", "folder" or "partial". `refresh` reads what was
    appended since the last time. Lines that are cut short, for example by a full disk, are ignored.
    """

    def __init__(self, workdir: Path) -> None:
        self.workdir = workdir
        self._file = workdir / RECORD
        self._seen = b""
        self.kinds: dict[str, str] = {}

    def refresh(self) -> None:
        """Reads the new lines. Raises UserError if the file has lines but no events."""
        with _reading:
            text = self._file.read_bytes()
            if not text.startswith(self._seen):  # the file was replaced
                self._seen, self.kinds = b"", {}
            lines = text[len(self._seen) :].splitlines()
            events = [event for event in map(_event, lines) if event]
            if lines and not events and not self._seen:
                raise UserError(
                    f"{self._file} is not a record of what a stage wrote; move it away, or choose "
                    f"another --workdir"
                )
            self._seen = text[: text.rfind(b"\n") + 1]  # an incomplete line is read again
            for kind, name in events:
                if kind == "deleted":
                    self.kinds.pop(name, None)
                else:
                    self.kinds[name] = kind

    def of_kind(self, kind: str) -> list[str]:
        self.refresh()
        return [name for name, found in self.kinds.items() if found == kind]

    def name(self, target: Path) -> str:
        return target.relative_to(self.workdir).as_posix()

    def is_in_folder(self, target: Path) -> bool:
        """Whether `target` is, or is in, a temporary folder or one that a library fills."""
        parts = self.name(target).split("/")
        heads = ("/".join(parts[:end]) for end in range(1, len(parts) + 1))
        return any(self.kinds.get(head) in ("folder", "partial") for head in heads)

    def __contains__(self, target: Path) -> bool:
        return self.name(target) in self.kinds or self.is_in_folder(target)

    def check(self, target: Path, kind: str = "file") -> None:
        """Raises UserError unless a stage wrote the file or folder at `target`."""
        self.check_place(target)
        self.refresh()
        # No stage makes links. Through one, a file of the user could be appended to.
        was_replaced = kind == "file" and (target.is_symlink() or target.is_dir())
        if was_replaced or target not in self:
            raise UserError(
                f"{target} is not a {kind} that a stage wrote into {self.workdir}, so it is not "
                f"replaced or deleted; move it away, or choose another --workdir"
            )

    def check_place(self, target: Path) -> None:
        """Raises UserError if a symbolic link on the way to `target` leads out of the workdir."""
        real = Path(os.path.realpath(target.parent))
        if not real.is_relative_to(os.path.realpath(self.workdir)):
            raise UserError(
                f"{target.parent} is, or is below, a symbolic link that leads out of "
                f"{self.workdir}, to {real}; remove that link, or make the whole workdir a link"
            )

    def add(self, kind: str, *targets: Path) -> None:
        """Appends one short line per target; short lines of several processes do not mix.

        Each line begins with a line break too, in case the previous line was cut short.
        """
        lines = (json.dumps({kind: self.name(target)}) for target in targets)
        text = "".join(f"\n{line}\n" for line in lines)
        with self._file.open("a") as file:
            file.write(text)

    def rewrite(self) -> None:
        """Rewrites the file with one line per recorded file or folder that still exists.

        Temporary ones are left out.
        """
        self.refresh()
        lines = [
            json.dumps({kind: name}) + "\n"
            for name, kind in self.kinds.items()
            if kind != "partial" and os.path.lexists(self.workdir / name)
        ]
        replace_text(self._file, "".join(lines))


_records: dict[Path, _Record] = {}
_reading = threading.Lock()


def _record(workdir: Path) -> _Record:
    return _records.setdefault(workdir, _Record(workdir))


def _at(path: str | os.PathLike[str]) -> tuple[Path, _Record | None]:
    """The absolute path, and the record of the nearest folder above it that has one.

    The record is None if no folder above has one. A link at the end of the path is not resolved: it
    is a file of its own.
    """
    target = absolute(path)
    for folder in target.parents:
        if (folder / RECORD).is_file():
            return target, _record(folder)
    return target, None


def _event(line: bytes) -> tuple[str, str] | None:
    """The kind and the name in a line of a record; None if the line is damaged."""
    try:
        ((kind, name),) = json.loads(line).items()
    except (AttributeError, TypeError, ValueError, RecursionError):
        return None
    return (kind, name) if kind in _KINDS and _is_inside(name) else None


def _files(folder: Path) -> list[Path]:
    """All files and symbolic links below a folder, at any depth."""
    return [path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()]


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
