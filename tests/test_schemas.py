"""Configs are checked field by field before a stage writes anything."""

import dataclasses
import importlib
import math
import pkgutil
from typing import get_args

import pytest
from ml_collections import ConfigDict

from configs import (
    audit,
    demo,
    emotion,
    evaluate,
    export,
    extract,
    imagenet_check,
    photographs,
    pipeline,
    pipeline_in_turn,
    predict,
    pretrain,
    probe,
    refine,
    remove,
    render,
    serve,
    study,
    study_low_shot,
    study_starter,
    verify,
)
from fer_jax import schemas, stages
from fer_jax.auditing import leakage
from fer_jax.crossval import methods, protocols
from fer_jax.errors import UserError
from fer_jax.languages.language import language
from fer_jax.schemas import stages as stage_schemas
from fer_jax.schemas import validated
from fer_jax.tasks.augment import FLIPPED
from fer_jax.tasks.jigsaw import Jigsaw
from fer_jax.workdir import write_json

SHIPPED = {
    audit: (None,),
    demo: (None, "full"),
    emotion: (None, "full", "rotation", "full,rotation", "simclr,my_tasks.upside_down"),
    evaluate: (None,),
    export: (None,),
    extract: (None, "full"),
    imagenet_check: (None,),
    photographs: (None, "full"),
    pipeline: (
        None,
        "full",
        "full,rotation,jigsaw",
        "my_tasks.upside_down",
    ),
    pipeline_in_turn: (None, "full,jigsaw,rotation,simclr"),
    predict: (None,),
    pretrain: (
        None,
        "full,jigsaw",
        "rotation,jigsaw,relative_patch,simclr,vicreg",
        "full,rotation,jigsaw,relative_patch,simclr,vicreg",
        "rotation,my_tasks.upside_down",
    ),
    probe: (None, "full"),
    refine: (None,),
    remove: (None,),
    render: (None,),
    serve: (None,),
    study: (
        None,
        "full,scratch,simclr,imagenet",
        "scratch,vicreg,relative_patch,fer_jax.tasks.rotation",
    ),
    study_low_shot: (None, "full,scratch,rotation"),
    study_starter: (None, "kdef,ikfdb"),
    verify: (None, "full"),
}
PIPELINES = (demo, pipeline, pipeline_in_turn, study, study_low_shot, study_starter)
SINGLE_STAGE = [module for module in SHIPPED if module not in PIPELINES]
OF_ANOTHER_TYPE = {bool: 3, int: "many", float: "many", str: 7, tuple: 7}


def name_of(module):
    return module.__name__.rpartition(".")[2]


def leaves(values, path=()):
    for key, value in values.items():
        if isinstance(value, dict):
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key), value


def changed(config, changes):
    """The config with the values in `changes`, by dotted name or path; they may be of any type."""
    values = config.to_dict()
    for path, value in changes.items():
        *parents, last = path.split(".") if isinstance(path, str) else path
        part = values
        for parent in parents:
            part = part[parent]
        part[last] = value
    return ConfigDict(values, allow_dotted_keys=True)


def flag(path):
    return "--config" + "".join(f'["{key}"]' if "." in key else f".{key}" for key in path)


def refusal(config, workdir):
    """The message with which the stage refuses the config; checks that nothing is written."""
    run = importlib.import_module(f"fer_jax.stages.{config.stage}").run
    with pytest.raises(UserError) as caught:
        run(config, workdir)
    message = str(caught.value)
    assert message.startswith(f"{config.stage}: ") and "\n" not in message
    assert not workdir.exists()
    return message


def invalid_values(value):
    """Yields values that no field like `value` accepts, of another type or out of any range."""
    yield OF_ANOTHER_TYPE[type(value)]
    if isinstance(value, str):
        yield "a\0b"
    elif isinstance(value, tuple):
        yield (None,)
        yield ({},)
    elif not isinstance(value, bool):
        yield -1
        yield 10**15 if isinstance(value, int) else math.inf
    if isinstance(value, int):
        yield None
    if isinstance(value, float):
        yield math.nan


