r"""Compares our Inception-ResNet-v2 with those of keras.applications and timm, for equal weights.

    python -m venv keras && keras/bin/pip install -r benchmarks/requirements-keras.txt
    python -m venv torch && torch/bin/pip install -r benchmarks/requirements-torch.txt
    python -m benchmarks backbone_parity --keras=keras/bin/python --timm=torch/bin/python \
        --workdir=work/parity

Kernels are pseudo-random; with them, the BatchNorm statistics are measured on pseudo-random images.
Each peer runs in a separate environment and saves the weights in its file formats, which fer_jax
then reads. Prints the largest differences of the outputs of each block and of the logits at 299 and
96 pixels, and for one training step at 96 pixels those of the logits, the loss, the updated
BatchNorm statistics and some gradients. The exit code is 1 if any weight that was read differs from
the saved one, or if a difference exceeds a share of the largest value: 1e-4 for inference in
float32, 1e-9 for inference and training in float64. The running variance of timm is first converted
from the divisor n - 1 to n.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from benchmarks.backbone_peers import CLASSES, DTYPES, GRADIENTS, SIZES, TRAINING, labels
from fer_jax.models.backbone import global_mean
from fer_jax.models.inception_resnet_v2 import Settings
from fer_jax.models.pretrained import read_backbone
from fer_jax.training.state import flatten, merge_network, replace_leaves, split_network
from tests.models.pseudo_weights import pseudo_images, pseudo_random

Arrays = dict[str, np.ndarray]

ROOT = Path(__file__).parents[1]
FILES = {
    "keras": ("keras.h5", "keras.weights.h5", "keras.keras"),
    "timm": ("timm.safetensors",),
}
MOMENTUM = {"keras": 0.99, "timm": 0.9}  # timm's 0.1 is the weight of the new value
AS_IT_STANDS = "running variance as it stands"
BOUNDS = {"float32": 1e-4, "float64": 1e-9}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--keras", required=True, help="Python of an environment with keras and tensorflow"
    )
    parser.add_argument(
        "--timm", required=True, help="Python of an environment with timm and torch"
    )
    parser.add_argument("--workdir", type=Path, required=True)
    options = parser.parse_args()
    work = options.workdir
    work.mkdir(parents=True, exist_ok=True)
    weights = make_weights()
    np.savez(work / "weights.npz", **weights)
    for peer in FILES:
        command = [getattr(options, peer), "-m", "benchmarks.backbone_peers", peer, work.absolute()]
        subprocess.run(command, cwd=ROOT, check=True)

    wrong = sum(compare_files(work, peer, weights) for peer in FILES)
    worst = compare_inference(work, weights)
    worst["float64"] = max(worst["float64"], compare_training(work, weights))
    sys.exit(0 if not wrong and all(worst[dtype] <= BOUNDS[dtype] for dtype in BOUNDS) else 1)


class Ours:
    """Our backbone with a linear layer on top. `momentum` is that of BatchNorm."""

    def __init__(self, momentum: float = 0.99) -> None:
        network = nnx.eval_shape(
            lambda: Settings(momentum=momentum).make(3, dtype=None, rngs=nnx.Rngs(0))
        )
        self.graphdef, self.parameters, self.statistics = split_network(network)

    def state(self, weights: Arrays) -> dict[str, Any]:
        own = {name: jnp.asarray(value) for name, value in weights.items()}
        return {
            "parameters": replace_leaves(self.parameters, own),
            "statistics": replace_leaves(self.statistics, own),
            "head": (own["head/kernel"], own["head/bias"]),
        }

    def inference(self, state: dict[str, Any], x: jax.Array) -> dict[str, jax.Array]:
        network = merge_network(self.graphdef, state["parameters"], state["statistics"])
        kernel, bias = state["head"]
        outputs = {}
        for path, stage in network.stages():
            x = stage(x, train=False)
            name, _, number = path.partition("/")  # block35/0 is block35_1 in Keras
            outputs[f"{name}_{int(number) + 1}" if number else name] = x
        outputs["features"] = global_mean(x)
        return {**outputs, "logits": outputs["features"] @ kernel + bias}

    def training(self, state: dict[str, Any], x: jax.Array) -> dict[str, jax.Array]:
        def loss_of(parameters: Any) -> Any:
            network = merge_network(self.graphdef, parameters, state["statistics"])
            kernel, bias = state["head"]
            logits = network(x, train=True) @ kernel + bias
            logged = jax.nn.log_softmax(logits)[jnp.arange(len(x)), labels(len(x))]
            return -logged.mean(), (logits, split_network(network)[2])

        (loss, (logits, statistics)), gradients = jax.value_and_grad(loss_of, has_aux=True)(
            state["parameters"]
        )
        flat = flatten(gradients)
        kept = {f"gradient/{name}": flat[name] for name in GRADIENTS}
        return {"logits": logits, "loss": loss, **kept, **flatten(statistics)}


def make_weights() -> Arrays:
    """The weights that all networks get: float32 arrays, by the names in our network.

    Kernels and biases are pseudo-random. The scale (gamma) of BatchNorm is 1, since the network of
    Keras has none. Its mean and variance are measured on a batch of pseudo-random images of
    299 × 299 pixels.
    """
    ours = Ours(momentum=0.0)
    shapes = {**flatten(ours.parameters), **flatten(ours.statistics)}
    weights = {name: pseudo_random(name, leaf.shape) for name, leaf in shapes.items()}
    weights["head/kernel"] = pseudo_random("head/kernel", (1536, CLASSES))
    weights["head/bias"] = pseudo_random("head/bias", (CLASSES,))

    @jax.jit
    def statistics(state: dict[str, Any], x: jax.Array) -> Any:
        network = merge_network(ours.graphdef, state["parameters"], state["statistics"])
        network(x, train=True)
        return split_network(network)[2]

    measured = flatten(statistics(ours.state(weights), pseudo_images(SIZES[299], 299)))
    return weights | {name: np.asarray(value) for name, value in measured.items()}


def compare_files(work: Path, peer: str, weights: Arrays) -> int:
    """Reads the peer's files; returns the number of arrays that differ from `weights`."""
    ours = Ours()
    leaves = {f"parameters/backbone/{n}": n for n in flatten(ours.parameters)}
    leaves |= {f"statistics/backbone/{n}": n for n in flatten(ours.statistics)}
    wanted = {leaf: tuple(weights[name].shape) for leaf, name in leaves.items()}
    wrong = 0
    for file in FILES[peer]:
        read = read_backbone(work / file, wanted)
        differ = [n for leaf, n in leaves.items() if not np.array_equal(read[leaf], weights[n])]
        print(f"{file}: {len(read)} arrays read, {len(differ)} of which differ from what was saved")
        wrong += len(differ)
    return wrong


