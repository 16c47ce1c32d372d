"""The command line: configs and their flags, what is printed, and messages about mistakes."""

import ast
import importlib
import math
import os
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import pytest
from absl import flags
from absl.testing import flagsaver
from ml_collections import ConfigDict

from configs import argument, demo, emotion, pipeline, pipeline_in_turn, pretrain, study, verify
from fer_jax import backend, command_line, console, plugins, stages
from fer_jax.errors import UserError
from fer_jax.models.inception_resnet_v2 import Settings
from fer_jax.schemas.training import Backbone
from tests.training.tiny import train

ROOT = Path(__file__).parents[1]
CONFIGS = sorted(p.stem for p in (ROOT / "configs").glob("*.py") if p.stem != "argument")


def launch(*arguments):
    return subprocess.run(
        [sys.executable, "launch.py", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )


class Ended(NamedTuple):
    """The exit code and the output of a command."""

    code: int
    out: str
    err: str


@pytest.fixture
def run_stage(monkeypatch, capsys, tmp_path, restored_logging):
    """A function that runs the command line in this process, with a function as the stage."""
    config = tmp_path / "config.py"
    config.write_text(
        "from ml_collections import ConfigDict\n"
        "def get_config(): return ConfigDict({'stage': 'x', 'runs': {'my-run': ''}})\n"
    )
    monkeypatch.setattr(backend, "prepare", lambda *_: None)
    monkeypatch.setattr(console, "_SILENCE_S", math.inf)  # no marks on a slow machine

    def run(function, *arguments, config=config):
        argv = ["launch.py", f"--config={config}", f"--workdir={tmp_path}/w", *arguments]
        monkeypatch.setattr(sys, "argv", argv)
        sys.modules.pop("config_config", None)  # the config that another test has loaded
        monkeypatch.setattr(stages, "find_stage", lambda name: SimpleNamespace(run=function))
        with flagsaver.flagsaver(), pytest.raises(SystemExit) as ended:
            flags.FLAGS.unparse_flags()
            command_line.main(command_line.parse_flags(argv))
        return Ended(ended.value.code or 0, *capsys.readouterr())

    return run


def raising(error):
    def run(config, workdir):
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UserError("no face in a\x1b[31m.jpg"), 2, r"error: no face in a\x1b[31m.jpg"),
        (KeyboardInterrupt(), 130, "error: interrupted; the same command continues from here"),
        (ZeroDivisionError("why"), 1, "error: unexpected error: ZeroDivisionError: why; the "),
        (RecursionError(), 1, "error: unexpected error: RecursionError; the traceback is in "),
    ],
)
def test_every_error_of_a_stage_is_one_line(run_stage, error, code, line):
    ended = run_stage(raising(error))
    assert ended.code == code and ended.out == ""
    (reported,) = ended.err.splitlines()
    assert reported.startswith(line)


def test_a_traceback_is_printed_with_verbosity_1(run_stage):
    ended = run_stage(raising(UserError("no face")), "--verbosity=1")
    assert "Traceback (most recent call last)" in ended.out
    assert ended.err.splitlines()[-1] == "error: no face"


def test_a_training_prints_little_unless_verbosity_is_higher(run_stage, tmp_path):
    """Orbax logs hundreds of lines when it saves checkpoints."""

    def run(config, workdir):
        train(Path(workdir), steps=6)

    def lines(ended):
        assert ended.code == 0
        return (ended.out + ended.err).splitlines()

    assert lines(run_stage(run)) == []
    shown = lines(run_stage(run, f"--workdir={tmp_path}/v", "--verbosity=0"))
    assert len([line for line in shown if line.startswith("info: absl: ")]) > 20


