"""Measures the time of a step of Inception-ResNet-v2, in fer_jax and in PyTorch.

    python -m benchmarks throughput --peer=peers/bin/python  # from requirements-timm.txt
    python -m benchmarks throughput --size=96 --peer=peers/bin/python
    python -m benchmarks throughput --size=299 --batch=128 --dtype=bfloat16 --peer=python3  # a GPU
    python -m benchmarks throughput --network=base --size=48 --batch=64 --peer=peers/bin/python

Each variant runs in a separate process, which keeps running. The processes compute in turn, so that
other work on the machine affects all of them equally. A training step consists of normalising the
uint8 images, forward pass, cross-entropy, backward pass, gradient clipping and AdamW. The peer of
`--network=full` is timm; that of the smaller networks is benchmarks/torch_network.py, which has the
same layers and parameters. Peers run in the layouts channels-last and contiguous, or with
`--compile` in channels-last, eagerly and compiled. Prints medians over the rounds, their ratio to
the fastest peer, GFLOP/s and, on known accelerators, the utilisation of the published peak (forward
FLOPs; three times those for training).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from configs import argument, emotion
from fer_jax.models import inception_resnet_v2 as inception

ROOT = Path(__file__).parents[1]
WORKER = Path(__file__).with_name("throughput_worker.py")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--network", choices=argument.SIZES, default="full")
    parser.add_argument("--size", type=int, default=299, help="side of the images in pixels")
    parser.add_argument("--batch", type=int, default=8, help="images per step")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=1, help="successive steps per round")
    parser.add_argument(
        "--peer", default="", help="Python executable of an environment with torch and timm"
    )
    parser.add_argument("--variants", default="", help="variants of fer_jax as a JSON list")
    parser.add_argument(
        "--together", action="store_true", help="compile all at once; invalidates first-step times"
    )
    parser.add_argument(
        "--compile",
        action="store_true",
        help="measure the peer in channels-last, eagerly and compiled",
    )
    options = parser.parse_args()

    jobs = [(sys.executable, variant) for variant in ours(options)]
    if options.peer:
        jobs += [(options.peer, variant) for variant in peers(options)]
    if options.together:
        processes = [launch(*job, options) for job in jobs]
        workers = [ready(*job, process) for job, process in zip(jobs, processes, strict=True)]
    else:
        workers = [ready(*job, launch(*job, options)) for job in jobs]
    if len({worker["parameters"] for worker in workers}) > 1 and not options.variants:
        counts = ", ".join(f"{worker['name']} {worker['parameters']}" for worker in workers)
        raise SystemExit(f"the networks have different numbers of parameters: {counts}")
    rows = []
    for mode in ("train", "infer"):
        rows += measure(workers, mode, options)
    for worker in workers:
        worker["process"].stdin.close()
        worker["process"].wait()
    print(json.dumps({"options": vars(options), "rows": rows}))


def ours(options: argparse.Namespace) -> list[dict[str, Any]]:
    """The variants of fer_jax: those of --variants, or the unchanged backbone of --network."""
    variants = json.loads(options.variants) if options.variants else [{}]
    return [{"library": "fer_jax", **variant} for variant in variants]


def peers(options: argparse.Namespace) -> list[dict[str, Any]]:
    """The variants of the peer: both memory layouts, or with --compile, eager and compiled."""
    library = "timm" if options.network == "full" else "torch"
    layouts = [{"library": library, "channels_last": last} for last in (True, False)]
    return [layouts[0], {**layouts[0], "compile": True}] if options.compile else layouts


def layers(network: str) -> dict[str, Any]:
    """The layers of one of our smaller networks as numbers, for benchmarks/torch_network.py."""
    fields = emotion.get_config(network)["backbone"]
    assert fields["stem"] == "tiny" and fields["normalise"] == "per_image"

    def conv(spec: inception.C, same: bool) -> dict[str, Any]:
        kernel = (spec.kernel, spec.kernel) if isinstance(spec.kernel, int) else spec.kernel
        return {
            "outputs": inception.scale_channels(spec.outputs, fields["width"]),
            "kernel": kernel,
            "stride": spec.stride,
            "padding": [side // 2 if same else 0 for side in kernel],
        }

    def stage(kind: str, branches: list[inception.Branch], *factors: float) -> dict[str, Any]:
        made = [[conv(spec, spec.stride == 1) for spec in branch] for branch in branches]
        return {"kind": kind, "branches": made, "factors": factors}

    n35, n17, n8 = fields["depth"]
    return {
        "grey": fields["grey"],
        "stem": [conv(inception.C(channels, 3, 2), True) for channels in (32, 64)],
        "stages": [
            stage("pooled", inception.MIXED_5B),
            stage("block", inception.BLOCK_35, *(0.17,) * n35),
            stage("reduction", inception.MIXED_6A),
            stage("block", inception.BLOCK_17, *(0.10,) * n17),
            stage("reduction", inception.MIXED_7A),
            stage("block", inception.BLOCK_8, *(*(0.20,) * (n8 - 1), 1.0)[:n8]),
        ],
        "last": [conv(inception.C(1536, 1), True)],
    }


def launch(
    python: str, variant: dict[str, Any], options: argparse.Namespace
) -> subprocess.Popen[str]:
    """Starts a worker and does not wait for its first training step; see `ready`."""
    shared = {name: getattr(options, name) for name in ("network", "size", "batch", "dtype")}
    job = {**variant, **shared}
    if variant["library"] == "torch":
        job["layers"] = layers(options.network)
    return subprocess.Popen(
        [python, str(WORKER), json.dumps(job)],
        cwd=ROOT,
        env={**os.environ, **variant.get("environment", {})},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def ready(_python: str, variant: dict[str, Any], process: subprocess.Popen[str]) -> dict[str, Any]:
    """Waits for a worker's first training step; returns its name, process and properties."""
    facts = answer(process)
    name = " ".join(
        str(v) if k == "library" else f"{k}={v}" for k, v in variant.items() if v is not False
    )
    print(
        f"# {name} on {facts['device']}: first training step after {facts['first_step_s']:.1f} s",
        flush=True,
    )
    return {"name": name, "process": process, **facts}


