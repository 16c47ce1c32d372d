"""Weights of Inception-ResNet-v2 from Keras, timm and this project, as leaves of our backbone.

All three normalise with epsilon 1e-3 and have no bias before BatchNorm, so their weights are
interchangeable. If a file has no gamma, like those of keras.applications, gamma becomes 1. The
preprocessing of Keras and timm (mean 0.5, deviation 0.5) is x / 127.5 - 1 on RGB, here
`normalise="inception"`.

For a grey backbone the first kernel is summed over its three inputs. This gives the same outputs as
the colour network on a grey picture, in which red, green and blue are equal.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float

from fer_jax.errors import UserError
from fer_jax.models import weight_files

Shape = tuple[int, ...]
Table = dict[str, str]  # the path of our leaf by the name of the tensor in the file

STAGES = (
    "stem", "mixed_5b", "block35", "mixed_6a", "block17", "mixed_7a", "block8", "conv_7b",
)  # fmt: skip
FIRST_KERNEL = "parameters/backbone/stem/conv_1a/conv/kernel"
_TIMM_STAGES = {"block35": "repeat", "block17": "repeat_1", "block8": "repeat_2"}
_MAX_LISTED = 10  # maximum number of names of each kind in a message


def read_backbone(path: Path, wanted: Mapping[str, Shape]) -> dict[str, np.ndarray]:
    """The backbone in the file `path`: float32 arrays by the names of our leaves.

    Args:
        path: `.h5`, `.weights.h5`, `.keras` or `.safetensors` (see `weight_files.read`).
        wanted: shapes by leaf, e.g. {"parameters/backbone/conv_7b/bn/bias": (1536,)}.

    Raises:
        UserError: the file cannot be read, or its tensors do not fit; the message lists them, up to
            ten of each kind, and the config fields with which the published network would fit.
    """
    layout, tensors, _ = weight_files.read(path)
    if layout != "ours" and FIRST_KERNEL not in wanted:
        raise UserError(
            f"{path} contains weights of Inception-ResNet-v2 from Keras or timm, but "
            "config.backbone is another network; pass a model directory with that other network"
        )
    if layout == "ours":
        table = {leaf: leaf for leaf in wanted}
    else:
        table = _TABLES[layout](layers_in_order(wanted), tensors)
    source_shape = _oihw if layout == "timm" else tuple
    shapes = {name: source_shape(wanted[leaf]) for name, leaf in table.items()}
    kernel = next((name for name, leaf in table.items() if leaf == FIRST_KERNEL), "")
    if kernel in tensors and tensors[kernel].ndim == 4 and wanted[FIRST_KERNEL][2] == 1:
        axis = 1 if layout == "timm" else 2
        if tensors[kernel].shape[axis] == 3:
            tensors[kernel] = tensors[kernel].sum(axis, keepdims=True)
    check_leaves(f"the backbone in {path}", "--config.backbone", tensors, shapes, _hint(wanted))
    leaves = {leaf: _as_ours(tensors[name], layout) for name, leaf in table.items()}
    gammas = {leaf for leaf in wanted if leaf.endswith("/bn/scale")} - leaves.keys()
    return leaves | {leaf: np.ones(wanted[leaf], np.float32) for leaf in gammas}


def read_head(
    path: Path, features: int, classes: int
) -> tuple[Float[np.ndarray, "f c"], Float[np.ndarray, " c"]]:
    """The classifier in a file of Keras or timm: kernel [features, classes] and bias [classes].

    Both are float32.

    Args:
        path: as in `read_backbone`.
        features: number of features of the backbone.
        classes: number of classes of the classifier.

    Raises:
        UserError: the file cannot be read, or it has no classifier, or its classifier has another
            shape or contains NaN or Inf.
    """
    head = weight_files.read(path).head
    wanted = {"kernel": (features, classes), "bias": (classes,)}
    if {name: tensor.shape for name, tensor in head.items()} != wanted:
        found = ", ".join(f"{name} {tensor.shape}" for name, tensor in head.items()) or "none"
        raise UserError(
            f"{path} has no head with {classes} classes for {features} features (found: "
            f"{found}); pass the published file with a head (not the one called notop)"
        )
    if not all(np.isfinite(tensor).all() for tensor in head.values()):
        raise UserError(f"{path}: the head contains NaN or Inf; download the file again")
    return head["kernel"].astype(np.float32), head["bias"].astype(np.float32)


def check_leaves(
    what: str,
    expected_by: str,
    arrays: Mapping[str, np.ndarray],
    wanted: Mapping[str, Shape],
    hint: str = "",
) -> None:
    """Checks that `arrays` has exactly the names and shapes in `wanted`.

    Args:
        what: names the arrays in the message, e.g. "the backbone in weights.h5".
        expected_by: names what the arrays should fit, e.g. "--config.backbone".
        arrays: the arrays by name.
        wanted: the expected shapes by name.
        hint: the end of the message.

    Raises:
        UserError: the names or shapes differ; the message lists up to ten names for each kind of
            difference.
    """
    missing = sorted(wanted.keys() - arrays.keys())
    extra = sorted(arrays.keys() - wanted.keys())
    shapes = [
        f"{name} {arrays[name].shape}, expected {wanted[name]}"
        for name in sorted(wanted.keys() & arrays.keys())
        if arrays[name].shape != wanted[name]
    ]
    problems = [
        f"{len(names)} {kind} ({', '.join(names[:_MAX_LISTED])}"
        f"{', …' if len(names) > _MAX_LISTED else ''})"
        for kind, names in (("missing", missing), ("unknown", extra), ("of another shape", shapes))
        if names
    ]
    if problems:
        raise UserError(f"{what} does not fit {expected_by} (tensors: {'; '.join(problems)}){hint}")


def layers_in_order(wanted: Iterable[str]) -> list[str]:
    """The paths of our convolutions, in the order in which Keras and timm create them.

    A path that ends in "projection" is a block's 1x1 convolution with bias; every other path is a
    convolution "conv" with its normalisation "bn".
    """
    kernels = [leaf.split("/", 2)[2] for leaf in wanted if leaf.endswith("/kernel")]
    layers = [kernel.removesuffix("/kernel").removesuffix("/conv") for kernel in kernels]

    def place(path: str) -> list[tuple[int, str]]:
        stage, *rest = path.split("/")
        parts = [(int(part), "") if part.isdigit() else (0, part) for part in rest]
        return [(STAGES.index(stage), ""), *parts]

    return sorted(layers, key=place)


def _tensors_of(layer: str, conv: Mapping[str, str], norm: Mapping[str, str]) -> Table:
    """The table of one layer.

    Args:
        layer: a path from `layers_in_order`.
        conv: the names in the file of the convolution's "kernel" and "bias"; the bias is used only
            for a projection.
        norm: the names in the file of the normalisation's "scale" (left out if the file has none),
            "bias", "mean" and "var"; not used for a projection.
    """
    weights = f"parameters/backbone/{layer}"
    if layer.endswith("/projection"):
        return {name: f"{weights}/{ours}" for ours, name in conv.items()}
    table = {conv["kernel"]: f"{weights}/conv/kernel"}
    for ours, name in norm.items():
        part = "statistics" if ours in ("mean", "var") else "parameters"
        table[name] = f"{part}/backbone/{layer}/bn/{ours}"
    return table


def _timm(layers: list[str], tensors: Mapping[str, np.ndarray]) -> Table:
    table: Table = {}
    lengths = {layer: _branch(layer, layers)[1] for layer in layers}
    last = max(
        (int(layer.split("/")[1]) for layer in layers if layer.startswith("block8/")), default=0
    )
    for layer in layers:
        name = _timm_name(layer, lengths[layer], last)
        conv = name if layer.endswith("/projection") else f"{name}.conv"
        table |= _tensors_of(
            layer,
            {"kernel": f"{conv}.weight", "bias": f"{conv}.bias"},
            {
                "scale": f"{name}.bn.weight",
                "bias": f"{name}.bn.bias",
                "mean": f"{name}.bn.running_mean",
                "var": f"{name}.bn.running_var",
            },
        )
    return table


def _timm_name(layer: str, length: int, last_block8: int) -> str:
    """timm's name of a layer: "repeat_1.4.branch1.2" for "block17/4/mixed/branches/1/convs/2".

    `length` is the number of convolutions in the layer's branch, and `last_block8` the number of
    the last block of the stage block8.
    """
    stage, *rest = layer.split("/")
    if not rest:
        return "conv2d_7b"
    if stage == "stem":
        return rest[0].replace("conv_", "conv2d_")
    if stage in _TIMM_STAGES:
        number = int(rest[0])
        stage = f"{_TIMM_STAGES[stage]}.{number}"
        if layer.startswith(f"block8/{last_block8}/"):
            stage = "block8"  # timm names the last one, which has no ReLU, separately
        if rest[1] == "projection":
            return f"{stage}.conv2d"
    branch, position = rest[-3], int(rest[-1])
    if (stage, branch) == ("mixed_5b", "3"):
        return "mixed_5b.branch3.1"  # branch3.0 is the pooling
    return f"{stage}.branch{branch}" + (f".{position}" if length > 1 else "")


def _keras_layers(layers: list[str], tensors: Mapping[str, np.ndarray]) -> Table:
    """The table for names that Keras numbers in the order of construction.

    The numbering may start at any number.
    """
    first = {kind: _first_number(kind, tensors) for kind in ("conv2d", "batch_normalization")}
    table: Table = {}
    number = 0
    for layer in layers:
        stage, *rest = layer.split("/")
        if layer.endswith("/projection"):
            conv, norm = f"{stage}_{int(rest[0]) + 1}_conv", ""
        elif layer == "conv_7b":
            conv, norm = "conv_7b", "conv_7b_bn"
        else:
            conv, norm = (_numbered(kind, start + number) for kind, start in first.items())
            number += 1
        names = {"bias": "beta", "mean": "moving_mean", "var": "moving_variance"}
        if f"{norm}/gamma" in tensors:
            names["scale"] = "gamma"
        table |= _tensors_of(
            layer,
            {"kernel": f"{conv}/kernel", "bias": f"{conv}/bias"},
            {ours: f"{norm}/{theirs}" for ours, theirs in names.items()},
        )
    return table


def _keras_containers(layers: list[str], tensors: Mapping[str, np.ndarray]) -> Table:
    """The table for names that Keras numbers in the order of `model.layers`.

    Layers that are farther from the output come first.
    """
    table: Table = {}
    normalised = 0
    for number, layer in enumerate(_by_depth(layers)):
        conv = f"{_numbered('conv2d', number)}/vars"
        norm = f"{_numbered('batch_normalization', normalised)}/vars"
        normalised += not layer.endswith("/projection")
        gamma = ("scale",) if f"{norm}/3" in tensors else ()
        table |= _tensors_of(
            layer,
            {"kernel": f"{conv}/0", "bias": f"{conv}/1"},
            {ours: f"{norm}/{i}" for i, ours in enumerate((*gamma, "bias", "mean", "var"))},
        )
    return table


_TABLES: dict[str, Callable[[list[str], Mapping[str, np.ndarray]], Table]] = {
    "timm": _timm,
    "layers": _keras_layers,
    "containers": _keras_containers,
}


def _by_depth(layers: list[str]) -> list[str]:
    """Sorts layers like a functional model of Keras: farthest from the output first.

    Layers at the same distance are in the order of creation. The branches of a block end together,
    so the longest one starts first.
    """

    def place(layer: str) -> tuple[int, int, int]:
        position, length = _branch(layer, layers)
        first = next(i for i, other in enumerate(layers) if _block(other) == _block(layer))
        return first, position - length, layers.index(layer)

    return sorted(layers, key=place)


def _block(layer: str) -> str:
    """The prefix that the branches of a layer's block share; the layer itself outside branches."""
    return layer.split("/branches/")[0]


