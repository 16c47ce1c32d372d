r"""Trains an emotion network on fer2013, to provide initial weights for data with few people.

    python -m benchmarks fer2013 FOLDER
    python launch.py --config=configs/photographs.py --config.photos=FOLDER/four.csv \
        --config.crop.size=80 --config.crop.margin=0.0 --config.batch=64 --workdir=WORK/fer2013
    python -m benchmarks train_fer2013 --photographs=WORK/fer2013 --workdir=WORK/fer2013_small

Trains on the split `train`, and prints the accuracy on `validation` (make choices on this split
only) and, with --test, on `test`. A larger network, for a GPU:

    python -m benchmarks train_fer2013 --photographs=WORK/fer2013 --workdir=WORK/fer2013_wide \
        --width=0.375 --depth=2,4,2 --stem=small --learning_rate=2e-3 --batch_size=128 --epochs=40
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from configs import emotion
from fer_jax import backend
from fer_jax.data import iterators, sources
from fer_jax.schemas import validated
from fer_jax.training import model_directory
from fer_jax.training.learner import Learner, make_tasks
from fer_jax.training.loop import fit
from fer_jax.workdir import write_json

LABELS = ("angry", "happy", "neutral", "sad")
AUGMENT = {
    "flip": 0.5, "zoom": 0.12, "shift": 0.06, "turn": 10.0, "brightness": 0.2, "contrast": 0.2,
    "erase": 0.3,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photographs", type=Path, required=True)
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--width", type=float, default=0.125)
    parser.add_argument("--depth", default="1,1,1")
    parser.add_argument("--stem", default="tiny")
    parser.add_argument("--learning_rate", type=float, default=6e-3)
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--epochs", type=float, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--test", action="store_true")
    flags = parser.parse_args()
    backend.prepare()
    config = validated(configured(flags))
    images = {name: source(flags.photographs, name, config) for name in splits(flags)}
    steps = round(flags.epochs * len(images["train"]) / config.batch_size)
    tasks = make_tasks(config.tasks.fields(), emotion={"classes": LABELS})
    learner = Learner(config.backbone, config.optimizer, *tasks, config, steps=steps)

    def measured(state, name):
        batches = iterators.eval_batches(images[name], batch_size=config.batch_size)
        return learner.evaluate(state, batches)

    config = config.model_copy(update={"evaluate_every": steps // 5})
    fitted = fit(
        learner,
        learner.init(flags.seed),
        iterators.TrainIterator(images["train"], batch_size=config.batch_size, seed=flags.seed),
        steps=steps,
        folder=flags.workdir,
        loop=config,
        evaluate=lambda state: measured(state, "validation"),
    )
    spec = model_directory.describe(
        config.backbone,
        config.image_size,
        learner.tasks,
        faces=model_directory.read_faces(flags.photographs),
    )
    model_directory.save(flags.workdir / "model", model_directory.arrays_of(fitted.state), spec)
    # As crossval writes it, so that the auditor knows the training data of this network.
    plain = config.model_dump(exclude_unset=True)
    write_json(flags.workdir / "config.json", {**plain, "photographs": str(flags.photographs)})
    figures = {name: measured(fitted.state, name) for name in images if name != "train"}
    write_json(flags.workdir / "done.json", {"stage": "train_fer2013", "summary": figures})
    for name, found in figures.items():
        print(f"{name}: {found['emotion/accuracy']:.1%} of {len(images[name])}")
    print(f"{steps} steps, {fitted.speed()}")


def splits(flags: argparse.Namespace) -> tuple[str, ...]:
    return ("train", "validation", "test") if flags.test else ("train", "validation")


def configured(flags: argparse.Namespace) -> ConfigDict:
    config = emotion.get_config("small").unlock()
    config.batch_size = flags.batch_size
    config.optimizer.learning_rate = flags.learning_rate
    config.backbone.width = flags.width
    config.backbone.depth = tuple(int(count) for count in flags.depth.split(","))
    config.backbone.stem = flags.stem
    config.tasks.emotion.augment = ConfigDict(AUGMENT)
    config.log_every, config.checkpoint_every_s = 100, 60.0
    return config


def source(root: Path, split: str, config: ConfigDict) -> sources.ArraySource:
    table = pd.read_parquet(root / "photographs.parquet")
    table = table[(table["status"] == "ok") & (table["split"] == split)]
    images = sources.read_images([root / crop for crop in table["crop"]], config.image_size)
    codes = np.array([LABELS.index(name) for name in table["emotion"]], np.int32)
    return sources.ArraySource(images, codes, table["photo"].tolist())


if __name__ == "__main__":
    main()