@pytest.mark.parametrize("module", SHIPPED, ids=name_of)
def test_every_shipped_config_is_valid_and_stays_unchanged(module):
    for argument in SHIPPED[module]:
        config = module.get_config(argument)
        checked = validated(config)
        assert checked.model_dump(exclude_unset=True) == config.to_dict()


@pytest.mark.parametrize("module", SINGLE_STAGE, ids=name_of)
def test_an_invalid_value_of_any_field_is_refused_with_the_field_name(module, tmp_path):
    config = module.get_config()
    fields = [(path, value) for path, value in leaves(config.to_dict()) if path != ("stage",)]
    tries = 0
    for path, value in fields:
        for invalid in invalid_values(value):
            message = refusal(changed(config, {path: invalid}), tmp_path / "w")
            assert f"{flag(path)}=" in message, (path, invalid, message)
            tries += 1
    assert tries >= 2 * len(fields)


@pytest.mark.parametrize("module", PIPELINES, ids=name_of)
def test_a_pipeline_is_refused_for_any_step_before_the_first_one_runs(module, tmp_path):
    config = module.get_config()
    first_fields = {name: next(leaves(step)) for name, step in config.steps.to_dict().items()}
    changes = {("steps", name, *path): 1j for name, (path, _) in first_fields.items()}
    changes |= {(name,): 1j for name in config if name not in ("stage", "steps")}
    for path, invalid in changes.items():
        message = refusal(changed(config, {path: invalid}), tmp_path / "w")
        assert flag(path) in message, (path, message)


