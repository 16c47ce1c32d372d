r"""Measures cross-validation runs on the held-out people, and writes the report.

One run:
    python launch.py --config=configs/evaluate.py --config.runs.model=work/crossval \
        --workdir=work/evaluation

Two runs on the same folds, with their paired difference; the report is about `model`:
    python launch.py --config=configs/evaluate.py --config.runs.model=work/crossval \
        --config.runs.baseline=work/crossval_scratch --workdir=work/evaluation

For more runs, or other names, write a config of your own:
    from configs import evaluate

    def get_config(arg=None):
        return evaluate.of_runs({"ours": "work/emotion", "hog": "work/hog", "fer": "work/fer"})

Writes metrics.json, per_person.csv, report.html, model_card.md and datasheet.md; prints the
accuracy with its 95 % interval over people.

Cost: seconds on one core.
"""

from ml_collections import ConfigDict


def get_config(arg: str | None = None) -> ConfigDict:
    """The config of a report on one run, compared with a baseline; `arg` is unused."""
    del arg
    return of_runs({"model": "", "baseline": ""})


def of_runs(runs: dict[str, str]) -> ConfigDict:
    """The config of a report on the first of `runs` (workdirs by name) and a comparison of all."""
    config = ConfigDict()
    config.stage = "evaluate"
    # Workdirs of finished runs of `crossval`, by name; names without a workdir are ignored.
    config.runs = runs
    # The run that the report is about.
    config.main = next(iter(runs))
    # Workdirs of other stages, which the report's table of stages lists.
    config.context = ()
    # Bootstrap over people: the number of samples, and the seed that determines them.
    config.bootstrap = {"samples": 10_000, "seed": 0}
    config.language = "en"  # language of the report: "en" or "fa" (Persian)
    return config.lock()
