"""A user's pretext task is selected in the config by its dotted name."""

from pathlib import Path

from configs import demo
from fer_jax.schemas import validated
from fer_jax.stages.pipeline import filled
from fer_jax.tasks.rotation import Rotation
from fer_jax.training.learner import make_tasks

NAME = "fer_jax.tasks.rotation"


def test_a_dotted_name_passes_through_pipeline_and_config():
    config = filled(validated(demo.get_config(f"small,{NAME}")), Path("work"))
    tasks, weights = make_tasks(config.steps["pretrain"].tasks.fields())
    assert isinstance(tasks[NAME], Rotation)
    assert weights == {NAME: 1.0}
