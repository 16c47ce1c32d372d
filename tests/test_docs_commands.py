"""Every documented command is accepted as it is written, and run by a test if possible.

`tests/documented.py` finds the commands of the Markdown files and of the docstrings of configs and
benchmarks. The tables below say which test runs each program on small inputs, mostly with other
flags than the documented ones, or why none does. A new program needs a row; a row of a program that
is no longer documented is an error.
"""

import argparse
import ast
import importlib
import re
import sys
from pathlib import Path

import pytest
from absl import flags
from absl.testing import flagsaver

from fer_jax import command_line, config_files, schemas
from tests import documented
from tests.documented import ROOT, Command

COMMANDS = documented.all_commands()

# Pages whose commands a test runs as they are written, all of them.
WHOLE_PAGES = {
    "docs/add_a_backbone.md": "tests/test_docs_backbone.py",
    "docs/add_a_data_set.md": "tests/test_docs_data_set.py",
    "docs/add_a_method.md": "tests/test_docs_method.py",
    "docs/add_a_pretext_task.md": "tests/test_docs_pretext_task.py",
}

# The test that exercises each program, on small inputs.
RUN_BY = {
    "configs/audit.py": "tests/stages/test_crossval.py",
    "configs/demo.py": "tests/test_road.py",
    "configs/emotion.py": "tests/stages/test_crossval.py",
    "configs/evaluate.py": "tests/stages/test_evaluate.py",
    "configs/export.py": "tests/stages/test_export.py",
    "configs/extract.py": "tests/stages/test_odd_videos.py",
    "configs/imagenet_check.py": "tests/stages/test_imagenet_check.py",
    "configs/photographs.py": "tests/stages/test_photographs.py",
    "configs/pipeline.py": "tests/test_road.py",
    "configs/predict.py": "tests/stages/test_predict.py",
    "configs/pretrain.py": "tests/stages/test_train.py",
    "configs/probe.py": "tests/stages/test_crossval.py",
    "configs/refine.py": "tests/stages/test_refine.py",
    "configs/remove.py": "tests/stages/test_remove.py",
    "configs/render.py": "tests/stages/test_render.py",
    "configs/serve.py": "tests/web/test_page.py",
    "configs/starter.py": "tests/datasets/test_starter_faces.py",
    "configs/study.py": "tests/stages/test_study.py",
    "configs/study_low_shot.py": "tests/stages/test_study.py",
    "configs/verify.py": "tests/stages/test_refine.py",
    "python emotion.py": "tests/test_docs_export.py",
    "benchmarks": "tests/test_benchmarks.py",
    "benchmarks coverage": "tests/test_docs_commands.py",
    "benchmarks fer2013": "tests/datasets/test_starter_faces.py",
    "benchmarks flipped_bits": "tests/test_docs_commands.py",
    "benchmarks headlines": "tests/test_headlines.py",
    "benchmarks pack_starter": "tests/models/test_starter.py",
    "benchmarks real_people": "tests/test_benchmarks.py",
    "benchmarks robustness": "tests/robustness/test_kills.py",
    "benchmarks shortcuts": "tests/tasks/test_shortcuts.py",
    "benchmarks study_data": "tests/test_study_data.py",
}

