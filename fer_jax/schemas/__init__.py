"""Schemas of the stages' configs: the type and range of every field, checked before a stage runs.

A file in configs/ builds a `ConfigDict`. `fer_jax.workdir.stage` passes it to `validated`, which
looks up the schema by `config.stage`, and gives the stage the validated record. The schemas are
frozen pydantic models:

    fields.py      types with ranges, and the base class of all models
    faces.py       finding, cropping and selecting faces
    training.py    tasks, backbone, optimizer: what the stages that train have in common
    stages.py      one model for each stage
    validation.py  checks a config, and words the errors
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
