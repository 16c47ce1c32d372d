"""Schemas of the stages' configs: the types and ranges of fields, checked before a stage runs.

A file in configs/ builds a `ConfigDict`. `fer_jax.workdir.stage` passes it to `validated`, which
looks up the schema by `config.stage`; the stage gets the validated record. The schemas are frozen
pydantic models:

    fields.py      types with ranges, and the base class of all models
    faces.py       settings for finding, cropping and selecting faces
    training.py    fields shared by the stages that train: tasks, backbone, optimizer and others
    stages.py      one model for each stage
    validation.py  validates a config, and formats the error messages
"""

from fer_jax.schemas.fields import Stage
from fer_jax.schemas.stages import (
    STAGES,
    Audit,
    Crossval,
    Evaluate,
    Export,
    Extract,
    ImagenetCheck,
    LabelledFaces,
    Photographs,
    Pipeline,
    Predict,
    Refine,
    Remove,
    Render,
    Serve,
    Study,
    Train,
)  # fmt: skip
from fer_jax.schemas.training import Data, Loop, Probe, Training
from fer_jax.schemas.validation import completed, validated

__all__ = [
    "STAGES", "Audit", "Crossval", "Data", "Evaluate", "Export", "Extract", "ImagenetCheck",
    "LabelledFaces", "Loop", "Photographs", "Pipeline", "Predict", "Probe", "Refine", "Remove",
    "Render", "Serve", "Stage", "Study", "Train", "Training", "completed", "validated",
]  # fmt: skip
