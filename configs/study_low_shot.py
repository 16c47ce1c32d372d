r"""Measures how the gain of a pretraining depends on the number of labels: the low-shot study.

    python launch.py --config=configs/study_low_shot.py --config.pool=WORK/refine \
        --config.low_shot=WORK/photographs --workdir=WORK/study

`low_shot` is a workdir of `photographs` with the splits train and test; the methods are fine-tuned
with 10, 40 and 160 labelled faces of each emotion. Methods and files are those of configs/study.py;
the table is in table_low_shot/. In the workdir of configs/study.py, with the same methods and
fields, it uses the pretrainings that exist already.

Cost: three times the measurements of configs/study.py, and the pretrainings if they do not exist.
"""

from ml_collections import ConfigDict

from configs import argument, study

SHOTS = (10, 40, 160)  # maximum numbers of labelled faces of each emotion


def get_config(arg: str | None = None) -> ConfigDict:
    """The config of the study; `arg` names the size and the methods, as in configs/study.py."""
    size, methods = argument.parse(arg, default_tasks=study.METHODS)
    config = study.pretrainings(size, methods, study.SEEDS, {"low_shot": "fixed_split"})
    settings = add_measurements(config, size, methods, study.SEEDS)
    study.add_table(config, "table_low_shot", methods, settings)
    return config.lock()


def add_measurements(
    config: ConfigDict,
    size: str,
    methods: tuple[str, ...],
    seeds: tuple[int, ...],
    *,
    init: str = "",
) -> tuple[str, ...]:
    """Adds the fine-tunings with each number of labels; returns the names of the settings."""
    settings = tuple(f"low_shot_{shots}" for shots in SHOTS)
    for setting, shots in zip(settings, SHOTS, strict=True):
        study.add_measurements(
            config, size, methods, seeds, "low_shot", setting, shots=shots, init=init
        )
    return settings
