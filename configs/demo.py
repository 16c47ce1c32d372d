"""The pipeline on generated people: what `make demo` runs.

    python launch.py --config=configs/demo.py --workdir=work/demo

Draws 15 people in clips, for pretraining, and 15 other people in labelled photographs, with 4
emotions each. Runs the steps of configs/pipeline.py on them, and predicts the emotions of people
whom the model has not seen. Nothing is downloaded, and no real person is shown.
`configs/demo.py:small` starts from random weights instead of the starter.

Cost: 7 minutes on 2 idle CPU cores; small, 3 minutes and 2.2 GB of memory.
Expect: on held-out people 95 % with the adapted starter, 98 % after more pretraining on the clips,
89 % with a small network from scratch, and 79 % with the starter without training; chance is 25 %.
Small: 85 to 91 %.
"""

from ml_collections import ConfigDict

from configs import pipeline, predict, render


def get_config(arg: str | None = None) -> ConfigDict:
    """The config of the demonstration's pipeline; `arg` is that of configs/pipeline.py."""
    config = pipeline.get_config(arg).unlock()
    config.needs = ()
    config.videos = "{workdir}/render/videos"
    config.photos = "{workdir}/render/photographs"
    config.steps.extract.every_s = 0.25
    config.steps.render = render.get_config()
    config.steps.predict = predict.get_config()
    config.steps.predict.model = "{workdir}/emotion"
    config.steps.predict.language = config.get_ref("language")
    config.steps.predict.input = "{workdir}/render/newcomers"
    # Generated faces and rooms are easier to distinguish than real faces and non-faces.
    config.steps.verify.update({"epochs": 4.0, "min_steps": 0})
    config.order = ("render", *config.order, "predict")

    config.steps.evaluate.context = ("{workdir}/render", *config.steps.evaluate.context)
    if "pretrained" in config.steps:  # size "base", which starts from the starter
        config.steps.pretrained.update({"everyone": False, "explain": False})
        config.steps.pretrain.epochs = 10.0
        others = "the starter's data (docs/starter.md), then clips of 15 other people"
        config.steps.pretrained.pretraining = others
        config.steps.pretrained.pretraining_saw_test_people = "no"
    else:
        config.steps.emotion.pretraining = "clips of 15 other people"
    config.steps.emotion.pretraining_saw_test_people = "no"
    return config.lock()
