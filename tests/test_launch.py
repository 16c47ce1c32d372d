"""The door: what a person sees who types something that does not fit."""

import importlib
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from configs import networks
from fer_jax.models.network import BACKBONE

ROOT = Path(__file__).parents[1]
CONFIGS = sorted(p.stem for p in (ROOT / "configs").glob("*.py") if p.stem != "networks")


def launch(*arguments):
    return subprocess.run(
        [sys.executable, "launch.py", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )


def test_a_field_of_a_task_with_a_dotted_name_is_a_flag(tmp_path):
    config, field = "--config=configs/pretrain.py:fer_jax.tasks.rotation", "fer_jax.tasks.rotation"
    done = launch(config, f"--config.tasks['{field}'].vies=1", f"--workdir={tmp_path}")
    assert done.returncode == 2
    assert f'the nearest are --config.tasks["{field}"].views' in done.stderr
    assert f'--config.tasks["{field}"].views=4' in launch("--help", config).stdout


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--config.epoch=3", "no field --config.epoch; the nearest are --config.epochs"),
        ("--config.optimizer.rate=3", "the nearest are"),
        ("--config.epochs=many", "--config.epochs=many: could not convert"),
        ("--confg=x", "Unknown command line flag 'confg'"),
        ("stray", "unexpected argument 'stray'"),
    ],
)
def test_a_wrong_flag_is_one_line_and_exit_code_2(tmp_path, flag, message):
    result = launch("--config=configs/pretrain.py", f"--workdir={tmp_path}/w", flag)
    assert result.returncode == 2
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give --config"),
        (["--config=configs/no.py", "--workdir=w"], "configs/no.py"),
        (["--config=configs/pipeline.py", "--workdir=w"], "--config.videos"),
    ],
)
def test_a_missing_argument_is_named(arguments, message):
    result = launch(*arguments)
    assert result.returncode == 2
    assert message in result.stderr


def test_help_shows_the_flags():
    result = launch("--config=configs/pipeline.py", "--helpfull")
    assert "--config.steps.pretrain.epochs" in result.stdout


@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_is_locked_and_says_how_to_use_it(name):
    module = runpy.run_path(str(ROOT / "configs" / f"{name}.py"))
    config = module["get_config"]()
    assert isinstance(config, ConfigDict)
    assert config.is_locked
    assert importlib.util.find_spec(f"fer_jax.stages.{config.stage}")
    assert f"--config=configs/{name}.py" in module["__doc__"]
    assert "Cost:" in module["__doc__"]


@pytest.mark.parametrize("size", networks.SIZES)
def test_every_field_of_the_backbone_can_be_given_as_a_flag(size):
    """docs/architecture.md names them; a field that the config lacks is refused by `launch`."""
    assert set(networks.network(size)["backbone"]) == set(BACKBONE)
    switched_off = {name: BACKBONE[name] for name in networks.SWITCHES}
    assert switched_off == networks.SWITCHES
