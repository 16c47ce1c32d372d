"""The decorator `stage`, and the files that it keeps in a workdir so that work can be continued.

A stage is a function `run(config, workdir) -> summary`. It may be killed at any moment; the same
command then continues. In the workdir there are:

    written.jsonl      the files that stages wrote here; others are never replaced (outputs.py)
    config.json        the config that this folder belongs to
    inputs.json        a digest of each input, as it was when the stage began
    environment.json   versions, devices, git revision
    metrics.jsonl      one line per event; the last one has the values of the summary
    done.json          the summary; written last, so that its presence means "finished"
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import itertools
import json
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

from ml_collections import ConfigDict

from fer_jax import backend, console, outputs
from fer_jax.environment import environment
from fer_jax.errors import UserError
from fer_jax.failures import ERROR_LOG
from fer_jax.files import absolute, below
from fer_jax.inputs import PUBLISHED, paths_of, require_existing
from fer_jax.languages.language import language, speaking, spoken
from fer_jax.locking import alone_in
from fer_jax.schemas import Stage, completed, validated

Summary = dict[str, Any]
Config: TypeAlias = Stage | ConfigDict  # a ConfigDict for a stage that has no schema
RunFunction = Callable[[Any, Path], Summary]


@runtime_checkable
class StageFunction(Protocol):
    """A stage, as returned by the decorator `stage`."""

    def __call__(
        self, config: Config, workdir: str | os.PathLike[str], step: str = ""
    ) -> Summary: ...


_ALSO_READ = "other files that are read"  # a key of inputs.json
# Written before `run` is called.
_OWN_FILES = ("config.json", "inputs.json", "environment.json", outputs.RECORD)
_FINDINGS = ("leaks", ERROR_LOG)  # a refused run leaves them for its user
_FULLY_HASHED = 1 << 24  # bytes; of larger files, only parts are hashed
_REMEDIES = {
    errno.ENOSPC: "free some disk space",
    errno.EDQUOT: "free some disk space",
    errno.EROFS: "choose another --workdir, or make the disk writable",
}
_DISK_ERRORS = (errno.EACCES, errno.EDQUOT, errno.ENOSPC, errno.EPERM, errno.EROFS)


def stage(
    inputs: Callable[[ConfigDict], list[str]] = lambda config: [],
    *,
    doing: str | Callable[[Any], str] = "",
    reads: Callable[[Any], Iterable[Path]] | None = None,
    grows: bool = False,
    revisits: bool = False,
    many_processes: bool = False,
    live: Callable[[Any], bool] = lambda config: False,
) -> Callable[[RunFunction], StageFunction]:
    """Turns `run(config, workdir: Path) -> summary` into a stage.

    The stage prints one line at its start, if `doing` is given; `run` prints the result.

    The stage is called with a `ConfigDict` or with a validated record; `run`, `reads`, `doing` and
    `live` get the record of its schema (see `fer_jax.schemas`).

    Args:
        inputs: returns the paths that a stage without a schema reads. A schema has its own
            `inputs`.
        doing: what the stage does, for its first line: the key of a text of `fer_jax.languages`, or
            a function that returns the text for a config. Without it there is no such line.
        reads: returns further files that the stage reads, such as those that an input names. They
            need not exist; if one appears, disappears or changes, the inputs count as changed.
        grows: whether the stage continues in the same folder if its inputs have changed since it
            began, for example because videos were added. Other stages raise an error instead,
            because results from a mixture of two data sets would be useless.
        revisits: whether the stage runs again although it is done. This is for a stage that only
            runs other stages, each of which checks whether it is done.
        many_processes: whether several processes may run the stage together, in the same folder.
            The first one then writes the files listed at the top of this module, and `run` should
            let only the first one write other files.
        live: whether a run of this config records something live, such as the pictures of a camera.
            A finished folder is then refused, since its summary describes another recording.

    The decorated function returns the summary, at once if the work is already done. Its argument
    `step` names the stage if it is a step of a pipeline, such as "3/12 extract"; otherwise it also
    prints where the results are. If an error is raised before `run` has written anything, the
    folder is left unchanged, so that the corrected command can use it.

    Raises:
        UserError: by the decorated function, if a field of the config is invalid (see
            `fer_jax.schemas`); an input is not set, does not exist, contains the folder or is
            inside it; the folder belongs to another config; another process is working in it; the
            inputs of a stage that does not grow have changed; the folder contains a finished live
            recording; there are several processes, but not `many_processes`; the disk is full; or
            permissions are missing.
    """

    def decorate(run: RunFunction) -> StageFunction:
        @functools.wraps(run)
        def wrapped(config: Config, workdir: str | os.PathLike[str], step: str = "") -> Summary:
            config = config if isinstance(config, Stage) else validated(config)
            folder = absolute(workdir)
            words = language(getattr(config, "language", None) or spoken().code)
            if backend.several() and not many_processes:
                raise UserError(
                    f"the stage {config.stage} cannot run in several processes; run it without "
                    f"--num_processes and outside of srun"
                )
            with _disk_errors_explained(config, folder):
                paths = _paths_of(config, inputs)
                _check_places(config, folder, paths, revisits)
                digests = {path: fingerprint(path) for path in paths}
                if reads is not None:
                    files = [(str(file), file) for file in reads(config)]
                    digests |= {_ALSO_READ: _digest_of_files(files)}
                with alone_in(folder, config.stage):
                    summary = _finished(config, folder, digests, grows, revisits)
                    if summary is not None and live(config):
                        raise UserError(
                            f"{config.stage}: {folder} contains a finished recording; choose "
                            "another --workdir for the next one"
                        )
                    if summary is not None and not revisits:
                        if backend.writes() and not step:
                            console.say(
                                words.text(
                                    "message.finished",
                                    stage=config.stage,
                                    folder=os.fspath(workdir),
                                )
                            )
                        return summary
                    backend.wait_for_all("the folder is checked")
                    with _released_if_refused(folder), speaking(words.code):
                        if backend.writes():
                            _begin(config, folder, digests)
                            if doing:
                                text = doing(config) if callable(doing) else words.text(doing)
                                console.say(f"[{step or config.stage}] {text}")
                        backend.wait_for_all("the stage begins")
                        started = time.time()
                        summary = run(config, folder)
                    summary.setdefault("wall_s", round(time.time() - started, 2))
                    if backend.writes():
                        _finish(config, folder, summary)
                        if not step and not revisits:
                            console.say(words.text("message.results", folder=os.fspath(workdir)))
                    backend.wait_for_all("the stage is done")
                    return summary

        return wrapped

    return decorate


def own_or_free(config: Config, folder: str | os.PathLike[str]) -> Path:
    """The first of `folder`, `folder`-2, `folder`-3, ... that no other config has used.

    Raises:
        UserError: a field of the config is invalid.
    """
    config = config if isinstance(config, Stage) else validated(config)
    first = Path(folder)
    for number in itertools.count(1):
        one = first if number == 1 else first.with_name(f"{first.name}-{number}")
        with contextlib.suppress(UserError):
            if not (one / "config.json").exists():
                return one
            _check_same(config, one)
            return one
    raise AssertionError("numbers do not end")


@contextlib.contextmanager
def _disk_errors_explained(config: Config, folder: Path) -> Iterator[None]:
    """Turns a full disk and missing permissions into `UserError`."""
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK_ERRORS:
            raise
        raise UserError(
            f"{config.stage}: cannot read or write {error.filename or folder} ({error.strerror}); "
            f"{_REMEDIES.get(error.errno, 'change its permissions')} and run the same command "
            f"again, which continues the work"
        ) from error


@contextlib.contextmanager
def _released_if_refused(folder: Path) -> Iterator[None]:
    """After an error, deletes `_OWN_FILES` if `folder` contains only these and `_FINDINGS`."""
    try:
        yield
    except Exception:
        if (
            backend.writes()
            and folder.is_dir()
            and {path.name for path in folder.iterdir()} <= {*_OWN_FILES, *_FINDINGS}
        ):
            outputs.abandon(folder, _OWN_FILES)
        raise


def _paths_of(config: Config, inputs: Callable[[ConfigDict], list[str]]) -> list[str]:
    """The paths that the stage reads, all of which exist; otherwise raises `UserError`."""
    if isinstance(config, Stage):
        return paths_of(config)
    paths = [path for path in inputs(config) if path and path not in PUBLISHED]
    require_existing(config.stage, paths)
    return paths


def _check_places(config: Config, folder: Path, paths: Sequence[str], only_runs: bool) -> None:
    """Raises `UserError` if an input contains the workdir or is inside it.

    Links are resolved first. An input may be in another stage's workdir inside this one. With
    `only_runs`, inputs may be anywhere in the workdir: the stage writes only its own files, and the
    stages that it runs check their own inputs.
    """
    real = Path(os.path.realpath(folder))
    for path in paths:
        source = Path(os.path.realpath(path))
        if real.is_relative_to(source):
            raise UserError(
                f"{config.stage}: the workdir {folder} is inside the input {path}; choose "
                f"another --workdir"
            )
        between = [source, *source.parents]
        stages = [place for place in between if (place / "config.json").is_file()]
        in_another = bool(stages) and stages[0] != real and stages[0].is_relative_to(real)
        if source.is_relative_to(real) and not in_another and not only_runs:
            raise UserError(
                f"{config.stage}: the input {path} is inside the workdir {folder}; choose "
                f"another --workdir"
            )


def _finished(
    config: Config, folder: Path, digests: Mapping[str, str], grows: bool, revisits: bool
) -> Summary | None:
    """The summary of a finished run of this config on these inputs, or None.

    Raises:
        UserError: the folder belongs to another stage or config, or the inputs have changed and the
            stage does not grow.
    """
    if not (folder / "config.json").exists():
        return None
    stage_there = read_json(folder / "config.json", stage=str)["stage"]
    if stage_there != config.stage:
        raise UserError(
            f"{config.stage}: {folder} is a workdir of the stage {stage_there}; choose another "
            f"--workdir"
        )
    if not revisits:  # each stage that it runs checks its own config
        _check_same(config, folder)
    before = read_json(folder / "inputs.json")
    unchanged = before == dict(digests)
    if not unchanged and not grows:
        changed = [path for path in digests if before.get(path) != digests[path]]
        raise UserError(
            f"{config.stage}: {', '.join(changed)} changed since the work in {folder} began; "
            f"delete that folder to begin again, or choose another --workdir"
        )
    if unchanged and (folder / "done.json").exists():
        return dict(read_json(folder / "done.json", summary=dict)["summary"])
    return None


def _check_same(config: Config, folder: Path) -> None:
    """Raises `UserError` with the fields in which `config` differs from the folder's config.

    A field that is missing in the folder's config has its default value.
    """
    saved, given = read_json(folder / "config.json"), _as_json(config)
    older, newer = completed(saved), completed(given)
    before, now = _flatten(older or saved), _flatten(newer if older and newer else given)
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
            f"{config.stage}: {folder} belongs to another config ({changes}{more}); "
            f"choose another --workdir or delete that folder"
        )


def _as_json(config: Config) -> dict[str, Any]:
    """The config as it is written to `config.json`; of a `Stage`, only the fields that are set."""
    if isinstance(config, Stage):
        text = json.dumps(config.model_dump(exclude_unset=True))
    else:
        text = config.to_json_best_effort()
    return dict(json.loads(text))


def _begin(config: Config, folder: Path, digests: Mapping[str, str]) -> None:
    try:
        outputs.begin(folder)
        outputs.delete(folder / "done.json")
        write_json(folder / "inputs.json", dict(digests))
        write_json(folder / "config.json", _as_json(config))
        write_json(folder / "environment.json", environment())
    except OSError as error:
        raise UserError(
            f"{config.stage}: cannot write to {folder} ({error.strerror}); choose another --workdir"
        ) from error


def _finish(config: Config, folder: Path, summary: Summary) -> None:
    log_metrics(folder, **{f"{config.stage}/{name}": value for name, value in summary.items()})
    write_json(folder / "done.json", {"stage": config.stage, "summary": summary})
    console.detail(*(f"[{config.stage}] {name}={value}" for name, value in summary.items()))


def fingerprint(path: str | os.PathLike[str]) -> str:
    """A digest that changes when the input at `path` does; "absent" if there is nothing.

    For the workdir of a finished stage it is the digest of `done.json`. For another folder it
    covers the names and contents of all files in it, and symbolic links are followed. Of a file
    larger than 16 MiB it covers the size, the modification time and 1 MiB at both ends.
    """
    root = Path(path)
    if all((root / name).is_file() for name in ("config.json", "done.json")):
        return hashlib.sha256((root / "done.json").read_bytes()).hexdigest()
    if not os.path.lexists(root):
        return "absent"
    files = [file for file in below(root) if not file.is_dir()] if root.is_dir() else [root]
    return _digest_of_files((str(file.relative_to(root)), file) for file in files)


def _digest_of_files(files: Iterable[tuple[str, Path]]) -> str:
    digest = hashlib.sha256()
    for name, file in files:
        entry = f"{name}\0{_content_digest(file)}\n"
        digest.update(entry.encode(errors="surrogateescape"))  # some names are not UTF-8
    return digest.hexdigest()


def _content_digest(file: Path) -> str:
    try:
        status = file.stat()
        if not stat.S_ISREG(status.st_mode):
            return f"not a file: {stat.S_IFMT(status.st_mode)}"
        with file.open("rb") as content:
            if status.st_size <= _FULLY_HASHED:
                return hashlib.sha256(content.read()).hexdigest()
            ends = content.read(1 << 20)
            content.seek(-(1 << 20), os.SEEK_END)
            ends += content.read()
    except OSError as error:  # a broken link, or no permission: the stage itself will report it
        return f"unreadable: {error.errno}"
    return f"{status.st_size} {status.st_mtime_ns} {hashlib.sha256(ends).hexdigest()}"


def changed_inputs(folder: str | os.PathLike[str]) -> list[str]:
    """The inputs of the stage in `folder` that differ from what they were when it began.

    A missing input counts as changed. Relative paths are relative to the current folder. Further
    files that the stage read (`reads` of `stage`) are not compared.

    Raises:
        UserError: no stage has begun in `folder`, or its inputs.json is damaged.
    """
    recorded = read_json(Path(folder) / "inputs.json")
    return [
        path
        for path, digest in recorded.items()
        if path != _ALSO_READ and fingerprint(path) != digest
    ]


def log_metrics(workdir: str | os.PathLike[str], **values: Any) -> None:
    """Appends one line to `workdir/metrics.jsonl`, with the time in seconds since the epoch."""
    outputs.claim(Path(workdir) / "metrics.jsonl")
    with (Path(workdir) / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"time": round(time.time(), 3), **values}) + "\n")


def read_metrics(workdir: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The lines of `workdir/metrics.jsonl`, in their order; [] if there is no such file.

    Lines that are not JSON objects, whose "time" is not a number or whose "step" is not an integer
    are skipped and counted in a warning. The last line, which a killed run may have left
    unfinished, is not counted if it is skipped.
    """
    file = Path(workdir) / "metrics.jsonl"
    if not file.is_file():
        return []
    lines: list[dict[str, Any]] = []
    damaged = 0
    texts = file.read_text("utf-8", errors="replace").splitlines()
    for number, text in enumerate(texts, start=1):
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            line = None
        if (
            isinstance(line, dict)
            and isinstance(line.get("time", 0), int | float)
            and isinstance(line.get("step", 0), int)
        ):
            lines.append(line)
        elif number < len(texts):
            damaged += 1
    if damaged:
        console.warn(f"{file}: skipped {console.count(damaged, 'damaged line')}")
    return lines


