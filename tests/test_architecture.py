"""The import rules of the package (docs/architecture.md)."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "fer_jax"
MODULES = sorted(PACKAGE.rglob("*.py"))

LEVELS = {
    "__init__": 11,
    "__main__": 11,
    "command_line": 10,
    "api": 10,
    "showing": 10,
    "stages": 9,
    "web": 6,
    "probes": 6,
    "report": 5,
    "auditing": 5,
    "following": 5,
    "abstaining": 4,
    "reading": 4,
    "features": 4,
    "crossval": 4,
    "export": 4,
    "recogniser": 3,
    "smoothing": 3,
    "metrics": 3,
    "training": 2,
    "data": 2,
    "faces": 2,
    "people": 2,
    "tasks": 1,
    "models": 1,
}
LEAVES = {
    "backend", "config_files", "console", "environment", "errors", "failures", "figures", "files",
    "inputs", "interrupts", "languages", "locking", "outputs", "padding", "plugins", "records",
    "saved_config", "schemas",
    "spreadsheets", "workdir", "workers",
}  # fmt: skip
# Packages of one level do not import each other, except for these modules.
DOORS = {
    ("tasks", "models"),  # heads
    ("stages", "stages.find_stage"),  # the pipeline runs stages by their names
    ("training", "faces.images"),  # how an image is resized
    ("faces", "data.manifest"),  # the columns that a face has
    ("data", "faces.images"),  # how a picture is read
}
# Libraries that only one package imports.
KEEPERS = {
    "orbax": {"training/checkpoint.py"},
    "h5py": {"models/weight_files.py"},
    "av": {"faces/video.py"},
    "tqdm": {"console.py"},
    "grain": {"data/"},
    "tensorflow_datasets": {"data/"},
    "onnx": {"export/formats.py"},
    "onnxruntime": {"export/formats.py"},
    "jax2onnx": {"export/formats.py"},
    "starlette": {"web/"},
    "uvicorn": {"web/server.py"},
}


def imports(path):
    """Yields the modules that a file imports; `from a import b` yields "a.b"."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def place(path):
    return path.relative_to(PACKAGE).as_posix()


@pytest.mark.parametrize("path", MODULES, ids=place)
def test_imports_follow_the_order_of_layers(path):
    room = place(path).split("/")[0].removesuffix(".py")
    for name in imports(path):
        if not name.startswith("fer_jax."):
            continue
        target = name.split(".")[1]
        inner = ".".join(name.split(".")[1:3])
        if target in LEAVES or target == room != "stages" or target == "__version__":
            continue
        assert room in LEVELS, f"{place(path)} is a leaf and imports {name}"
        door = (room, target) in DOORS or (room, inner) in DOORS
        assert door or LEVELS[room] > LEVELS[target], f"{place(path)} imports {name}"


@pytest.mark.parametrize("library", KEEPERS)
def test_a_library_is_imported_in_one_package(library):
    users = {
        place(path)
        for path in MODULES
        if any(name.split(".")[0] == library for name in imports(path))
    }
    assert users
    strangers = {u for u in users if not any(u.startswith(k) for k in KEEPERS[library])}
    assert not strangers


def test_neither_tensorflow_nor_torch_is_imported():
    code = (
        "import sys, importlib, pathlib\n"
        f"for p in pathlib.Path({str(PACKAGE)!r}).rglob('*.py'):\n"
        f"    parts = p.relative_to({str(PACKAGE.parent)!r}).with_suffix('').parts\n"
        "    importlib.import_module('.'.join(x for x in parts if x != '__init__'))\n"
        "found = {'tensorflow', 'torch', 'keras', 'mtcnn'} & set(sys.modules)\n"
        "assert not found, found\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=PACKAGE.parent)


@pytest.mark.parametrize(
    ("call", "readers"),
    [
        ("cv2.imdecode(", {"faces/images.py"}),
        ("cv2.imread(", set()),
        ("Image.open(", set()),
        ("av.open(", {"faces/video.py"}),
        (".savefig(", {"figures.py"}),
    ],
)
def test_pictures_videos_and_figures_are_handled_in_one_place(call, readers):
    builders = PACKAGE.parent.glob("datasets/*/*.py")
    users = {place(path) for path in MODULES if call in path.read_text()}
    assert users == readers
    assert not [file for file in builders if call in file.read_text()]


def test_the_package_does_not_require_what_only_tests_need():
    """Packages of tests and of `serve` are in requirements.txt, since a checkout can run both."""
    root = PACKAGE.parent
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    assert "pytest" not in project["dependencies"] and "dependencies" not in project["dynamic"]
    pinned = (root / "requirements.txt").read_text()
    for name in ("flatbuffers", "importlib-resources", "pytest", "starlette", "uvicorn"):
        assert f"\n{name}==" in pinned