def measure(
    workers: list[dict[str, Any]], mode: str, options: argparse.Namespace
) -> list[dict[str, Any]]:
    """Times all workers in one mode, in turn; prints and returns one row per worker."""
    seconds: dict[str, list[float]] = {worker["name"]: [] for worker in workers}
    for worker in workers:
        ask(worker, f"{mode} 2")  # compiles
    for _ in range(options.rounds):
        for worker in workers:
            taken = ask(worker, f"{mode} {options.steps}")["seconds"]
            seconds[worker["name"]].append(taken / options.steps)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    others = [value for name, value in medians.items() if not name.startswith("fer_jax")]
    rows = []
    for worker in workers:
        median = medians[worker["name"]]
        row = {
            "mode": mode,
            "name": worker["name"],
            "ms": round(1e3 * median, 2),
            "min_ms": round(1e3 * min(seconds[worker["name"]]), 2),
            "images_per_s": round(options.batch / median, 1),
            "of_peer": round(median / min(others), 3) if others else None,
            "gflop_per_s": round(flops(workers, mode) * options.batch / median / 1e9, 1),
            "utilisation": utilisation(workers, worker, mode, options.batch / median),
        }
        rows.append(row)
        print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    return rows


def utilisation(
    workers: list[dict[str, Any]], worker: dict[str, Any], mode: str, images_per_s: float
) -> float | None:
    """The share of the accelerator's published peak that is used; None if the peak is unknown."""
    peak = max(w.get("peak_flops") or 0 for w in workers)
    if not peak:
        return None
    return round(images_per_s * flops(workers, mode) / peak, 4)


def flops(workers: list[dict[str, Any]], mode: str) -> float:
    """The FLOPs for one image; a training step counts as three forward passes."""
    # Only fer_jax counts them; the peers have the same layers.
    forward: float = max(worker.get("forward_flops", 0) for worker in workers)
    return forward * (3 if mode == "train" else 1)


def ask(worker: dict[str, Any], line: str) -> dict[str, Any]:
    """Sends a line to a worker; returns its answer."""
    worker["process"].stdin.write(line + "\n")
    worker["process"].stdin.flush()
    return answer(worker["process"])


def answer(process: subprocess.Popen[str]) -> dict[str, Any]:
    """The worker's next JSON line; ends the benchmark if the worker has ended."""
    assert process.stdout
    for line in process.stdout:
        if line.startswith("{"):
            return json.loads(line)
    raise SystemExit(f"a worker ended with exit code {process.wait()}")


if __name__ == "__main__":
    main()