def test_a_name_with_a_dash_is_a_flag_in_brackets(run_stage):
    reported = []
    ended = run_stage(lambda config, workdir: reported.append(config), "--config.runs['my-run']=a")
    assert ended.code == 0 and reported[0].runs["my-run"] == "a"
    ended = run_stage(raising(AssertionError()), "--config.runs.my-run=a")
    assert ended.code == 2
    assert "\"--config.runs['my-run']=...\"" in ended.err


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("def get_config(): return 1 / 0", "fails with ZeroDivisionError (division by zero); "),
        ("import nothing_of_that_name", "fails with ModuleNotFoundError (No module named"),
        ("def get_config(: pass", "fails with SyntaxError"),
        ("x = 1", "has no function get_config"),
        ("\0", "fails with "),
        (
            "from fer_jax.errors import UserError\n"
            "def get_config(): raise UserError('choose a size')",
            "error: choose a size",
        ),
    ],
)
def test_the_error_for_a_faulty_config_is_one_line(run_stage, tmp_path, text, reason):
    faulty = tmp_path / "faulty.py"
    faulty.write_text(text)
    for flag in ((), ("--config.a=1",)):
        ended = run_stage(raising(AssertionError()), *flag, config=faulty)
        assert ended.code == 2 and ended.out == ""
        (line,) = ended.err.splitlines()
        assert reason in line


def test_the_error_for_a_missing_config_file_is_one_line(run_stage, tmp_path):
    for path in (tmp_path, tmp_path / "absent.py"):
        ended = run_stage(raising(AssertionError()), config=path)
        assert ended.code == 2 and len(ended.err.splitlines()) == 1
        assert str(path) in ended.err


@pytest.mark.parametrize("name", ["foo", "crosval", "photographs.x", "", "../launch"])
def test_an_unknown_stage_is_named(name):
    with pytest.raises(UserError, match=r"there is no stage .*\(config\.stage\)"):
        stages.find_stage(name)


def test_a_name_that_is_not_utf8_is_printed_on_an_ascii_terminal():
    """The new process may write only ASCII."""
    odd = os.fsdecode(b"\xff\x1b[31m") + "سلام"
    ended = subprocess.run(
        [sys.executable, "launch.py", f"--config={odd}.py", "--workdir=w"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii:strict", "LC_ALL": "C"},
    )
    assert ended.returncode == 2 and ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    assert r"\xff\x1b[31m\u0633\u0644\u0627\u0645.py" in line


def test_a_field_of_a_task_with_a_dotted_name_is_a_flag(tmp_path):
    config, field = "--config=configs/pretrain.py:fer_jax.tasks.rotation", "fer_jax.tasks.rotation"
    done = launch(config, f"--config.tasks['{field}'].vies=1", f"--workdir={tmp_path}")
    assert done.returncode == 2
    assert f'the nearest is --config.tasks["{field}"].views' in done.stderr
    assert f'--config.tasks["{field}"].views=4' in launch("--help", config).stdout


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--config.epoch=3", "no field --config.epoch; the nearest is --config.epochs"),
        ("--config.optimizer.rate=3", "the nearest is"),
        ("--config.zzz=3", "no field --config.zzz; its fields are --config."),
        ("--config.tasks.zzz=3", "; the fields of --config.tasks are --config.tasks.jigsaw,"),
        ("--config.optimizer.zzz=3", "; the fields of --config.optimizer are --config.optimizer."),
        ("--config.epochs=many", "--config.epochs=many: must be a number"),
        ("--confg=x", "there is no flag --confg (did you mean 'config'?)"),
        ("stray", "unexpected argument 'stray'"),
    ],
)
def test_the_error_for_a_wrong_flag_is_one_line_with_exit_code_2(
    run_stage, tmp_path, flag, message
):
    ended = run_stage(raising(AssertionError()), flag, config=ROOT / "configs/pretrain.py")
    assert ended.code == 2
    (line,) = ended.err.splitlines()
    assert message in line
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "set --config to a file in configs/"),
        (["--config=configs/predict.py"], "error: set --workdir to a folder for the results\n"),
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
    result = launch("--config=configs/pipeline.py", "--help")
    assert result.returncode == 0 and "--config.steps.pretrain.epochs" in result.stdout
    assert "The command line of a checkout" not in result.stdout  # absl's own text


