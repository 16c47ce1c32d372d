"""One variant of benchmarks/throughput.py: runs a training step, then steps on request.

Imports JAX or torch, never both. The argument is the variant as JSON. Prints its properties as a
JSON line after the first step; then reads lines with a mode and a number of steps, such as
"train 3" or "infer 3", and answers each with a JSON line that contains the seconds.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

CLASSES = 4


def main() -> None:
    started = time.perf_counter()
    job = json.loads(sys.argv[1])
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (job["batch"], job["size"], job["size"], 3)).astype(np.uint8)
    labels = rng.integers(0, CLASSES, job["batch"]).astype(np.int32)
    run, facts = (jax_steps if job["library"] == "fer_jax" else torch_steps)(job, images, labels)
    run("train", 1)
    facts["first_step_s"] = time.perf_counter() - started
    tell(facts)
    for line in sys.stdin:
        mode, steps = line.split()
        before = time.perf_counter()
        run(mode, int(steps))
        tell({"seconds": time.perf_counter() - before})


Run = Callable[[str, int], None]


def jax_steps(job: dict[str, Any], images: np.ndarray, labels: np.ndarray) -> tuple[Run, dict]:
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    sys.path.insert(0, str(Path.cwd()))
    import jax

    from configs import emotion
    from fer_jax import backend
    from fer_jax.schemas.training import Backbone, Batches, Optimizer
    from fer_jax.training import flops, sharding
    from fer_jax.training.learner import Learner, make_tasks

    network = emotion.get_config(job["network"])
    backbone = {**network["backbone"], "dropout": 0.0, **job.get("backbone", {})}
    if job["dtype"] != "float32":
        backbone["dtype"] = job["dtype"]
    classes = [str(i) for i in range(CLASSES)]
    learner = Learner(
        Backbone(**backbone),
        Optimizer(**{**network.optimizer, "learning_rate": 1e-3}),
        *make_tasks({"emotion": {"classes": classes, "augment": {}}}),
        Batches(batch_size=job["batch"]),
        steps=1000,
    )
    batch = {"image": images, "label": labels, "mask": np.ones(len(labels), bool)}
    placed = sharding.put_batch(batch, learner.mesh)  # before timing, as with torch
    held = {"state": learner.init(0)}
    infer = jax.jit(learner.logits, static_argnums=1, compiler_options=backend.compiler_options())

    def run(mode: str, steps: int) -> None:
        for _ in range(steps):
            if mode == "train":
                held["state"], last = learner.train(held["state"], placed)
            else:
                last = infer(held["state"], "emotion", placed["image"])
        jax.block_until_ready(last)

    facts = {
        "device": jax.devices()[0].device_kind,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(held["state"]["parameters"])),
        "forward_flops": flops.count(
            lambda state, x: learner.logits(state, "emotion", x), held["state"], placed["image"]
        )
        / job["batch"],
        "peak_flops": flops.peak(jax.devices()[0].device_kind, job["dtype"]),
    }
    return run, facts


def torch_steps(job: dict[str, Any], images: np.ndarray, labels: np.ndarray) -> tuple[Run, dict]:
    import torch

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    layout = torch.channels_last if job["channels_last"] else torch.contiguous_format
    published = job["library"] == "timm"
    if published:
        import timm

        model = timm.create_model("inception_resnet_v2", pretrained=False, num_classes=CLASSES)
    else:
        import torch_network

        model = torch_network.Network(job["layers"], CLASSES)
    model = model.to(device).to(memory_format=layout)
    step_model = torch.compile(model) if job.get("compile") else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=device.type == "cuda")
    x = torch.from_numpy(images).permute(0, 3, 1, 2).to(device)
    x = x.contiguous(memory_format=layout)
    y = torch.from_numpy(labels).long().to(device)
    mixed = torch.autocast(device.type, torch.bfloat16, enabled=job["dtype"] == "bfloat16")

    def forward() -> torch.Tensor:
        with mixed:
            return step_model(x.float() / 127.5 - 1 if published else x)

    def train() -> None:
        model.train()
        loss = torch.nn.functional.cross_entropy(forward().float(), y)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def infer() -> None:
        model.eval()
        with torch.inference_mode():
            forward()

    def run(mode: str, steps: int) -> None:
        for _ in range(steps):
            train() if mode == "train" else infer()
        if device.type == "cuda":
            torch.cuda.synchronize()

    name = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    return run, {"device": name, "parameters": sum(p.numel() for p in model.parameters())}


def tell(facts: dict[str, Any]) -> None:
    print(json.dumps(facts), flush=True)


if __name__ == "__main__":
    main()
