"""Writes small weight files in the layouts of Keras and timm, without using either.

The layouts were compared with files of keras 3.15, keras 3.4, tf_keras 2.21 and timm 1.0.31 by
benchmarks/backbone_parity.py and by hand. The names here follow from the structure and do not use
the code under test.
"""

import io
import json
import re
import zipfile

import h5py
import numpy as np
from flax import nnx
from safetensors.numpy import save_file

from fer_jax.models.inception_resnet_v2 import Settings
from fer_jax.training.state import shapes, split_network
from tests.models.pseudo_weights import layer_paths, pseudo_random

WIDTH, DEPTH = 0.125, (1, 2, 2)

# Within a block Keras orders layers by their distance to the end of the block. These are positions
# in the order of construction, sorted by that distance, as in files written by Keras.
BY_DEPTH = {
    "mixed_5b": [3, 1, 4, 0, 2, 5, 6],
    "block35": [3, 1, 4, 0, 2, 5, 6],
    "mixed_6a": [1, 2, 0, 3],
    "block17": [1, 2, 0, 3, 4],
    "mixed_7a": [4, 0, 2, 5, 1, 3, 6],
    "block8": [1, 2, 0, 3, 4],
}


def make_wanted(width=WIDTH, depth=DEPTH, stem="full", channels=3):
    """The shapes of a backbone's arrays, by the path of the leaf."""
    network = nnx.eval_shape(
        lambda: Settings(width=width, depth=depth, stem=stem).make(
            channels, dtype=None, rngs=nnx.Rngs(0)
        )
    )
    _, parameters, statistics = split_network(network)
    parts = {"parameters": {"backbone": parameters}, "statistics": {"backbone": statistics}}
    return shapes(parts)


def make_truth(wanted):
    """The pseudo-random weights in all files of this module; gamma is one."""
    return {leaf: pseudo_random(leaf.split("/", 2)[2], shape) for leaf, shape in wanted.items()}


def keras_layers(truth, start=0, head=True):
    """Weights by layer, as {"conv2d_5": {"kernel": ...}}, in the order of construction.

    Layers are numbered from `start`; with `head`, there is a classifier.
    """
    layers, number = {}, start
    for path in layer_paths(DEPTH):
        stage, *rest = path.split("/")
        weights = f"parameters/backbone/{path}"
        if path.endswith("/projection"):
            name = f"{stage}_{int(rest[0]) + 1}_conv"
            layers[name] = {"kernel": truth[f"{weights}/kernel"], "bias": truth[f"{weights}/bias"]}
            continue
        suffix = f"_{number}" if number else ""
        conv, norm = f"conv2d{suffix}", f"batch_normalization{suffix}"
        if path == "conv_7b":
            conv, norm = "conv_7b", "conv_7b_bn"
        number += 1
        layers[conv] = {"kernel": truth[f"{weights}/conv/kernel"]}
        layers[norm] = {
            "beta": truth[f"{weights}/bn/bias"],
            "moving_mean": truth[f"statistics/backbone/{path}/bn/mean"],
            "moving_variance": truth[f"statistics/backbone/{path}/bn/var"],
        }
    if head:
        layers["predictions"] = {"kernel": np.ones((192, 10)), "bias": np.ones(10)}
    return layers


def write_keras_layers(path, layers, *, colon=":0", group=""):
    """Writes an HDF5 file with a group per layer, as Keras 2 does or, if `colon` is "", Keras 3.

    The layers are in the HDF5 group `group`, or at the root if it is "".
    """
    with h5py.File(path, "w") as file:
        root = file.create_group(group) if group else file
        root.attrs["layer_names"] = [name.encode() for name in layers]
        for name, tensors in layers.items():
            root.create_group(name)
            root[name].attrs["weight_names"] = [f"{name}/{t}{colon}".encode() for t in tensors]
            for tensor, values in tensors.items():
                root[name][f"{name}/{tensor}{colon}"] = values
    return path


