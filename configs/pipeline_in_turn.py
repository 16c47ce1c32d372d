r"""The pipeline with one pretraining per task, each of which starts from the previous one.

    python launch.py --config=configs/pipeline_in_turn.py:rotation,jigsaw \
        --config.videos=VIDEOS --config.photos=PHOTOS --workdir=WORK

The step `pretrain` trains on the last task; the steps before it, pretrain_1, pretrain_2, ..., train
on the others.
Cost: one more pretraining per further task. Everything else is as in configs/pipeline.py.
"""

from ml_collections import ConfigDict

from configs import argument, pipeline, pretrain


def get_config(arg: str | None = None) -> ConfigDict:
    """The config; `arg` names the size and the tasks in their order: "full,rotation,jigsaw"."""
    size, tasks = argument.parse(arg, default_tasks=("rotation", "jigsaw"), default_size="base")
    config = pipeline.get_config(f"{size},{tasks[-1]}").unlock()
    added: tuple[str, ...] = ()
    for number, task in enumerate(tasks[:-1], start=1):
        step = pretrain.get_config(f"{size},{task}").unlock()
        step.data.root = "{workdir}/refine"
        step.init = f"{{workdir}}/{added[-1]}" if added else config.steps.pretrain.init
        step.optimizer.learning_rate = config.steps.pretrain.optimizer.learning_rate
        added += (f"pretrain_{number}",)
        config.steps[added[-1]] = step
    if added:
        config.steps.pretrain.init = f"{{workdir}}/{added[-1]}"
    before = config.order.index("pretrain")
    config.order = (*config.order[:before], *added, *config.order[before:])
    config.steps.evaluate.context += tuple(f"{{workdir}}/{name}" for name in added)
    return config.lock()
