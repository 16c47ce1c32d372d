"""`fer-jax` from the wheel, in an environment of its own, reads faces in an empty folder."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fer_jax.command_line import launch_arguments
from fer_jax.errors import UserError
from fer_jax.faces.drawing import write_image
from fer_jax.faces.images import read_image
from fer_jax.people import photograph
from fer_jax.stages.render import write_clip
from tests import documented, wheel

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / "configs"
SIZE = (120, 160)
pytestmark = pytest.mark.timeout(900)  # the first test installs the wheel


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A function that runs the installed `fer-jax` in an empty folder."""
    wheel.install()
    empty = tmp_path_factory.mktemp("empty")

    def run(*arguments):
        return wheel.run(empty, "fer-jax", *arguments)

    run.folder = empty
    return run


def test_the_wheel_contains_all_files_that_the_package_reads(installed):
    files = [name for name in documented.repository_files("fer_jax") if (ROOT / name).is_file()]
    assert files and not [name for name in files if not (wheel.PACKAGE.parent / name).exists()]
    assert (wheel.PACKAGE / "_datasets/face_frames").is_dir()


def test_the_environment_has_the_wheel_and_not_the_packages_of_the_tests(installed):
    code = (
        "import importlib.util as util, fer_jax; print(fer_jax.__file__); "
        "print(*map(util.find_spec, ('beartype', 'ipykernel', 'pytest', 'starlette')))"
    )
    found = wheel.run(installed.folder, "python", "-c", code).stdout.splitlines()
    assert found == [str(wheel.PACKAGE / "__init__.py"), "None None None None"]


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


def predictions(installed, source):
    """Runs `fer-jax predict SOURCE`; returns the rows that it wrote and its workdir.

    Checks that the Parquet and CSV files have the same rows, up to the rounding of the CSV file.
    """
    ended = installed("predict", source)
    assert ended.returncode == 0, ended.stderr
    workdir = f"work/predict/{Path(source).stem}"
    assert ended.stdout.splitlines()[-1] == f"results: {workdir}"
    rows = pd.read_parquet(installed.folder / workdir / "predictions.parquet")
    rounded = pd.read_csv(installed.folder / workdir / "predictions.csv")
    pd.testing.assert_frame_equal(rounded, rows, check_dtype=False, atol=0.006, rtol=0)
    return rows, installed.folder / workdir


def test_predict_reads_a_photograph(installed):
    picture = photograph(3, "happy", 0, (480, 640))
    write_image(installed.folder / "ann.jpg", picture)
    rows, workdir = predictions(installed, "ann.jpg")
    (row,) = rows.itertuples()
    assert (row.source, row.person, row.emotion) == ("ann.jpg", 0, "happy")
    assert 0 < row.x0 < row.x1 < 640 and 0 < row.y0 < row.y1 < 480
    assert row.prob_happy == rows.filter(regex="^prob_").max(axis=1).item()
    assert (workdir / "overview.jpg").exists()
    drawn = np.abs(read_image(workdir / "annotated" / "ann.jpg") - picture.astype(int)).max(axis=2)
    assert drawn[round(row.y0) : round(row.y1), round(row.x0)].mean() > 50  # an edge of the box


def test_predict_reads_a_video(installed):
    write_clip(installed.folder / "clip.mp4", 5, "happy", 0, 3, 2, SIZE)
    rows, workdir = predictions(installed, "clip.mp4")
    assert list(rows["time_s"]) == [0, 0.5, 1]
    assert set(rows["source"]) == {"clip.mp4"} and set(rows["person"]) == {1}
    assert set(rows["emotion"]) == set(rows["smoothed_emotion"]) == {"happy"}
    for name in ("annotated/clip.mp4", "timeline/clip.mp4.png"):
        assert (workdir / name).stat().st_size > 1000


def test_predict_reads_a_folder(installed):
    folder = installed.folder / "holiday"
    write_image(folder / "ann.jpg", photograph(5, "happy", 0, SIZE))
    write_image(folder / "wall.jpg", np.full((*SIZE, 3), 128, np.uint8))
    write_clip(folder / "clip.mp4", 3, "angry", 0, 3, 2, SIZE)
    (folder / "notes.txt").write_text("no picture")
    rows, workdir = predictions(installed, "holiday")
    found = sorted(
        rows[["source", "person", "emotion"]].fillna("").itertuples(index=False, name=None)
    )
    people = [("ann.jpg", 0, "happy"), *[("clip.mp4", 1, "angry")] * 3]
    assert found == [*people, ("wall.jpg", 0, "")]
    assert list(rows["x0"].isna()) == list(rows["source"] == "wall.jpg")
    names = {file.name for file in (workdir / "annotated").iterdir()}
    assert names == {"ann.jpg", "clip.mp4", "wall.jpg"}
    assert "notes.txt" in (workdir / "skipped.csv").read_text()


def test_export_writes_stablehlo_without_further_packages(installed):
    ended = installed("export", "--formats=('stablehlo',)", "--workdir=exported")
    assert ended.returncode == 0, ended.stderr
    assert (installed.folder / "exported" / "model.stablehlo").stat().st_size > 1_000_000


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
        (["predict", "x", "--modle=starter"], "no field --modle; the nearest is --model"),
        (["predict", "x", "y"], "unexpected argument 'y'; `fer-jax predict` takes one file or"),
    ],
)
def test_the_error_for_a_wrong_command_is_one_line(arguments, message):
    with pytest.raises(UserError) as error:
        launch_arguments(arguments, CONFIGS)
    assert message in str(error.value)
