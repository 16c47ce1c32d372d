"""What every stage keeps in its folder, and the promise that it can be killed and run again.

A stage is a function `run(config, workdir) -> summary` under the decorator `stage`:

    config.json        the config that this folder belongs to
    inputs.json        a digest of each input, as it was when the stage began
    environment.json   versions, devices, git revision
    metrics.jsonl      one line an event, the summary's figures last
    done.json          the summary; written last, so that its presence means "finished"
"""

from __future__ import annotations

import contextlib
import errno
import fnmatch
import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from fer_jax import backend
from fer_jax.errors import UserError
from fer_jax.locking import alone_in

Summary = dict[str, Any]
RunFunction = Callable[[ConfigDict, Path], Summary]

_REPORTED_PACKAGES = (
    "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "tensorflow-datasets",
    "numpy", "scipy", "scikit-learn", "pandas", "opencv-python", "av", "mtcnn",
)  # fmt: skip
_PUBLISHED = ("imagenet",)  # inputs that are no paths: files of the web, known by their own hashes
_OWN_FILES = ("config.json", "inputs.json", "environment.json")  # there before a stage begins
_TO_LOOK_AT = ("leaks",)  # what a refusal leaves behind for people, who then mend the command
_DISK_ERRORS = (errno.EACCES, errno.EDQUOT, errno.ENOSPC, errno.EPERM, errno.EROFS)


def stage(
    inputs: Callable[[ConfigDict], Sequence[str]],
    *,
    grows: bool = False,
    revisits: bool = False,
    many_processes: bool = False,
) -> Callable[[RunFunction], Callable[[ConfigDict, str | os.PathLike[str]], Summary]]:
    """Turns `run(config, workdir: Path) -> summary` into a stage.

    Args:
        inputs: the paths that a config reads: files, folders, or workdirs of other stages.
            Empty ones are left out.
        grows: whether the stage goes on in the same folder when its inputs have changed since
            it began (new videos). Others stop and say so, since half of one data set and half
            of another is no data set.
        revisits: whether the stage runs again although it is done, as one does that only runs
            others, each of which knows whether it is done.
        many_processes: whether several processes may run it together, in the same folder. What
            stands above is then written by the first of them, and so should all else be.

    The decorated function returns the summary. It returns at once when the work is done
    already, and raises `UserError` when an input is absent or holds the folder, when the folder
    belongs to another config or another process is at work in it, when inputs changed under a
    stage that does not grow, or when the disk is full or its permissions forbid. A run that is
    refused before it has written anything leaves the folder as it was, free for the corrected
    command.
    """

    def decorate(run: RunFunction) -> Callable[[ConfigDict, str | os.PathLike[str]], Summary]:
        @functools.wraps(run)
        def wrapped(config: ConfigDict, workdir: str | os.PathLike[str]) -> Summary:
            folder = Path(workdir).absolute()
            if not many_processes:
                _check_alone(config)
            with _disk_errors_told(config, folder):
                paths = [path for path in inputs(config) if path and not _is_published(path)]
                digests = {path: fingerprint(path) for path in paths}
                _check_inputs(config, folder, digests)
                with alone_in(folder, config.stage):
                    summary = _finished(config, folder, digests, grows, revisits)
                    if summary is not None and not revisits:
                        if backend.writes():
                            print(f"[{config.stage}] done already: {folder}", flush=True)
                        return summary
                    backend.wait_for_all("the folder is checked")
                    return _run_in(run, config, folder, digests, grows)

        return wrapped

    return decorate


def _run_in(
    run: RunFunction, config: ConfigDict, folder: Path, digests: Mapping[str, str], grows: bool
) -> Summary:
    with _released_if_refused(folder):
        if backend.writes():
            _begin(config, folder, digests, grows)
        backend.wait_for_all("the stage begins")
        started = time.time()
        summary = run(config, folder)
    summary.setdefault("wall_s", round(time.time() - started, 2))
    if backend.writes():
        _finish(config, folder, summary)
    backend.wait_for_all("the stage is done")
    return summary


def _check_alone(config: ConfigDict) -> None:
    if backend.several():
        raise UserError(
            f"the stage {config.stage} runs in one process, and there are several; run it alone, "
            f"without --num_processes and outside of srun"
        )


@contextlib.contextmanager
def _disk_errors_told(config: ConfigDict, folder: Path) -> Iterator[None]:
    """Turns a full disk and missing permissions into `UserError`."""
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK_ERRORS:
            raise
        raise UserError(
            f"{config.stage}: {error.filename or folder}: {error.strerror}; "
            f"mend that and give the same command again, what is done is kept"
        ) from error


@contextlib.contextmanager
def _released_if_refused(folder: Path) -> Iterator[None]:
    """Leaves no claim on a folder when a `UserError` comes before anything was written to it."""
    try:
        yield
    except UserError:
        if (
            backend.writes()
            and folder.is_dir()
            and {path.name for path in folder.iterdir()} <= {*_OWN_FILES, *_TO_LOOK_AT}
        ):
            for name in _OWN_FILES:
                (folder / name).unlink(missing_ok=True)
        raise


def _is_published(path: str) -> bool:
    return path in _PUBLISHED


def _check_inputs(config: ConfigDict, folder: Path, digests: Mapping[str, str]) -> None:
    for path, digest in digests.items():
        if digest == "absent":
            raise UserError(
                f"{config.stage}: there is no {path}; correct the path, or run what writes it first"
            )
        if folder.is_relative_to(Path(path).absolute()):
            raise UserError(
                f"{config.stage}: {folder} lies inside the input {path}, which would then hold "
                f"the output too; give another --workdir"
            )


