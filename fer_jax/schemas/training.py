"""Fields of the stages that train networks, such as tasks, backbone and optimizer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    ConfigDict,
    Field,
    PrivateAttr,
    model_serializer,
    model_validator,
)

from fer_jax import plugins
from fer_jax.schemas.fields import (
    AnyCase,
    Batch,
    Count,
    CountFromOne,
    Items,
    Name,
    Pixels,
    Positive,
    Seconds,
    Section,
    Share,
    ShareBelowOne,
    Stage,
    Text,
    Workers,
    collected,
    raise_collected,
    with_parts,
)

FloatType: TypeAlias = Literal["auto", "", "float16", "bfloat16", "float32", "float64"]


class Task(Section):
    """The weight of a task; its other fields are defined and checked by the task.

    Attributes:
        weight: the factor of the task's loss in the total loss.
    """

    model_config = ConfigDict(extra="allow")

    weight: Positive = 1.0

    _own: dict[str, Any] = PrivateAttr(default_factory=dict)  # the task's fields, once checked

    @model_serializer(mode="wrap")
    def _with_defaults(self, dump: Any, info: Any) -> dict[str, Any]:
        given: dict[str, Any] = dump(self)
        return given if info.exclude_unset else given | self._own


class Tasks(Section):
    """The tasks to learn, by name: modules in fer_jax/tasks, or dotted names of other modules.

    The fields of a task with a dotted name are checked when the task is made.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Task]

    def named(self) -> frozenset[str]:
        """The names of the tasks."""
        return frozenset(self.__pydantic_extra__)

    def fields(self) -> dict[str, dict[str, Any]]:
        """The weight and the fields of each task, by the task's name, in alphabetical order.

        A task of this package has all of its fields, if they were checked (see `with_parts`); other
        tasks have those that are set in the config.
        """
        tasks = self.__pydantic_extra__
        return {name: tasks[name].model_dump() for name in sorted(tasks)}

    def comparing(self) -> list[str]:
        """The names of the tasks of this package that compare the images of a batch."""
        return [
            name for name in sorted(self.named()) if "." not in name and _compares(_load_task(name))
        ]

    def faults(self) -> Iterator[tuple[str, str]]:
        known = plugins.names("fer_jax.tasks", "TASK")
        for name in sorted(self.named() - set(known)):
            if "." not in name:
                hint = plugins.did_you_mean(name, known)
                yield (
                    name,
                    f"is not a task{hint}; choose from {', '.join(known)}, or use the dotted name "
                    "of your own module",
                )
        for name, fields in self.fields().items():
            source = fields.get("inputs_of")
            if source and source not in self.named():
                yield f"{name}.inputs_of", f"names {source!r}, which is not a task of this config"

    @model_validator(mode="wrap")
    @classmethod
    def _check_all(cls, given: Any, check: Callable[[Any], Any], info: Any) -> Any:
        errors: list[Any] = []
        own, tasks = {}, None
        known = plugins.names("fer_jax.tasks", "TASK") if with_parts(info) else ()
        for name, fields in given.items() if isinstance(given, Mapping) else ():
            if name in known and isinstance(fields, Mapping):
                with collected(errors, name):
                    task = _load_task(name)(**{k: v for k, v in fields.items() if k != "weight"})
                    own[name] = dataclasses.asdict(task)
        with collected(errors):
            tasks = check(given)
        raise_collected(errors)
        for name, fields in own.items():
            getattr(tasks, name)._own = fields
        return tasks


def _load_task(name: str) -> Any:
    return plugins.load("task", name, "fer_jax.tasks", "TASK")


def _compares(task: Any) -> bool:
    return getattr(task, "compares_examples", False)


