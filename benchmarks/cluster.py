r"""Runs `extract` on a Dask cluster while its workers, its scheduler and the command are killed.

    .venv-beam/bin/python -m benchmarks cluster --workdir=work/cluster

Runs in the environment of requirements-beam.txt, which `make .venv-beam/done` creates. Draws
`--clips` clips, most of them of generated people, and adds a damaged video and a text file with a
video's suffix. Extracts them without a cluster, then with a Dask scheduler and one to four worker
processes on this machine, started as on real hosts (`python -m distributed.cli.dask_worker`). Five
further runs with four workers are disturbed when half of the videos are finished:

    a worker process    SIGKILL; its nanny starts another one
    a machine           SIGKILL to a worker and its nanny; three workers are left
    memory              a worker allocates more than its --memory-limit, and the nanny kills it
    the command         SIGKILL; the same command runs again
    the scheduler       SIGKILL; the scheduler, the workers and the command are restarted

The tables, skipped.csv and the shards of each run are compared, byte for byte, with those of the
run without a cluster. The exit code is 1 if any differs. For the undisturbed runs, the speed is
printed in frames per second. It is measured from the moment when as many videos are finished as
there are workers to the end of the last video, so that the start of Python and compilation do not
count. For those on the cluster, the processor time of all workers per frame is printed, too.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.kill_extraction import contents, draw, finished
from fer_jax.environment import environment
from fer_jax.workdir import read_json

ROOT = Path(__file__).parents[1]
SHAPE = (30, 10, (240, 320))  # frames, frames per second, (height, width) in pixels
WORKERS = 4
PATIENCE_S = 900


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=16)
    parser.add_argument("--memory-limit", type=float, default=2.0, help="limit per worker, in GB")
    flags = parser.parse_args()
    work = flags.workdir.absolute()
    for leftover in work.glob("run-*"):
        shutil.rmtree(leftover)
    videos = draw_all(work / "videos", flags.clips)
    found = environment()
    print(
        f"revision {found['git_revision']}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    )

    command = [sys.executable, "launch.py", "--config=configs/extract.py"]
    command += [f"--config.videos={videos}", "--config.every_s=0"]
    alone = Run("no cluster", work / "run-alone", command)
    alone.finish()
    expected = contents(alone.folder)
    print(f"{len(list(videos.iterdir()))} videos; {len(expected)} result files without a cluster")
    print(
        "| workers | fault | videos finished then | equal files | frames/s | processor ms/frame |"
    )
    print("|---|---|---|---|---|---|")
    row(alone, "none", "", expected)

    failed = 0
    with Cluster(work / "cluster", flags.memory_limit) as cluster:
        command += [
            "--config.runner=DaskRunner",
            f"--config.runner_options=--dask_client_address={cluster.address}",
        ]
        for workers in range(1, WORKERS + 1):
            cluster.add_worker()
            cluster.wait_for(workers)
            run = Run(str(workers), work / f"run-{workers}", command, workers)
            before = cluster.processor_s()
            run.finish()
            run.processor_s = cluster.processor_s() - before
            failed += row(run, "none", "", expected)
        for name, breaks in FAULTS.items():
            run = Run(str(WORKERS), work / f"run-{name.replace(' ', '-')}", command)
            run.start()
            run.wait_until(len(list(videos.iterdir())) // 2)
            at = finished(run.folder)
            proof = breaks(cluster, run)
            run.finish()
            failed += row(run, f"{name}: {proof}", str(at), expected)
            cluster.repair()
    print(f"{failed} of {WORKERS + len(FAULTS)} runs on the cluster have different files")
    sys.exit(failed > 0)


def draw_all(folder: Path, clips: int) -> Path:
    """Writes clips (every eighth without a person), a damaged video and a text file.

    The text file has the suffix of a video. Returns `folder`.
    """
    draw(folder, clips, SHAPE, scene_every=8)
    content = (folder / "000.mp4").read_bytes()
    (folder / "damaged.mp4").write_bytes(content[: len(content) * 2 // 3])
    (folder / "text.mp4").write_text("not a video")
    return folder


@dataclass
class Run:
    """A run of the stage `extract`.

    Attributes:
        name: the first cell of its row in the table.
        folder: its workdir.
        command: its command without --workdir.
        workers: the number of workers; only undisturbed runs, whose speed is measured, need it.
        processor_s: the processor seconds of all workers; 0 if they were not measured.
        process: the process of the command; None before its start.
    """

    name: str
    folder: Path
    command: list[str]
    workers: int = 1
    processor_s: float = 0.0
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.folder.with_suffix(".log").open("ab") as log:
            self.process = subprocess.Popen(
                [*self.command, f"--workdir={self.folder}"],
                cwd=ROOT,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=variables(self.folder.parent),
            )

    def wait_until(self, videos: int) -> None:
        """Waits until `videos` videos are finished; ends the benchmark if the run is then done."""
        until(lambda: finished(self.folder) >= videos, f"{videos} finished videos in {self.folder}")
        if (self.folder / "done.json").exists():
            raise SystemExit(
                f"error: {self.folder} was done before it could be disturbed; pass a larger --clips"
            )

    def wait(self) -> int:
        if self.process is None:
            self.start()
        assert self.process
        return self.process.wait(PATIENCE_S)

    def finish(self) -> None:
        if code := self.wait():
            raise SystemExit(
                f"error: extract ended with exit code {code}; see {self.folder.with_suffix('.log')}"
            )

    def frames_per_s(self) -> float:
        """Frames per second, from the moment when `workers` videos are finished."""
        shards = [(f.stat().st_mtime, f) for f in self.folder.glob("shards/[!.]*/stats.json")]
        # Videos without a frame take no time.
        ends = sorted((at, read_json(f)["frames"]) for at, f in shards if read_json(f)["frames"])
        began = ends[self.workers - 1][0]
        return sum(frames for _, frames in ends[self.workers :]) / (ends[-1][0] - began)


class Cluster:
    """A Dask scheduler and its worker processes, each in a separate process group."""

    def __init__(self, folder: Path, memory_limit: float) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.address = f"tcp://127.0.0.1:{self._port}"
        self.folder, self.memory_limit = folder, memory_limit
        self.scheduler = self._scheduler()
        self.workers: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def add_worker(self) -> None:
        self.workers.append(
            self._process(
                f"worker-{len(self.workers)}",
                *("distributed.cli.dask_worker", self.address, "--nthreads=1", "--no-dashboard"),
                *(f"--memory-limit={self.memory_limit}GB", f"--local-directory={self.folder}"),
                f"--name={len(self.workers)}",
            )
        )

    def wait_for(self, workers: int) -> None:
        with self.client() as client:
            client.wait_for_workers(workers, timeout=PATIENCE_S)

    def processes(self) -> list[int]:
        """The process id of each worker."""
        with self.client() as client:
            return list(client.run(os.getpid).values())

    def size(self) -> int:
        """The number of workers that the scheduler knows."""
        with self.client() as client:
            return len(client.scheduler_info(n_workers=-1)["workers"])

    def processor_s(self) -> float:
        """The processor seconds that the connected workers have used so far."""
        with self.client() as client:
            return sum(times.user + times.system for times in client.run(os.times).values())

    def logged(self, text: str) -> int:
        """The number of lines in the workers' logs that contain `text`."""
        logs = [file.read_text(errors="replace") for file in self.folder.glob("worker-*.log")]
        return sum(text in line for log in logs for line in log.splitlines())

    def repair(self) -> None:
        """Replaces workers that have ended, and waits until all are connected."""
        for _ in [worker for worker in self.workers if worker.poll() is not None]:
            self.add_worker()
        self.workers = [worker for worker in self.workers if worker.poll() is None]
        self.wait_for(WORKERS)

    def restart(self) -> None:
        self.stop()
        self.scheduler = self._scheduler()
        for _ in range(WORKERS):
            self.add_worker()
        self.wait_for(WORKERS)

    def stop(self) -> None:
        for process in [*self.workers, self.scheduler]:
            kill(process)
        self.workers = []

    def _scheduler(self) -> subprocess.Popen[bytes]:
        where = ("--host=127.0.0.1", f"--port={self._port}", "--no-dashboard")
        return self._process("scheduler", "distributed.cli.dask_scheduler", *where)

    def _process(self, name: str, *module_and_flags: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", *module_and_flags],
                cwd=ROOT,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=variables(self.folder.parent),
            )

    @contextlib.contextmanager
    def client(self) -> Iterator[Any]:
        from distributed import Client

        with Client(self.address, timeout=60, set_as_default=False) as client:
            yield client


