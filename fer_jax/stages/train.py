"""Images → a trained model: any tasks on any of the data sets (pretraining, the verifier)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import jax
import numpy as np

from fer_jax import backend, console, schemas
from fer_jax.data import builders, iterators, sources
from fer_jax.errors import UserError
from fer_jax.probes import face_pictures, task_pictures, watching
from fer_jax.tasks.task import Task
from fer_jax.training import curves, model_directory, parameter_table, sharding
from fer_jax.training.learner import Learner, make_tasks
from fer_jax.training.loop import fit, steps_of
from fer_jax.training.state import State, for_use
from fer_jax.workdir import atomic_file, stage

Measure: TypeAlias = Callable[[State], Mapping[str, float]]


@stage(
    inputs=lambda config: [
        _root(config.data),
        *_options(config.data).values(),
        config.init,
        config.probe.photographs,
    ],
    many_processes=True,
)
def run(config: schemas.Train, workdir: Path) -> dict[str, Any]:
    """Trains `config.tasks` on `config.data`; writes checkpoints, curves and `model/`.

    With `config.evaluate_every`, `best/model/` is that of the lowest validation loss: the tasks'
    losses, weighted as in training. With `config.probe.photographs`, probes tell before the first
    step and at each evaluation what the features know about emotions. Several processes may run
    it together.
    """
    if not _root(config.data):
        raise UserError("give --config.data.root, the folder that the images lie in")
    with backend.first_one_then_the_others("records"):  # opening them may write them
        training, validation = (
            _open(config.data, split, workdir) for split in ("train", "validation")
        )
    emotions = {"classes": training.classes} if training.classes else {}
    tasks, weights = make_tasks(config.tasks.given(), emotion=emotions)
    _check_enough(config, training, tasks)
    steps = steps_of(config, len(training))
    watched = watching.read_watched(config.probe, config.data.image_size, config.seed)

    learner = Learner(
        config.backbone,
        config.optimizer,
        tasks,
        weights,
        steps=steps,
        batch_size=config.batch_size,
        accumulate=config.accumulate,
        fsdp=config.fsdp,
    )
    state = _begin(learner, config)
    if backend.writes():
        table = parameter_table.draw(state["parameters"], learner.frozen)
        with atomic_file(workdir / "parameters.txt") as temporary:
            temporary.write_text(table)
    probed = (lambda state: watched.figures(learner, state)) if watched else None

    with iterators.train_iterator(
        training,
        batch_size=sharding.local_batch_size(config.batch_size),
        seed=config.seed,
        workers=config.workers,
        shard=sharding.shard(),
    ) as batches:
        fitted = fit(
            learner,
            state,
            batches,
            steps=steps,
            folder=workdir,
            loop=config,
            evaluate=_evaluation(learner, weights, validation, probed),
            before=probed,
        )
    _save_model(workdir / "model", fitted.state, config, learner)
    if fitted.best is not None:
        _save_model(workdir / "best" / "model", fitted.best, config, learner)
    _draw(workdir, learner, fitted.state, validation if len(validation) else training, watched)
    return {
        "train_images": len(training),
        "validation_images": len(validation),
        "steps": steps,
        **_began_with(config.init),
        **(watched.summary(workdir) if watched else {}),
        **{name: round(value, 4) for name, value in fitted.figures.items()},
        **fitted.speed(),
        **{f"{purpose}_s": round(spent, 2) for purpose, spent in fitted.seconds.items()},
    }


def _begin(learner: Learner, config: schemas.Train) -> State:
    """Random weights, or those that `config.init` names in the backbone."""
    state = learner.init(config.seed)
    if not config.init:
        return state
    return learner.begin_with(state, model_directory.backbone_leaves(config.init, state))


def _evaluation(
    learner: Learner,
    weights: Mapping[str, float],
    validation: sources.Source,
    probed: Measure | None,
) -> Measure:
    """The tasks' figures on the validation images, if there are any, and the probes'."""
    local = sharding.local_batch_size(learner.batch_size)

    def evaluate(state: State) -> Mapping[str, float]:
        batches = iterators.eval_batches(validation, batch_size=local, shard=sharding.shard())
        figures = learner.evaluate(state, batches)
        if figures:
            figures["loss"] = sum(
                weight * figures[f"{name}/loss"] for name, weight in weights.items()
            )
        return {**figures, **(probed(state) if probed else {})}

    return evaluate


def _began_with(init: str) -> dict[str, str]:
    if not init:
        return {}
    origin = model_directory.origin(init)
    return {"init": origin.name, "init_sha256": origin.sha256}


def _check_enough(
    config: schemas.Train, training: sources.Source, tasks: Mapping[str, Task]
) -> None:
    if len(training) < config.batch_size:
        raise UserError(
            f"{_root(config.data)} has {len(training)} images to train on, fewer than "
            f"config.batch_size={config.batch_size}"
        )
    for name, task in tasks.items():
        if task.labels_needed and training[0]["label"] < 0:
            raise UserError(f"the task {name} needs labels, and {config.data.dataset} has none")


def _draw(
    workdir: Path,
    learner: Learner,
    state: State,
    source: sources.Source,
    watched: watching.Watched | None,
) -> None:
    """All processes gather what the pictures show, the first one draws them.

    The model is saved by then: a picture that cannot be drawn, as by a fault in a task's own
    `undo`, is told and does not end the run.
    """
    weights = jax.tree.map(sharding.fetch, for_use(state))
    features = watched.features(learner, state)["features"] if watched else np.zeros((0, 1))
    if not backend.writes():
        return
    try:
        _draw_all(workdir, learner, weights, source, watched, features)
    except Exception as error:
        console.warn(
            f"train: the pictures in {workdir} are not complete: {type(error).__name__}: {error}"
        )


def _draw_all(
    workdir: Path,
    learner: Learner,
    weights: State,
    source: sources.Source,
    watched: watching.Watched | None,
    features: np.ndarray,
) -> None:
    curves.draw(workdir)
    rows = np.linspace(0, len(source) - 1, min(task_pictures.EXAMPLES, len(source))).astype(int)
    batch = source.batch(rows)
    task_pictures.draw(workdir / "tasks.png", learner, weights, batch["image"], batch["label"])
    if watched is not None:
        who = watched.emotions, watched.people
        file = workdir / "neighbours.png"
        face_pictures.draw_neighbours(file, features, watched.source.images, *who)
        face_pictures.draw_embedding(workdir / "embedding.png", features, *who)


def _save_model(folder: Path, state: State, config: schemas.Train, learner: Learner) -> None:
    """All processes gather the arrays, the first one writes them."""
    arrays = jax.tree.map(sharding.fetch, for_use(state))
    if backend.writes():
        spec = model_directory.describe(
            config.backbone,
            config.data.image_size,
            learner.tasks,
            init=config.init,
            faces=model_directory.read_faces(_root(config.data)),
        )
        model_directory.save(folder, arrays, spec)


def _options(data: schemas.Data) -> dict[str, str]:
    """The folders that a data set takes beside its root, by the name of its field; "" for none."""
    return data.folders.model_dump()


def _root(data: schemas.Data) -> str:
    """Where the data lie; that of the first folder where only such are given."""
    return data.root or next((path for path in _options(data).values() if path), "")


def _open(data: schemas.Data, split: str, workdir: Path) -> sources.Source:
    """The examples. Records lie beside a stage's results, never in a folder of the user's own."""
    root, folders = _root(data), {k: v for k, v in _options(data).items() if v}
    # Faces from videos are shared by all runs; those of people go with the run when it is deleted.
    shared = all((Path(root) / name).is_file() for name in ("done.json", "manifest.parquet"))
    return sources.open_source(
        data.dataset,
        builders.config_with(data.dataset, **folders) if folders else data.config or None,
        split,
        root,
        data.image_size,
        data_dir=None if shared and not folders else workdir / "records",
        cache=data.cache,
    )
