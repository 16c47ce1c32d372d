"""Parts selected by name."""

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
