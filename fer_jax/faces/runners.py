"""Extraction of videos in this process, in several processes, or on a cluster with Apache Beam.

A runner yields the counts of each job, in any order. The files that a job writes depend neither on
the runner nor on other jobs.
"""

from __future__ import annotations

import contextlib
import tempfile
import threading
import time
from asyncio import CancelledError
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import jax

from fer_jax import console, outputs
from fer_jax.errors import UserError
from fer_jax.faces import shards
from fer_jax.faces.shards import Job, Stats
from fer_jax.schemas import Extract
from fer_jax.workdir import read_json, write_json
from fer_jax.workers import WorkerPool

Progress = Callable[[int], None]

_WATCH_S = 2.0  # seconds, at least, between two checks of what workers have finished

# Beam knows its other runners by their short names.
_DASK_RUNNER = "apache_beam.runners.dask.dask_runner.DaskRunner"
_DASK_PARTITIONS = ("--dask_npartitions", "--dask_partition_size")

_COMPILATION_OPTIONS = (
    "jax_compilation_cache_dir",
    "jax_persistent_cache_min_compile_time_secs",
)


def run(jobs: Sequence[Job], config: Extract, progress: Progress) -> Iterator[Stats]:
    """Extracts the videos with the runner in `config`, and yields the counts of each video.

    `progress` is called with the number of frames that were processed since its last call.

    Raises:
        UserError: a worker process was killed, Beam is not installed or rejects the runner or its
            options, or the runner failed.
    """
    if config.runner:
        return _on_beam(jobs, _beam_options(config), progress)
    if config.workers:
        return _in_processes(jobs, config.workers, progress)
    return (shards.extract(job, progress) for job in jobs)


def _in_processes(jobs: Sequence[Job], workers: int, progress: Progress) -> Iterator[Stats]:
    try:
        with WorkerPool(workers, _prepare_worker, _compilation_options()) as pool:
            running = [pool.submit(shards.extract, job) for job in jobs]
            for future in as_completed(running):
                stats = future.result()
                progress(stats.kept_frames)
                yield stats
    except BrokenProcessPool as error:
        raise UserError(
            "extract: a worker process was killed, probably because memory ran out; run again with "
            "a smaller --config.workers; finished videos are kept"
        ) from error


def _on_beam(jobs: Sequence[Job], options: list[str], progress: Progress) -> Iterator[Stats]:
    """Extracts with Beam; videos and workdir must have the same paths here and on all workers.

    The workers return the counts as files, one per video.
    """
    try:
        import apache_beam as beam  # type: ignore[import-not-found, unused-ignore]
        from apache_beam.options.pipeline_options import (  # type: ignore[import-not-found, unused-ignore]
            PipelineOptions,
        )
    except ImportError as error:
        raise UserError(
            "extract: --config.runner requires Apache Beam; in a separate environment, run: "
            "pip install -r requirements-beam.txt"
        ) from error
    if not jobs:
        return
    root = jobs[0].shard.parent
    root.mkdir(parents=True, exist_ok=True)
    settings = _compilation_options()
    with (
        tempfile.TemporaryDirectory(prefix=".beam.", suffix=".partial", dir=root) as folder,
        outputs.partial(folder),
    ):
        work = [(number, job, folder, settings) for number, job in enumerate(jobs)]
        try:
            pipeline = beam.Pipeline(options=PipelineOptions(options))
        except ValueError as error:
            raise UserError(
                f"extract: Beam rejects --config.runner or its options ({error}); correct them"
            ) from error
        videos = pipeline | "videos" >> beam.Create(work)
        # The shuffle allows a runner to send each video to another worker.
        _ = videos | beam.Reshuffle() | "extract" >> beam.Map(_extract_on_worker)
        counts = _Counts(Path(folder), progress)
        with counts.watched(), _engine_errors_explained(root):
            pipeline.run().wait_until_finish()
        # Dask's runner also returns if it has lost the scheduler.
        names = [f"{number}.json" for number in range(len(jobs))]
        if missing := sum(not Path(folder, name).exists() for name in names):
            raise _failed(f"it ended without results of {console.count(missing, 'video')}", root)
        for name in names:
            yield counts.read(name)
    outputs.delete_leftovers(root)  # of workers that were killed, or considered dead


def _beam_options(config: Extract) -> list[str]:
    options = config.runner_options.split()
    if config.runner != "DaskRunner":
        return [f"--runner={config.runner}", *options]
    if not any(option.startswith(_DASK_PARTITIONS) for option in options):
        options.append("--dask_partition_size=1")  # Beam's default gives a worker 128 videos
    return [f"--runner={_DASK_RUNNER}", *options]


class _Counts:
    """The counts that workers write into `folder`, one file per finished video."""

    def __init__(self, folder: Path, progress: Progress) -> None:
        self._folder, self._progress = folder, progress
        self._found: dict[str, Stats] = {}

    def read(self, name: str) -> Stats:
        if name not in self._found:
            self._found[name] = Stats(**read_json(self._folder / name))
            self._progress(self._found[name].kept_frames)
        return self._found[name]

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Reports the progress of the workers while the block runs."""
        ended = threading.Event()

        def watch() -> None:
            pause_s = _WATCH_S
            while not ended.wait(pause_s):
                started = time.monotonic()
                for file in self._folder.glob("[0-9]*.json"):
                    self.read(file.name)
                pause_s = max(_WATCH_S, 20 * (time.monotonic() - started))  # if reading is slow

        with ThreadPoolExecutor(1, "watch") as thread:
            watching = thread.submit(watch)
            try:
                yield
            finally:
                ended.set()
        watching.result()


@contextlib.contextmanager
def _engine_errors_explained(shards: Path) -> Iterator[None]:
    """Raises errors of the runner as `UserError`, except errors of files, such as a full disk.

    Errors of videos do not end the pipeline: workers record them in the counts. A `UserError` of a
    worker, such as a missing package, is raised without what Beam adds to its message.
    """
    try:
        yield
    except (Exception, CancelledError) as error:
        refused = isinstance(error, ConnectionError)
        if isinstance(error, OSError) and error.errno and not refused:  # such as a full disk
            raise
        if isinstance(error, UserError):
            raise UserError(str(error).partition(" [while running")[0]) from error
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise _failed(reason, shards) from error


def _failed(reason: str, shards: Path) -> UserError:
    done = console.count(len(list(shards.glob("[!.]*/stats.json"))), "video")
    return UserError(
        f"extract: --config.runner failed ({reason}); finished videos are kept (so far {done}); "
        f"fix this and run the same command again"
    )


def _extract_on_worker(work: tuple[int, Job, str, dict[str, Any]]) -> None:
    number, job, folder, options = work
    _prepare_worker(options)
    # A worker that was considered dead may have finished the job.
    stats = shards.finished(job) or shards.extract(job)
    if Path(folder).is_dir():  # otherwise the command that waits for this was stopped
        write_json(Path(folder, f"{number}.json"), asdict(stats))


def _compilation_options() -> dict[str, Any]:
    return {name: getattr(jax.config, name) for name in _COMPILATION_OPTIONS}


def _prepare_worker(options: dict[str, Any]) -> None:
    for name, value in options.items():
        jax.config.update(name, value)
    cv2.setNumThreads(1)