@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_is_locked_and_its_docstring_has_a_command(name):
    module = runpy.run_path(str(ROOT / "configs" / f"{name}.py"))
    config = module["get_config"]()
    assert isinstance(config, ConfigDict)
    assert config.is_locked
    assert importlib.util.find_spec(f"fer_jax.stages.{config.stage}")
    assert f"--config=configs/{name}.py" in module["__doc__"]
    assert "Cost:" in module["__doc__"]


@pytest.mark.parametrize("size", argument.SIZES)
@pytest.mark.parametrize("module", [emotion, pretrain, verify])
def test_every_field_of_a_network_is_a_flag_with_the_value_of_its_size(module, size):
    """Fields that a config lacks would be refused as flags (docs/architecture.md)."""
    backbone = module.get_config(size).backbone.to_dict()
    fields = Backbone.model_fields | Settings.model_fields
    assert set(backbone) == set(fields) - {"name"}
    assert backbone == emotion.get_config(size).backbone.to_dict()
    for switch in ("frozen_batchnorm", "remat", "dtype"):
        assert backbone[switch] == fields[switch].default


@pytest.mark.parametrize("size", argument.SIZES)
@pytest.mark.parametrize("module", [pipeline, pipeline_in_turn, demo])
def test_compared_methods_differ_only_in_their_pretraining(module, size):
    """Both methods start from the same weights; one of them is first pretrained on videos."""
    steps = module.get_config(f"{size},rotation").steps
    names = ("emotion", "pretrained") if size == "base" else ("scratch", "emotion")
    without, pretrained = (steps[name].to_dict() for name in names)
    assert without["init"] == ("starter" if size == "base" else "")
    assert pretrained["init"] == "{workdir}/pretrain"
    assert steps.pretrain.init == without["init"]
    assert (steps.scratch.init, steps.scratch.method) == ("", "fine_tune")
    for side in (without, pretrained):
        for name in ("init", "pretraining", "pretraining_saw_test_people"):
            del side[name]
    if (module, size) == (demo, "base"):  # where time is short, only one final model is trained
        for side in (without, pretrained):
            for name in ("everyone", "explain"):
                del side[name]
    assert pretrained == without


def test_the_default_pipeline_adapts_the_starter_and_also_measures_it_unchanged():
    config = pipeline.get_config()
    steps = config.steps
    assert (steps.emotion.init, steps.emotion.method) == ("starter", "auto")
    assert (steps.as_is.init, steps.as_is.method) == ("starter", "as_is")
    assert steps.verify.init == "starter" and steps.refine.use_verifier == "auto"
    assert steps.pretrain.optimizer.learning_rate < pretrain.get_config().optimizer.learning_rate
    assert steps.evaluate.main == "starter_adapted"
    folders = {f"{{workdir}}/{name}" for name in ("emotion", "pretrained", "scratch", "as_is")}
    assert set(steps.evaluate.runs.to_dict().values()) == folders
    assert config.optional == ("as_is",)
    for size in ("small", "full"):
        other = pipeline.get_config(size)
        assert "starter" not in str(other.to_dict())
        assert other.optional == () and "as_is" not in other.steps