def worker_killed(cluster: Cluster, run: Run) -> str:
    os.kill(min(cluster.processes()), signal.SIGKILL)
    until(lambda: cluster.logged("Restarting worker"), "the nanny to restart a worker")
    return "its nanny starts another one"


def machine_lost(cluster: Cluster, run: Run) -> str:
    kill(cluster.workers[0])
    until(lambda: cluster.size() < WORKERS, "the scheduler to notice the loss")
    return f"{cluster.size()} workers are left"


def memory_exhausted(cluster: Cluster, run: Run) -> str:
    with cluster.client() as client:
        victim = sorted(client.scheduler_info(n_workers=-1)["workers"])[0]
        client.run(allocate, int(cluster.memory_limit * 1e9), workers=[victim])
    until(lambda: cluster.logged("exceeded 95% memory budget"), "the nanny to kill a worker")
    return "killed by its nanny at 95 % of its limit"


def command_killed(cluster: Cluster, run: Run) -> str:
    assert run.process
    kill(run.process)
    run.start()
    return f"exit code {-signal.SIGKILL}, run again"


def scheduler_killed(cluster: Cluster, run: Run) -> str:
    started = time.time()
    kill(cluster.scheduler)
    code = run.wait()
    waited = time.time() - started
    cluster.restart()
    run.start()
    return f"exit code {code} after {waited:.0f} s, all restarted, run again"


