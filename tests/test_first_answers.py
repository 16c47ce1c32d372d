"""The first answer of a new process needs few libraries and few programs, which are cached."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fer_jax.faces.drawing import write_image
from fer_jax.people import photograph

ROOT = Path(__file__).parents[1]
# Libraries that take time to import, and that a prediction of a photograph does not need.
LATE = {
    "grain", "h5py", "jinja2", "matplotlib", "mtcnn", "orbax", "scipy", "sklearn",
    "tensorboardX", "tensorflow_datasets",
}  # fmt: skip
# One tile of P-Net, R-Net and O-Net, the features of a face, and the head.
PROGRAMS = ["_cut_and_apply", "_cut_and_apply", "_propose_cells", "head_step", "of_views"]
# Runs the command line, and prints the libraries that were imported and what was compiled.
WATCHED = """
import collections, json, sys
from jax import monitoring

programs, events = [], collections.Counter()

def listen(event, seconds, **details):
    if event == "/jax/core/compile/backend_compile_duration":
        programs.append(details["fun_name"].removeprefix("jit(").removesuffix(")"))

monitoring.register_event_duration_secs_listener(listen)
monitoring.register_event_listener(lambda event, **_: events.update([event]))
sys.argv[0] = "fer-jax"
from fer_jax import command_line
try:
    command_line.installed()
except SystemExit as ended:
    code = ended.code
libraries = sorted({name.split(".")[0] for name in sys.modules})
hits = events["/jax/compilation_cache/cache_hits"]
print(json.dumps([code, libraries, sorted(programs), hits]))
"""


@pytest.fixture(scope="module")
def predicted(tmp_path_factory):
    """Predicts a photograph in two new processes, of which the second has a filled cache.

    Returns, for each, the imported libraries, the programs that were compiled or read from the
    cache, the number of those that were read from it, and the table.
    """
    folder = tmp_path_factory.mktemp("first")
    write_image(folder / "photo.png", photograph(1, "happy", 0, (480, 640)))
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(folder / "cache"),
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(ROOT),
    }
    environment.pop("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", None)

    def run(name):
        done = subprocess.run(
            [sys.executable, "-c", WATCHED, "predict", "photo.png", f"--workdir={name}"],
            cwd=folder, env=environment, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        code, *seen = json.loads(done.stdout.splitlines()[-1])
        assert code == 0, done.stderr
        table = (folder / name / "predictions.csv").read_text()
        assert len(table.splitlines()) == 2 and ",,," not in table  # one face
        return *seen, table

    return run("cold"), run("warm")


def test_a_prediction_imports_only_what_it_needs(predicted):
    for libraries, *_ in predicted:
        assert not LATE & set(libraries)


def test_a_prediction_compiles_few_programs_and_only_once(predicted):
    (_, cold, no_hits, before), (_, warm, hits, after) = predicted
    assert cold == warm == PROGRAMS  # none for the transfer of an array, for example
    assert no_hits == 0 and hits == len(PROGRAMS)
    assert before == after


def test_training_without_probes_does_not_import_scikit_learn():
    code = (
        "import sys, fer_jax.stages.train; print('sklearn' in sys.modules, 'scipy' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False False"