OUT_OF_RANGE = [
    (emotion, "seeds", (0, 0), "must not contain a value twice"),
    (emotion, "seeds", (), "must have at least 1 item"),
    (emotion, "seeds", (0, -1), "item 2 must be greater than or equal to 0"),
    (emotion, "seeds", (True,), "item 1 must be a valid integer"),
    (emotion, "shots", -1, "must be greater than or equal to 0"),
    (emotion, "inner.share", 2.0, "must be less than or equal to 0.5"),
    (emotion, "inner.checkpoints", (0.5, 1.5), "item 2 must be less than or equal to 1"),
    (emotion, "optimizer.clip", -1.0, "must be greater than 0"),
    (emotion, "optimizer.average", 2.0, "must be less than 1"),
    (emotion, "optimizer.layer_decay", 0.0, "must be greater than 0"),
    (emotion, "optimizer.warmup", 1.5, "must be less than or equal to 1"),
    (emotion, "backbone.momentum", 5.0, "must be less than 1"),
    (emotion, "backbone.dropout", 1.0, "must be less than 1"),
    (emotion, "backbone.depth", (1, 1), "must have at least 3 items"),
    (emotion, "backbone.stem", "huge", "must be 'full', 'small', 'tiny' or 'micro'"),
    (emotion, "backbone.dtype", "float99", "must be 'auto'"),
    (emotion, "folds", 1, "must be greater than or equal to 2"),
    (emotion, "fold_seed", 2**32, "must be less than 4294967296"),
    (emotion, "protocol", "grouped_fold", "did you mean 'grouped_kfold'?"),
    (emotion, "method", "finetune", "did you mean 'fine_tune'?"),
    (emotion, "features", ("backbone", "edges"), "item 2 must be 'backbone', 'depths' or"),
    (emotion, "test_crops", 3, "must be 1 or 5"),
    (emotion, "test_zooms", (1.0, 0.9), "item 2 must be greater than or equal to 1"),
    (emotion, "test_zooms", (), "must have at least 1 item"),
    (emotion, "allow_leaks", ("near",), "item 1 must be 'shared_id'"),
    (emotion, "pretraining_saw_test_people", "perhaps", "must be 'yes', 'no' or 'unknown'"),
    (emotion, "image_size", 24, "must be at least 25 pixels for this backbone"),
    (emotion, "epochs", True, "must be a valid number"),
    (emotion, "batch_size", 32.0, "must be a valid integer"),
    (emotion, "batch_size", 0, "must be greater than or equal to 1"),
    (emotion, "tasks.emotion.label_smoothing", 1.0, "must be less than 1"),
    (emotion, "tasks.emotion.weight", 0.0, "must be greater than 0"),
    (emotion, "accumulate", 3, "must divide batch_size=32"),
    (emotion, "test_photographs", "others", "--config.protocol='grouped_kfold' must be"),
    (emotion, "protocol", "cross_set", "--config.test_photographs='' must be a workdir with"),
    (emotion, "init", "runs/{seed}", "must be one model, without {seed}, for method='auto'"),
    (audit, "protocol", "cross_set", "--config.test_photographs=''"),
    (pretrain, "epochs", 0.0, "must be above 0"),
    (pretrain, "tasks.jigsaw.grid", 1, "must be greater than or equal to 2"),
    (pretrain, "tasks.rotation.views", 3, "must be 1 or 4"),
    (pretrain, "tasks.rotation", 3, "must be a group of fields"),
    (pretrain, "data.image_size", 20, "must be at least 25 pixels"),
    (pretrain, "probe.neighbours", 0, "must be greater than or equal to 1"),
    (pretrain, "probe.folds", 1, "must be greater than or equal to 2"),
    (verify, "min_steps", -5, "must be greater than or equal to 0"),
    (extract, "every_s", math.nan, "must be a finite number"),
    (extract, "detector.thresholds", (0.6, 0.7), "must have at least 3 items"),
    (extract, "detector.factor", 1.0, "must be less than or equal to 0.95"),
    (extract, "limits.min_brightness", 256.0, "must be less than or equal to 255"),
    (extract, "limits.max_brightness", -0.5, "must be greater than or equal to 0"),
    (extract, "limits.min_hash_distance", 65, "must be less than or equal to 64"),
    (extract, "crop.size", 7, "must be greater than or equal to 8"),
    (extract, "runner_options", "--a=b", "has no effect without runner"),
    (export, "formats", ("tflite",), "item 1 must be 'onnx' or 'stablehlo'"),
    (export, "formats", (), "must have at least 1 item"),
    (export, "formats", ("onnx", "ONNX"), "must not contain a value twice"),
    (photographs, "crop", {"size": 0, "margin": 0.0}, "--config.crop.size=0 must be"),
    (photographs, "emotions", (), "must have at least 1 item"),
    (photographs, "emotions", ("happy", "Happy "), "must not contain a name twice"),
    (photographs, "emotions", ("happy", " "), "item 2 must not be blank"),
    (photographs, "ignore", ("SAD",), "names 'sad', which is in emotions too"),
    (photographs, "photos", "a\0b", "must not contain a NUL character"),
    (predict, "every_s", -0.1, "must be greater than or equal to 0"),
    (serve, "port", 65_536, "must be less than or equal to 65535"),
    (render, "size", (96, 127), "item 2 must be a multiple of 2"),
    (render, "size", (62, 64), "item 1 must be greater than or equal to 64"),
    (render, "newcomers.first_person", 15, "puts person 15 into both newcomers and photographs"),
    (refine, "max_faces_lost", 1.0, "must be less than 1"),
    (imagenet_check, "most", -1, "must be greater than or equal to 0"),
    (refine, "use_verifier", "both", "must be 'auto', 'own' or 'starter'"),
    (refine, "min_test_sources", 0, "must be greater than or equal to 1"),
    (refine, "max_removed_of_confident", 1.0, "must be less than 1"),
    (refine, "verifier", "starter", "is not a folder; set use_verifier='starter' instead"),
    (evaluate, "main", "other", "must be one of the runs: baseline, model"),
    (evaluate, "runs", {}, "must have at least 1 item"),
    (evaluate, "bootstrap.samples", 39, "must be greater than or equal to 40"),
    (pipeline, "order", ("extract", "paint"), "names 'paint', which is not one of the steps"),
    (pipeline, "needs", ("steps",), "names 'steps', which is not a text field"),
    (pipeline, "steps.pretrain.stage", "paint", "has an unknown stage; choose from audit,"),
    (study, "steps.table.reference", "best", "must be one of the methods: scratch, rotation"),
    (study, "pretrain_epochs", -1.0, "must be greater than 0"),
]  # fmt: skip


