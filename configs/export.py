r"""Writes a trained model as files that other programs run: ONNX and StableHLO.

    python launch.py --config=configs/export.py --config.model=WORK/emotion --workdir=WORK/export

`--config.model` is a model directory, or a workdir that contains one; the default is the network
that ships with the package ("starter"). ONNX needs `pip install '.[export]'` in the checkout,
in a separate environment (docs/export.md, with an example that runs the file without JAX).

Writes model.onnx, model.stablehlo, description.json and README.md. Each model file is one function
from face crops, uint8 [batch, S, S, 3], as `photographs` crops them, to calibrated probabilities.
Each file is compared with the model on generated faces, and kept only if no probability differs by
more than 1e-4.

Cost: half a minute for the starter. Expect: differences of about 1e-6.
"""

from ml_collections import ConfigDict


def get_config(arg: str | None = None) -> ConfigDict:
    """The config of the stage `export`; `arg` is unused."""
    del arg
    config = ConfigDict()
    config.stage = "export"

    config.model = "starter"  # a model directory, a workdir that contains one, or "starter"
    # Formats to write: "onnx" (needs '.[export]') and "stablehlo" (needs nothing else).
    config.formats = ("onnx", "stablehlo")
    return config.lock()
