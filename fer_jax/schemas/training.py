"""Tasks, backbone and optimizer: what the stages that train have in common."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import ConfigDict, Field, PrivateAttr, model_serializer, model_validator

from fer_jax import plugins
from fer_jax.schemas.fields import (
    AnyCase,
    Batch,
    Count,
    CountFromOne,
    Items,
    Name,
    NotNegative,
    Pixels,
    Positive,
    Probability,
    Seconds,
    Section,
    Share,
    ShareBelowOne,
    Stage,
    Text,
    UniqueNames,
    Workers,
    nested,
)

FloatType: TypeAlias = Literal["auto", "", "float16", "bfloat16", "float32", "float64"]


class Augment(Section):
    """Strengths of the augmentation; see fer_jax/tasks/augment.py."""

    flip: Probability = 0.0
    zoom: ShareBelowOne = 0.0
    shift: Share = 0.0
    turn: Annotated[float, Field(ge=0, le=45)] = 0.0  # degrees
    brightness: Share = 0.0
    contrast: Share = 0.0
    saturation: Share = 0.0
    grey: Probability = 0.0
    erase: Probability = 0.0


class Task(Section):
    """What every task has."""

    weight: Positive = 1.0


class CustomTask(Task):
    """A task of the user's own, whose dataclass checks its other fields."""

    model_config = ConfigDict(extra="allow")


class AugmentedTask(Task):
    """A task of this package; each has its own default augmentation."""

    augment: Augment = Augment()


class Rotation(AugmentedTask):
    """See fer_jax/tasks/rotation.py."""

    views: Literal[1, 4] = 4


class Jigsaw(AugmentedTask):
    """See fer_jax/tasks/jigsaw.py."""

    grid: Annotated[int, Field(ge=2, le=16)] = 3
    permutations: Annotated[int, Field(ge=2, le=100_000)] = 100
    mode: Annotated[Literal["tiles", "image"], AnyCase] = "image"
    gap: Annotated[int, Field(ge=0, le=4096)] = 5  # pixels
    normalise_tiles: bool = True
    grey: Probability = 1.0

    def faults(self) -> Iterator[tuple[str, str]]:
        if self.grid == 2 and self.permutations > 24:
            yield "permutations", "must be at most 24: four tiles have no more permutations"


class RelativePatch(AugmentedTask):
    """See fer_jax/tasks/relative_patch.py."""

    gap: Annotated[int, Field(ge=0, le=4096)] = 5  # pixels
    tile: Annotated[int, Field(ge=0, le=4096)] = 0  # pixels
    normalise_tiles: bool = True
    grey: Probability = 1.0


class ComparingTask(AugmentedTask):
    """A task that compares the examples of a batch with each other."""

    hidden: Annotated[int, Field(ge=1, le=65_536)] = 256
    dimensions: Annotated[int, Field(ge=1, le=65_536)] = 64


class SimCLR(ComparingTask):
    """See fer_jax/tasks/simclr.py."""

    temperature: Positive = 0.2


class VICReg(ComparingTask):
    """See fer_jax/tasks/vicreg.py."""

    invariance: NotNegative = 1.0
    variance: NotNegative = 1.0
    covariance: NotNegative = 0.04
    dimensions: Annotated[int, Field(ge=1, le=65_536)] = 128


class Emotion(AugmentedTask):
    """See fer_jax/tasks/emotion.py."""

    classes: Annotated[UniqueNames, Field(min_length=2)] = ()  # follow from the photographs
    label_smoothing: ShareBelowOne = 0.0
    mixup: NotNegative = 0.0
    class_weights: Items[NotNegative] = ()


class Verification(AugmentedTask):
    """See fer_jax/tasks/verification.py."""

    label_smoothing: ShareBelowOne = 0.0


class Tasks(Section):
    """The tasks of this package by name; any other name is a module of the user's own."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, CustomTask]

    rotation: Rotation = Rotation()
    jigsaw: Jigsaw = Jigsaw()
    relative_patch: RelativePatch = RelativePatch()
    simclr: SimCLR = SimCLR()
    vicreg: VICReg = VICReg()
    emotion: Emotion = Emotion()
    verification: Verification = Verification()

    def named(self) -> frozenset[str]:
        """The names of the tasks that are to be learned."""
        return frozenset(self.model_fields_set)

    @model_serializer(mode="wrap")
    def _only_named(self, dump: Any) -> dict[str, Any]:
        return {name: fields for name, fields in dump(self).items() if name in self.named()}

    def given(self) -> dict[str, dict[str, Any]]:
        """The fields that are given for each task, by the task's name, in alphabetical order."""
        return {
            name: getattr(self, name).model_dump(exclude_unset=True)
            for name in sorted(self.named())
        }

    def faults(self) -> Iterator[tuple[str, str]]:
        for name in sorted(self.named() - type(self).model_fields.keys()):
            if "." not in name and not importlib.util.find_spec(f"fer_jax.tasks.{name}"):
                known = ", ".join(type(self).model_fields)
                yield (
                    name,
                    f"is no task; there are {known}, and dotted names of modules of your own",
                )


