r"""Measures what further pretraining of the starter gains, compared with the starter itself.

    python launch.py --config=configs/study_starter.py:kdef55,ikfdb15 --config.pool=STUDY/pool \
        --config.pool_variant=all --config.low_shot=STUDY/low_shot \
        --config.kdef55=WORK/kdef55 --config.ikfdb15=WORK/ikfdb15 --workdir=WORK/study_starter

Names of sets of people follow the config's name. Each becomes a field for a workdir of
`photographs`; without names there is one set, `people`. `pool` and `low_shot` are made from the
output of `python -m benchmarks study_data --labelled-from=validation`. The starter was trained on
the FER2013 faces of this pool, with their labels, but not on the labelled and test faces.

Methods, all in the size base with five seeds:

    starter   the network that ships with the package, fine-tuned directly; the reference
    new_head  the starter's backbone with a new head, as after pretraining
    rotation, jigsaw, jointly
              pretraining that continues from the starter's backbone, then a new head

Writes table/ (gains over `starter`) and table_new_head/ (gains over `new_head`, which differs from
the others only in the pretraining): study.csv, study.md and study.png. If the study is killed, the
same command continues it. Fine-tuning is that of configs/emotion.py from the starter, 100 steps,
tested without zooms.

Cost: an estimated 1.5 hours on 2 idle CPU cores, with a pool of 8,000 faces.
Expect: docs/pretext_study.md, "A network that has seen faces".
"""

from ml_collections import ConfigDict

from configs import study, study_low_shot
from fer_jax.models import starter

SEEDS = (0, 1, 2, 3, 4)


def get_config(arg: str | None = None) -> ConfigDict:
    """The config of the study; `arg` contains the names of sets of people: "kdef55,ikfdb15"."""
    people = tuple(word.strip() for word in (arg or "people").split(",") if word.strip())
    return of_people(people, study.STARTER_METHODS)


def of_people(
    people: tuple[str, ...], methods: tuple[str, ...], seeds: tuple[int, ...] = SEEDS
) -> ConfigDict:
    """The config of the study with few labels, and on the held-out people of each set."""
    init = starter.NAME
    labelled = {"low_shot": "fixed_split", **dict.fromkeys(people, "grouped_kfold")}
    config = study.pretrainings("base", methods, seeds, labelled, init=init)
    settings = study_low_shot.add_measurements(config, "base", methods, seeds, init=init)
    for name in people:
        study.add_measurements(config, "base", methods, seeds, name, name, init=init)
    study.add_table(config, "table", methods, (*settings, *people))
    if "new_head" in methods[1:]:
        others = tuple(name for name in methods if name not in study.FROM_STARTER)
        study.add_table(config, "table_new_head", ("new_head", *others), (*settings, *people))
    return config.lock()
