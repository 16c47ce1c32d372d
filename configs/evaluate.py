r"""Measures runs of cross-validation on the people held out, and writes the report.

One run:
    python launch.py --config=configs/evaluate.py --config.runs.model=work/crossval \
        --workdir=work/evaluation

Several on the same folds, side by side, the first one being the subject of the report:
    python launch.py --config=configs/evaluate.py:pretrained,scratch \
        --config.runs.pretrained=work/crossval --config.runs.scratch=work/crossval_scratch \
        --workdir=work/evaluation

Cost: seconds on one core. Result: `metrics.json`, `per_person.csv` and `report.html` in the
workdir, and on the screen the accuracy with its 95 % interval over people.
"""

from ml_collections import ConfigDict


def get_config(arg: str | None = None) -> ConfigDict:
    """`arg`: names of the runs to compare, with commas between them; "model" by default."""
    names = [name.strip() for name in (arg or "model").split(",") if name.strip()]
    config = ConfigDict()
    config.stage = "evaluate"
    # Workdirs of finished crossval stages, by name.
    config.runs = ConfigDict(dict.fromkeys(names, ""))
    # The run that the report is about.
    config.main = names[0]
    # Workdirs of other stages, told in the report's table of what happened.
    config.context = ()
    # People are drawn with replacement so many times; a seed gives the same interval again.
    config.bootstrap = ConfigDict({"samples": 10_000, "seed": 0})
    config.lock()
    return config
