"""Runs Inception-ResNet-v2 of keras.applications or timm, for benchmarks/backbone_parity.py.

    python -m benchmarks.backbone_peers keras WORKDIR

Runs in a separate environment (benchmarks/requirements-keras.txt or
benchmarks/requirements-torch.txt) and does not import fer_jax. Reads WORKDIR/weights.npz, saves
these weights in the framework's file formats, and writes to WORKDIR the outputs of the network in
inference, and the logits, loss, statistics and some gradients of one training step.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tests.models.pseudo_weights import layer_paths, pseudo_images

Arrays = dict[str, np.ndarray]

SIZES = {299: 2, 96: 2}  # side in pixels: number of images
TRAINING = {"size": 96, "count": 8}
DTYPES = ("float32", "float64")
CLASSES = 1000
# Leaves whose gradients are compared: kernels from the first to the last, and a BatchNorm bias.
GRADIENTS = (
    "stem/conv_1a/conv/kernel",
    "mixed_5b/branches/2/convs/1/conv/kernel",
    "block35/4/mixed/branches/1/convs/1/conv/kernel",
    "mixed_6a/branches/1/convs/2/conv/kernel",
    "block17/9/mixed/branches/1/convs/1/conv/kernel",
    "block17/9/mixed/branches/1/convs/1/bn/bias",
    "mixed_7a/branches/2/convs/2/conv/kernel",
    "block8/9/projection/kernel",
    "conv_7b/conv/kernel",
)
BN = ("scale", "bias", "mean", "var")


def labels(count: int) -> np.ndarray:
    return (np.arange(count) * 37) % CLASSES


def block_of(path: str) -> str:
    """The name of a layer's block in Keras: "block35_3" for "block35/2/mixed/branches/0/..."."""
    return re.sub(r"^(block\d+)/(\d+)/.*", lambda m: f"{m[1]}_{int(m[2]) + 1}", path).split("/")[0]


class Keras:
    """The network of keras.applications, whose batch normalisation has no gamma."""

    def __init__(self) -> None:
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
        import keras

        self.keras = keras
        self.name = f"keras {keras.__version__}"

    def build(self, weights: Arrays, size: int, dtype: str) -> Any:
        self.keras.utils.clear_session()
        self.keras.config.set_floatx(dtype)
        model = self.keras.applications.InceptionResNetV2(
            weights=None, input_shape=(size, size, 3), classes=CLASSES, classifier_activation=None
        )
        for path, layer, names in self._layers(model):
            layer.set_weights([weights[f"{path}/{name}"] for name in names])
        return model

    def _layers(self, model: Any) -> Iterator[tuple[str, Any, tuple[str, ...]]]:
        """Yields our path, the Keras layer and our names of its weights, in construction order."""

        def numbered(kind: str) -> Iterator[Any]:
            found = [layer for layer in model.layers if re.fullmatch(rf"{kind}(_\d+)?", layer.name)]
            return iter(sorted(found, key=lambda layer: int(layer.name[len(kind) + 1 :] or 0)))

        convs, norms = numbered("conv2d"), numbered("batch_normalization")
        for path in layer_paths():
            if path.endswith("/projection"):
                yield path, model.get_layer(f"{block_of(path)}_conv"), ("kernel", "bias")
                continue
            last = path == "conv_7b"
            yield f"{path}/conv", model.get_layer(path) if last else next(convs), ("kernel",)
            yield f"{path}/bn", model.get_layer("conv_7b_bn") if last else next(norms), BN[1:]
        yield "head", model.get_layer("predictions"), ("kernel", "bias")

    def save(self, model: Any, folder: Path) -> None:
        model.save_weights(folder / "keras.weights.h5")
        model.save(folder / "keras.keras")
        model.save(folder / "keras.h5")

    def inference(self, model: Any, x: np.ndarray) -> Arrays:
        taps = {"stem": model.get_layer("max_pooling2d_1").output}
        for path in layer_paths():
            block = block_of(path)
            if block.startswith("mixed"):
                taps[block] = model.get_layer(block).output
            elif block == "block8_10":  # adds its residual and has no activation
                taps[block] = model.get_layer("conv_7b").input
            elif block.startswith("block"):
                taps[block] = model.get_layer(f"{block}_ac").output
        taps["conv_7b"] = model.get_layer("conv_7b_ac").output
        taps["logits"] = model.output
        outputs = self.keras.Model(model.input, list(taps.values()))(x, training=False)
        return {name: np.asarray(y) for name, y in zip(taps, outputs, strict=True)}

    def training(self, model: Any, x: np.ndarray) -> Arrays:
        import tensorflow as tf

        leaves = {}
        for path, layer, names in self._layers(model):
            leaves |= {f"{path}/{n}": w for n, w in zip(names, layer.weights, strict=True)}
        with tf.GradientTape() as tape:
            logits = model(x, training=True)
            each = tf.nn.sparse_softmax_cross_entropy_with_logits(labels(len(x)), logits)
            loss = tf.reduce_mean(each)
        gradients = tape.gradient(loss, [leaves[name].value for name in GRADIENTS])
        outputs = {"logits": logits, "loss": loss}
        outputs |= {f"gradient/{n}": g for n, g in zip(GRADIENTS, gradients, strict=True)}
        outputs |= {n: w.value for n, w in leaves.items() if n.endswith(("bn/mean", "bn/var"))}
        return {name: np.asarray(y) for name, y in outputs.items()}