# Why no test runs a program. The flags of configs and benchmarks are checked all the same.
PEERS = "needs an environment with other packages (benchmarks/requirements-*.txt)"
REAL_FACES = "needs photographs or videos of real people, which no test may contain"
LONG = "takes minutes to hours"
INSTALLS = "installs packages; .ci/run starts with it"
NOT_RUN = {
    "configs/pipeline_in_turn.py": f"{LONG}; tests/test_launch.py compares its steps",
    "configs/study_starter.py": f"{LONG}; tests/stages/test_study.py checks its steps and tables",
    "benchmarks backbone_parity": PEERS,
    "benchmarks cluster": f"{LONG}; tests/beam/test_extract_on_beam.py runs a cluster of Dask",
    "benchmarks detection_speed": f"{PEERS}, {LONG}",
    "benchmarks extraction_speed": f"{LONG}: it needs a checkout of an earlier revision",
    "benchmarks export_parity": f"{PEERS} and {REAL_FACES}",
    "benchmarks first_answers": f"{LONG}; tests/test_first_answers.py counts programs",
    "benchmarks flat": f"{LONG}: a video of thousands of frames",
    "benchmarks floors": f"{PEERS} for fer; hog is run by real_people",
    "benchmarks held_out_verifier": REAL_FACES,
    "benchmarks kill": f"{LONG}; tests/robustness/test_kills.py kills the same stages",
    "benchmarks kill_extraction": f"{LONG}; tests/robustness/test_kills.py kills extract",
    "benchmarks kill_training": f"{LONG}; tests/training/test_interruptions.py stops trainings",
    "benchmarks measure_starter": REAL_FACES,
    "benchmarks mtcnn_parity": f"{PEERS}; tests/faces/test_mtcnn.py has mtcnn's own answers",
    "benchmarks nonfaces": REAL_FACES,
    "benchmarks people_in_video": REAL_FACES,
    "benchmarks person_relative": REAL_FACES,
    "benchmarks predict_speed": f"{PEERS}, {LONG}",
    "benchmarks pretext_speed": f"{LONG}, and measures time",
    "benchmarks refinement": REAL_FACES,
    "benchmarks shipped": f"{LONG}; tests/stages/test_predict.py compares both on few faces",
    "benchmarks throughput": f"{PEERS}, and measures time",
    "benchmarks train_fer2013": REAL_FACES,
    "docker run": "names where a test is skipped",
    "git diff": "compares with a tag of this repository",
    "benchmarks NAME": "stands for every benchmark; tests/test_benchmarks.py runs --help of each",
    "python -m benchmarks.backbone_peers": PEERS,
    "PEER_PYTHON benchmarks/detection_peers.py": PEERS,
    "python -m distributed.cli.dask_scheduler": "tests/beam/test_extract_on_beam.py starts one",
    "python -m distributed.cli.dask_worker": "tests/beam/test_extract_on_beam.py starts two",
    "configs/NAME.py": "stands for every stage",
    "python -m pytest": "runs tests themselves",
    "launch.py ...": "stands for several devices or hosts; tests/training/test_distributed.py",
    "gcloud compute": "needs a TPU slice",
    "git checkout": "changes the checkout",
    "make demo": f"{LONG}; tests/test_road.py runs its steps",
    "make test": "runs the tests themselves; .ci/run does it",
    "make lint": ".ci/run does it",
    "make docs": ".ci/run does it",
    "make format": "changes files; make lint checks that it has nothing to do",
    "make setup": INSTALLS,
    "make .venv/dev": INSTALLS,
    "make .venv-beam/done": INSTALLS,
    "pip install": "installs packages into another environment",
    "python -m venv": "creates another environment",
    "run": ".ci/run itself",
}


def is_run_whole(command: Command) -> bool:
    return command.page in WHOLE_PAGES


def test_commands_are_found_in_documents_configs_and_benchmarks():
    assert len(COMMANDS) > 200
    folders = {command.page.partition("/")[0] for command in COMMANDS}
    assert {"README.md", "docs", "configs", "benchmarks"} <= folders
    assert {"make demo", "configs/pipeline.py", "benchmarks kill"} <= {c.name for c in COMMANDS}
    inline = [c for c in COMMANDS if c.page == "docs/results.md" and "--photographs" in c.words]
    assert {c.name for c in inline} == {"benchmarks real_people"}


def test_every_program_is_run_by_a_test_or_listed_with_a_reason():
    found = {command.name for command in COMMANDS if not is_run_whole(command)}
    assert not set(RUN_BY) & set(NOT_RUN)
    assert found - set(RUN_BY) - set(NOT_RUN) == set(), "neither run nor listed"
    assert (set(RUN_BY) | set(NOT_RUN)) - found == set(), "listed but not documented"


@pytest.mark.parametrize(("name", "test"), sorted(RUN_BY.items()))
def test_the_named_test_exercises_the_program(name, test):
    assert exercises((ROOT / test).read_text("utf-8"), name)