@pytest.mark.parametrize(("module", "field", "value", "message"), OUT_OF_RANGE)
def test_a_value_out_of_range_is_refused_with_what_is_allowed(
    module, field, value, message, tmp_path
):
    assert message in refusal(changed(module.get_config(), {field: value}), tmp_path / "w")


def test_method_as_is_needs_a_model(tmp_path):
    config = changed(emotion.get_config(), {"method": "as_is", "init": ""})
    message = "--config.init='' must be an emotion model for method='as_is'"
    assert message in refusal(config, tmp_path / "w")


def test_all_problems_are_reported_in_one_line(tmp_path):
    config = changed(
        pretrain.get_config("rotation,my.task"),
        {
            "optimizer.clip": -1.0,
            "backbone.momentum": 5,
            "epoch": 3,
            ("tasks", "my.task"): {"weight": -1, "size": {}},
        },
    )
    del config.init
    reported = refusal(config, tmp_path / "w").removeprefix("train: ").split("; ")
    assert sorted(reported) == [
        "--config.backbone.momentum=5 must be less than 1",
        "--config.epoch does not exist (did you mean 'epochs'?)",
        "--config.init is missing",
        "--config.optimizer.clip=-1.0 must be greater than 0",
        '--config.tasks["my.task"].weight=-1 must be greater than 0',
    ]


def test_an_invalid_item_does_not_make_its_tuple_too_short(tmp_path):
    message = refusal(changed(emotion.get_config(), {"seeds": (-1,)}), tmp_path / "w")
    assert message == ("crossval: --config.seeds=(-1,) item 1 must be greater than or equal to 0")


def test_a_task_that_does_not_exist_is_refused(tmp_path):
    config = changed(pretrain.get_config(), {"tasks.rotatoin": {"weight": 1.0}})
    assert (
        "--config.tasks.rotatoin is not a task (did you mean 'rotation'?); choose from emotion"
        in refusal(config, tmp_path / "w")
    )


def test_more_problems_than_fit_into_a_line_are_counted(tmp_path):
    config = pretrain.get_config()
    numbers = [p for p, v in leaves(config.to_dict()) if isinstance(v, float)]
    message = refusal(changed(config, dict.fromkeys(numbers, -1)), tmp_path / "w")
    assert message.count("--config.") == 10
    assert message.endswith(f"; and {len(numbers) - 10} more")


def test_a_fault_that_a_pipeline_passes_to_its_steps_is_reported_once(tmp_path):
    config = study.get_config()
    with config.unlocked():
        config.pretrain_epochs = -1.0
    assert refusal(config, tmp_path / "w").count("--config.") == 1


def test_the_case_of_a_choice_does_not_matter():
    config = changed(
        emotion.get_config(),
        {"pretraining_saw_test_people": "Yes", "protocol": "Grouped_KFold", "seeds": [0, 1]},
    )
    checked = validated(config)
    assert checked.pretraining_saw_test_people == "yes" and checked.protocol == "grouped_kfold"
    assert checked.seeds == (0, 1)


def test_a_refused_config_leaves_the_workdir_free_for_the_corrected_one(tmp_path):
    config, workdir = small_render(), tmp_path / "w"
    refusal(changed(config, {"workers": -1}), workdir)
    assert importlib.import_module("fer_jax.stages.render").run(config, workdir)["drawn"] == 0


