"""What every field of every stage's config may be, checked before a stage touches anything.

A config stays a `ConfigDict` that a file in configs/ builds. `fer_jax.workdir.stage` passes it
through `validated`, which looks up the schema by `config.stage`. The schemas are frozen pydantic
models:

    fields.py      types with ranges, and the base class of all models
    faces.py       how faces are found, cut out and chosen
    training.py    tasks, backbone, optimizer: what the stages that train have in common
    stages.py      one model for each stage
"""

from fer_jax.schemas.stages import STAGES
from fer_jax.schemas.validation import validated

__all__ = ["STAGES", "validated"]
