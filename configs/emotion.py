r"""Learns emotions from labelled photographs and tests on people held out, fold by fold.

    python launch.py --config=configs/emotion.py --config.photographs=WORK/photographs \
        --workdir=WORK/emotion

It starts from the network that ships with the package (docs/starter.md). In each fold
`config.method = "auto"` selects what is best for people of the training side: the network
fine-tuned, a linear head on its features, or the network as it is
(fer_jax/crossval/methods/auto.py). --config.init=WORK/pretrain starts from a network of your own;
one that has never learned emotions is trained longer and faster (`config.longer`).

After the config's name: `:small` is a small network that is trained as a whole, from scratch
without --config.init; `:full` is the published network at 299 pixels, to which
--config.init=imagenet gives Keras's weights (or name a file of Keras or timm:
docs/data_layouts.md). `:rotation` adds a pretext task as an auxiliary loss.

Writes predictions.parquet, protocol.json, folds/, and model/: a model of everyone, for predict.
Every fold trains for the same number of steps through the same compiled program.

Cost: 5 folds of 60 to 440 photographs, by estimate 5 minutes on 2 idle CPU cores; small, 5 folds of
300 photographs, two minutes.
Expect: docs/results.md, "Real people". Small, on the generated people of the demonstration, about
80 % (chance 25 %).
"""

from ml_collections import ConfigDict

from configs import argument


def get_config(arg: str | None = None) -> ConfigDict:
    """`arg`: the size and auxiliary tasks, e.g. "full,rotation"."""
    size, auxiliary = argument.parse(arg, default_size="base")
    small = size != "full"
    starter = size == "base"  # the size of the network that ships with the package
    config = ConfigDict()
    config.stage = "crossval"

    config.photographs = ""  # workdir of the stage `photographs`
    # "leave_one_subject_out", "grouped_kfold" (whole people), "fixed_split" (the column `split` of
    # labels.csv), "cross_set" (trained on `photographs`, tested on `test_photographs`), or
    # "random": people in both train and test, which flatters every figure; the report says so.
    config.protocol = "grouped_kfold"
    config.folds = 5
    config.fold_seed = 0
    config.seeds = (0,)
    config.test_photographs = ""  # for cross_set
    config.shots = 0  # low-shot: at most so many photographs of each emotion to train on; 0 for all
    # Kinds of leak that do not stop the run, by name; the report says them. configs/audit.py.
    config.allow_leaks = ()

    # "fine_tune"; "probe": a logistic regression on features of the frozen backbone, computed
    # once; "tuned_probe": fine-tuning, then such a regression on features and gradients; "as_is":
    # the emotion model at `init` without training, for emotions that it knows; "auto": selected
    # among these in each fold; or the dotted name of a module of your own (docs/add_a_method.md).
    config.method = "auto" if starter else "fine_tune"
    # Of the probe: "backbone", beside it "depths" (pooled outputs of earlier stages) and
    # "gradients" (histograms of oriented gradients).
    config.features = ("backbone",)
    # Of the probe: what the features of a face are relative to. "" for nothing; "balanced" or
    # "mean": the other unlabelled photographs of the person, also of those tested; "neutral": one
    # neutral photograph of each person, which is not tested. docs/person_relative.md.
    config.reference = ""
    config.tasks = argument.tasks(("emotion",), size)
    config.tasks.update(argument.tasks(auxiliary, size, weight=0.5))
    config.tasks.emotion.label_smoothing = 0.1
    config.image_size = 48 if small else 299
    config.backbone = {  # Inception-ResNet-v2; fewer and narrower blocks below "full"
        "width": {"small": 0.125, "base": 0.25, "full": 1.0}[size],
        "depth": {"small": (1, 1, 1), "base": (2, 4, 2), "full": (10, 20, 10)}[size],
        "stem": "tiny" if small else "full",
        "grey": small,
        "normalise": "per_image" if small else "inception",
        "dropout": 0.2,
        "momentum": 0.9 if small else 0.99,
        "frozen_batchnorm": False,
        "remat": False,
        "dtype": "auto",
    }
    # A pretrained workdir or model directory, a weight file, "imagenet" or "starter". Of an emotion
    # model with other emotions, those that both have keep their weights. {seed} stands for the
    # seed's number, where each is to begin with a pretraining of its own.
    config.init = "starter" if starter else ""
    # Told in the report: what `init` was pretrained on, and whether the people tested were in it:
    # "yes", "no", or "unknown".
    config.pretraining = ""
    config.pretraining_saw_test_people = "unknown"
    config.balance = False  # rarer emotions are shown as often as the commonest
    # 5: the answer is the mean over five crops; mirror images are always in. "as_is" takes the
    # number with which the model was shipped.
    config.test_crops = 1
    # Features are the mean over these magnifications of the face; 1.0 is the face as it is.
    config.test_zooms = (1.0, 1.1, 1.2) if starter else (1.0,)
    # Of "fine_tune": steps and temperature are chosen on this share of a fold's people, by a second
    # training without them (0: nothing is chosen); tried are these parts of the steps.
    config.inner = ConfigDict({"share": 0.0, "checkpoints": (0.34, 0.67, 1.0)})

    config.everyone = True  # also a model of all faces, for predict
    config.save_folds = False  # also each fold's model, in folds/*/model
    config.explain = True  # where each model looked (Grad-CAM) and how faces lie, for the report

    # 40 epochs of a few dozen photographs would be over before a network from scratch learned.
    longer = {"epochs": 40.0, "min_steps": 300, "learning_rate": 3e-4 if size == "full" else 6e-3}
    # Of "auto": used instead of the three fields of these names below if `init` has never learned
    # emotions, such as random weights or a model of configs/pretrain.py that began with these.
    config.longer = longer
    config.epochs = 0.0 if starter else longer["epochs"]  # at least min_steps, below
    config.min_steps = 100 if starter else longer["min_steps"]
    config.batch_size = 32
    config.optimizer = {
        "learning_rate": 1e-3 if starter else longer["learning_rate"],
        "warmup": 0.1,  # of the steps
        "weight_decay": 0.02,
        "clip": 1.0,
        "backbone_rate": 1.0,
        "layer_decay": 1.0,
        "freeze": (),  # e.g. ("backbone/*",) with backbone.frozen_batchnorm for a linear probe
        "average": 0.0,  # decay of a running average of the parameters, e.g. 0.999
    }
    config.log_every = 10  # steps
    config.evaluate_every = 0  # steps; 0: at the end
    config.checkpoint_every_s = 20.0
    config.accumulate = 1  # parts of a batch, one after the other
    config.fsdp = 1  # devices that share one copy of the parameters
    config.workers = 0  # processes that read images; 0: threads
    config.wandb = ""  # a project of Weights & Biases; needs pip install 'fer_jax[wandb]'
    return config.lock()


def from_nothing(arg: str | None = None) -> ConfigDict:
    """The same without the starter: fine-tuning from random weights, or from `init` if it is set.

    For comparing a pretraining with none; both sides train alike.
    """
    config = get_config(arg).unlock()
    longer = config.longer
    config.update({"method": "fine_tune", "init": ""})
    config.update({"epochs": longer.epochs, "min_steps": longer.min_steps})
    config.optimizer.learning_rate = longer.learning_rate
    return config.lock()
