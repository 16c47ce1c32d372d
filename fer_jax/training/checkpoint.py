"""Checkpoints of the train state and of a run's progress together, by Orbax.

    checkpoints/120/       the newest ones
        state/             the arrays, in Orbax's layout
        progress/metadata  JSON: the iterator's place, figures, and a checksum of every array
    checkpoints/damaged/   what was found damaged on resuming, out of the way

A folder with a number is whole or damaged, never half written: Orbax renames it into place.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from fer_jax import backend, console, outputs
from fer_jax.errors import UserError
from fer_jax.training import integrity
from fer_jax.training.state import State

_COMMITTED = "commit_success.txt"
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES)
_DISK_WORDS = ("no space left", "quota exceeded", "file too large", "input/output error",
               "read-only file system", "permission denied")  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Restored:
    """A checkpoint: the state, what `save` was told beside it, and its step."""

    state: State
    progress: dict[str, Any]
    step: int


class NotFiniteError(Exception):
    """The state holds a NaN or an Inf, and was not saved."""


class Checkpoints:
    """The newest `keep` checkpoints in a folder; saving runs in the background.

    Used in a `with` block, which waits for the last save. All processes take part in every call.
    """

    def __init__(self, folder: Path, *, keep: int = 2) -> None:
        self.folder = folder.absolute()
        self._keep = keep
        self._open: ocp.CheckpointManager | None = None
        self._pending = 0  # the step of a save that may still run
        self.failure = ""  # why the newest save came to nothing

    def __enter__(self) -> Checkpoints:
        logging.getLogger("absl").addFilter(_not_advice)
        self._hook, sys.unraisablehook = sys.unraisablehook, self._told_already
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.wait()
        if self._open is not None:
            self._open.close()
            self._open = None
        sys.unraisablehook = self._hook
        logging.getLogger("absl").removeFilter(_not_advice)

    def save(self, state: State, progress: dict[str, Any]) -> None:
        """Saves both under the state's step; returns before the files are written.

        A save that fails since the disk does (full, read-only) is told in one line, the older
        checkpoints stay, and the next save is another try.

        Args:
            state: the train state.
            progress: JSON-able; what else `restore` should give back.

        Raises:
            NotFiniteError: the state holds a NaN or an Inf.
        """
        step = int(state["step"])
        leaves, bad = integrity.describe(state)
        if bad:
            raise NotFiniteError(f"{bad[0]} and {len(bad) - 1} more" if bad[1:] else bad[0])
        sealed = integrity.seal({"step": step, "leaves": leaves, "progress": progress})
        self.wait()
        with self._disk_failures_told(step):
            self._manager().save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(state), progress=ocp.args.JsonSave(sealed)
                ),
            )
            self._pending = step

    def wait(self) -> None:
        """Waits until the newest save is written, or has failed, which is told then."""
        if self._open is not None and self._pending:
            with self._disk_failures_told(self._pending):
                self._open.wait_until_finished()
                self.failure = ""
            self._pending = 0

    def restore(self, like: State) -> Restored | None:
        """The newest usable checkpoint, in the shapes and shardings of `like`.

        None where no checkpoint was ever finished. Damaged ones are told and moved to `damaged/`,
        once an older one has been read.

        Raises:
            UserError: all are damaged, one cannot be read for want of permission, or one is that
                of another network or optimizer.
        """
        damage: dict[Path, str] = {}
        for path in self._found():
            restored, reason = _agreed(*_attempt(path, like))
            if restored is not None:
                self._set_aside(damage, restored.step)
                return restored
            damage[path] = reason
        if damage and all(_is_unfinished(path) for path in damage):
            self._set_aside(damage, 0)  # killed while the first one was being saved
            return None
        if damage:
            listed = "; ".join(f"step {path.name}: {reason}" for path, reason in damage.items())
            raise UserError(
                f"no checkpoint in {self.folder} can be used ({listed}); bring one back from a "
                f"backup, or delete that folder to train from the beginning"
            )
        return None

    def latest_step(self) -> int:
        """The step of the newest checkpoint that is written; 0 if there is none."""
        steps = [int(p.name) for p in self._found() if (p / _COMMITTED).is_file()]
        return max(steps, default=0)

    def _found(self) -> list[Path]:
        """Everything whose name is a step, newest first."""
        if not self.folder.exists():
            return []
        if not self.folder.is_dir():
            raise UserError(
                f"{self.folder} is a file, and checkpoints should lie there; move it away"
            )
        paths = [path for path in self.folder.iterdir() if path.name.isdecimal()]
        return sorted(paths, key=lambda path: -int(path.name))

    def _set_aside(self, damage: dict[Path, str], step: int) -> None:
        """Tells what was damaged, and makes way for new checkpoints of the same steps."""
        backend.wait_for_all("checkpoints were read")
        if backend.writes() and damage:
            aside = self.folder / "damaged"
            outputs.delete_folder(aside)  # those of an earlier resume: they are large
            aside.mkdir()
            for path, reason in damage.items():
                target = aside / path.name
                path.rename(target)
                _warn(
                    f"the checkpoint of step {path.name} is damaged ({reason}); going on from "
                    f"that of step {step}; the damaged one is now {target}"
                )
        backend.wait_for_all("damaged checkpoints are set aside")

    def _manager(self) -> ocp.CheckpointManager:
        if self._open is None:
            if backend.writes():
                outputs.claim(self.folder, "folder")
            self.folder.mkdir(parents=True, exist_ok=True)
            self._open = ocp.CheckpointManager(
                self.folder,
                options=ocp.CheckpointManagerOptions(
                    max_to_keep=self._keep,
                    enable_async_checkpointing=True,
                    cleanup_tmp_directories=True,
                ),
            )
        return self._open

    def _told_already(self, unraisable: Any) -> None:
        """Where one array fails, TensorStore reports the others to an event loop that has gone."""
        if str(unraisable.exc_value) != "Event loop is closed":
            self._hook(unraisable)

    @contextlib.contextmanager
    def _disk_failures_told(self, step: int) -> Iterator[None]:
        """Turns a failed disk into a warning and `failure`, and has Orbax begin anew after it."""
        try:
            yield
        except Exception as error:
            if backend.several() or not _of_the_disk(error):
                raise  # among several processes none can go on alone
            self.failure, self._pending = _brief(error), 0
            # Orbax counts the failed one among the newest now, and would delete a good one for it.
            self._open = None
            _warn(
                f"the checkpoint of step {step} was not written ({self.failure}); "
                f"the last one is of step {self.latest_step()}; trying again at the next"
            )


def _not_advice(record: logging.LogRecord) -> bool:
    """Drops Orbax's advice to save less often: `save` waits on purpose for the one before it."""
    return not record.getMessage().startswith("Waiting for previous save")


