"""One schema for each stage; the comments in configs/ say what most of the fields mean."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal, TypeAlias, get_args

from pydantic import AfterValidator, ConfigDict, Field
from pydantic_core import PydanticKnownError

from fer_jax.schemas.faces import Crop, Detector, Limits, Negatives
from fer_jax.schemas.fields import (
    AnyCase,
    Batch,
    Count,
    CountFromOne,
    Folds,
    Items,
    LanguageCode,
    LongestSide,
    Name,
    Pixels,
    Port,
    Probability,
    Reference,
    Seconds,
    Section,
    Seed,
    Seeds,
    Share,
    ShareBelowOne,
    Stage,
    Text,
    Unique,
    UniqueNames,
    Workers,
    ZeroOrLongestSide,
    Zooms,
)
from fer_jax.schemas.training import Data, Probe, Training

Protocol: TypeAlias = Annotated[
    Literal["leave_one_subject_out", "grouped_kfold", "random", "fixed_split", "cross_set"],
    AnyCase,
]
LeakKind: TypeAlias = Literal[
    "shared_id", "similar_id", "identical_picture", "near_duplicate", "same_person",
    "pretraining_labels", "pretraining_duplicate", "pretraining_person", "pretraining_name",
]  # fmt: skip
AllowedLeaks: TypeAlias = Annotated[Items[Annotated[LeakKind, AnyCase]], Unique]
BuiltInMethod: TypeAlias = Literal["auto", "fine_tune", "tuned_probe", "probe", "as_is"]


def _built_in_or_dotted(name: str) -> str:
    """`name` itself if it contains a dot; otherwise the name of a built-in method in lower case.

    Raises:
        PydanticKnownError: there is no built-in method of that name.
    """
    known, lower = get_args(BuiltInMethod), name.strip().lower()
    if "." not in name and lower not in known:
        *others, last = map(repr, known)
        raise PydanticKnownError("literal_error", {"expected": f"{', '.join(others)} or {last}"})
    return name if "." in name else lower


Method: TypeAlias = Annotated[Text, AfterValidator(_built_in_or_dotted)]
Side: TypeAlias = Annotated[int, Field(ge=64, le=4096, multiple_of=2)]
Person: TypeAlias = Annotated[int, Field(ge=0, le=1_000_000)]
FewPeople: TypeAlias = Annotated[int, Field(ge=0, le=100_000)]


class Render(Stage):
    """Config of `render`, which draws generated people; see stages/render.py."""

    stage: Literal["render"]
    clips: Clips
    photographs: Portraits
    newcomers: Newcomers
    size: Annotated[Items[Side], Field(min_length=2, max_length=2)]
    workers: Workers

    def faults(self) -> Iterator[tuple[str, str]]:
        groups = [(name, getattr(self, name)) for name in ("photographs", "clips", "newcomers")]
        for (one, people), (other, others) in itertools.combinations(groups, 2):
            first = max(people.first_person, others.first_person)
            end = people.first_person + people.people
            if first < min(end, others.first_person + others.people):
                yield (
                    f"{other}.first_person",
                    f"puts person {first} into both {other} and {one}; set it to {end} or more",
                )


class Newcomers(Section):
    """A group of generated people.

    The group in the field `newcomers` of `Render` is for trying the final model on new people.

    Attributes:
        first_person: the number of the first person; the others have the numbers that follow.
        people: how many people there are in the group.
    """

    first_person: Person
    people: FewPeople


class Portraits(Newcomers):
    """People in labelled photographs, with `per_emotion` photographs of each person and emotion."""

    per_emotion: FewPeople


class Clips(Portraits):
    """People in clips, with `per_emotion` clips of each person and emotion.

    Attributes:
        frames: number of frames of each clip.
        fps: frames per second.
        scenes: number of further clips, which show no people.
    """

    frames: Annotated[int, Field(ge=1, le=100_000)]
    fps: Annotated[int, Field(ge=1, le=240)]
    scenes: FewPeople


class Photographs(Stage):
    """Config of `photographs`, which finds faces in labelled photographs.

    See fer_jax/stages/photographs.py.
    """

    stage: Literal["photographs"]
    photos: Text
    emotions: Annotated[UniqueNames, Field(min_length=1)]
    ignore: UniqueNames
    pseudonymise: bool
    aligned: bool
    max_side: LongestSide
    detector: Detector
    crop: Crop
    batch: Batch

    def faults(self) -> Iterator[tuple[str, str]]:
        ignored = {name.strip().casefold() for name in self.ignore}
        both = [name for name in self.emotions if name.strip().casefold() in ignored]
        if both:
            yield "ignore", f"names {both[0]!r}, which is in emotions too"

    def inputs(self) -> list[str]:
        return [self.photos]

    def unset(self) -> Iterator[tuple[str, str]]:
        if not self.photos:
            yield "photos", "a folder <subject>/<emotion>/<photograph>, or to a table labels.csv"


class Extract(Stage):
    """Config of `extract`, which finds the faces in videos; see stages/extract.py."""

    stage: Literal["extract"]
    videos: Text
    every_s: Seconds
    detector: Detector
    crop: Crop
    negatives: Negatives
    limits: Limits
    batch: Batch
    workers: Workers
    runner: Text
    runner_options: Text
    seed: Seed

    def faults(self) -> Iterator[tuple[str, str]]:
        if self.runner and self.workers:
            yield "runner", "cannot be combined with workers; set only one of them"
        if self.runner_options.strip() and not self.runner:
            yield "runner_options", "has no effect without runner"

    def inputs(self) -> list[str]:
        return [self.videos]

    def unset(self) -> Iterator[tuple[str, str]]:
        if not self.videos:
            yield "videos", "a video or a folder of videos"


class Train(Training):
    """Config of `train`, which trains a network on tasks such as rotation; see stages/train.py."""

    stage: Literal["train"]
    faces: Text = ""
    nonfaces: Text = ""
    aligned: Text = ""
    data: Data
    probe: Probe = Probe(photographs="", neighbours=20, folds=5, most=2000)
    seed: Seed

    def faults(self) -> Iterator[tuple[str, str]]:
        yield from super().faults()
        if not self.tasks.named():
            yield "tasks", "must name at least one task"

    def faults_of_parts(self) -> Iterator[tuple[str, str]]:
        yield from super().faults_of_parts()
        if reason := self.too_small(self.data.image_size):
            yield "data.image_size", reason

    def inputs(self) -> list[str]:
        data = self.data
        return [data.place, *data.given_folders.values(), self.init, self.probe.photographs]

    def unset(self) -> Iterator[tuple[str, str]]:
        if not self.data.place:
            yield "data.root", "the folder that contains the images"


class Refine(Stage):
    """Config of `refine`, which keeps the faces that the detector and the verifier accept.

    See fer_jax/stages/refine.py.
    """

    stage: Literal["refine"]
    faces: Text
    verifier: Text
    use_verifier: Annotated[Literal["auto", "own", "starter"], AnyCase] = "auto"
    min_test_sources: CountFromOne = 3
    confident_score: Probability = 0.99
    max_removed_of_confident: ShareBelowOne = 0.05
    max_faces_lost: ShareBelowOne
    min_detector_score: Probability
    batch: Batch
    sheet: Annotated[int, Field(ge=0, le=10_000)]

    def faults(self) -> Iterator[tuple[str, str]]:
        if self.verifier == "starter":
            yield "verifier", "is not a folder; set use_verifier='starter' instead"

    def inputs(self) -> list[str]:
        return [self.faces, self.verifier]

    def unset(self) -> Iterator[tuple[str, str]]:
        if not self.faces:
            yield "faces", "a workdir of the stage extract"
        if not self.verifier and self.use_verifier != "starter":
            starter = "set --config.use_verifier=starter for the one that ships with the package"
            yield "verifier", f"the workdir of a trained verifier (or {starter})"


class Inner(Section):
    """Selection of the number of steps and the temperature in a fold, on validation people.

    Attributes:
        share: share of the training people who are held out as validation people, unless the labels
            define validation people. 0: none.
        checkpoints: fractions of the training steps, one of which is selected.
    """

    share: Annotated[float, Field(ge=0, le=0.5)]
    checkpoints: Annotated[Items[Annotated[float, Field(gt=0, le=1)]], Field(min_length=1), Unique]


class Longer(Section):
    """How the method `auto` trains a network that has never learned emotions.

    Attributes:
        epochs: passes over the training faces, but at least min_steps training steps.
        min_steps: the minimum number of training steps.
        learning_rate: the peak of the learning rate, which it reaches after the warm-up.
    """

    epochs: Annotated[float, Field(ge=0, le=1e6)] = 40.0
    min_steps: CountFromOne = 300
    learning_rate: Annotated[float, Field(gt=0, le=100)] = 6e-3


class LabelledFaces(Stage):
    """The fields that select labelled faces and their folds; see crossval/labelled_faces.py."""

    photographs: Text
    test_photographs: Text
    protocol: Protocol
    folds: Folds
    fold_seed: Seed
    image_size: Pixels

    def faults(self) -> Iterator[tuple[str, str]]:
        if self.protocol == "cross_set" and not self.test_photographs:
            yield (
                "test_photographs",
                "must be a workdir with the test people if protocol='cross_set'",
            )
        if self.protocol != "cross_set" and self.test_photographs:
            yield "protocol", "must be 'cross_set' if test_photographs is set"

    def inputs(self) -> list[str]:
        return [self.photographs, self.test_photographs]

    def unset(self) -> Iterator[tuple[str, str]]:
        if not self.photographs:
            yield "photographs", "a workdir of the stage photographs"


class Crossval(Training, LabelledFaces):
    """Config of `crossval`, which trains and tests emotion models; see stages/crossval.py."""

    stage: Literal["crossval"]
    seeds: Seeds
    shots: Count
    allow_leaks: AllowedLeaks
    method: Method
    features: Annotated[
        Items[Annotated[Literal["backbone", "depths", "gradients"], AnyCase]],
        Field(min_length=1),
        Unique,
    ]
    reference: Reference
    pretraining: Text
    pretraining_saw_test_people: Annotated[Literal["yes", "no", "unknown"], AnyCase]
    balance: bool
    test_crops: Literal[1, 5]
    test_zooms: Zooms
    inner: Inner
    longer: Longer = Longer()
    everyone: bool
    save_folds: bool
    explain: bool

    def faults(self) -> Iterator[tuple[str, str]]:
        yield from Training.faults(self)
        yield from LabelledFaces.faults(self)
        if self.trains_network and "emotion" not in self.tasks.named():
            yield "tasks", "must contain the task emotion"
        if "{seed}" in self.init and self.method in ("auto", "probe", "as_is"):
            yield "init", f"must be one model, without {{seed}}, for method={self.method!r}"
        built_in = self.method in get_args(BuiltInMethod)
        if self.inner.share and built_in and self.method != "fine_tune":
            yield "inner.share", f"must be 0.0 for method={self.method!r}, which does not use it"
        if "gradients" in self.features and built_in and self.method != "probe":
            yield "features", "needs method='probe'"
        if self.method == "as_is" and not self.init:
            yield "init", "must be an emotion model for method='as_is'"
        if self.reference and self.method != "probe":
            yield "reference", "needs method='probe'"
        if self.reference and self.shots:
            yield "shots", "must be 0 if a reference is set, which needs all photographs"
        if self.reference and self.protocol == "random":
            yield "protocol", "must not be 'random' if a reference is set"

    def faults_of_parts(self) -> Iterator[tuple[str, str]]:
        yield from super().faults_of_parts()
        if self.trains_network and (reason := self.too_small(self.image_size)):
            yield "image_size", reason

    @property
    def trains_network(self) -> bool:
        """Whether `method` is a built-in method that trains a network; False for a plugin."""
        return self.method in ("auto", "fine_tune", "tuned_probe")

    def inits(self) -> dict[int, str]:
        """The initial weights of each seed: `init`, with `{seed}` replaced by the seed."""
        return {seed: self.init.replace("{seed}", str(seed)) for seed in self.seeds}

    def inputs(self) -> list[str]:
        return [*super().inputs(), *self.inits().values()]


class Audit(LabelledFaces):
    """Config of `audit`, which searches for leakage; see stages/audit.py."""

    stage: Literal["audit"]
    run: Text = ""
    init: Text
    pool: Text
    allow_leaks: AllowedLeaks
    # Has no effect; configs that were saved by earlier versions contain it.
    image_size: Pixels = 80

    def inputs(self) -> list[str]:
        return [*super().inputs(), self.init, self.pool, self.run]

    def unset(self) -> Iterator[tuple[str, str]]:
        for field, what in LabelledFaces.unset(self) if not self.run else ():
            yield field, f"{what} (or --config.run to a finished run)"

    def faults(self) -> Iterator[tuple[str, str]]:
        yield from LabelledFaces.faults(self)
        if self.run and (self.photographs or self.test_photographs or self.init):
            yield (
                "run",
                "already determines photographs, test_photographs and init; leave those fields out",
            )


class Bootstrap(Section):
    """Settings of the bootstrap over people; see metrics/bootstrap.py.

    Attributes:
        samples: the number of bootstrap samples.
        seed: determines the samples.
    """

    # 40 samples leave one beyond each end of a 95 % interval.
    samples: Annotated[int, Field(ge=40, le=10_000_000)]
    seed: Seed


class Evaluate(Stage):
    """Config of `evaluate`, which measures runs and writes the report; see stages/evaluate.py."""

    stage: Literal["evaluate"]
    runs: Annotated[dict[Name, Text], Field(min_length=1)]
    main: Text
    context: Items[Name]
    bootstrap: Bootstrap
    language: LanguageCode = "en"

    def faults(self) -> Iterator[tuple[str, str]]:
        if self.main not in self.runs:
            yield "main", f"must be one of the runs: {', '.join(self.runs)}"

    def inputs(self) -> list[str]:
        return [*self.runs.values(), *self.context]

    def unset(self) -> Iterator[tuple[str, str]]:
        if not self.runs[self.main]:
            yield f"runs.{self.main}", "a workdir of the stage crossval"


class Study(Stage):
    """Config of `study`, which compares methods in several settings; see stages/study.py."""

    stage: Literal["study"]
    runs: Annotated[dict[Name, dict[Name, Text]], Field(min_length=1)]
    reference: Name
    settings: Annotated[UniqueNames, Field(min_length=1)]
    methods: Annotated[UniqueNames, Field(min_length=1)]
    bootstrap: Bootstrap

    def faults(self) -> Iterator[tuple[str, str]]:
        if self.reference not in self.methods:
            yield "reference", f"must be one of the methods: {', '.join(self.methods)}"
        for setting in self.settings:
            missing = [name for name in self.methods if not self.runs.get(setting, {}).get(name)]
            if missing:
                yield f"runs.{setting}", f"names no workdir for {', '.join(missing)}"

    def inputs(self) -> list[str]:
        return [run for runs in self.runs.values() for run in runs.values()]


class Predict(Stage):
    """Config of `predict`, which reads emotions in pictures and videos; see stages/predict.py."""

    stage: Literal["predict"]
    model: Text
    input: Text
    camera: Text = ""
    people: Annotated[Literal["", "one", "folder"], AnyCase] = ""
    neutral: Text = ""
    min_confidence: Probability = 0.0
    coverage: Share = 0.0
    every_s: Seconds
    smoothing_s: Seconds = 0.5
    max_side: ZeroOrLongestSide  # 0: the value in the model's record
    batch: Batch
    annotate: bool
    language: LanguageCode = "en"

    def faults(self) -> Iterator[tuple[str, str]]:
        if self.min_confidence and self.coverage:
            yield "coverage", "contradicts min_confidence; set only one of them"
        if self.camera and not (self.camera.isdecimal() and len(self.camera) < 4):
            yield "camera", "must be the number of a camera, from 0 (the first one) to 999"
        if self.camera and self.input:
            yield "camera", "contradicts input; set only one of them"
        if self.camera and self.people:
            yield (
                "people",
                "needs all faces of a person in advance, so it cannot be combined with camera",
            )

    def inputs(self) -> list[str]:
        return [self.model, self.input]

    def unset(self) -> Iterator[tuple[str, str]]:
        if not self.model:
            yield "model", "starter, a model directory or a training workdir"
        if not self.input and not self.camera:
            yield "input", "a picture, a video or a folder of them"


class Export(Stage):
    """Config of `export`, which writes a model for other programs; see stages/export.py."""

    stage: Literal["export"]
    model: Text
    formats: Annotated[
        Items[Annotated[Literal["onnx", "stablehlo"], AnyCase]], Field(min_length=1), Unique
    ]

    def inputs(self) -> list[str]:
        return [self.model]

    def unset(self) -> Iterator[tuple[str, str]]:
        if not self.model:
            yield "model", "starter, a model directory or a training workdir"


class Serve(Stage):
    """Config of `serve`, which serves a web page on this computer; see stages/serve.py."""

    writes: ClassVar[bool] = False

    stage: Literal["serve"]
    model: Text
    port: Port
    every_s: Seconds
    max_side: ZeroOrLongestSide
    batch: Batch
    max_upload_mb: Annotated[int, Field(ge=1, le=100_000)]
    max_video_s: Seconds

    def inputs(self) -> list[str]:
        return [self.model]

    def unset(self) -> Iterator[tuple[str, str]]:
        if not self.model:
            yield "model", "starter, a model directory or a training workdir"


class ImagenetCheck(Stage):
    """Config of `imagenet_check`, which measures the accuracy of published weights.

    See fer_jax/stages/imagenet_check.py.
    """

    stage: Literal["imagenet_check"]
    weights: Text
    head: Text
    images: Text
    min_top1: Probability
    most: Count
    batch: Batch

    def inputs(self) -> list[str]:
        return [self.weights, self.head, self.images]

    def unset(self) -> Iterator[tuple[str, str]]:
        if not self.weights:
            yield "weights", "a weight file, or to imagenet"
        if not self.images:
            yield "images", "a folder of ImageNet pictures"


class Remove(Stage):
    """Config of `remove`, which deletes the data of a person; see stages/remove.py."""

    stage: Literal["remove"]
    remove: Text
    photos: Text
    work: Text

    def inputs(self) -> list[str]:
        return [self.photos]

    def unset(self) -> Iterator[tuple[str, str]]:
        if not self.remove:
            yield "remove", "the id of the person"
        if not self.work:
            yield "work", "the folder that contains all workdirs"


# What to set a required field of a shipped pipeline to, for the message if it is not set.
_NEEDED = {
    "videos": "the folder of your videos",
    "photos": "the folder of your labelled photographs",
    "people": "a workdir of the stage photographs",
    "low_shot": "a workdir of the stage photographs",
    "pool": "a workdir of the stage extract or refine",
    "imagenet": "a weight file, or to imagenet",
}


class Pipeline(Stage):
    """Config of `pipeline`; the configs of its steps are validated too.

    It may have further fields of any name; steps refer to them in braces, as in "{photos}".

    Attributes:
        needs: fields that must be set before the pipeline starts.
        order: names of the steps that run, in this order.
        optional: steps that are left out, with a warning, if they do not apply to these data.
        steps: the config of each step by its name.
        language: language of messages, pictures and the report: "en" or "fa" (Persian).
        videos: the folder of your videos.
        photos: the folder or table of your labelled photographs.
        pool: a workdir of `extract` or `refine` with unlabelled faces for pretraining.
        people: a workdir of `photographs` with the people on whom the methods are compared.
        low_shot: a workdir of `photographs` with the splits train and test, for the comparison
            with few labels.
        imagenet: a file of ImageNet weights, or "imagenet", for the method `imagenet`.
        pool_variant: which faces of the pool are used: "refined" (kept by `refine`) or "all".
        pretrain_epochs: passes over the pool in each pretraining.
        finetune_steps: training steps of each fine-tuning on emotions.
        allow_leaks: kinds of leaks that are reported but do not stop the run.
    """

    model_config = ConfigDict(extra="allow")

    stage: Literal["pipeline"]
    needs: UniqueNames
    order: Annotated[Items[Name], Field(min_length=1), Unique]
    optional: UniqueNames = ()
    steps: dict[Name, Step]
    language: LanguageCode = "en"

    # Fields that only some of the pipelines and studies in configs/ use.
    videos: Text = ""
    photos: Text = ""
    pool: Text = ""
    people: Text = ""
    low_shot: Text = ""
    imagenet: Text = ""
    pool_variant: Name = "refined"
    pretrain_epochs: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    finetune_steps: CountFromOne = 1
    allow_leaks: AllowedLeaks = ()

    def inputs(self) -> list[str]:
        return [getattr(self, name) for name in self.needs]

    def unset(self) -> Iterator[tuple[str, str]]:
        for name in self.needs:
            if not getattr(self, name):
                yield name, _NEEDED.get(name, "a path")

    def faults(self) -> Iterator[tuple[str, str]]:
        fields = self.model_fields_set
        for name in self.needs:
            if name not in fields or not isinstance(getattr(self, name), str):
                yield "needs", f"names {name!r}, which is not a text field of the config"
        for name in self.order:
            if name not in self.steps:
                yield "order", f"names {name!r}, which is not one of the steps"
            elif name in (".", "..") or "/" in name:
                yield "order", f"names {name!r}, which cannot be the name of a folder"


Step: TypeAlias = Annotated[
    Render | Photographs | Extract | Train | Refine | Crossval | Audit | Evaluate | Study
    | Predict | Export | ImagenetCheck | Remove,
    Field(discriminator="stage"),
]  # fmt: skip

STAGES: dict[str, type[Stage]] = {
    "audit": Audit,
    "crossval": Crossval,
    "evaluate": Evaluate,
    "export": Export,
    "extract": Extract,
    "imagenet_check": ImagenetCheck,
    "photographs": Photographs,
    "pipeline": Pipeline,
    "predict": Predict,
    "refine": Refine,
    "remove": Remove,
    "render": Render,
    "serve": Serve,
    "study": Study,
    "train": Train,
}
"""Schemas by the name of the stage, as in `config.stage`."""
