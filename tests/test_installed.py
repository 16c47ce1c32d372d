"""The installed wheel contains all that the package reads; `fer-jax` runs in an empty folder."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from fer_jax.command_line import launch_arguments
from fer_jax.errors import UserError
from tests import wheel

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / "configs"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A function that runs the `fer-jax` of an installed wheel in an empty folder."""
    source, target, empty = (tmp_path_factory.mktemp(name) for name in ("source", "site", "empty"))
    wheel.install(source, target)

    def started(*command):
        return subprocess.run(
            [sys.executable, *map(str, command)],
            cwd=empty,
            env={**os.environ, "PYTHONPATH": str(target), "JAX_PLATFORMS": "cpu"},
            capture_output=True,
            text=True,
        )

    def run(*arguments):
        return started(target / "bin/fer-jax", *arguments)

    run.python = lambda code: started("-c", code)
    run.folder, run.package = empty, target / "fer_jax"
    return run


def test_the_wheel_contains_all_files_that_the_package_reads(installed):
    page = {".html", ".css", ".js", ".svg"}
    for folder, suffixes in {"fer_jax": {".py", ".jinja", ".typed", ".json", *page}}.items():
        wanted = {
            file.relative_to(ROOT / folder)
            for file in (ROOT / folder).rglob("*")
            if file.suffix in suffixes or file.name == "py.typed"
        }
        assert wanted and not {name for name in wanted if not (installed.package / name).exists()}
    assert (installed.package / "_datasets/face_frames").is_dir()
    used = installed.python("import fer_jax; print(fer_jax.__file__)")  # not that of a checkout
    assert used.stdout.strip() == str(installed.package / "__init__.py")


def test_the_command_lists_the_configs(installed):
    shown = installed().stdout
    names = {path.stem for path in CONFIGS.glob("*.py")} - {"argument"}
    assert names == {line.split()[0] for line in shown.splitlines() if line.startswith("  ")}


def test_a_config_that_imports_another_loads_outside_a_checkout(installed):
    ended = installed("emotion", "--photographs", "absent")
    assert ended.returncode == 2 and "absent" in ended.stderr
    shown = installed("emotion:full", "--help")
    assert shown.returncode == 0 and "\n  --photographs=\n" in shown.stdout
    assert "fer-jax emotion --photographs=WORK/photographs" in shown.stdout
    for word in ("launch.py", "--config", "configs/"):  # the forms of a checkout
        assert word not in shown.stdout


def test_predict_answers_in_an_empty_folder(installed):
    ended = installed("predict", ROOT / "tests/golden/no_face.jpg")
    assert ended.returncode == 0, ended.stderr
    (row,) = pd.read_csv(installed.folder / "work/predict/no_face/predictions.csv").itertuples()
    assert row.source == "no_face.jpg"
    assert ended.stdout.splitlines()[-1] == "results: work/predict/no_face"


def test_other_settings_for_the_same_file_have_a_workdir_of_their_own(installed):
    for flags, place in (([], "no_face"), (["--noannotate"], "no_face-2"), ([], "no_face")):
        ended = installed("predict", ROOT / "tests/golden/no_face.jpg", *flags)
        assert ended.returncode == 0, ended.stderr
        assert ended.stdout.splitlines()[-1].endswith(f": work/predict/{place}")


def test_fields_and_files_become_flags_of_the_config():
    given = ["predict", "a b.jpg", "--every_s=1", "--batch", "4", "--verbosity=1"]
    assert launch_arguments(given, CONFIGS) == [
        f"--config={CONFIGS}/predict.py",
        "--config.every_s=1",
        "--config.batch=4",
        "--verbosity=1",
        "--config.input=a b.jpg",
        "--free_workdir",
        "--workdir=work/predict/a b",
    ]
    given = ["emotion:full,rotation", "--optimizer.clip=2", "--workdir=w"]
    assert launch_arguments(given, CONFIGS) == [
        f"--config={CONFIGS}/emotion.py:full,rotation",
        "--config.optimizer.clip=2",
        "--workdir=w",
    ]
    assert launch_arguments(["--config=x.py"], CONFIGS) == ["--config=x.py"]
    given = ["predict", "--annotate", "pics/", "--workdir", "out", "--config.batch", "2"]
    assert launch_arguments(given, CONFIGS) == [
        f"--config={CONFIGS}/predict.py",
        "--config.annotate=True",
        "--workdir=out",
        "--config.batch=2",
        "--config.input=pics",
    ]
    given = ["predict", "x.jpg", "--noannotate", "--workdir=w"]
    assert "--config.annotate=False" in launch_arguments(given, CONFIGS)


def test_files_of_one_name_have_workdirs_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def workdir(file):
        return Path(launch_arguments(["predict", file], CONFIGS)[-1].removeprefix("--workdir="))

    def done(file):
        folder = workdir(file)
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps({"stage": "predict", "input": file}))
        return folder

    first, second = done("a/x.jpg"), done("b/x.jpg")
    assert first == Path("work/predict/x") and second.name.startswith("x-")
    assert workdir("x.mp4") not in (first, second)
    assert (workdir("a/x.jpg"), workdir("b/x.jpg")) == (first, second)
    assert workdir(str(tmp_path / "a" / "x.jpg")) == first
    (first / "config.json").unlink()
    assert workdir("b/x.jpg") == second  # where its results are


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workdir=w"], "the first argument must name a command, as in `fer-jax predict`"),
        (["predct"], "no command 'predct' (did you mean 'predict'?)"),
        (["pipeline", "x"], "unexpected argument 'x'; `fer-jax pipeline` takes flags only"),
        (["predict", "x", "--modle=starter"], "no field --modle; the nearest are --model"),
        (["predict", "x", "y"], "unexpected argument 'y'; `fer-jax predict` takes one file or"),
    ],
)
def test_the_error_for_a_wrong_command_is_one_line(arguments, message):
    with pytest.raises(UserError) as error:
        launch_arguments(arguments, CONFIGS)
    assert message in str(error.value)