def compare_inference(work: Path, weights: Arrays) -> dict[str, float]:
    """Prints one row per block; returns the largest relative difference in each dtype."""
    columns: dict[tuple[int, str], dict[str, tuple[float, float]]] = {}
    exact: dict[tuple[int, str], float] = {}
    rounding: dict[str, float] = {}  # float32 compared with float64, in the worst block
    for size, count in SIZES.items():
        mine = {d: ours_inference(weights, pseudo_images(count, size), d) for d in DTYPES}
        for peer in FILES:
            theirs = {d: np.load(work / f"{peer}_{size}_{d}.npz") for d in DTYPES}
            pairs = {
                d: {n: difference(mine[d][n], theirs[d][n]) for n in theirs[d]} for d in DTYPES
            }
            columns[size, peer] = pairs["float32"]
            exact[size, peer] = max(relative for _, relative in pairs["float64"].values())
            rounding[f"{peer} {size} px"] = worst_block(theirs["float32"], theirs["float64"])
        rounding[f"ours {size} px"] = worst_block(mine["float32"], mine["float64"])
    print("\nInference, float32: largest |difference|, and its ratio to the largest |value|")
    print(f"{'':12s}" + "".join(f"{f'{peer} {size} px':>22s}" for size, peer in columns))
    for name in next(iter(columns.values())):
        cells = [column[name] for column in columns.values()]
        print(f"{name:12s}" + "".join(f"{a:12.1e} {r:9.1e}" for a, r in cells))
    print("float64, all" + "".join(f"{worst:22.1e}" for worst in exact.values()))
    print("Difference of each network's float32 from its float64, in the worst block:")
    print("  ".join(f"{name} {worst:.1e}" for name, worst in rounding.items()))
    worst = max(relative for column in columns.values() for _, relative in column.values())
    return {"float32": worst, "float64": max(exact.values())}


def worst_block(rounded: Arrays, exact: Arrays) -> float:
    return max(difference(rounded[name], exact[name])[1] for name in exact)