def exercises(source: str, name: str) -> bool:
    """Whether a test imports a program's module, or names its file or module in a string."""
    folder, _, stem = name.removesuffix(".py").replace("/", " ").partition(" ")
    if folder not in documented.FOLDERS or not stem:  # such as "python emotion.py"
        return name.split()[-1] in strings(source)
    imported = {
        f"{node.module}.{alias.name}"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    module = rf"\b{folder}[./]{stem}\b"
    return any(re.match(module, one) for one in imported) or bool(
        re.search(module, strings(source))
    )


def strings(source: str) -> str:
    """The string constants of Python code, one per line."""
    nodes = ast.walk(ast.parse(source))
    return "\n".join(
        node.value
        for node in nodes
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


def test_a_word_that_only_looks_like_a_program_is_not_enough():
    assert exercises(
        "from configs import (\n    audit,\n    predict as p,\n)", "configs/predict.py"
    )
    assert exercises("run('--config=configs/predict.py')", "configs/predict.py")
    assert exercises("import_module('benchmarks.kill')", "benchmarks kill")
    for other in ("from fer_jax.stages import predict", "from configs import predict_more"):
        assert not exercises(other, "configs/predict.py")
    assert not exercises("import_module('benchmarks.kill_training')", "benchmarks kill")
    assert not exercises("predict = 'predict'  # configs/predict.py", "configs/predict.py")


@pytest.mark.parametrize(("page", "test"), sorted(WHOLE_PAGES.items()))
def test_the_test_of_a_page_runs_its_commands(page, test):
    text = (ROOT / test).read_text("utf-8")
    assert Path(page).name in text and re.search(r"documented\.run\(PAGE|subprocess\.run", text)


def test_the_reasons_name_only_tests_that_exist():
    named = set(re.findall(r"tests/[\w/]+\.py", " ".join(NOT_RUN.values())))
    assert named and all((ROOT / name).exists() for name in named)


STAGES = [
    c
    for c in COMMANDS
    if c.name.startswith("configs/") and c.name != "configs/NAME.py" and not is_run_whole(c)
]


@pytest.mark.parametrize("command", STAGES, ids=lambda c: f"{c.page}: {c.text}"[:120])
def test_the_command_of_a_stage_is_accepted_as_written(command, monkeypatch, restored_logging):
    """Its config exists, its flags are fields, and their values fit the schema."""
    monkeypatch.chdir(ROOT)
    words = list(command.words[command.words.index(program(command)) + 1 :])
    with flagsaver.flagsaver():
        flags.FLAGS.unparse_flags()
        sys.modules.pop("config_config", None)  # the config that another test has loaded
        if program(command).endswith("fer-jax"):
            words = command_line.launch_arguments(words, config_files.folder())
        argv = ["launch.py", *words]
        monkeypatch.setattr(sys, "argv", argv)  # from which ml_collections reads the fields
        assert command_line.parse_flags(argv) == argv[:1]
        schemas.validated(flags.FLAGS["config"].value)


def program(command: Command) -> str:
    """The word of a command that names the program which starts a stage."""
    return next(w for w in command.words if w == "launch.py" or w.endswith("fer-jax"))


BENCHMARKS = [
    c for c in COMMANDS if c.name.startswith("benchmarks ") and c.name != "benchmarks NAME"
]


@pytest.mark.parametrize("command", BENCHMARKS, ids=lambda c: f"{c.page}: {c.text}"[:120])
def test_the_command_of_a_benchmark_is_accepted_as_written(command, monkeypatch):
    class AcceptedError(Exception):
        pass

    parse = argparse.ArgumentParser.parse_known_args

    def accepted(self, args=None, namespace=None):
        _, rest = parse(self, args, namespace)
        assert all(word.startswith("--config.") for word in rest), f"unknown: {rest}"
        raise AcceptedError

    monkeypatch.setattr(argparse.ArgumentParser, "parse_known_args", accepted)
    start = command.words.index("benchmarks") + 1
    monkeypatch.setattr(sys, "argv", list(command.words[start:]))
    benchmark = importlib.import_module(f"benchmarks.{command.words[start]}")
    with pytest.raises(AcceptedError):
        benchmark.main()


def test_coverage_measures_every_design(monkeypatch, capsys):
    coverage = importlib.import_module("benchmarks.coverage")
    monkeypatch.setattr(sys, "argv", ["coverage", "--studies=2", "--samples=50"])
    coverage.main()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(coverage.DESIGNS) + 2
    assert all(line.count("%") >= len(coverage.METHODS) for line in lines[1:-1])


def test_no_flipped_bit_is_read_as_wrong_values_by_ours(monkeypatch, capsys):
    flipped_bits = importlib.import_module("benchmarks.flipped_bits")
    monkeypatch.setattr(sys, "argv", ["flipped_bits", "--flips=2"])
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)  # which it replaces
    with pytest.raises(SystemExit, match="False"):
        flipped_bits.main()
    lines = capsys.readouterr().out.splitlines()
    ours = [line.split() for line in lines if line.startswith("fer_jax")]
    assert ours and all(line[-1] == "0" for line in ours)