def _attempt(path: Path, like: State) -> tuple[Restored | None, str]:
    """The checkpoint at `path`, or why it is of no use."""
    try:
        _check_readable(path)
        content = _read_progress(path)
        problems = integrity.misfits(content["leaves"], like)
        if problems:
            more = f" and {len(problems) - 3} more" if problems[3:] else ""
            raise UserError(
                f"the checkpoint {path} is of another network or optimizer: "
                f"{', '.join(problems[:3])}{more}; choose another --workdir or undo the change "
                f"(of the config, or of fer_jax: environment.json has the revision that began)"
            )
        state = _read_state(path, like)
        wrong = integrity.differences(content["leaves"], state)
        if wrong:
            raise ValueError(f"{len(wrong)} arrays are not what was saved, {wrong[0]} among them")
        return Restored(state, content["progress"], content["step"]), ""
    except UserError:
        raise
    except PermissionError as error:
        raise UserError(
            f"cannot read the checkpoint file {error.filename}: {error.strerror}; fix the "
            f"permissions and give the same command again"
        ) from error
    except Exception as error:  # Orbax and TensorStore raise of all kinds at damaged files
        return None, _brief(error)


def _agreed(restored: Restored | None, reason: str) -> tuple[Restored | None, str]:
    """The same verdict in all processes: usable only if every one of them could read it."""
    if backend.several():
        usable = multihost_utils.process_allgather(np.array(restored is not None))
        if not usable.all():
            return None, reason or "another process cannot read it"
    return restored, reason


def _check_readable(path: Path) -> None:
    if not path.is_dir():
        raise ValueError("it is a file, not a folder")
    files = [file for file in path.rglob("*") if file.is_file()]
    if not files:
        raise ValueError("its folder is empty")
    for file in files:
        with file.open("rb"):
            pass
    if not (path / _COMMITTED).is_file():
        raise ValueError(f"it has no {_COMMITTED}: its saving was not finished")


def _is_unfinished(path: Path) -> bool:
    return path.is_dir() and not (path / _COMMITTED).is_file()


def _read_progress(path: Path) -> dict[str, Any]:
    """What lies beside the state, after checking that nothing of it was altered."""
    file = path / "progress" / "metadata"
    try:
        content = integrity.unseal(json.loads(file.read_text()))
    except FileNotFoundError as error:
        raise ValueError("progress/metadata is missing") from error
    except ValueError as error:  # JSON's and Unicode's errors are ValueErrors too
        raise ValueError(f"progress/metadata is damaged: {error}") from error
    if content["step"] != int(path.name):
        raise ValueError(f"it is that of step {content['step']}")
    return content


def _read_state(path: Path, like: State) -> State:
    abstract = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(np.shape(leaf), leaf.dtype, sharding=leaf.sharding), like
    )
    with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as reader:
        state: State = reader.restore(path / "state", args=ocp.args.StandardRestore(abstract))
    return state


def _of_the_disk(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
        return True
    text = str(error).lower()
    return any(words in text for words in _DISK_WORDS)


def _brief(error: Exception) -> str:
    if _of_the_disk(error):
        text = str(error).lower()
        found = [words for words in _DISK_WORDS if words in text]
        return found[0] if found else str(getattr(error, "strerror", error))
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    return text if len(text) <= 160 else f"{text[:157]}..."


def _warn(message: str) -> None:
    if backend.writes():
        console.warn(message)
