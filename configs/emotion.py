r"""Trains emotion models on labelled photographs and tests them on held-out people, fold by fold.

    python launch.py --config=configs/emotion.py --config.photographs=WORK/photographs \
        --workdir=WORK/emotion

The network is the one that ships with the package (docs/starter.md). In each fold,
`config.method = "auto"` selects a method by cross-validation over the training people (or on the
validation people that the labels define): a linear head on features of the frozen network and on
gradient histograms, or the network without training (fer_jax/crossval/methods/auto.py).
--config.init=WORK/pretrain starts from a network of your own, trained on images of the same size
(configs/pretrain.py:base, or set --config.image_size); if it has never learned emotions,
fine-tuning it (`config.longer`) is another candidate.

After the config's name: `:small` is a small network that is fine-tuned, from random weights unless
--config.init is set; `:full` is the published network at 299 pixels, and --config.init=imagenet
loads Keras's weights (or name a file from Keras or timm: docs/data_layouts.md). `:small,rotation`
adds a pretext task as an auxiliary loss of the training.

Writes predictions.parquet (and .csv), protocol.json, folds/, and model/: a model trained on all
people, for `predict`. If a method trains the network, the same compiled program runs in every fold,
for the same number of steps unless `config.inner` selects that number.

Cost: 5 folds of 90 photographs, 33 s on 2 CPU cores; of 440 photographs, 111 s; an estimated
ten times as long if `config.init` has never learned emotions, since it is fine-tuned as well.
Small, 5 folds of 300 photographs, two minutes.
Expect: docs/results.md, "Real people". Small, on the generated people of the demonstration, about
80 % (chance 25 %).
"""

from ml_collections import ConfigDict

from configs import argument


