r"""Measures runs of cross-validation on the people held out, and writes the report.

One run:
    python launch.py --config=configs/evaluate.py --config.runs.model=work/crossval \
        --workdir=work/evaluation

Two on the same folds, with their paired difference; the report is about `model`:
    python launch.py --config=configs/evaluate.py --config.runs.model=work/crossval \
        --config.runs.baseline=work/crossval_scratch --workdir=work/evaluation

More runs, or other names, are a config of your own:
    from configs import evaluate

    def get_config(arg=None):
        return evaluate.of_runs({"ours": "work/emotion", "hog": "work/hog", "fer": "work/fer"})

Cost: seconds on one core. Result: `metrics.json`, `per_person.csv` and `report.html` in the
workdir, and on the screen the accuracy with its 95 % interval over people.
"""

from ml_collections import ConfigDict


def get_config(arg: str | None = None) -> ConfigDict:
    """One run, and one to compare it with; `arg` is unused."""
    del arg
    return of_runs({"model": "", "baseline": ""})


def of_runs(runs: dict[str, str]) -> ConfigDict:
    """A report on the first of `runs`, compared with the others."""
    config = ConfigDict()
    config.stage = "evaluate"
    # Workdirs of finished crossval stages, by name; those without a workdir are left out.
    config.runs = runs
    # The run that the report is about.
    config.main = next(iter(runs))
    # Workdirs of other stages, told in the report's table of what happened.
    config.context = ()
    # People are drawn with replacement so many times; a seed gives the same interval again.
    config.bootstrap = {"samples": 10_000, "seed": 0}
    return config.lock()