FAULTS: dict[str, Callable[[Cluster, Run], str]] = {
    "worker process": worker_killed,
    "machine": machine_lost,
    "memory": memory_exhausted,
    "command": command_killed,
    "scheduler": scheduler_killed,
}


def allocate(limit: int) -> None:
    """Allocates `limit` bytes or a little more in a thread of a worker, and keeps them."""
    import threading
    import time

    def grow() -> None:
        kept = []
        while sum(map(len, kept)) < limit:
            kept.append(b"x" * (32 << 20))
            time.sleep(0.02)
        while True:
            time.sleep(1)

    threading.Thread(target=grow, daemon=True).start()


def row(run: Run, fault: str, at: str, expected: dict[str, bytes]) -> bool:
    """Prints a row of the table; returns whether any file differs from the expected one."""
    found = contents(run.folder)
    differing = {n for n in expected.keys() | found.keys() if expected.get(n) != found.get(n)}
    verdict = (
        f"DIFFERENT: {sorted(differing)[:5]}" if differing else f"{len(found)} of {len(found)}"
    )
    speed = cost = ""
    if fault == "none":
        speed = f"{run.frames_per_s():.1f}"
        frames = read_json(run.folder / "done.json")["summary"]["frames"]
        cost = f"{1000 * run.processor_s / frames:.0f}" if run.processor_s else ""
    print(f"| {run.name} | {fault} | {at} | {verdict} | {speed} | {cost} |", flush=True)
    return bool(differing)


def kill(process: subprocess.Popen[bytes]) -> None:
    """Sends SIGKILL to a process and its children, which are in the same process group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def until(condition: Callable[[], Any], what: str) -> None:
    deadline = time.time() + PATIENCE_S
    while not condition():
        if time.time() > deadline:
            raise SystemExit(f"error: waited {PATIENCE_S} s for {what}")
        time.sleep(0.1)


def variables(work: Path) -> dict[str, str]:
    """The environment variables of all processes, with a shared compilation cache."""
    cache = {"JAX_COMPILATION_CACHE_DIR": str(work / "compiled")}
    return os.environ | cache | {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}


if __name__ == "__main__":
    main()
