"""Each notebook runs as it is committed, in an empty folder, with the package from its wheel."""

import base64
import contextlib
import io
import json
import re
import sys
import tomllib
from pathlib import Path

import nbclient
import nbformat
import pandas as pd
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from PIL import Image

from tests import wheel

ROOT = Path(__file__).parents[1]
NOTEBOOKS = ROOT / "notebooks"
VIDEO, PRETEXT = "emotions_in_my_video.ipynb", "my_own_pretext_task.ipynb"
NAMES = [VIDEO, PRETEXT]
# A progress bar of the console, with or without a total, or the blanks that delete it.
BAR = re.compile(r"\s*(\S+)?\s+(\d+ % \|.*\| \d+/\d+ \w+, .* left.*|\S+ \w+, [\d:]+.*)?\s*")


def cells(name):
    """The source of each cell by its id."""
    notebook = json.loads((NOTEBOOKS / name).read_text("utf-8"))
    return {cell["id"]: "".join(cell["source"]) for cell in notebook["cells"]}


def test_there_are_these_notebooks():
    assert sorted(path.name for path in NOTEBOOKS.iterdir()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_each_notebook_is_valid_and_has_no_outputs(name):
    text = (NOTEBOOKS / name).read_text("utf-8")
    nbformat.validate(nbformat.reads(text, as_version=4))
    notebook = json.loads(text)
    assert notebook["nbformat"] == 4
    assert text == json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
    assert notebook["metadata"].keys() == {"kernelspec", "language_info"}
    assert notebook["metadata"]["language_info"] == {"name": "python"}
    for cell in notebook["cells"]:
        assert cell["metadata"] == {}
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None


@pytest.mark.parametrize("name", NAMES)
def test_notebooks_name_no_local_path_and_link_to_the_project(name):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    address = project.get("urls", {}).get("Repository", "https://github.com/OWNER/fer_jax")
    text = "\n".join(cells(name).values())
    assert set(re.findall(r"https://[^\s\"')]*?/fer_jax\b", text)) == {address}
    for page, _, heading in re.findall(r"/blob/main/([\w./]+)(#([\w-]+))?", text):
        headings = re.findall(r"^#+ (.*)", (ROOT / page).read_text("utf-8"), re.MULTILINE)
        slugs = {re.sub(r"[^\w -]", "", line.lower()).replace(" ", "-") for line in headings}
        assert not heading or heading in slugs, (page, heading)
    assert not re.search(
        r"(?<![\w.])(/home|/tmp|/work|/root|~/|[A-Z]:\\)|--config|launch\.py", text
    )


@pytest.mark.parametrize("name", NAMES)
def test_the_first_code_installs_the_package_only_if_it_is_missing(name):
    code = TransformerManager().transform_cell(cells(name)["install"])
    ran = []

    class Shell:
        def run_line_magic(self, magic, line):
            ran.append((magic, line))

    scope = {"get_ipython": Shell}
    exec(code, scope)
    assert not ran
    with pytest.raises(ImportError), hidden("fer_jax"):
        exec(code, scope)
    ((magic, line),) = ran
    assert magic == "pip" and line.startswith('install --quiet "fer_jax @ git+{REPOSITORY}"')


@contextlib.contextmanager
def hidden(name):
    """Makes the import of a package fail in the block."""
    before = sys.modules[name]
    sys.modules[name] = None
    try:
        yield
    finally:
        sys.modules[name] = before


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    """A folder that contains the kernel "wheel", and no settings of the user."""
    wheel.install()
    folder = tmp_path_factory.mktemp("jupyter")
    command = [str(wheel.PYTHON), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    kernel = {"argv": command, "display_name": "wheel", "env": {"PYTHONPATH": str(wheel.KERNEL)}}
    (folder / "kernels" / "wheel").mkdir(parents=True)
    (folder / "kernels" / "wheel" / "kernel.json").write_text(json.dumps(kernel))
    return folder


def executed(name, folder, settings, monkeypatch):
    """Runs a notebook in `folder`; returns the outputs of each code cell by its id."""
    for variable in ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(variable, str(settings / variable.lower()))
    monkeypatch.setenv("JUPYTER_PATH", str(settings))
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.delenv("MPLBACKEND", raising=False)
    notebook = nbformat.read(NOTEBOOKS / name, as_version=4)
    nbclient.NotebookClient(
        notebook,
        timeout=None,
        kernel_name="wheel",
        resources={"metadata": {"path": str(folder)}},
    ).execute()  # raises on the first cell that fails
    return {cell.id: cell.outputs for cell in notebook.cells if cell.cell_type == "code"}


def assert_quiet(outputs):
    """Checks that cells wrote only progress bars to standard error."""
    for name, found in outputs.items():
        written = "".join(one.text for one in found if one.get("name") == "stderr")
        noise = [part for part in re.split(r"[\r\n]", written) if part and not BAR.fullmatch(part)]
        assert not noise, (name, noise)


def printed(outputs):
    return "".join(one.text for one in outputs if one.get("name") == "stdout")


def picture(outputs):
    (data,) = (one.data["image/png"] for one in outputs if "image/png" in one.get("data", {}))
    return Image.open(io.BytesIO(base64.b64decode(data)))


def table(outputs):
    """The lines of the only data frame in the outputs of a cell."""
    (text,) = (one.data["text/plain"] for one in outputs if "text/html" in one.get("data", {}))
    return text.splitlines()


@pytest.mark.timeout(1800)
def test_the_notebook_emotions_in_my_video_runs(tmp_path, settings, monkeypatch):
    outputs = executed(VIDEO, tmp_path, settings, monkeypatch)
    assert_quiet(outputs)
    assert table(outputs["read"])[0].split()[:3] == ["time_s", "person", "emotion"]
    assert [line.split()[0] for line in table(outputs["people"])[-2:]] == ["1", "2"]
    for name in ("timeline", "frame"):
        assert min(picture(outputs[name]).size) > 200
    assert re.match(r"withheld \d+ of \d+ answers .* FER2013", printed(outputs["unsure"]))
    faces = pd.read_csv(tmp_path / "faces.csv")
    assert set(faces["person"]) == {1, 2} and {True, False} == set(faces["answered"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["faces.csv", "two_people.mp4"]


@pytest.mark.timeout(1800)
def test_the_notebook_my_own_pretext_task_runs(tmp_path, settings, monkeypatch):
    outputs = executed(PRETEXT, tmp_path, settings, monkeypatch)
    assert_quiet(outputs)
    for name in ("puzzles", "pictures", "plot"):
        assert min(picture(outputs[name]).size) > 100
    solved = re.findall(r"(\d+)% of", printed(outputs["learned"]))
    assert len(solved) == 3 and min(map(int, solved)) > 17
    methods = [line.split()[0] for line in table(outputs["result"])[-3:]]
    assert methods == ["scratch", "rotation", "my_tasks.strips"]
    verdicts = printed(outputs["verdict"]).splitlines()
    assert len(verdicts) == 2
    for line in verdicts:
        low, high = map(float, re.search(r"\((\S+) to (\S+)\)", line).groups())
        assert ("not significant" in line) == (low <= 0 <= high)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "__pycache__") == [
        "my_study.py", "my_tasks", "work",
    ]  # fmt: skip