def test_a_new_field_with_its_default_value_is_not_a_difference(tmp_path):
    run = importlib.import_module("fer_jax.stages.photographs").run
    config = changed(photographs.get_config(), {"detector.max_faces": 0})
    (tmp_path / "photos").mkdir()
    config.photos = str(tmp_path / "photos")
    write_json(
        tmp_path / "w" / "config.json",
        photographs.get_config().to_dict() | {"photos": config.photos},
    )
    with pytest.raises(UserError, match="max_faces: 0 there, 3 here"):
        run(changed(config, {"detector.max_faces": 3}), tmp_path / "w")
    with pytest.raises(UserError, match=r"inputs\.json"):  # after the comparison of configs
        run(config, tmp_path / "w")


def test_another_task_is_a_difference():
    values = [pretrain.get_config(task).to_dict() for task in ("rotation", "jigsaw")]
    rotation, jigsaw = (schemas.completed(value)["tasks"] for value in values)
    assert set(rotation) == {"rotation"} and set(jigsaw) == {"jigsaw"}


def small_render():
    """A config of `render` without people and scenes."""
    nobody = {f"{group}.people": 0 for group in ("clips", "photographs", "newcomers")}
    return changed(render.get_config(), {**nobody, "clips.scenes": 0})


def test_fields_of_a_custom_task_are_checked_by_its_dataclass():
    config = pretrain.get_config("my_tasks.upside_down")
    config = changed(config, {("tasks", "my_tasks.upside_down"): {"grid": -2, "name": "x"}})
    assert validated(config).tasks.fields()["my_tasks.upside_down"]["grid"] == -2


def test_every_stage_has_a_schema():
    assert set(schemas.STAGES) == {m.name for m in pkgutil.iter_modules(stages.__path__)}


def test_schemas_have_the_same_choices_as_the_code():
    def choices(schema, field):
        annotation = schema.model_fields[field].annotation
        return {value for part in (annotation, *get_args(annotation)) for value in get_args(part)}

    crossval = stage_schemas.Crossval
    assert choices(crossval, "protocol") == set(protocols.PROTOCOLS)
    known = {module.name for module in pkgutil.iter_modules(methods.__path__)}
    assert set(get_args(stage_schemas.BuiltInMethod)) == known
    explained = {key for key in language("en").texts if key.startswith("leak.")}
    assert explained == {f"leak.{kind}" for kind in leakage.KINDS}


def test_a_task_has_all_fields_of_its_dataclass():
    tasks = validated(pretrain.get_config("jigsaw")).tasks
    given = {"gap": 5, "permutations": 24}
    assert tasks.fields() == {"jigsaw": {"weight": 1.0, **dataclasses.asdict(Jigsaw(**given))}}
    assert tasks.fields()["jigsaw"]["augment"] == dataclasses.asdict(FLIPPED)


def test_faults_of_several_tasks_and_of_their_parts_are_reported_together(tmp_path):
    config = changed(
        pretrain.get_config("jigsaw,relative_patch,rotation"),
        {
            "tasks.jigsaw": {"weight": 1.0, "grid": 2, "permutations": 25},
            "tasks.relative_patch": {"augment": {"flip": 0.5}},
            "tasks.rotation": {"augment": {"flip": 2.0, "flop": 1.0}, "sides": 4},
        },
    )
    reported = refusal(config, tmp_path / "w").removeprefix("train: ").split("; ")
    assert sorted(reported) == [
        "--config.tasks.jigsaw.permutations=25 must be at most 24: 4 tiles have no more "
        "permutations",
        "--config.tasks.relative_patch.augment.flip=0.5 must be 0, since classes distinguish "
        "left and right",
        "--config.tasks.rotation.augment.flip=2.0 must be less than or equal to 1",
        "--config.tasks.rotation.augment.flop does not exist",
        "--config.tasks.rotation.sides does not exist",
    ]


@pytest.mark.parametrize("task", ["simclr", "vicreg"])
def test_a_task_that_compares_needs_two_images_in_a_part(task, tmp_path):
    config = changed(pretrain.get_config(task), {"batch_size": 4, "accumulate": 4})
    message = refusal(config, tmp_path / "w")
    assert "at least 2 images" in message and f"{task} compares the images" in message
