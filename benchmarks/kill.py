"""Kills the pipeline once in every step, and compares the result with an uninterrupted run.

    python -m benchmarks kill --config=configs/demo.py --reference=work/demo --workdir=work/killed

`--reference` is the workdir of an uninterrupted run of the same config. Sends SIGKILL to the whole
process group at a random moment of each step, not in the first second (a step that ends earlier is
not interrupted), starts the pipeline again, and finally compares the tables of all steps and the
metrics of `evaluate`. Prints a line for each step and each comparison; the exit code is 1 if
anything differs.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--config", required=True)
    parser.add_argument("--reference", type=Path, required=True)
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    options, flags = parser.parse_known_args()
    command = [sys.executable, "launch.py", f"--config={options.config}", *flags]
    command.append(f"--workdir={options.workdir.absolute()}")

    seconds = durations(options.reference)
    dice = random.Random(options.seed)
    for step, length in seconds.items():
        after = dice.uniform(0.1, 0.6) * length
        killed = run_and_kill(command, options.workdir / step, after)
        print(
            f"{step:12s} {'killed after' if killed else 'ended before'} {after:6.1f} s", flush=True
        )
    started = time.time()
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    print(f"the rest took {time.time() - started:.0f} s")
    sys.exit(differences(options.reference, options.workdir, list(seconds)))


def durations(reference: Path) -> dict[str, float]:
    """The seconds that each step took, in the order in which the steps ended."""
    files = sorted(reference.glob("*/done.json"), key=lambda path: path.stat().st_mtime_ns)
    return {f.parent.name: json.loads(f.read_text())["summary"]["wall_s"] for f in files}


def run_and_kill(command: list[str], folder: Path, after: float) -> bool:
    """Starts the pipeline; kills it `after` seconds (at least 1) after the step in `folder` began.

    Returns whether this interrupted the step; False if the step had already ended.
    """
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    while process.poll() is None and not (folder / "config.json").exists():
        time.sleep(0.05)
    deadline = time.time() + max(after, 1.0)
    while process.poll() is None and time.time() < deadline:
        time.sleep(0.05)
    if process.poll() is not None or (folder / "done.json").exists():
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        return False
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return True


def differences(reference: Path, other: Path, steps: list[str]) -> int:
    """Prints whether tables and metrics are equal in both runs; returns 1 if any differs."""
    wrong = 0
    for step in steps:
        for file in sorted((reference / step).glob("*.parquet")):
            same = pd.read_parquet(file).equals(pd.read_parquet(other / step / file.name))
            print(f"{step}/{file.name}: {'equal' if same else 'DIFFERENT'}")
            wrong += not same
    measures = [
        json.loads((w / "evaluate" / "metrics.json").read_text()) for w in (reference, other)
    ]
    same = measures[0]["runs"] == measures[1]["runs"]
    print(f"evaluate/metrics.json: {'equal' if same else 'DIFFERENT'}")
    return int(bool(wrong) or not same)


if __name__ == "__main__":
    main()