def write_keras_containers(path, layers, *, place="layers", archive=False):
    """Writes a `.weights.h5` file of Keras 3, or a `.keras` file if `archive`.

    The layers are in the HDF5 group `place`.
    """
    target = io.BytesIO() if archive else path
    counts = {}
    with h5py.File(target, "w") as file:
        for name in container_order(layers):
            kind = {"b": "batch_normalization", "p": "dense"}.get(name[0], "conv2d")
            if name.startswith("block") or name == "conv_7b":
                kind = "conv2d"
            if name == "conv_7b_bn":
                kind = "batch_normalization"
            number = counts[kind] = counts.get(kind, -1) + 1
            group = file.create_group(f"{place}/{kind}_{number}" if number else f"{place}/{kind}")
            for i, values in enumerate(layers[name].values()):
                group[f"vars/{i}"] = values
        file["optimizer/vars/0"] = np.int64(7)
    if archive:
        with zipfile.ZipFile(path, "w") as zipped:
            zipped.writestr("config.json", json.dumps({}))
            zipped.writestr("model.weights.h5", target.getvalue())
    return path


def container_order(layers):
    """The names of the layers in the order of `model.layers` in Keras."""
    made = iter(layers)
    blocks = {}  # the names of each path, by block
    for path in layer_paths(DEPTH):
        block = re.split(r"/branches|/mixed|/projection", path)[0]
        names = [next(made) for _ in range(1 if path.endswith("/projection") else 2)]
        blocks.setdefault(block, []).append(names)
    order = []
    for block, names in blocks.items():
        for i in BY_DEPTH.get(block.split("/")[0], range(len(names))):
            order += names[i]
    return [*order, *made]


def write_timm(path, truth, head=True):
    """Writes a safetensors file with timm's names and kernels [out, in, h, w]."""
    tensors = {}
    for layer in layer_paths(DEPTH):
        name, weights = timm_name(layer), f"parameters/backbone/{layer}"
        if layer.endswith("/projection"):
            tensors[f"{name}.weight"] = truth[f"{weights}/kernel"].transpose(3, 2, 0, 1)
            tensors[f"{name}.bias"] = truth[f"{weights}/bias"]
            continue
        tensors[f"{name}.conv.weight"] = truth[f"{weights}/conv/kernel"].transpose(3, 2, 0, 1)
        tensors[f"{name}.bn.weight"] = truth[f"{weights}/bn/scale"]
        tensors[f"{name}.bn.bias"] = truth[f"{weights}/bn/bias"]
        tensors[f"{name}.bn.running_mean"] = truth[f"statistics/backbone/{layer}/bn/mean"]
        tensors[f"{name}.bn.running_var"] = truth[f"statistics/backbone/{layer}/bn/var"]
        tensors[f"{name}.bn.num_batches_tracked"] = np.array(3)
    if head:
        tensors |= {"classif.weight": np.ones((10, 192)), "classif.bias": np.ones(10)}
    save_file({name: np.ascontiguousarray(t) for name, t in tensors.items()}, path)
    return path


def timm_name(layer):
    stage, *rest = layer.split("/")
    if stage == "stem":
        return rest[0].replace("conv", "conv2d")
    if stage == "conv_7b":
        return "conv2d_7b"
    if stage == "block8":
        stage = {"0": "repeat_2.0", "1": "block8"}[rest[0]]
    elif stage.startswith("block"):
        stage = f"{ {'block35': 'repeat', 'block17': 'repeat_1'}[stage] }.{rest[0]}"
    if rest[-1] == "projection":
        return f"{stage}.conv2d"
    branch, position = rest[-3], rest[-1]
    alone = {"mixed_5b": "03", "mixed_6a": "0", "mixed_7a": ""}.get(stage, "0")
    if stage == "mixed_5b" and branch == "3":
        return "mixed_5b.branch3.1"
    return f"{stage}.branch{branch}" if branch in alone else f"{stage}.branch{branch}.{position}"