class Backbone(Section):
    """What the network sees, and which backbone it has.

    All other fields are the backbone's own, such as `width`, and are checked by it.

    Attributes:
        name: a file in fer_jax/models/, or a dotted module; see fer_jax/models/backbone.py.
        grey: whether the backbone sees one channel of luma.
        normalise: "inception" is x / 127.5 - 1; "per_image" gives each image mean 0 and variance 1.
        dropout: on the pooled features.
        dtype: of the computation; "auto" is bfloat16 on GPU and TPU, on CPU the input's type.
    """

    model_config = ConfigDict(extra="allow")

    name: Name = "inception_resnet_v2"
    grey: bool = False
    normalise: Annotated[Literal["inception", "per_image"], AnyCase] = "inception"
    dropout: ShareBelowOne = 0.0
    dtype: Annotated[FloatType | None, AnyCase] = "auto"

    _own: Any = PrivateAttr()

    @property
    def own(self) -> Any:
        """The backbone's own fields, a `fer_jax.models.backbone.BackboneSettings`."""
        return self._own

    @model_validator(mode="after")
    def _check_own(self) -> Backbone:
        fields = self.model_extra or {}
        with nested():
            self._own = plugins.build("backbone", self.name, "fer_jax.models", "BACKBONE", fields)
        return self


class Optimizer(Section):
    """See fer_jax/training/optimizer.py."""

    learning_rate: Annotated[float, Field(gt=0, le=100)]
    warmup: Share  # of the steps
    weight_decay: Annotated[float, Field(ge=0, le=100)]
    clip: Positive  # the largest global norm of a gradient
    backbone_rate: Annotated[float, Field(ge=0, le=1000)]
    layer_decay: Annotated[float, Field(gt=0, le=1)]
    freeze: Items[Name]  # patterns of parameter paths
    average: ShareBelowOne


class Loop(Section):
    """What `fer_jax.training.loop.fit` reads of a config."""

    batch_size: Batch
    log_every: Count  # steps; 0: at the end
    evaluate_every: Count  # steps; 0: at the end
    checkpoint_every_s: Seconds
    wandb: Text = ""


class Training(Stage, Loop):
    """A config that trains a network."""

    tasks: Tasks
    backbone: Backbone
    init: Text

    epochs: Annotated[float, Field(ge=0, le=1e6)]
    min_steps: Count = 0
    optimizer: Optimizer

    accumulate: CountFromOne
    fsdp: CountFromOne
    workers: Workers

    def faults(self) -> Iterator[tuple[str, str]]:
        if not self.epochs and not self.min_steps:
            steps = "min_steps" if "min_steps" in self.model_fields_set else "a field min_steps"
            yield "epochs", f"must be above 0, or {steps} must"
        if self.batch_size % self.accumulate:
            yield "accumulate", f"must divide batch_size={self.batch_size}"
        comparing = sorted(
            name
            for name in self.tasks.named()
            if isinstance(getattr(self.tasks, name), ComparingTask)
        )
        if comparing and self.batch_size // self.accumulate < 2:
            yield (
                "batch_size",
                f"must be at least 2 for each of the accumulate={self.accumulate} parts: "
                f"{comparing[0]} compares the images of a part",
            )

    def too_small(self, image_size: int) -> str:
        """Why images of this size do not fit the stem; "" if they do."""
        smallest = self.backbone.own.smallest_input
        return f"must be at least {smallest} pixels for this backbone" * (image_size < smallest)


class Folders(Section):
    """Further crops for the verifier."""

    faces: Text = ""
    nonfaces: Text = ""


class Data(Section):
    """The images to train on; `data.json` in the workdir of `train`."""

    dataset: Name
    config: Text
    root: Text
    image_size: Pixels
    cache: bool
    folders: Folders = Folders()

    @property
    def given_folders(self) -> dict[str, str]:
        """The folders that are given, by the name of their field."""
        return {name: path for name, path in self.folders if path}

    @property
    def place(self) -> str:
        """Where the images lie: `root`, or the first folder where only folders are given."""
        return self.root or next(iter(self.given_folders.values()), "")


class Probe(Section):
    """Labelled photographs that are watched while the network learns something else."""

    photographs: Text
    neighbours: CountFromOne
    folds: Annotated[int, Field(ge=2, le=1_000_000)]
    most: CountFromOne