class Timm:
    """The network of timm: kernels are [out, in, h, w] and images [N, channels, h, w]."""

    def __init__(self) -> None:
        import timm
        import torch

        self.torch, self.timm = torch, timm
        self.name = f"timm {timm.__version__} on torch {torch.__version__}"

    def build(self, weights: Arrays, size: int, dtype: str) -> Any:
        model = self.timm.create_model("inception_resnet_v2", num_classes=CLASSES, drop_rate=0.0)
        model = model.to(getattr(self.torch, dtype)).eval()
        with self.torch.no_grad():
            for name, tensor in self._tensors(model):
                tensor.copy_(self.torch.from_numpy(_oihw(weights[name])))
        return model

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of the weights by our names, with the axes in our order."""
        model = self.timm.create_model("inception_resnet_v2", num_classes=CLASSES)
        arrays = {name: tensor.detach().numpy() for name, tensor in self._tensors(model)}
        return {n: (a.T if a.ndim == 2 else _hwio(a)).shape for n, a in arrays.items()}

    def _tensors(self, model: Any) -> Iterator[tuple[str, Any]]:
        """Yields our name and timm's tensor of each weight, in the order of construction."""
        torch = self.torch
        kinds = (torch.nn.Conv2d, torch.nn.BatchNorm2d)
        modules = iter([module for module in model.modules() if isinstance(module, kinds)])
        for path in layer_paths():
            conv = next(modules)
            if path.endswith("/projection"):
                yield f"{path}/kernel", conv.weight
                yield f"{path}/bias", conv.bias
                continue
            yield f"{path}/conv/kernel", conv.weight
            norm = next(modules)
            own = (norm.weight, norm.bias, norm.running_mean, norm.running_var)
            for name, tensor in zip(BN, own, strict=True):
                yield f"{path}/bn/{name}", tensor
        yield "head/kernel", model.classif.weight
        yield "head/bias", model.classif.bias

    def save(self, model: Any, folder: Path) -> None:
        from safetensors.torch import save_file

        save_file(model.state_dict(), folder / "timm.safetensors")

    def inference(self, model: Any, x: np.ndarray) -> Arrays:
        modules = {"stem": model.maxpool_5a, "mixed_5b": model.mixed_5b}
        modules |= {f"block35_{i}": module for i, module in enumerate(model.repeat, 1)}
        modules["mixed_6a"] = model.mixed_6a
        modules |= {f"block17_{i}": module for i, module in enumerate(model.repeat_1, 1)}
        modules["mixed_7a"] = model.mixed_7a
        modules |= {f"block8_{i}": module for i, module in enumerate(model.repeat_2, 1)}
        modules |= {"block8_10": model.block8, "conv_7b": model.conv2d_7b}
        outputs: Arrays = {}

        def tap(name: str) -> Any:
            def keep(module: Any, given: Any, y: Any) -> None:
                outputs[name] = y.permute(0, 2, 3, 1).contiguous().clone().numpy()

            return keep

        for name, module in modules.items():
            module.register_forward_hook(tap(name))
        with self.torch.no_grad():
            logits = model(self.torch.from_numpy(x.transpose(0, 3, 1, 2).copy()))
        return {**{name: outputs[name] for name in modules}, "logits": logits.numpy()}

    def training(self, model: Any, x: np.ndarray) -> Arrays:
        torch = self.torch
        counts = {}  # number of values from which each statistic is computed
        leaves = dict(self._tensors(model))
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.register_forward_hook(
                    lambda m, given, y: counts.update({id(m.running_var): y[:, 0].numel()})
                )
        logits = model.train()(torch.from_numpy(x.transpose(0, 3, 1, 2).copy()))
        loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels(len(x))))
        loss.backward()
        outputs = {"logits": logits, "loss": loss}
        for name in GRADIENTS:
            outputs[f"gradient/{name}"] = leaves[name].grad
        outputs |= {n: t for n, t in leaves.items() if n.endswith(("bn/mean", "bn/var"))}
        arrays = {name: _hwio(y.detach().numpy()) for name, y in outputs.items()}
        for name, tensor in leaves.items():
            if name.endswith("bn/var"):
                arrays[name.replace("/var", "/count")] = np.array(counts[id(tensor)])
        return arrays


def _oihw(array: np.ndarray) -> np.ndarray:
    """Converts a kernel to the order of torch's axes; other arrays are unchanged."""
    if array.ndim == 2:
        return np.ascontiguousarray(array.T)
    return np.ascontiguousarray(array.transpose(3, 2, 0, 1)) if array.ndim == 4 else array


def _hwio(array: np.ndarray) -> np.ndarray:
    """Converts a convolution's kernel to our order of axes; other arrays are unchanged."""
    return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("peer", choices=("keras", "timm"))
    parser.add_argument("workdir", type=Path)
    options = parser.parse_args()
    peer = {"keras": Keras, "timm": Timm}[options.peer]()
    weights = dict(np.load(options.workdir / "weights.npz"))
    (options.workdir / f"{options.peer}.txt").write_text(peer.name)

    for dtype in DTYPES:
        cast = {name: value.astype(dtype) for name, value in weights.items()}
        for size, count in SIZES.items():
            model = peer.build(cast, size, dtype)
            if (size, dtype) == (299, "float32"):
                peer.save(model, options.workdir)
            outputs = peer.inference(model, pseudo_images(count, size).astype(dtype))
            np.savez(options.workdir / f"{options.peer}_{size}_{dtype}.npz", **outputs)
            print(f"{peer.name}: {size} px, {dtype}", flush=True)
        model = peer.build(cast, TRAINING["size"], dtype)
        outputs = peer.training(model, pseudo_images(**TRAINING).astype(dtype))
        np.savez(options.workdir / f"{options.peer}_training_{dtype}.npz", **outputs)
        print(f"{peer.name}: training, {dtype}", flush=True)


if __name__ == "__main__":
    main()
