"""The inputs of a stage are checked before anything is imported or written."""

import pytest

from configs import emotion, imagenet_check, pipeline, predict, refine
from fer_jax import inputs
from fer_jax.errors import UserError
from fer_jax.schemas import validated


def record(module, **fields):
    config = module.get_config()
    config.update(fields)
    return validated(config, parts=False)


@pytest.mark.parametrize(
    ("module", "fields", "message"),
    [
        (predict, {}, "predict: set --config.input to a picture, a video or a folder of them"),
        (predict, {"input": "x", "model": ""}, "predict: set --config.model to starter, a model"),
        (
            imagenet_check,
            {"weights": ""},
            "to a weight file, or to imagenet, and --config.im",
        ),
        (refine, {"faces": "x"}, "or set --config.use_verifier=starter"),
        (pipeline, {"videos": "x"}, "pipeline: set --config.photos to the folder of your labelled"),
    ],
)
def test_a_field_that_must_be_set_is_named_with_what_to_set_it_to(module, fields, message):
    with pytest.raises(UserError) as caught:
        inputs.paths_of(record(module, **fields))
    assert message in str(caught.value)


def test_an_input_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(UserError, match=r"^--config\.input: there is no n\.jpg; correct the path$"):
        inputs.paths_of(record(predict, input="n.jpg"))
    with pytest.raises(
        UserError, match=r"^--config\.init: there is no best/model; .* run the stage that"
    ):
        inputs.paths_of(record(emotion, photographs=str(tmp_path), init="best/model"))


def test_the_starter_is_not_a_path(tmp_path):
    assert inputs.paths_of(record(predict, input=str(tmp_path))) == [str(tmp_path)]


def test_a_dangling_link_exists_for_the_stage_to_report(tmp_path):
    link = tmp_path / "link.jpg"
    link.symlink_to(tmp_path / "gone.jpg")
    assert inputs.paths_of(record(predict, input=str(link))) == [str(link)]
