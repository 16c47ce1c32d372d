"""The ancestors and descendants of workdirs follow from the paths in their configs."""

from pathlib import Path

import pytest

from fer_jax.data import lineage
from fer_jax.workdir import write_json


def workdir(folder, stage, **config):
    write_json(folder / "config.json", {"stage": stage, **config})
    return folder


def names(workdirs):
    return [one.folder.name for one in workdirs]


@pytest.mark.parametrize(
    "part",
    ["", "model", "best", "best/model", "model/weights.safetensors", "folds/seed0_fold0/model"],
)
def test_a_model_belongs_to_the_workdir_of_its_training(tmp_path, part):
    folder = workdir(tmp_path / "w", "train")
    (folder / "best" / "model").mkdir(parents=True)
    (folder / "model").mkdir()
    (folder / "folds" / "seed0_fold0" / "model").mkdir(parents=True)
    (folder / "model" / "weights.safetensors").touch()
    assert lineage.workdir_of(folder / part).folder == folder


@pytest.mark.parametrize("text", ["{", "[]", '{"epochs": 3}', '"model"'])
def test_a_folder_with_another_config_json_is_not_a_workdir(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    assert lineage.read_workdir(tmp_path) is None
    assert lineage.ancestors([str(tmp_path)]).unknown == (tmp_path,)


def test_the_ancestors_of_a_model_are_found_for_every_seed(tmp_path):
    for seed in (0, 1):
        workdir(tmp_path / f"pretrain_{seed}", "train", init=str(tmp_path / "first"))
    workdir(tmp_path / "first", "train", init=str(tmp_path / "gone"))
    workdir(tmp_path / "emotion", "crossval", init=f"{tmp_path}/pretrain_{{seed}}", seeds=[0, 1])
    found = lineage.ancestors([str(tmp_path / "emotion"), ""])
    assert names(found.workdirs) == ["emotion", "pretrain_0", "pretrain_1", "first"]
    assert found.unknown == (tmp_path / "gone",)


def test_a_cycle_of_workdirs_is_handled(tmp_path):
    workdir(tmp_path / "a", "train", init=str(tmp_path / "b"))
    workdir(tmp_path / "b", "train", init=str(tmp_path / "a"))
    assert names(lineage.ancestors([str(tmp_path / "a")]).workdirs) == ["a", "b"]
    below = lineage.workdirs_below(tmp_path)
    assert names(lineage.descendants([tmp_path / "a"], below)) == ["b"]


def test_published_weights_are_unknown_ancestors(tmp_path):
    workdir(tmp_path / "a", "train", init="imagenet")
    (path,) = lineage.ancestors([str(tmp_path / "a")]).unknown
    assert path.name == "imagenet"


def test_descendants_are_found_through_every_kind_of_input(tmp_path):
    root = tmp_path / "w"
    workdir(root, "pipeline", order=["photographs", "emotion"], photos="{workdir}/photos")
    workdir(root / "photographs", "photographs", photos=str(root / "photos"))
    workdir(root / "emotion", "crossval", photographs=str(root / "photographs"))
    workdir(root / "begun", "crossval", init=str(root / "emotion" / "best" / "model"))
    workdir(root / "trained", "train", data={"root": str(root / "photographs")})
    workdir(root / "folders", "train", data={"folders": {"faces": f"{root}/photographs/faces"}})
    workdir(root / "predict", "predict", model=str(root / "emotion"))
    workdir(root / "evaluate", "evaluate", runs={"one": str(root / "begun")})
    workdir(root / "study", "study", runs={"set": {"one": str(root / "begun")}})
    workdir(root / "context", "evaluate", context=[str(root / "trained")])
    workdir(root / "audit", "audit", photographs=str(root / "photographs"))
    workdir(root / "again", "audit", run=str(root / "emotion"))
    workdir(root / "probed", "train", probe={"photographs": str(root / "photographs")})
    workdir(root / "other", "train", data={"root": str(root / "extract")})
    below = lineage.workdirs_below(root)
    assert len(below) == 14
    found = names(lineage.descendants([root / "photographs"], below))
    assert set(found) == set(names(below)) - {"photographs", "probed", "other"}
    assert found.index("emotion") < found.index("begun") < found.index("study")
    assert lineage.read_workdir(root / "probed").probed == root / "photographs"


def test_a_path_through_a_link_is_the_same_workdir(tmp_path):
    workdir(tmp_path / "disk" / "pretrain", "train")
    (tmp_path / "w").symlink_to("disk")
    workdir(tmp_path / "disk" / "emotion", "crossval", init=str(tmp_path / "w" / "pretrain"))
    below = lineage.workdirs_below(tmp_path / "w")
    assert names(lineage.descendants([tmp_path / "w" / "pretrain"], below)) == ["emotion"]


def test_the_name_of_published_weights_is_not_a_path(tmp_path, monkeypatch):
    workdir(tmp_path / "starter", "train", init="")
    workdir(tmp_path / "a", "train", init="starter")
    monkeypatch.chdir(tmp_path)
    for paths in (["starter"], [str(tmp_path / "a")]):
        assert lineage.ancestors(paths).unknown == (Path("starter"),)
    assert [found.folder.name for found in lineage.ancestors(["./starter"]).workdirs] == ["starter"]
