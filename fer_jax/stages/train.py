"""Images → a trained model: any tasks on any of the data sets (pretraining, the verifier)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from fer_jax.data import builders, iterators, sources
from fer_jax.errors import UserError
from fer_jax.training import model_directory
from fer_jax.training.learner import Learner, make_tasks
from fer_jax.training.loop import fit
from fer_jax.workdir import stage


@stage(inputs=lambda config: [_root(config.data), *_options(config.data).values(), config.init])
def run(config: ConfigDict, workdir: Path) -> dict[str, Any]:
    """Trains `config.tasks` on `config.data`; writes checkpoints, curves and `model/`."""
    root = _root(config.data)
    if not root:
        raise UserError("give --config.data.root, the folder that the images lie in")
    training, validation = (_open(config.data, split, workdir) for split in ("train", "validation"))
    if len(training) < config.batch_size:
        raise UserError(
            f"{root} has {len(training)} images to train on, fewer than "
            f"config.batch_size={config.batch_size}"
        )
    tasks, weights = make_tasks(config.tasks.to_dict())
    for name, task in tasks.items():
        if task.labels_needed and training[0]["label"] < 0:
            raise UserError(f"the task {name} needs labels, and {config.data.dataset} has none")
    steps = max(1, round(config.epochs * len(training) / config.batch_size))

    learner = Learner(config, tasks, weights, steps)
    state = learner.init(config.seed)
    if config.init:
        leaves = model_directory.backbone_leaves(config.init, state)
        state = learner.init(config.seed, leaves)
    batches = iterators.train_iterator(
        training, batch_size=config.batch_size, seed=config.seed, workers=config.workers
    )
    fitted = fit(
        learner,
        state,
        batches,
        steps=steps,
        folder=workdir,
        config=config,
        evaluate=lambda state: learner.evaluate(
            state, iterators.eval_batches(validation, batch_size=config.batch_size)
        ),
    )
    model_directory.save(
        workdir / "model",
        fitted.state,
        model_directory.describe(config, learner.tasks, root),
    )
    return {
        "train_images": len(training),
        "validation_images": len(validation),
        "steps": steps,
        **{name: round(value, 4) for name, value in fitted.figures.items()},
        **fitted.speed(),
        "compile_s": round(sum(learner.compile_seconds.values()), 2),
    }


def _options(data: ConfigDict) -> dict[str, str]:
    """The folders that a data set takes beside its root, by the name of its field; "" for none."""
    return dict(data.get("folders", {}))


def _root(data: ConfigDict) -> str:
    """Where the data lie; that of the first folder where only such are given."""
    return data.root or next((path for path in _options(data).values() if path), "")


def _open(data: ConfigDict, split: str, workdir: Path) -> sources.Source:
    """The examples. Records lie beside a stage's results, never in a folder of the user's own."""
    root, folders = _root(data), {k: v for k, v in _options(data).items() if v}
    from_a_stage = (Path(root) / "done.json").is_file()
    return sources.open_source(
        data.dataset,
        builders.config_with(data.dataset, **folders) if folders else data.config or None,
        split,
        root,
        data.image_size,
        data_dir=None if from_a_stage and not folders else workdir / "records",
        cache=data.cache,
    )
