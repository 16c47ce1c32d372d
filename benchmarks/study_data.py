r"""Prepares real faces for the study of pretext tasks: an unlabelled pool, and few labelled faces.

    python -m benchmarks study_data --fer2013=WORK/fer2013 --clips=WORK/refine --out=STUDY
    python launch.py --config=configs/photographs.py --config.photos=STUDY/low_shot.csv \
        --config.aligned=True --workdir=STUDY/low_shot
    python launch.py --config=configs/photographs.py --config.photos=STUDY/choosing.csv \
        --config.aligned=True --workdir=STUDY/choosing

`--fer2013` is a workdir of the stage `photographs` (benchmarks/fer2013.py), `--clips` an optional
workdir of `extract` or `refine`. Writes:

    STUDY/pool/manifest.parquet   faces of fer2013's split `train` and of the clips, for pretraining
    STUDY/low_shot.csv            labelled faces: `train` to draw from, `test` to measure on
    STUDY/choosing.csv            the same, but its split `test` is from fer2013's `validation`

Make choices on choosing.csv. The labelled faces are those with the four default emotions; the pool
has faces of any emotion. A face of fer2013 in the pool that looks like a copy of a test face of
either table is left out and counted.

The starter was trained on the labels of the split `train`. To study a network that continues from
it, `--labelled-from=validation` draws the labelled faces from the split `validation` instead. Faces
of `validation` and `test` that look like copies of a face of `train` are then left out too, and
counted.

fer2013 has no ids of people, so each picture counts as a separate person.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.fer2013 import FOUR
from fer_jax.auditing import likeness
from fer_jax.data import manifest
from fer_jax.workdir import write_json


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fer2013", type=Path, required=True)
    parser.add_argument("--clips", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--labelled-from", choices=("train", "validation"), default="train")
    parser.add_argument("--labelled", type=int, default=400, help="labelled faces per emotion")
    parser.add_argument("--pool", type=int, default=0, help="faces of fer2013 in the pool; 0: all")
    parser.add_argument("--measured", type=int, default=300, help="test faces per emotion")
    parser.add_argument("--seed", type=int, default=0)
    flags = parser.parse_args()
    flags.out.mkdir(parents=True, exist_ok=True)
    faces = pd.read_parquet(flags.fer2013 / "photographs.parquet")
    faces = faces[faces["status"] == "ok"].reset_index(drop=True)
    faces["file"] = [str((flags.fer2013 / crop).resolve()) for crop in faces["crop"]]
    link = flags.out / "fer2013"  # paths in a table lead to files next to it
    if not link.is_symlink():
        link.symlink_to(flags.fer2013.resolve())
    rng = np.random.default_rng(flags.seed)
    train = faces[faces["split"] == "train"]
    pool = train.sample(flags.pool, random_state=flags.seed) if flags.pool else train
    four = faces[faces["emotion"].isin(FOUR)]
    if flags.labelled_from == "validation":
        four = not_copied_from(train, four[four["split"] != "train"])
    measured = {
        split: drawn(four[four["split"] == split], flags.measured, rng)
        for split in ("validation", "test")
    }
    pool = without_copies(pool, pd.concat(measured.values()))
    if flags.labelled_from == "validation":
        to_label = four[four["split"] == "validation"]
    else:
        to_label = pool[pool["emotion"].isin(FOUR)]
    labelled = drawn(to_label, flags.labelled, rng)
    for name, split in (("low_shot", "test"), ("choosing", "validation")):
        # Searches again, among only the faces of this table, as the search for leakage does.
        shown = without_copies(labelled, measured[split]).assign(split="train")
        table = pd.concat([shown, measured[split].assign(split="test")])
        paths = "fer2013/" + table["crop"]
        table = table.assign(path=paths)[["path", "subject", "emotion", "split"]]
        table.to_csv(flags.out / f"{name}.csv", index=False)
        print(f"{name}.csv: {table.groupby(['split', 'emotion']).size().to_dict()}")
    write_pool(flags, pool)


def drawn(faces: pd.DataFrame, number: int, rng: np.random.Generator) -> pd.DataFrame:
    """Up to `number` randomly drawn faces of each emotion."""
    kept = [
        rows.iloc[np.sort(rng.permutation(len(rows))[:number])]
        for _, rows in faces.groupby("emotion")
    ]
    return pd.concat(kept)


def without_copies(faces: pd.DataFrame, measured: pd.DataFrame) -> pd.DataFrame:
    """The `faces` without copies of faces in `measured`; prints the number of those left out."""
    shown = likeness.Faces.read(measured["file"].tolist())
    before = len(faces)
    while True:  # each round finds the nearest copy of each face
        others = likeness.Faces.read(faces["file"].tolist())
        found = sorted({near for _, near, _ in likeness.copies(shown, others)})
        if not found:
            print(f"{before - len(faces)} faces left out as copies of test faces")
            return faces
        faces = faces.drop(faces.index[found])


def not_copied_from(seen: pd.DataFrame, faces: pd.DataFrame) -> pd.DataFrame:
    """The `faces` that copy no face in `seen`; prints the number of those left out."""
    pool = likeness.Faces.read(seen["file"].tolist())
    found = [
        row for row, _, _ in likeness.copies(likeness.Faces.read(faces["file"].tolist()), pool)
    ]
    print(f"{len(found)} of {len(faces)} faces left out as copies of faces of the split train")
    return faces.drop(faces.index[found])


def write_pool(flags: argparse.Namespace, faces: pd.DataFrame) -> None:
    """Writes the manifest of the pool: `faces`, which are from fer2013, and those of --clips."""
    folder = flags.out / "pool"
    folder.mkdir(exist_ok=True)
    rows = pd.DataFrame({"face_id": faces["subject"], "video": faces["photo"]})
    rows = rows.assign(
        frame=0, time_s=0.0, box=[np.zeros(4, np.float32)] * len(rows),
        landmarks=[np.zeros(10, np.float32)] * len(rows),
        detector_score=faces["detector_score"], verifier_score=np.float32(np.nan), sharpness=0.0,
        brightness=0.0, yaw=0.0, phash=np.uint64(0), track=0, status=manifest.KEPT, reason="",
        crop=[os.path.relpath(file, folder) for file in faces["file"]],
    )  # fmt: skip
    parts = [rows]
    if flags.clips:
        clips = manifest.read_manifest(flags.clips / "manifest.parquet")
        clips = clips[clips["status"] == manifest.KEPT].copy()
        clips["crop"] = [os.path.relpath(flags.clips / crop, folder) for crop in clips["crop"]]
        parts.append(clips[rows.columns])
    pool = pd.concat(parts, ignore_index=True)
    manifest.write_manifest(folder / "manifest.parquet", pool)
    write_json(folder / "done.json", {"stage": "study_data"})  # records may be written next to it
    print(f"pool: {len(rows)} faces of fer2013, {len(pool) - len(rows)} of clips")


if __name__ == "__main__":
    main()