def ours_inference(weights: Arrays, images: np.ndarray, dtype: str) -> Arrays:
    with jax.enable_x64(dtype == "float64"):
        ours = Ours()
        own = {name: value.astype(dtype) for name, value in weights.items()}
        outputs = jax.jit(ours.inference)(ours.state(own), jnp.asarray(images.astype(dtype)))
        return jax.device_get(outputs)


def compare_training(work: Path, weights: Arrays) -> float:
    """Prints one row per quantity; returns the largest relative difference in float64.

    The returned value ignores timm's running variance before its divisor is changed (see
    `training_column`).
    """
    columns: dict[str, dict[str, float]] = {}
    everyone: dict[str, dict[str, Arrays]] = {dtype: {} for dtype in DTYPES}
    for dtype in DTYPES:
        own = {name: value.astype(dtype) for name, value in weights.items()}
        for peer, momentum in MOMENTUM.items():
            mine = ours_training(own, momentum, dtype)
            theirs = dict(np.load(work / f"{peer}_training_{dtype}.npz"))
            columns[f"{peer} {dtype}"] = training_column(mine, theirs, own, momentum)
            everyone[dtype] |= {peer: theirs, "ours": mine}
    print(
        f"\nOne training step on {TRAINING['count']} images of {TRAINING['size']} px: the largest"
    )
    print("|difference| / the largest |value|; 32-64 compares float32 with the float64 of keras")
    for name, arrays in everyone["float32"].items():
        columns[f"{name} 32-64"] = {
            n: difference(arrays[n], exact)[1]
            for n, exact in everyone["float64"]["keras"].items()
            if n in ("logits", "loss") or n.startswith("gradient/")
        }
    print(f"{'':58s}" + "".join(f"{title:>15s}" for title in columns))
    for name in dict.fromkeys(name for column in columns.values() for name in column):
        cells = [column.get(name) for column in columns.values()]
        print(
            f"{name:58s}" + "".join(f"{'' if c is None else format(c, '.1e'):>15s}" for c in cells)
        )
    exact = {**columns["keras float64"], **columns["timm float64"]}
    return max(
        *columns["keras float64"].values(), *(v for n, v in exact.items() if n != AS_IT_STANDS)
    )


def ours_training(own: Arrays, momentum: float, dtype: str) -> Arrays:
    with jax.enable_x64(dtype == "float64"):
        ours = Ours(momentum)
        images = jnp.asarray(pseudo_images(**TRAINING).astype(dtype))
        return jax.device_get(jax.jit(ours.training)(ours.state(own), images))


def training_column(mine: Arrays, theirs: Arrays, own: Arrays, momentum: float) -> dict[str, float]:
    """The relative difference between our training step and the peer's, by quantity.

    torch divides running variances by n - 1. With timm, which uses torch, they are also compared
    after a change of this divisor to n.
    """
    column = {n: difference(mine[n], theirs[n])[1] for n in theirs if n in ("logits", "loss")}
    means = [n for n in mine if n.endswith("/mean")]
    variances = [n for n in mine if n.endswith("/var")]
    column["running mean"] = max(difference(mine[n], theirs[n])[1] for n in means)
    column[AS_IT_STANDS] = max(difference(mine[n], theirs[n])[1] for n in variances)
    if any(name.endswith("/count") for name in theirs):

        def divided_by_n(name: str) -> np.ndarray:
            n = float(theirs[name.replace("/var", "/count")])
            kept = momentum * own[name]
            return kept + (theirs[name] - kept) * (n - 1) / n

        column["running variance, new part times (n - 1) / n"] = max(
            difference(mine[n], divided_by_n(n))[1] for n in variances
        )
    for name in (n for n in theirs if n.startswith("gradient/")):
        column[name] = difference(mine[name], theirs[name])[1]
    return column


def difference(mine: Any, theirs: np.ndarray) -> tuple[float, float]:
    """The largest absolute difference, and its ratio to the largest magnitude in `theirs`.

    Raises:
        ValueError: the shapes differ.
    """
    a, b = np.asarray(mine, np.float64), np.asarray(theirs, np.float64)
    if a.shape != b.shape:
        raise ValueError(f"our array has the shape {a.shape}, that of the peer {b.shape}")
    worst = float(np.abs(a - b).max())
    return worst, worst / float(np.abs(b).max())


if __name__ == "__main__":
    main()
