"""Makes inception_resnet_v2.npz with keras.applications, in a separate environment.

    python -m venv keras && keras/bin/pip install -r benchmarks/requirements-keras.txt
    PYTHONPATH=tests/models keras/bin/python tests/golden/make_inception_resnet_v2.py

The file contains, for the weights and images of tests/models/pseudo_weights.py at 96 pixels, the
mean and standard deviation of every block's output, the first 64 pooled features of each image, and
the number of trainable parameters of every block (without BatchNorm's gamma, which Keras does not
use).
"""

import re
from pathlib import Path

import keras
import numpy as np
from pseudo_weights import layer_paths, pseudo_images, pseudo_random


def set_weights(model: keras.Model) -> dict[str, int]:
    """Sets pseudo-random weights; returns the number of trainable parameters of each block."""

    def numbered(prefix: str) -> list:
        layers = [layer for layer in model.layers if layer.name.startswith(prefix)]
        return sorted(
            layers, key=lambda layer: int((re.findall(r"_(\d+)$", layer.name) or ["0"])[0])
        )

    convs, norms = iter(numbered("conv2d")), iter(numbered("batch_normalization"))
    counts: dict[str, int] = {}
    for path in layer_paths():
        block = re.sub(r"^(block\d+)/(\d+)/.*", lambda m: f"{m[1]}_{int(m[2]) + 1}", path).split(
            "/"
        )[0]
        if path.endswith("projection"):
            layers = {path: model.get_layer(f"{block}_conv")}
        elif path == "conv_7b":
            layers = {
                f"{path}/conv": model.get_layer("conv_7b"),
                f"{path}/bn": model.get_layer("conv_7b_bn"),
            }
        else:
            layers = {f"{path}/conv": next(convs), f"{path}/bn": next(norms)}
        for where, layer in layers.items():
            names = ("bias", "mean", "var") if where.endswith("/bn") else ("kernel", "bias")
            old = layer.get_weights()
            layer.set_weights(
                [pseudo_random(f"{where}/{n}", w.shape) for n, w in zip(names, old, strict=False)]
            )
            counts[block] = counts.get(block, 0) + sum(
                int(np.prod(w.shape)) for w in layer.trainable_weights
            )
    return counts


def main() -> None:
    model = keras.applications.InceptionResNetV2(
        weights=None, include_top=False, input_shape=(96, 96, 3)
    )
    counts = set_weights(model)
    taps = {}
    for name in counts:
        at = {
            "stem": "max_pooling2d_1",
            "conv_7b": "conv_7b_ac",
            "block8_10": "custom_scale_layer_39",
        }.get(name)
        at = at or (f"{name}_ac" if name.startswith("block") else name)
        taps[name] = model.get_layer(at).output
    outputs = keras.Model(model.inputs, list(taps.values()))(pseudo_images(), training=False)
    outputs = {name: np.asarray(value) for name, value in zip(taps, outputs, strict=True)}
    np.savez_compressed(
        Path(__file__).with_name("inception_resnet_v2.npz"),
        blocks=np.array(list(counts)),
        parameters=np.array(list(counts.values()), np.int64),
        mean=np.array([y.mean(dtype=np.float64) for y in outputs.values()], np.float32),
        deviation=np.array([y.std(dtype=np.float64) for y in outputs.values()], np.float32),
        features=outputs["conv_7b"].mean((1, 2))[:, :64],
    )


if __name__ == "__main__":
    main()
