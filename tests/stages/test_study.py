"""A small study with one pretraining per seed, the same folds for all methods, and one table."""

import shutil

import numpy as np
import pandas as pd
import pytest

from configs import pipeline_in_turn as in_turn_config
from configs import study as study_config
from configs import study_low_shot as low_shot_config
from configs import study_starter as starter_config
from fer_jax.data import manifest
from fer_jax.errors import UserError
from fer_jax.models import starter
from fer_jax.stages import pipeline, study
from fer_jax.training import model_directory
from fer_jax.workdir import read_json
from tests.stages.test_crossval import taken

PEOPLE = dict.fromkeys(range(741, 746), "")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished study of scratch and jigsaw with two seeds, on five generated people."""
    root = tmp_path_factory.mktemp("study")
    faces = taken(root, PEOPLE, ("happy", "sad"), "people")
    pool = root / "pool"
    shutil.copytree(f"{faces}/faces", pool / "faces")
    rows = pd.read_parquet(f"{faces}/photographs.parquet")
    column = {name: [0] * len(rows) for name in ("frame", "track", "sharpness", "brightness")}
    table = pd.DataFrame(column).assign(
        face_id=[f"face{i}" for i in range(len(rows))],
        video=[f"v{i}.mp4" for i in range(len(rows))],
        box=[np.zeros(4, np.float32)] * len(rows), landmarks=[np.zeros(10, np.float32)] * len(rows),
        time_s=0.0, detector_score=1.0, verifier_score=1.0, yaw=0.0, phash=np.uint64(0),
        status=manifest.KEPT, reason="", crop=rows["crop"],
    )  # fmt: skip
    manifest.write_manifest(pool / "manifest.parquet", table)
    config = study_config.of_people("small", ("scratch", "jigsaw"), seeds=(0, 1))
    config.update({"pool": str(pool), "people": faces, "pretrain_epochs": 2.0})
    config.update({"finetune_steps": 2, "allow_leaks": ("pretraining_duplicate",)})
    for step in config.steps.values():
        if "backbone" in step:
            step.backbone.depth = (0, 0, 0)
            step.batch_size = 8
        if step.stage == "crossval":
            step.folds = 2
    config.steps.table.bootstrap.samples = 50
    pipeline.run(config, root / "w")
    return root / "w"


def test_each_seed_starts_from_its_own_pretraining(finished):
    weights = [read_json(finished / f"jigsaw_seed{s}" / "config.json")["seed"] for s in (0, 1)]
    assert weights == [0, 1]
    protocol = read_json(finished / "people_jigsaw" / "protocol.json")
    assert protocol["seeds"] == [0, 1] and protocol["init"] == "pretrained"
    assert protocol["pretraining_known"] and protocol["leaks"]["pretraining_duplicate"] == 10


def test_the_table_compares_with_the_reference_on_the_same_folds(finished):
    rows = pd.read_csv(finished / "table" / "study.csv")
    assert rows["method"].tolist() == ["scratch", "jigsaw"] and set(rows["seeds"]) == {2}
    accuracy = rows.set_index("method")["accuracy"]
    assert rows["gain"].iloc[1] == pytest.approx(accuracy["jigsaw"] - accuracy["scratch"])
    assert (finished / "table" / "study.png").stat().st_size > 5000
    assert "| jigsaw |" in (finished / "table" / "study.md").read_text()


def test_no_final_model_is_trained_without_everyone(finished):
    assert not (finished / "people_scratch" / "model").exists()


def test_a_missing_reference_is_named(finished, tmp_path):
    config = study_config.of_people(
        "small", ("scratch", "jigsaw"), seeds=(0, 1)
    ).steps.table.unlock()
    config.runs.people.scratch = ""
    config.runs.people.jigsaw = str(finished / "people_jigsaw")
    with pytest.raises(UserError, match=r"runs\.people names no workdir for scratch"):
        study.run(config, tmp_path)


@pytest.mark.parametrize(
    ("arg", "message"),
    [
        ("scratch,rotatoin", "a study has no method rotatoin; choose from scratch, rotation"),
        ("scratch,imagenet", "needs the size full"),
        ("starter,rotation", "a study has no method starter; choose from scratch"),
    ],
)
def test_errors_that_would_occur_hours_later_are_raised_at_once(arg, message):
    with pytest.raises(UserError, match=message):
        study_config.get_config(arg)


def test_a_study_from_the_starter_has_no_method_from_scratch():
    with pytest.raises(UserError, match="a study from the starter has no method scratch"):
        starter_config.of_people(("people",), ("starter", "scratch"))


def test_settings_keep_their_order():
    config = low_shot_config.get_config().steps.table_low_shot
    assert config.settings == ("low_shot_10", "low_shot_40", "low_shot_160")
    assert config.methods == study_config.METHODS


def test_both_studies_share_their_pretrainings():
    people, few = (
        module.get_config("scratch,jigsaw") for module in (study_config, low_shot_config)
    )
    shared = set(people.order) & set(few.order)
    assert shared == {"jigsaw_seed0", "jigsaw_seed1", "jigsaw_seed2"}
    assert all(people.steps[name].to_dict() == few.steps[name].to_dict() for name in shared)


def test_in_turn_starts_from_the_preceding_task():
    config = study_config.of_people("small", ("scratch", "in_turn"), seeds=(0,))
    assert config.order == ("audit_people", "rotation_seed0", "in_turn_seed0", "people_scratch",
                            "people_in_turn", "table")  # fmt: skip
    assert config.steps.in_turn_seed0.init == "{workdir}/rotation_seed0"
    assert set(config.steps.in_turn_seed0.tasks) == {"jigsaw"}
    assert config.steps.people_in_turn.init == "{workdir}/in_turn_seed{seed}"


def test_pipeline_in_turn_pretrains_on_one_task_after_the_other():
    config = in_turn_config.get_config("small,rotation,jigsaw,simclr")
    assert config.order[4:7] == ("pretrain_1", "pretrain_2", "pretrain")
    steps = [config.steps[name] for name in config.order[4:7]]
    assert [set(step.tasks) for step in steps] == [{"rotation"}, {"jigsaw"}, {"simclr"}]
    inits = ["", "{workdir}/pretrain_1", "{workdir}/pretrain_2"]
    assert [step.init for step in steps] == inits
    assert {step.data.root for step in steps} == {"{workdir}/refine"}
    assert config.steps.emotion.init == "{workdir}/pretrain"
    steps = in_turn_config.get_config("rotation,jigsaw").steps
    assert (steps.pretrain_1.init, steps.pretrain.init) == ("starter", "{workdir}/pretrain_1")


def test_one_field_sets_all_steps():
    config = low_shot_config.get_config()
    config.pretrain_epochs = 3.0
    config.finetune_steps = 7
    lengths = {step.epochs for step in config.steps.values() if step.stage == "train"}
    assert lengths == {3.0}
    assert {s.min_steps for s in config.steps.values() if s.stage == "crossval"} == {7}
    assert "people" not in config.needs and "low_shot" in config.needs


def test_every_method_of_the_starter_study_starts_from_the_starter():
    config = starter_config.get_config("kdef55,ikfdb15")
    assert config.needs == ("pool", "low_shot", "kdef55", "ikfdb15")
    pretrainings = [step for step in config.steps.values() if step.stage == "train"]
    assert len(pretrainings) == 15 and {step.init for step in pretrainings} == {"starter"}
    assert {step.seed for step in pretrainings} == set(starter_config.SEEDS)
    inits = {method: config.steps[f"kdef55_{method}"].init for method in study_config.FROM_STARTER}
    assert inits["starter"] == "starter"
    assert config.steps.low_shot_40_jigsaw.init == "{workdir}/jigsaw_seed{seed}"
    same = {step.optimizer.learning_rate for step in config.steps.values()
            if step.stage == "crossval"}  # fmt: skip
    assert same == {1e-3}
    assert config.steps.low_shot_160_starter.shots == 160
    assert config.steps.low_shot_160_starter.test_zooms == (1.0,)
    assert config.steps.ikfdb15_starter.protocol == "grouped_kfold"


def test_new_head_starts_from_the_backbone_of_the_starter_only():
    """The file contains the starter's backbone, but no head."""
    init = starter_config.get_config().steps.people_new_head.init
    assert not model_directory.is_model(init) and model_directory.is_model("starter")
    assert model_directory.origin(init).sha256 == starter.SHA256


def test_gains_are_also_measured_over_new_head():
    config = starter_config.get_config()
    settings = ("low_shot_10", "low_shot_40", "low_shot_160", "people")
    assert config.steps.table.reference == "starter"
    assert config.steps.table_new_head.reference == "new_head"
    assert config.steps.table_new_head.methods == ("new_head", "rotation", "jigsaw", "jointly")
    assert config.steps.table.settings == config.steps.table_new_head.settings == settings
    only = starter_config.of_people(("people",), ("starter", "rotation"), seeds=(0,))
    assert only.order[-1] == "table" and "table_new_head" not in only.order