@contextlib.contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a temporary path in the same folder; it is renamed to `path` if the block succeeds.

    The temporary path has the same suffix, because writers choose their format by it.

    Raises:
        UserError: there is a file at `path` that no stage wrote (see `fer_jax.outputs`).
    """
    target = Path(path)
    outputs.check(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.stem}.{_own()}.partial{target.suffix}")
    with outputs.partial(temporary):
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        outputs.claim(target)
        temporary.replace(target)


@contextlib.contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields an empty temporary folder, which is renamed to `path` if the block succeeds.

    The files of an older folder at `path` are deleted.

    Raises:
        UserError: the older folder contains a file that no stage wrote.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{_own()}.partial")
    with outputs.partial(temporary):
        temporary.mkdir(parents=True)
        yield temporary
        outputs.replace_folder(temporary, target)


def _own() -> str:
    """A unique part of a temporary name; the process ids of two containers are often equal."""
    return f"{os.getpid()}-{secrets.token_hex(4)}"


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Writes `value` as indented JSON, atomically."""
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2) + "\n")


def read_json(path: str | os.PathLike[str], **fields: type) -> dict[str, Any]:
    """Reads a JSON file that contains an object, as all JSON files of stages do.

    Args:
        path: the file.
        **fields: keys that the caller needs, and the type of each value.

    Raises:
        UserError: the file is missing, is not a JSON object in UTF-8 or has a key twice; or one
            of `fields` is missing or of another type.
    """
    file = Path(path)
    try:
        if not file.is_file():
            raise ValueError("it does not exist" if not file.exists() else "it is not a file")
        value = json.loads(file.read_text("utf-8"), object_pairs_hook=_unique)
        if not isinstance(value, dict):
            raise ValueError("it is not a JSON object")
        for name, kind in fields.items():
            if not isinstance(value.get(name), kind):
                raise ValueError(f"it has no field {name!r} of the type {kind.__name__}")
    except (OSError, ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise UserError(
            f"cannot read {file} ({reason}); run the stage that writes it in a new workdir"
        ) from error
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for name, child in pairs:
        if name in value:
            raise ValueError(f"it has the key {name!r} twice")
        value[name] = child
    return value


def _flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict) or not value:
        return {prefix.rstrip("."): value}
    flat: dict[str, Any] = {}
    for key, child in value.items():
        flat |= _flatten(child, f"{prefix}{key}.")
    return flat
