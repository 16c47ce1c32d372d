"""Writes and runs files in the two export formats.

onnx        for ONNX Runtime, in Python, C++, C#, Java and browsers; written by jax2onnx
stablehlo   for JAX, without this package; written by `jax.export`
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from jaxtyping import UInt8

from fer_jax.errors import UserError
from fer_jax.export.answer import Answer, Function

INPUT = "faces"
OPSET = 17  # of ONNX; read by every runtime since 2022
PLATFORMS = ("cpu", "cuda", "tpu")  # of StableHLO
_LIBRARIES = ("jax2onnx", "onnx", "onnxruntime")
_NOISY = ("jax2onnx", "onnx_ir")  # loggers

Runner = Callable[[UInt8[np.ndarray, "n s s 3"]], Answer]


class Write(Protocol):
    """Writes a function of crops of `side` pixels to a file.

    `notes` become the metadata of the file; formats without metadata ignore them.
    """

    def __call__(
        self, path: Path, function: Function, side: int, notes: Mapping[str, str]
    ) -> None: ...


class Format(NamedTuple):
    """A file format.

    Attributes:
        file: the name of the file.
        libraries: packages that the format needs in addition to the requirements of fer_jax.
        write: see `Write`.
        open: reads a file and returns its function.
    """

    file: str
    libraries: tuple[str, ...]
    write: Write
    open: Callable[[Path], Runner]


def check_installed(name: str) -> None:
    """Raises a `UserError` if a library that the format `name` needs is not installed."""
    missing = [one for one in FORMATS[name].libraries if importlib.util.find_spec(one) is None]
    if missing:
        raise UserError(
            f"export: the format {name} needs {', '.join(missing)}; run in the checkout: "
            "pip install '.[export]' (docs/export.md), or leave this format out with "
            "--config.formats=\"('stablehlo',)\""
        )


def write_onnx(path: Path, function: Function, side: int, notes: Mapping[str, str]) -> None:
    """Writes an ONNX file for any batch size; `notes` become its metadata."""
    import onnx

    def outputs(faces: jax.Array) -> tuple[jax.Array, ...]:
        return tuple(function(faces))

    shape = jax.ShapeDtypeStruct(("batch", side, side, 3), jnp.uint8)
    with _quiet(*_NOISY):
        from jax2onnx import to_onnx

        model = to_onnx(
            outputs,
            [shape],
            model_name="fer_jax",
            opset=OPSET,
            input_names=[INPUT],
            output_names=list(Answer._fields),
        )
    onnx.helper.set_model_props(model, dict(notes))
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def open_onnx(path: Path) -> Runner:
    """The function in an ONNX file, run on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(faces: UInt8[np.ndarray, "n s s 3"]) -> Answer:
        return Answer(*session.run(list(Answer._fields), {INPUT: faces}))

    return run


def write_stablehlo(path: Path, function: Function, side: int, notes: Mapping[str, str]) -> None:
    """Writes a file for `jax.export.deserialize`, for all platforms; `notes` are ignored."""
    del notes

    def outputs(faces: jax.Array) -> dict[str, jax.Array]:
        return function(faces)._asdict()

    shape = export.symbolic_shape(f"batch, {side}, {side}, 3")
    exported = export.export(jax.jit(outputs), platforms=PLATFORMS)(
        jax.ShapeDtypeStruct(shape, jnp.uint8)
    )
    path.write_bytes(exported.serialize())


def open_stablehlo(path: Path) -> Runner:
    """The function in a serialised StableHLO file."""
    call = jax.jit(export.deserialize(bytearray(path.read_bytes())).call)

    def run(faces: UInt8[np.ndarray, "n s s 3"]) -> Answer:
        found: dict[str, Any] = {name: np.asarray(value) for name, value in call(faces).items()}
        return Answer(**found)

    return run


FORMATS = {
    "onnx": Format("model.onnx", _LIBRARIES, write_onnx, open_onnx),
    "stablehlo": Format("model.stablehlo", (), write_stablehlo, open_stablehlo),
}


@contextlib.contextmanager
def _quiet(*names: str) -> Iterator[None]:
    """In the block, hides warnings of these loggers (about other plugins and removed nodes)."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