class Backbone(Section):
    """The backbone, its input, and the dropout of its features.

    All other fields, such as `width`, are defined and checked by the backbone.

    Attributes:
        name: a module in fer_jax/models/, or the dotted name of any module; see
            fer_jax/models/backbone.py.
        grey: whether the backbone's input is one channel of luma instead of RGB.
        normalise: "inception": x / 127.5 - 1; "per_image": each image is scaled to mean 0 and,
            unless its standard deviation is below 1 on the scale 0..255, variance 1.
        dropout: dropout rate of the pooled features.
        dtype: type of the backbone's computation. "" or None: that of the normalised input; "auto":
            bfloat16 on GPU and TPU, and as for "" on CPU.
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
        """The fields that the backbone defines, a `fer_jax.models.backbone.BackboneSettings`.

        Raises `AttributeError` if these fields were not checked (see `with_parts`).
        """
        return self._own

    @model_validator(mode="wrap")
    @classmethod
    def _check_all(cls, given: Any, check: Callable[[Any], Any], info: Any) -> Any:
        errors: list[Any] = []
        own = backbone = None
        if isinstance(given, Mapping):
            name = str(given.get("name", cls.model_fields["name"].default))
            known = "." in name or name in plugins.names("fer_jax.models", "BACKBONE")
            fields = {k: v for k, v in given.items() if k not in cls.model_fields}
            if with_parts(info) or not known:  # an unknown name is always an error
                with collected(errors):
                    own = plugins.build("backbone", name, "fer_jax.models", "BACKBONE", fields)
        with collected(errors):
            backbone = check(given)
        raise_collected(errors)
        if own is not None:
            backbone._own = own
        return backbone


class Optimizer(Section):
    """Settings of AdamW; see fer_jax/training/optimizer.py.

    Attributes:
        learning_rate: the peak of the learning rate, which it reaches after the warm-up.
        warmup: share of the steps in which the learning rate rises to its peak.
        weight_decay: AdamW's weight decay of kernels.
        clip: the maximum global norm of the gradients; larger ones are scaled down.
        backbone_rate: factor for the learning rate of the backbone.
        layer_decay: factor for the learning rates of the backbone, applied once in its last stage,
            twice in the stage before, and so on.
        freeze: shell patterns; parameters whose paths match one are not trained.
        average: decay of a running average of the parameters; 0: none.
    """

    learning_rate: Annotated[float, Field(gt=0, le=100)]
    warmup: Share
    weight_decay: Annotated[float, Field(ge=0, le=100)]
    clip: Positive
    backbone_rate: Annotated[float, Field(ge=0, le=1000)]
    layer_decay: Annotated[float, Field(gt=0, le=1)]
    freeze: Items[Name]
    average: ShareBelowOne


class Batches(Section):
    """The batch size over all processes, and how a batch is distributed over the devices.

    Attributes:
        accumulate: number of parts of a batch that are computed one after the other, to save
            memory.
        fsdp: number of devices that share one copy of the parameters.
    """

    batch_size: Batch
    accumulate: CountFromOne = 1
    fsdp: CountFromOne = 1


class Loop(Batches):
    """The fields of a config that `fer_jax.training.loop.fit` uses.

    Attributes:
        log_every: steps between the logged metrics; 0: only at the end.
        evaluate_every: steps between evaluations on validation data; 0: only at the end.
        checkpoint_every_s: seconds after which the next checkpoint is saved; the last state is
            always saved.
        wandb: the project of Weights & Biases to which metrics are sent; "" for none.
    """

    log_every: Count
    evaluate_every: Count
    checkpoint_every_s: Seconds
    wandb: Text = ""


class Training(Stage, Loop):
    """Base class of the configs of stages that train a network."""

    tasks: Tasks
    backbone: Backbone
    init: Text

    epochs: Annotated[float, Field(ge=0, le=1e6)]
    min_steps: Count = 0
    optimizer: Optimizer

    workers: Workers

    def faults(self) -> Iterator[tuple[str, str]]:
        if not self.epochs and not self.min_steps:
            known = "min_steps" in self.model_fields_set
            steps = "min_steps is" if known else "the config gets a field min_steps that is"
            yield "epochs", f"must be above 0 unless {steps}"
        if self.batch_size % self.accumulate:
            yield "accumulate", f"must divide batch_size={self.batch_size}"

    def faults_of_parts(self) -> Iterator[tuple[str, str]]:
        comparing = self.tasks.comparing()
        if comparing and self.batch_size // self.accumulate < 2:
            yield (
                "batch_size",
                f"must give each of the accumulate={self.accumulate} parts of a batch at least 2 "
                f"images, since {comparing[0]} compares the images of a part with each other",
            )

    def too_small(self, image_size: int) -> str:
        """An error message if images of `image_size` pixels are too small, else ""."""
        smallest = self.backbone.own.smallest_input
        if image_size >= smallest:
            return ""
        return f"must be at least {smallest} pixels for this backbone"


class Folders(Section):
    """Folders of further images, which some data sets read; "" if a folder is not set.

    They are set by the fields of the same names in the configs that use such a data set.
    """

    faces: Text = ""
    nonfaces: Text = ""
    aligned: Text = ""


class Data(Section):
    """The images to train on; also the content of `data.json` in the workdir of `train`.

    Attributes:
        dataset: the name of a data set in datasets/, or a dotted module name.
        config: the name of a config of the data set; "" for its first one.
        root: the folder that the data set reads; "" if it reads only `folders`.
        image_size: side in pixels of the network's input.
        cache: whether all images are decoded once and kept in memory.
        folders: folders of further images, for the data sets that read them.
    """

    dataset: Name
    config: Text
    root: Text
    image_size: Pixels
    cache: bool
    folders: Folders = Folders()

    @property
    def given_folders(self) -> dict[str, str]:
        """The folders that are set, by the name of their field."""
        return {name: path for name, path in self.folders if path}

    @property
    def place(self) -> str:
        """The location of the images: `root` or, if it is empty, the first folder that is set."""
        return self.root or next(iter(self.given_folders.values()), "")


class Probe(Section):
    """Labelled photographs on which the features are measured during training on other tasks.

    Attributes:
        photographs: a workdir of the stage photographs; "" for no probes.
        neighbours: number of nearest neighbours that vote.
        folds: number of folds of people; if there are fewer people, each of them is a fold.
        most: maximum number of photographs. If there are more, some people are left out with all
            their photographs; two people are always kept.
    """

    photographs: Text
    neighbours: CountFromOne
    folds: Annotated[int, Field(ge=2, le=1_000_000)]
    most: CountFromOne
