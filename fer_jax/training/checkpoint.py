"""Checkpoints of the train state together with the progress of a run, written by Orbax.

    checkpoints/120/       the newest checkpoints, by step
        state/             the arrays, in Orbax's layout
        progress/metadata  JSON: the iterator's position, metrics, and a checksum of every array
    checkpoints/damaged/   checkpoints that were found damaged or incomplete on resuming

Orbax writes a checkpoint to a temporary folder and renames it at the end. A numbered folder without
`commit_success.txt` counts as incomplete.
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
    """A checkpoint: the state, the progress that was passed to `save`, and the step."""

    state: State
    progress: dict[str, Any]
    step: int


class NotFiniteError(Exception):
    """The state contains NaN or Inf, and was not saved."""


class Checkpoints:
    """The newest `keep` checkpoints in a folder; they are saved in the background.

    Use it in a `with` block, which waits for the last save. All processes must make the same calls.
    """

    def __init__(self, folder: Path, *, keep: int = 2) -> None:
        self.folder = folder.absolute()
        self._keep = keep
        self._open: ocp.CheckpointManager | None = None
        self._pending = 0  # the step of a save that may still be running; 0 if there is none
        self.failure = ""  # why the newest save failed; "" if it did not

    def __enter__(self) -> Checkpoints:
        logging.getLogger("absl").addFilter(_not_advice)
        self._hook, sys.unraisablehook = sys.unraisablehook, self._ignore_closed_event_loop
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.wait()
        if self._open is not None:
            self._open.close()
            self._open = None
        sys.unraisablehook = self._hook
        logging.getLogger("absl").removeFilter(_not_advice)

    def save(self, state: State, progress: dict[str, Any]) -> None:
        """Saves `state` and `progress` under the state's step, in the background.

        Waits for the previous save first. After a disk error (for example because the disk is full
        or read-only), a warning is printed, older checkpoints stay, and the next save tries again;
        with several processes, the error is raised.

        Args:
            state: the train state.
            progress: JSON-serialisable data that `restore` returns.

        Raises:
            NotFiniteError: the state contains NaN or Inf.
        """
        step = int(state["step"])
        leaves, bad = integrity.describe(state)
        if bad:
            raise NotFiniteError(f"{bad[0]} and {len(bad) - 1} more" if bad[1:] else bad[0])
        sealed = integrity.seal({"step": step, "leaves": leaves, "progress": progress})
        self.wait()
        with self._disk_failures_reported(step):
            self._manager().save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(state), progress=ocp.args.JsonSave(sealed)
                ),
            )
            self._pending = step

    def wait(self) -> None:
        """Waits until the newest save has completed or failed; reports a failure as `save` does."""
        if self._open is not None and self._pending:
            with self._disk_failures_reported(self._pending):
                self._open.wait_until_finished()
                self.failure = ""
            self._pending = 0

    def restore(self, like: State) -> Restored | None:
        """The newest usable checkpoint, with the shapes and shardings of `like`.

        None if no checkpoint was completed. Damaged or incomplete checkpoints that are newer than
        the one returned, or all if None is returned, are reported and moved to `damaged/`.

        Raises:
            UserError: no checkpoint is usable and at least one was completed, there is no
                permission to read one, one belongs to another network or optimizer, or the folder
                is a file.
        """
        damage: dict[Path, str] = {}
        for path in self._found():
            restored, reason = _agreed(*_attempt(path, like))
            if restored is not None:
                self._set_aside(damage, restored.step)
                return restored
            damage[path] = reason
        if damage and all(_is_unfinished(path) for path in damage):
            self._set_aside(damage, 0)  # the run was killed while its first checkpoint was saved
            return None
        if damage:
            listed = "; ".join(f"step {path.name}: {reason}" for path, reason in damage.items())
            raise UserError(
                f"no checkpoint in {self.folder} can be used ({listed}); restore one from a "
                f"backup, or delete that folder to start training again"
            )
        return None

    def latest_step(self) -> int:
        """The step of the newest complete checkpoint; 0 if there is none."""
        steps = [int(p.name) for p in self._found() if (p / _COMMITTED).is_file()]
        return max(steps, default=0)

    def _found(self) -> list[Path]:
        """The paths in the folder whose name is a number (the step), newest first."""
        if not self.folder.exists():
            return []
        if not self.folder.is_dir():
            raise UserError(
                f"{self.folder} is a file, but a folder for checkpoints is needed there; move it"
            )
        paths = [path for path in self.folder.iterdir() if path.name.isdecimal()]
        return sorted(paths, key=lambda path: -int(path.name))

    def _set_aside(self, damage: dict[Path, str], step: int) -> None:
        """Moves the checkpoints in `damage`, if any, to an emptied `damaged/`, and reports them.

        `step` is the step from which training continues.
        """
        backend.wait_for_all("checkpoints were read")
        if backend.writes() and damage:
            aside = self.folder / "damaged"
            outputs.delete_folder(aside)  # large checkpoints from an earlier resume
            aside.mkdir()
            for path, reason in damage.items():
                target = aside / path.name
                path.rename(target)
                _warn(
                    f"the checkpoint of step {path.name} cannot be used ({reason}) and was "
                    f"moved to {target}; continuing from step {step}"
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

    def _ignore_closed_event_loop(self, unraisable: Any) -> None:
        """Ignores "Event loop is closed", which TensorStore raises after one array has failed.

        All other exceptions are passed to the previous hook.
        """
        if str(unraisable.exc_value) != "Event loop is closed":
            self._hook(unraisable)

    @contextlib.contextmanager
    def _disk_failures_reported(self, step: int) -> Iterator[None]:
        """Turns a disk error into a warning and stores its reason in `failure`.

        The next save then creates a new `CheckpointManager`. With several processes, the error is
        raised.
        """
        try:
            yield
        except Exception as error:
            if backend.several() or not _is_disk_error(error):
                raise  # one of several processes cannot continue alone
            self.failure, self._pending = _brief(error), 0
            # Orbax would count the failed checkpoint and delete a good one instead.
            self._open = None
            _warn(
                f"the checkpoint of step {step} was not written ({self.failure}); a resumed run "
                f"would continue from step {self.latest_step()}; the next save tries again"
            )


def _not_advice(record: logging.LogRecord) -> bool:
    """Filters out Orbax's advice to save less often, since `save` waits on purpose."""
    return not record.getMessage().startswith("Waiting for previous save")