def get_config(arg: str | None = None) -> ConfigDict:
    """The config of `crossval`; `arg` names the size and auxiliary tasks, as in "full,rotation"."""
    size, auxiliary = argument.parse(arg, default_size="base")
    small = size != "full"
    starter = size == "base"  # the size of the network that ships with the package
    config = ConfigDict()
    config.stage = "crossval"

    config.photographs = ""  # workdir of the stage `photographs`
    # "leave_one_subject_out", "grouped_kfold" (k folds of people), "fixed_split" (the column
    # `split` of labels.csv), "cross_set" (trained on `photographs`, tested on `test_photographs`),
    # or "random" (people in both train and test, which usually inflates the measured accuracy; the
    # report says so).
    config.protocol = "grouped_kfold"
    config.folds = 5  # number of folds, for the protocols "grouped_kfold" and "random"
    config.fold_seed = 0  # seed for shuffling people before they are split into folds
    config.seeds = (0,)  # training seeds; all folds are trained and tested once with each
    config.test_photographs = ""  # workdir of the test photographs, for protocol "cross_set"
    config.shots = 0  # low-shot: maximum number of training photographs per emotion; 0: all
    # Kinds of leaks that do not stop the run, by name; the report lists them. See configs/audit.py.
    config.allow_leaks = ()

    # "fine_tune"; "probe": a logistic regression on features of the frozen backbone, which are
    # computed once; "tuned_probe": fine-tuning, then such a regression on features and gradients;
    # "as_is": the emotion model at `init` without training, for emotions that it knows; "auto": one
    # of these, selected in each fold; or the dotted name of your own module (docs/add_a_method.md).
    config.method = "auto" if starter else "fine_tune"
    # Kinds of features of the method "probe": "backbone", "depths" (pooled outputs of earlier
    # stages) and "gradients" (histograms of oriented gradients).
    config.features = ("backbone",)
    # What the method "probe" subtracts from the features of a face. "": nothing; "balanced" or
    # "mean": a mean over the person's photographs, computed without the labels of test people;
    # "neutral": the features of one neutral photograph of the person, which is not tested. See
    # docs/person_relative.md.
    config.reference = ""
    config.tasks = argument.tasks(("emotion",), size)
    config.tasks.update(argument.tasks(auxiliary, size, weight=0.5))
    config.tasks.emotion.label_smoothing = 0.1
    # Side in pixels of the network's input.
    config.image_size = {"small": 48, "base": 64, "full": 299}[size]
    config.backbone = {  # Inception-ResNet-v2; fewer and narrower blocks below "full"
        "width": {"small": 0.125, "base": 0.375, "full": 1.0}[size],
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
    # The initial weights: a pretrained workdir or model directory, a weight file, "imagenet" or
    # "starter"; "": random weights. If the model has other emotions, the weights of the emotions in
    # common are kept. {seed} is replaced by the training seed, so that each seed can have its own
    # pretraining.
    config.init = "starter" if starter else ""
    # For the report: a description of the pretraining data of `init`.
    config.pretraining = ""
    # Whether the pretraining data contain the test people, for the report: "yes", "no", "unknown".
    config.pretraining_saw_test_people = "unknown"
    config.balance = False  # True: all emotions are sampled equally often
    # Number of crops of each test face, 1 or 5; the answer is averaged over the crops and their
    # mirror images. The method "as_is" uses the number in the model's record.
    config.test_crops = 1
    # Magnifications of each face over which features are averaged; 1.0 is the unchanged face.
    config.test_zooms = (1.0, 1.1, 1.2) if starter else (1.0,)
    # For the method "fine_tune": `share` is the share of each fold's training people who are held
    # out to select the number of steps and the temperature (0: nothing is selected). If the labels
    # define validation people, they are used instead. `checkpoints` are the numbers of steps to
    # compare, as fractions of all steps.
    config.inner = ConfigDict({"share": 0.0, "checkpoints": (0.34, 0.67, 1.0)})

    config.everyone = True  # also train a final model on all people, for `predict`
    config.save_folds = False  # also save the model of each fold, in folds/*/model
    config.explain = True  # heat maps (Grad-CAM) and a map of the features, for the report

    # 40 epochs of a few dozen photographs are too few steps for a network from scratch.
    longer = {"epochs": 40.0, "min_steps": 300, "learning_rate": 3e-4 if size == "full" else 6e-3}
    # The method "auto" uses these instead of epochs, min_steps and optimizer.learning_rate if the
    # network has never learned emotions, that is, if `init` is neither an emotion model nor
    # continued from the starter.
    config.longer = longer
    # Passes over the training faces, but at least min_steps training steps.
    config.epochs = 0.0 if starter else longer["epochs"]
    config.min_steps = 100 if starter else longer["min_steps"]  # minimum number of training steps
    config.batch_size = 32  # images per training step, over all devices
    config.optimizer = {
        "learning_rate": 1e-3 if starter else longer["learning_rate"],  # peak, after warm-up
        "warmup": 0.1,  # share of the steps in which the learning rate rises to its peak
        "weight_decay": 0.02,  # AdamW's weight decay of kernels
        "clip": 1.0,  # maximum global norm of the gradients; larger ones are scaled down
        "backbone_rate": 1.0,  # factor for the learning rate of the backbone
        # Factor for the learning rates of the backbone, applied once in its last stage, twice in
        # the stage before, and so on.
        "layer_decay": 1.0,
        # Shell patterns; parameters whose paths match one are not trained. ("backbone/*",) with
        # backbone.frozen_batchnorm=True trains only the head.
        "freeze": (),
        "average": 0.0,  # decay of a running average of the parameters, such as 0.999; 0: none
    }
    config.log_every = 10  # steps between the logged metrics; 0: only at the end
    config.evaluate_every = 0  # steps between evaluations on validation data; 0: only at the end
    # Seconds after which the next checkpoint is saved; the last state is always saved.
    config.checkpoint_every_s = 20.0
    config.accumulate = 1  # parts of a batch that are computed one after the other, to save memory
    config.fsdp = 1  # devices that share one copy of the parameters
    config.workers = 0  # processes that read images; 0: threads of this process
    # Project of Weights & Biases to which metrics are sent; "": none. Needs '.[wandb]'.
    config.wandb = ""
    return config.lock()


def from_nothing(arg: str | None = None) -> ConfigDict:
    """`get_config` without the starter: fine-tuning from random weights unless `init` is set later.

    It is for comparing training with and without pretraining; both have the same settings.
    """
    config = get_config(arg).unlock()
    longer = config.longer
    config.update({"method": "fine_tune", "init": ""})
    config.update({"epochs": longer.epochs, "min_steps": longer.min_steps})
    config.optimizer.learning_rate = longer.learning_rate
    return config.lock()