@pytest.mark.parametrize("size", argument.SIZES)
def test_every_method_of_the_study_is_fine_tuned_and_scratch_has_random_weights(size):
    for name, step in study.get_config(size).steps.items():
        if step.stage == "crossval":
            assert step.method == "fine_tune"
            assert (step.init == "") == name.endswith(("_scratch", "_auxiliary"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config=configs/nothing.py"], "cannot load the config file configs/nothing.py"),
        (["--config=configs/emotion.py", "--config.epoch=3"], "no field --config.epoch; the near"),
        (
            ["--config=configs/emotion.py", "--config.epochs=many"],
            "--config.epochs=many: must be a number",
        ),
        (["--config=configs/emotion.py", "--config.folds=1"], "--config.folds=1 must be greater"),
        (
            ["--config=configs/pretrain.py:jigsw"],
            "nor a task (did you mean 'jigsaw'?); choose",
        ),
        (["--config=configs/emotion.py", "--config.folds=x"], "folds=x: must be a whole number"),
        (["--config=configs/predict.py"], "set --config.input to a picture, a video or a folder"),
        (["--config=configs/predict.py", "--config.input=no.jpg"], "there is no no.jpg; correct"),
        (["--config=configs/pipeline.py"], "set --config.videos to the folder of your videos, and"),
    ],
)
def test_a_simple_mistake_is_reported_before_jax_is_imported(arguments, message):
    program = (
        "import atexit, runpy, sys\n"
        "atexit.register(lambda: print(sorted({'jax', 'flax', 'pandas'} & set(sys.modules))))\n"
        "sys.argv[0] = 'launch.py'\n"
        "runpy.run_path('launch.py', run_name='__main__')"
    )
    command = [sys.executable, "-c", program, *arguments, "--workdir=w"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 2 and ended.stdout == "[]\n"
    (line,) = ended.stderr.splitlines()
    assert line.startswith("error: ") and message in line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predict"], "error: predict: set --input to a picture, a video or a folder of them"),
        (["predict", "x.jpg", "--batch=0"], "error: predict: --batch=0 must be greater than or "),
        (["predict", "x.jpg", "--batch=many"], "error: flag --batch=many: must be a whole number"),
        (["predict", "x", "--config=configs/predict.py"], "error: --config is set twice; set it"),
        (["emotion:bse"], "error: 'bse' is neither a size nor a task (did you mean 'base'?)"),
        (["pipeline", "--videos=x"], "error: pipeline: set --photos to the folder of your lab"),
    ],
)
def test_errors_of_the_installed_command_name_its_own_flags(arguments, message):
    command = [sys.executable, "-m", "fer_jax", *arguments]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 2 and ended.stderr.startswith(message)


def test_commands_in_messages_are_rewritten_for_the_installed_command():
    found = 0
    for file in (ROOT / "fer_jax").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [p.value if isinstance(p, ast.Constant) else "x" for p in node.values]
                text = "".join(map(str, parts))
                if "launch.py" in text:
                    found += 1
                    rewritten = command_line._as_fer_jax(text)
                    assert "`fer-jax " in rewritten and "launch.py" not in rewritten, rewritten
                    assert "--config" not in rewritten, rewritten
    assert found >= 2


def test_the_fields_of_tasks_are_read_without_importing_them():
    """A config sets the plain fields of its tasks; importing a task imports JAX."""
    for name in plugins.names("fer_jax.tasks", "TASK"):
        read = argument.plain_fields(name)
        imported = argument.plain_fields(f"fer_jax.tasks.{name}")
        assert list(read.items()) == list(imported.items())


def test_the_output_of_a_piped_stage_is_a_few_short_lines(tmp_path):
    clips = {"clips.people": 1, "clips.per_emotion": 1, "clips.frames": 2, "clips.scenes": 0}
    other = {"photographs.people": 1, "photographs.per_emotion": 1, "newcomers.people": 0}
    flags = [f"--config.{name}={value}" for name, value in (clips | other).items()]
    command = ("--config=configs/render.py", *flags, f"--workdir={tmp_path}/w")
    ended = launch(*command)
    assert ended.returncode == 0
    start, result, place = ended.stdout.splitlines()
    assert start == "[render] drawing generated people"
    assert result == "  4 clips and 4 photographs: 12 pictures drawn"
    assert place == f"results: {tmp_path}/w"
    marks = ended.stderr.splitlines()  # progress marks, which appear on a slow machine
    assert all(line.startswith("  ") and len(line) <= 80 for line in marks)
    (line,) = launch(*command).stdout.splitlines()
    assert line == f"[render] finished already: {tmp_path}/w"
    figures = launch(*command, "--verbosity=1", f"--workdir={tmp_path}/v").stdout.splitlines()
    assert "[render] clips=4" in figures and result in figures


@pytest.mark.parametrize(
    ("fields", "endless"),
    [
        ({"stage": "serve"}, True),
        ({"stage": "predict", "camera": "0"}, True),
        ({"stage": "predict", "camera": ""}, False),
        ({"stage": "crossval"}, False),
    ],
)
def test_servers_and_cameras_write_no_progress_marks(fields, endless):
    """They run until the user ends them, so their marks would never end either."""
    assert command_line._is_endless(ConfigDict(fields)) is endless
