"""Reads files and folders that a user names; refuses special files and loops of links."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def check_regular(path: str | os.PathLike[str]) -> None:
    """Raises OSError unless `path` is an existing regular file or a link to one."""
    mode = Path(path).stat().st_mode
    if not stat.S_ISREG(mode):
        kind = next((name for matches, name in _KINDS if matches(mode)), "of an unknown kind")
        raise OSError(errno.EINVAL, f"it is {kind}, not a file", os.fspath(path))


def read_file(path: str | os.PathLike[str], most: int) -> bytes:
    """The content of a regular file of at most `most` bytes.

    Raises:
        OSError: the file is missing, unreadable, larger, or not a regular file.
    """
    check_regular(path)
    size = Path(path).stat().st_size
    if size > most:
        raise OSError(
            errno.EFBIG, f"it has {size} bytes, more than the limit of {most}", os.fspath(path)
        )
    return Path(path).read_bytes()


def replace_text(file: Path, text: str) -> None:
    """Replaces the content of an existing text file atomically, and keeps its permissions.

    This is for files that are not recorded as outputs of a stage; for outputs, use
    `workdir.atomic_file`.
    """
    temporary = file.with_name(f".{file.stem}.{os.getpid()}.partial{file.suffix}")
    try:
        with temporary.open("w", newline="", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(file.stat().st_mode)
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def below(
    folder: Path, *, hidden: bool = True, above: frozenset[str] = frozenset()
) -> Iterator[Path]:
    """Yields everything below a folder, sorted; a folder comes after its contents.

    Links are followed, but not back to a folder that contains them.

    Args:
        folder: the folder to read.
        hidden: whether to include names that start with a dot.
        above: the real paths of the folders above, for the recursion.

    Raises:
        OSError: a folder cannot be read.
    """
    real = os.path.realpath(folder)
    if real in above:
        return
    for entry in sorted(folder.iterdir()):
        if hidden or not entry.name.startswith("."):
            if entry.is_dir():
                yield from below(entry, hidden=hidden, above=above | {real})
            yield entry


def absolute(path: str | os.PathLike[str]) -> Path:
    """The absolute path, without "..".

    Links are resolved only if the path contains "..", since the folder above a link is not the
    folder above its target. Even then, a link at the end of the path is not resolved.
    """
    whole = Path(path).absolute()
    if ".." not in whole.parts:
        return whole
    if whole.name == "..":
        return Path(os.path.realpath(whole))
    return Path(os.path.realpath(whole.parent)) / whole.name