def _branch(layer: str, layers: list[str]) -> tuple[int, int]:
    """A layer's position in its branch, and the branch's length; (0, 1) outside of branches."""
    if "/branches/" not in layer:
        return 0, 1
    branch, position = layer.rsplit("/", 1)
    return int(position), sum(other.startswith(f"{branch}/") for other in layers)


def _first_number(kind: str, names: Iterable[str]) -> int:
    found = [re.fullmatch(rf"{kind}(?:_(\d+))?/.*", name) for name in names]
    return min((int(match[1] or 0) for match in found if match), default=0)


def _numbered(kind: str, number: int) -> str:
    return f"{kind}_{number}" if number else kind


def _as_ours(tensor: np.ndarray, layout: str) -> np.ndarray:
    if layout == "timm" and tensor.ndim == 4:
        tensor = tensor.transpose(2, 3, 1, 0)
    return np.ascontiguousarray(tensor, np.float32)


def _oihw(shape: Shape) -> Shape:
    return (shape[3], shape[2], shape[0], shape[1]) if len(shape) == 4 else shape


def _hint(wanted: Mapping[str, Shape]) -> str:
    """The end of a message, with the config fields to change for the published network.

    "" if `wanted` is another network, or if no field has to be changed.
    """
    if FIRST_KERNEL not in wanted:  # the backbone is another network
        return ""
    layers = layers_in_order(wanted)
    depth = [
        len({layer.split("/")[1] for layer in layers if layer.startswith(f"{stage}/")})
        for stage in _TIMM_STAGES
    ]
    fields = {
        'stem="full"': "stem/conv_4a" in layers and "stem/conv_2a" in layers,
        "width=1.0": wanted["parameters/backbone/conv_7b/bn/bias"] == (1536,),
        "depth=(10, 20, 10)": depth == [10, 20, 10],
    }
    wrong = [field for field, right in fields.items() if not right]
    if not wrong:
        return ""
    return (
        f"; for the published network, set config.backbone to {', '.join(wrong)}, as the size full "
        f"does: --config=configs/emotion.py:full"
    )