def _finished(
    config: ConfigDict, folder: Path, digests: Mapping[str, str], grows: bool, revisits: bool
) -> Summary | None:
    """The summary of a finished run of this config on these inputs, or None."""
    if not (folder / "config.json").exists():
        return None
    if not revisits:  # each stage that it runs checks its own config
        _check_same(config, folder)
    unchanged = read_json(folder / "inputs.json") == dict(digests)
    if not unchanged and not grows:
        before = read_json(folder / "inputs.json")
        changed = [path for path in digests if before.get(path) != digests[path]]
        raise UserError(
            f"{config.stage}: {', '.join(changed)} changed since the work in {folder} began; "
            f"delete that folder to do it again, or choose another --workdir"
        )
    if unchanged and (folder / "done.json").exists():
        return dict(read_json(folder / "done.json")["summary"])
    return None


def _check_same(config: ConfigDict, folder: Path) -> None:
    """Raises `UserError` naming the fields in which `config` differs from the folder's."""
    before = _flatten(read_json(folder / "config.json"))
    now = _flatten(json.loads(config.to_json_best_effort()))
    missing = object()
    fields = sorted(
        name
        for name in before.keys() | now.keys()
        if before.get(name, missing) != now.get(name, missing)
    )
    if fields:
        changes = "; ".join(
            f"{name}: {before.get(name, 'absent')!r} there, {now.get(name, 'absent')!r} here"
            for name in fields[:5]
        )
        more = f" and {len(fields) - 5} more" if len(fields) > 5 else ""
        raise UserError(
            f"{config.stage}: {folder} holds a run of another config ({changes}{more}); "
            f"choose another --workdir or delete that folder"
        )


def _begin(config: ConfigDict, folder: Path, digests: Mapping[str, str], grows: bool) -> None:
    try:
        (folder / "done.json").unlink(missing_ok=True)
        _remove_leftovers(folder)
        write_json(folder / "inputs.json", dict(digests))
        write_json(folder / "config.json", json.loads(config.to_json_best_effort()))
        write_json(folder / "environment.json", environment())
    except OSError as error:
        raise UserError(
            f"{config.stage}: cannot write to {folder} ({error.strerror}); choose another --workdir"
        ) from error


def _remove_leftovers(folder: Path) -> None:
    """Deletes what a killed run had half written by `atomic_file` and `atomic_folder`.

    Folders of other stages within are theirs: another process may be at work there.
    """
    for path in list(folder.iterdir()):
        if fnmatch.fnmatch(path.name, ".*.partial*"):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        elif path.is_dir() and not path.is_symlink() and not (path / "config.json").exists():
            _remove_leftovers(path)


def _finish(config: ConfigDict, folder: Path, summary: Summary) -> None:
    log_metrics(folder, **{f"{config.stage}/{name}": value for name, value in summary.items()})
    write_json(folder / "done.json", {"stage": config.stage, "summary": summary})
    figures = "  ".join(f"{name}={_brief(value)}" for name, value in summary.items())
    print(f"[{config.stage}] {figures}", flush=True)


def fingerprint(path: str | os.PathLike[str]) -> str:
    """A digest that changes when the input at `path` does.

    For a stage's workdir it is that of `done.json`; for another folder that of its files'
    relative names, sizes and modification times; likewise for a file; "absent" where nothing is.
    """
    root = Path(path)
    if (root / "done.json").is_file():
        return hashlib.sha256((root / "done.json").read_bytes()).hexdigest()
    files = sorted(p for p in root.rglob("*") if p.is_file()) if root.is_dir() else [root]
    digest = hashlib.sha256()
    for file in files:
        if not file.exists():
            return "absent"
        status = file.stat()
        name = file.relative_to(root) if file != root else file.name
        entry = f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n"
        digest.update(entry.encode(errors="surrogateescape"))  # names need not be UTF-8
    return digest.hexdigest()


def environment() -> dict[str, Any]:
    """Versions, devices and revision: what someone needs to repeat a run."""
    import jax

    def version(package: str) -> str:
        try:
            return importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            return "absent"

    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "devices": [f"{device.platform}:{device.device_kind}" for device in jax.devices()],
        "process_count": jax.process_count(),
        "git_revision": _git_revision(),
        "packages": {package: version(package) for package in _REPORTED_PACKAGES},
    }


def _git_revision() -> str:
    here = Path(__file__).parent
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        result = subprocess.run(command, cwd=here, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "no git checkout"
    return result.stdout.strip()


def log_metrics(workdir: str | os.PathLike[str], **values: Any) -> None:
    """Appends one line to `workdir/metrics.jsonl`, with the time in seconds since the epoch."""
    with (Path(workdir) / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"time": round(time.time(), 3), **values}) + "\n")


@contextlib.contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a temporary path beside `path`, which takes its place when the block succeeds.

    The temporary keeps the suffix, since writers choose their format by it.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.stem}.{os.getpid()}.partial{target.suffix}")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields an empty temporary folder, which becomes `path` when the block succeeds.

    An older folder at `path` is replaced.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.partial")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        if target.exists():
            shutil.rmtree(target)
        temporary.replace(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Writes `value` as indented JSON, atomically."""
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2) + "\n")


def read_json(path: str | os.PathLike[str]) -> Any:
    """Reads JSON.

    Raises:
        UserError: the file is absent or no JSON.
    """
    try:
        return json.loads(Path(path).read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise UserError(
            f"cannot read {path} ({error}); was the stage that writes it run?"
        ) from error


def _flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict) or not value:
        return {prefix.rstrip("."): value}
    flat: dict[str, Any] = {}
    for key, child in value.items():
        flat |= _flatten(child, f"{prefix}{key}.")
    return flat


def _brief(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
