"""Inception-ResNet-v2 in PyTorch, at any width and depth: the peer of benchmarks/throughput.py.

timm has only the published size. The channel counts come from fer_jax as numbers, so that this
module runs in an environment without JAX.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

Spec = dict[str, Any]  # see `throughput.layers`


class Network(nn.Module):
    """Inception-ResNet-v2: maps uint8 RGB images [n, 3, h, w] to logits [n, classes].

    Args:
        spec: the layers, as returned by `throughput.layers`.
        classes: number of outputs.
    """

    def __init__(self, spec: Spec, classes: int) -> None:
        super().__init__()
        stem, n = chain(1 if spec["grey"] else 3, spec["stem"])
        stages: list[nn.Module] = [stem]
        for stage in spec["stages"]:
            kind, branches = stage["kind"], stage["branches"]
            if kind == "block":
                stages += [Block(n, branches, factor) for factor in stage["factors"]]
                continue
            mixed = Mixed(n, branches, kind)
            n = mixed.outputs + (n if kind == "reduction" else 0)
            stages.append(mixed)
        last, n = chain(n, spec["last"])
        self.grey = spec["grey"]
        self.body = nn.Sequential(*stages, last)
        self.head = nn.Linear(n, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.float()
        if self.grey:
            x = 0.299 * x[:, :1] + 0.587 * x[:, 1:2] + 0.114 * x[:, 2:]
        centred = x - x.mean((1, 2, 3), keepdim=True)
        deviation = centred.square().mean((1, 2, 3), keepdim=True).sqrt()
        x = centred / deviation.clamp(min=1.0)
        return self.head(self.body(x).mean((2, 3)))


class Mixed(nn.Module):
    """Parallel branches, whose outputs are concatenated.

    The kind "pooled" starts the last branch with average pooling; "reduction" adds a branch of max
    pooling.
    """

    def __init__(self, inputs: int, branches: list[list[Spec]], kind: str) -> None:
        super().__init__()
        made = [chain(inputs, branch) for branch in branches]
        self.branches = nn.ModuleList([branch for branch, _ in made])
        self.outputs = sum(outputs for _, outputs in made)
        self.kind = kind

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inputs = [x] * len(self.branches)
        if self.kind == "pooled":
            inputs[-1] = functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
        outputs = [branch(one) for branch, one in zip(self.branches, inputs)]  # noqa: B905
        if self.kind == "reduction":
            outputs.append(functional.max_pool2d(x, 3, 2))
        return torch.cat(outputs, 1)


class Block(nn.Module):
    """Residual block: x + factor * projection(branches(x)), then ReLU unless the factor is 1."""

    def __init__(self, inputs: int, branches: list[list[Spec]], factor: float) -> None:
        super().__init__()
        self.mixed = Mixed(inputs, branches, "plain")
        self.projection = nn.Conv2d(self.mixed.outputs, inputs, 1)
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.factor * self.projection(self.mixed(x))
        return x if self.factor == 1 else functional.relu(x)


def chain(inputs: int, branch: list[Spec]) -> tuple[nn.Sequential, int]:
    """Convolutions with batch normalisation and ReLU, and the number of output channels."""
    layers: list[nn.Module] = []
    for one in branch:
        layers += [
            nn.Conv2d(
                inputs, one["outputs"], one["kernel"], one["stride"], one["padding"], bias=False
            ),
            nn.BatchNorm2d(one["outputs"], eps=1e-3, momentum=0.1),
            nn.ReLU(inplace=True),
        ]
        inputs = one["outputs"]
    return nn.Sequential(*layers), inputs
