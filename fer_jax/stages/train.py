"""train: trains a network on one or more tasks, for pretraining or as a verifier of faces."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fer_jax import backend, console, records, schemas
from fer_jax.data import builders, iterators, sources
from fer_jax.errors import UserError
from fer_jax.languages.language import spoken
from fer_jax.probes import task_pictures, watching
from fer_jax.tasks.task import Task
from fer_jax.training import curves, model_directory, parameter_table, sharding
from fer_jax.training.learner import Learner, make_tasks
from fer_jax.training.loop import fit, steps_of
from fer_jax.training.state import State, for_use
from fer_jax.workdir import atomic_file, stage


def _doing(config: schemas.Train) -> str:
    words, tasks = spoken(), sorted(config.tasks.named())
    if tasks == ["verification"]:
        return words.text("doing.train_verifier")
    return words.text("doing.train", tasks=words.text("list.and").join(map(words.task, tasks)))


@stage(
    doing=_doing,
    many_processes=True,
)
def run(config: schemas.Train, workdir: Path) -> dict[str, Any]:
    """Trains `config.tasks` on `config.data`; writes checkpoints, curves and `model/`.

    With `config.evaluate_every`, `best/model/` is the model with the lowest validation loss so far.
    This loss is the sum of the tasks' losses, weighted as in training. With
    `config.probe.photographs`, probes of the features measure the accuracy on emotions before the
    first step and at each evaluation. Several processes may run this stage together.

    Raises:
        UserError: the data set cannot be read or has too few training images, a task needs labels
            that the data set lacks, the initial weights do not fit, or the training fails (see
            `fit`).
        TerminatedError: SIGTERM was received; the state is saved.
    """
    data = config.data
    with backend.first_one_then_the_others("records"):  # opening a split may write its records
        training, validation = (_open(data, split, workdir) for split in ("train", "validation"))
    emotions = {"classes": training.classes} if training.classes else {}
    tasks, weights = make_tasks(config.tasks.fields(), emotion=emotions)
    _check_enough(config, training, tasks)
    steps = steps_of(config, len(training))
    with backend.first_one_then_the_others("records of the probed faces"):
        watched = watching.read_watched(
            config.probe, data.image_size, config.seed, workdir / records.PROBED
        )

    learner = Learner(config.backbone, config.optimizer, tasks, weights, config, steps=steps)
    state = learner.init(config.seed)
    if config.init:
        state = learner.begin_with(state, model_directory.backbone_leaves(config.init, state))
    record = model_directory.describe(
        config.backbone,
        data.image_size,
        tasks,
        init=config.init,
        faces=model_directory.read_faces(data.place),
    )
    if backend.writes():
        table = parameter_table.draw(state["parameters"], learner.frozen)
        with atomic_file(workdir / "parameters.txt") as temporary:
            temporary.write_text(table)
    probed = partial(watched.figures, learner) if watched else None
    local, shard = sharding.local_batch_size(config.batch_size), sharding.shard()

    def evaluate(state: State) -> Mapping[str, float]:
        figures = learner.evaluate(
            state, iterators.eval_batches(validation, batch_size=local, shard=shard)
        )
        if figures:
            losses = (weight * figures[f"{name}/loss"] for name, weight in weights.items())
            figures["loss"] = sum(losses)
        return {**figures, **(probed(state) if probed else {})}

    def save(name: str, state: State) -> None:
        arrays = jax.tree.map(sharding.fetch, for_use(state))  # all processes take part
        if backend.writes():
            model_directory.save(workdir / name, model_directory.arrays_of(arrays), record)

    with iterators.TrainIterator(
        training, batch_size=local, seed=config.seed, workers=config.workers, shard=shard
    ) as batches:
        fitted = fit(
            learner,
            state,
            batches,
            steps=steps,
            folder=workdir,
            loop=config,
            evaluate=evaluate,
            before=probed,
            best=partial(save, "best/model"),
        )
    if backend.writes():
        records.write(workdir / records.DATA, data)
    save("model", fitted.state)
    _draw(workdir, learner, fitted.state, validation if len(validation) else training, watched)
    began_with = record.init
    if backend.writes():
        _print_result(fitted.figures, steps, len(training), len(validation), list(tasks))
    return {
        "train_images": len(training),
        "validation_images": len(validation),
        "steps": steps,
        **({"init": began_with.name, "init_sha256": began_with.sha256} if began_with else {}),
        **(watched.summary(workdir) if watched else {}),
        **{name: round(value, 4) for name, value in fitted.figures.items()},
        **fitted.speed(),
        **{f"{purpose}_s": round(spent, 2) for purpose, spent in fitted.seconds.items()},
    }


def _print_result(
    figures: Mapping[str, float], steps: int, training: int, validation: int, tasks: list[str]
) -> None:
    """Prints the validation accuracy, or loss, of each task, and the results of probes."""
    words, found = spoken(), []
    for task in tasks:
        accuracy, loss = (figures.get(f"validation/{task}/{name}") for name in ("accuracy", "loss"))
        if accuracy is not None:
            shown = console.percent(accuracy, words)
            found.append(words.text("result.train_accuracy", task=words.task(task), accuracy=shown))
        elif loss is not None:
            shown = words.number(loss, 3)
            found.append(words.text("result.train_loss", task=words.task(task), loss=shown))
    console.result(
        "train_measured" if found else "train",
        steps=words.count(steps, "step"),
        images=words.count(training, "image"),
        validation=words.count(validation, "validation_image"),
        found=words.listing(found),
    )
    probes = [
        words.text(f"result.{probe}", accuracy=console.percent(value, words))
        for probe in ("probe_knn", "probe_linear")
        if (value := figures.get(f"validation/{probe.replace('_', '/')}/features"))
    ]
    if probes:
        console.result("probes", found=words.listing(probes))


def _check_enough(
    config: schemas.Train, training: sources.Source, tasks: Mapping[str, Task]
) -> None:
    if len(training) < config.batch_size:
        raise UserError(
            f"train: {config.data.place} has {len(training)} training images, fewer than "
            f"--config.batch_size={config.batch_size}; lower the batch size, or add images"
        )
    for name, task in tasks.items():
        own = f"{sources.TASK_LABEL}{name}"  # a label that may be -1 for some examples, not for all
        if task.labels_needed and own not in training[0] and training[0]["label"] < 0:
            raise UserError(
                f"train: the task {name} needs labels, but the data set {config.data.dataset} has "
                f"none; choose another task, or another --config.data.dataset"
            )


def _draw(
    workdir: Path,
    learner: Learner,
    state: State,
    source: sources.Source,
    watched: watching.Watched | None,
) -> None:
    """Draws the pictures in the first process; all processes gather their data.

    The model is saved by then. So a picture that cannot be drawn, for example because of a bug in
    a task's `undo`, causes a warning and does not end the run.
    """
    weights = jax.tree.map(sharding.fetch, for_use(state))
    features = watched.features(learner, state)["features"] if watched else np.zeros((0, 1))
    if not backend.writes():
        return
    rows = np.linspace(0, len(source) - 1, min(task_pictures.EXAMPLES, len(source))).astype(int)
    try:
        curves.draw(workdir)
        shown = source.batch(rows)
        task_pictures.draw(workdir / "tasks.png", learner, weights, shown["image"], shown["label"])
        if watched is not None:
            from fer_jax.probes import face_pictures  # imports scikit-learn, which takes 1 s

            who = watched.emotions, watched.faces.people
            file = workdir / "neighbours.png"
            face_pictures.draw_neighbours(file, features, watched.faces.images, *who)
            face_pictures.draw_embedding(workdir / "embedding.png", features, *who)
    except Exception as error:
        console.warn(
            f"train: pictures in {workdir} are missing, since drawing failed "
            f"({type(error).__name__}: {error}); the model is complete"
        )


def _open(data: schemas.Data, split: str, workdir: Path) -> sources.Source:
    """The examples of a split. Records are written to a workdir, never to the user's folders."""
    root, folders = data.place, data.given_folders
    # All runs share the records of faces from videos. Those of labelled people are in the workdir
    # of the run, so that they are deleted with it.
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
