"""Makes inception_resnet_v2_timm.npz with timm, in a separate environment.

    python -m venv torch && torch/bin/pip install -r benchmarks/requirements-torch.txt
    torch/bin/python -m tests.golden.make_inception_resnet_v2_timm

The file has the content of inception_resnet_v2.npz without the numbers of parameters, for the same
images and with gammas (`pseudo_gamma` of tests/models/pseudo_weights.py), which timm uses and Keras
does not.
"""

from pathlib import Path

import numpy as np

from benchmarks.backbone_peers import Timm
from tests.models.pseudo_weights import pseudo_gamma, pseudo_images, pseudo_random


def main() -> None:
    timm = Timm()
    shapes = timm.shapes()
    weights = {name: pseudo_random(name, shape) for name, shape in shapes.items()}
    weights |= {n: pseudo_gamma(n, shape) for n, shape in shapes.items() if n.endswith("/scale")}
    outputs = timm.inference(timm.build(weights, 96, "float32"), pseudo_images())
    outputs.pop("logits")
    np.savez_compressed(
        Path(__file__).with_name("inception_resnet_v2_timm.npz"),
        blocks=np.array(list(outputs)),
        mean=np.array([y.mean(dtype=np.float64) for y in outputs.values()], np.float32),
        deviation=np.array([y.std(dtype=np.float64) for y in outputs.values()], np.float32),
        features=outputs["conv_7b"].mean((1, 2))[:, :64],
    )


if __name__ == "__main__":
    main()