def _attempt(path: Path, like: State) -> tuple[Restored | None, str]:
    """The checkpoint at `path` and "", or None and the reason why it cannot be used.

    Raises:
        UserError: there is no permission to read it, or it belongs to another network or optimizer.
    """
    try:
        _check_readable(path)
        content = _read_progress(path)
        problems = integrity.misfits(content["leaves"], like)
        if problems:
            more = f" and {len(problems) - 3} more" if problems[3:] else ""
            raise UserError(
                f"the checkpoint {path} belongs to another network or optimizer: "
                f"{', '.join(problems[:3])}{more}; choose another --workdir, or undo the change of "
                f"the config or of fer_jax (environment.json has the original revision)"
            )
        state = _read_state(path, like)
        wrong = integrity.differences(content["leaves"], state)
        if wrong:
            raise ValueError(f"{len(wrong)} arrays differ from what was saved, such as {wrong[0]}")
        return Restored(state, content["progress"], content["step"]), ""
    except UserError:
        raise
    except PermissionError as error:
        raise UserError(
            f"cannot read the checkpoint file {error.filename}: {error.strerror}; fix the "
            f"permissions and run the same command again"
        ) from error
    except Exception as error:  # damaged files cause exceptions of any type
        return None, _brief(error)


def _agreed(restored: Restored | None, reason: str) -> tuple[Restored | None, str]:
    """Returns the arguments, or None and a reason if any process could not read the checkpoint."""
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
        raise ValueError("the folder is empty")
    for file in files:
        with file.open("rb"):
            pass
    if not (path / _COMMITTED).is_file():
        raise ValueError(f"it is incomplete: it has no {_COMMITTED}")


def _is_unfinished(path: Path) -> bool:
    return path.is_dir() and not (path / _COMMITTED).is_file()


def _read_progress(path: Path) -> dict[str, Any]:
    """The content of `progress/metadata`: a dictionary with "step", "progress" and "leaves".

    "leaves" contains the description of each array (see `integrity.describe`).

    Raises:
        ValueError: the file is missing or damaged, or belongs to another step.
    """
    file = path / "progress" / "metadata"
    try:
        content = integrity.unseal(json.loads(file.read_text()))
    except FileNotFoundError as error:
        raise ValueError("progress/metadata is missing") from error
    except ValueError as error:  # JSON's and Unicode's errors are ValueErrors too
        raise ValueError(f"progress/metadata is damaged: {error}") from error
    if content["step"] != int(path.name):
        raise ValueError(f"it belongs to step {content['step']}")
    return content


def _read_state(path: Path, like: State) -> State:
    abstract = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(np.shape(leaf), leaf.dtype, sharding=leaf.sharding), like
    )
    with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as reader:
        state: State = reader.restore(path / "state", args=ocp.args.StandardRestore(abstract))
    return state


def _is_disk_error(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
        return True
    text = str(error).lower()
    return any(words in text for words in _DISK_WORDS)


def _brief(error: Exception) -> str:
    if _is_disk_error(error):
        text = str(error).lower()
        found = [words for words in _DISK_WORDS if words in text]
        return found[0] if found else str(getattr(error, "strerror", error))
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    return text if len(text) <= 160 else f"{text[:157]}..."


def _warn(message: str) -> None:
    if backend.writes():
        console.warn(message)
