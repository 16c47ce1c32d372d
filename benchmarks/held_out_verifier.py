r"""Measures verifiers on faces and non-faces of sources that were not used for any training.

    python -m benchmarks held_out_verifier --refined WORK/refine_a WORK/refine_b \
        --faces HELD_OUT/faces --nonfaces HELD_OUT/nonfaces

`--refined` are workdirs of the stage `refine`, run with --config.use_verifier=own or starter. Each
names its verifier and the threshold. `--faces` and `--nonfaces` are folders of crops, <source>/*,
of sources that no training used. Prints whether `refine` trusts the verifier, the share of faces
lost and of non-faces removed at 0.5 and at the threshold that `refine` used, and the area under the
ROC curve of each source of faces against all non-faces, and of all faces against each source of
non-faces.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.measure_starter import face_scores, folders, verification
from fer_jax.models import starter
from fer_jax.training import trained_model
from fer_jax.workdir import read_json


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--refined", type=Path, nargs="+", required=True)
    parser.add_argument("--faces", type=Path, required=True)
    parser.add_argument("--nonfaces", type=Path, required=True)
    options = parser.parse_args()
    for workdir in options.refined:
        report(workdir, options.faces, options.nonfaces)


def report(workdir: Path, faces: Path, nonfaces: Path) -> None:
    """Prints the measures of the verifier that `refine` used in `workdir`."""
    point = read_json(workdir / "threshold.json")
    own = point["verifier"] == "own"
    where = read_json(workdir / "config.json")["verifier"] if own else starter.NAME
    doubt = "; ".join(point["not_trusted"].values())
    print(f"\n{workdir.name}: verifier {where}, threshold {point['threshold']:.4f}")
    print(f"  refine {f'does not trust it: {doubt}' if doubt else 'trusts it'}")
    model = trained_model.load(where)
    scores = [
        {
            name: face_scores(model, images)
            for name, images in folders(root, model.record.image_size)
        }
        for root in (faces, nonfaces)
    ]
    verification(*scores, threshold=point["threshold"])


if __name__ == "__main__":
    main()
