"""Reading weight files of Keras, timm and this project: the tensors by their names in the file.

Formats that can run code are refused. Only numbers and names are read, with h5py and safetensors.
"""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from fer_jax.errors import UserError
from fer_jax.files import check_regular

if TYPE_CHECKING:
    import h5py

SUFFIXES = (".h5", ".hdf5", ".keras", ".safetensors")
PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle", ".npy", ".npz", ".tar")
# Names of the layers of keras.applications.InceptionResNetV2 with weights, except the head.
KERAS_LAYER = re.compile(
    r"(conv2d|batch_normalization)(_\d+)?|block(35|17|8)_\d+_conv|conv_7b(_bn)?"
)


class WeightFile(NamedTuple):
    """The tensors of a backbone and of its head in a file, and the layout of the names.

    `layout` is "ours" (parameters/backbone/stem/...), "timm" (conv2d_1a.conv.weight), "layers"
    (conv2d_5/kernel: HDF5 files of Keras 1 and 2, and `.h5` files of Keras 3), or "containers"
    (conv2d_5/vars/0: `.weights.h5` and `.keras` of Keras 2.12 and later).
    `head` is the classifier in a file of Keras or timm: kernel [features, classes] and bias
    [classes]; empty if the file has none.
    """

    layout: str
    tensors: dict[str, np.ndarray]
    head: dict[str, np.ndarray]


def read(path: Path) -> WeightFile:
    """Reads a weight file: `.h5` (also `.weights.h5`), `.hdf5`, `.keras` or `.safetensors`.

    Raises:
        UserError: the format is not supported, the file cannot be read or contains several
            networks, or a tensor outside the head is not of a float type, or contains NaN or Inf.
    """
    suffix = path.suffix.lower()
    if suffix in PICKLES:
        raise UserError(
            f"{path} is refused, since reading this format can run code; if it is a PyTorch "
            f"state dict, convert it with: {conversion(path)}"
        )
    if suffix not in SUFFIXES:
        raise UserError(f"{path} is not a weight file; use one that ends in {', '.join(SUFFIXES)}")
    try:
        check_regular(path)
        if suffix == ".safetensors":
            file = _from_safetensors(load_file(path))
        elif suffix == ".keras":
            with zipfile.ZipFile(path) as archive:
                file = _from_hdf5(path, io.BytesIO(archive.read("model.weights.h5")))
        else:
            file = _from_hdf5(path, path)
    except (OSError, KeyError, SafetensorError, zipfile.BadZipFile) as error:
        raise UserError(
            f"cannot read the weights in {path} ({error}); download or copy the file again"
        ) from error
    wrong = [n for n, t in file.tensors.items() if t.dtype.kind != "f" or not np.isfinite(t).all()]
    if wrong:
        raise UserError(
            f"{path} has tensors with NaN or Inf, or of a type that is not float ({len(wrong)} in "
            f"total, such as {wrong[0]}); use an undamaged file with float weights"
        )
    return file


def conversion(path: Path) -> str:
    """The shell command that converts a pickled PyTorch state dict to a `.safetensors` file."""
    return (
        f'python -c "import torch, safetensors.torch as s; '
        f"s.save_file({{k: v.contiguous() for k, v in torch.load('{path}', map_location='cpu', "
        f"weights_only=True).items()}}, '{path.with_suffix('.safetensors')}')\""
    )


def _from_safetensors(tensors: dict[str, np.ndarray]) -> WeightFile:
    if any(name.startswith("parameters/backbone/") for name in tensors):
        return WeightFile(
            "ours",
            {name: t for name, t in tensors.items() if name.split("/")[1] == "backbone"},
            {},
        )
    kept = {
        name: tensor
        for name, tensor in tensors.items()
        if not name.endswith(".num_batches_tracked") and name.split(".")[0] != "classif"
    }
    names = {"kernel": "classif.weight", "bias": "classif.bias"}
    head = {ours: tensors[name].T for ours, name in names.items() if name in tensors}
    return WeightFile("timm", kept, head)


def _from_hdf5(path: Path, source: Path | io.BytesIO) -> WeightFile:
    import h5py  # imported late, since models of this project are safetensors files

    with h5py.File(source, "r") as file:
        datasets: dict[str, h5py.Dataset] = {}

        def keep(name: str, item: h5py.Group | h5py.Dataset) -> None:
            if isinstance(item, h5py.Dataset):
                datasets[name] = item

        file.visititems(keep)  # does not follow links to other files
        if any(re.search(r"/vars/\d+$", name) for name in datasets):
            return WeightFile("containers", _by_container(path, datasets), _head(datasets))
        return WeightFile("layers", _by_layer(path, datasets), _head(datasets))


def _by_layer(path: Path, datasets: dict[str, h5py.Dataset]) -> dict[str, np.ndarray]:
    """The tensors by short names, without those of the head and the optimizer.

    "[model_weights/]conv2d_5/conv2d_5/kernel:0" becomes "conv2d_5/kernel"; the part in square
    brackets is optional.

    Raises:
        UserError: two tensors have the same short name.
    """
    tensors: dict[str, np.ndarray] = {}
    for name, dataset in datasets.items():
        *parents, last = name.split("/")
        known = [part for part in parents if KERAS_LAYER.fullmatch(part)]
        layer = known[0] if known else (parents or [""])[-1]
        if parents[:1] == ["optimizer_weights"] or _is_head(layer):
            continue
        short = f"{layer}/{last.removesuffix(':0')}"
        if short in tensors:
            raise UserError(f"{path} contains {short} twice; save only the backbone")
        tensors[short] = _values(dataset)
    return tensors


def _by_container(path: Path, datasets: dict[str, h5py.Dataset]) -> dict[str, np.ndarray]:
    """The tensors of the network's layers by short names, without those of the head.

    "[layers/functional/]layers/conv2d_5/vars/0" becomes "conv2d_5/vars/0"; the part in square
    brackets is optional.

    Raises:
        UserError: the file contains several networks.
    """
    places = {
        name.removesuffix("batch_normalization/vars/0")
        for name in datasets
        if name.endswith("/batch_normalization/vars/0")
    }
    if len(places) > 1:
        raise UserError(f"{path} contains {len(places)} networks; save only the backbone")
    place = min(places, default="layers/")  # no place: another network, which will not fit
    names = {name.removeprefix(place): name for name in datasets if name.startswith(place)}
    return {short: _values(datasets[n]) for short, n in names.items() if not _is_head(short)}


def _head(datasets: dict[str, h5py.Dataset]) -> dict[str, np.ndarray]:
    """The kernel and bias of the classifier in a file of Keras; empty if there is none.

    Its layer is called "predictions" or, in the layout "containers", also "dense".
    """
    endings = {
        "kernel": r"(predictions/kernel(:0)?|(predictions|dense)/vars/0)",
        "bias": r"(predictions/bias(:0)?|(predictions|dense)/vars/1)",
    }
    return {
        ours: _values(dataset)
        for ours, ending in endings.items()
        for name, dataset in datasets.items()
        if re.fullmatch(rf"(.*/)?{ending}", name) and not name.startswith("optimizer")
    }


def _is_head(layer: str) -> bool:
    return layer.startswith(("dense", "predictions"))


def _values(dataset: h5py.Dataset) -> np.ndarray:
    if dataset.attrs.get("dtype") == "bfloat16":  # stored as opaque 16-bit values
        return (np.asarray(dataset[()]).view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    return np.asarray(dataset[()])
