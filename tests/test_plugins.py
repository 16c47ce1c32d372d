"""Tasks, backbones and other parts are selected by a name or by the dotted name of a module."""

import dataclasses
import sys

import pytest

from fer_jax import plugins
from fer_jax.errors import UserError
from fer_jax.tasks.rotation import Rotation


def load(name):
    return plugins.load("task", name, "fer_jax.tasks", "TASK")


def test_a_plain_and_a_dotted_name_select_the_same_class():
    assert load("rotation") is load("fer_jax.tasks.rotation") is Rotation


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "jigsw",
            r"no module fer_jax.tasks.jigsw \(did you mean 'jigsaw'\?\); choose from emotion,",
        ),
        ("views", "fer_jax.tasks.views has no attribute TASK"),
        ("nowhere.task", "no module nowhere.task; choose from"),
        (".task", "no module .task"),
        ("fer_jax.", "no module fer_jax."),
    ],
)
def test_a_wrong_name_is_explained_in_one_line(name, message):
    with pytest.raises(UserError, match=message) as caught:
        load(name)
    assert "\n" not in str(caught.value)


def test_a_missing_import_of_the_module_itself_is_not_hidden(tmp_path, monkeypatch):
    (tmp_path / "broken_package").mkdir()
    (tmp_path / "broken_package" / "part.py").write_text("import no_such_thing\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_thing"):
        load("broken_package.part")


def test_names_lists_modules_that_define_the_attribute():
    names = plugins.names("fer_jax.tasks", "TASK")
    assert {"emotion", "rotation", "simclr"} <= set(names)
    assert not {"task", "views", "augment"} & set(names)


@pytest.mark.parametrize("name", plugins.names("fer_jax.tasks", "TASK"))
def test_the_plain_defaults_of_a_task_are_those_of_its_dataclass(name):
    expected = {
        field.name: field.default
        for field in dataclasses.fields(load(name))
        if type(field.default) in (bool, int, float, str)
    }
    assert plugins.plain_defaults(name, "fer_jax.tasks", "TASK") == expected


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("imported", "from some_tasks.base import Base\nTASK = Base\n"),
        ("called", "import dataclasses\nTASK = dataclasses.make_dataclass('T', [('a', int, 1)])\n"),
        ("annotated", "from some_tasks.base import Base\nTASK: type = Base\n"),
        (
            "derived",
            "from dataclasses import dataclass\nfrom some_tasks.base import Base\n\n"
            "@dataclass\nclass Derived(Base):\n    b: int = 2\n\nTASK = Derived\n",
        ),
        ("declared", "TASK: type\nfrom some_tasks.base import Base as TASK\n"),
        ("no_dataclass", "TASK = 3\n"),
    ],
)
def test_a_class_from_elsewhere_has_its_plain_defaults(name, source, tmp_path, monkeypatch):
    folder = tmp_path / "some_tasks"
    folder.mkdir()
    base = "from dataclasses import dataclass\n@dataclass\nclass Base:\n    a: int = 1\n"
    for file, text in (("__init__", ""), ("base", base), (name, source)):
        (folder / f"{file}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    expected = {"derived": {"a": 1, "b": 2}, "no_dataclass": {}}.get(name, {"a": 1})
    try:
        assert plugins.plain_defaults(name, "some_tasks", "TASK") == expected
    finally:
        for module in [module for module in sys.modules if module.startswith("some_tasks")]:
            del sys.modules[module]
        plugins.names.cache_clear()
        plugins.plain_defaults.cache_clear()
