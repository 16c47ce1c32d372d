"""A saved config.json is a config: it repeats the run, and flags change its fields."""

import json
import runpy
from pathlib import Path

import pytest
from absl import flags
from absl.testing import flagsaver

import fer_jax
from fer_jax import command_line, config_files, workdir
from fer_jax.errors import UserError
from fer_jax.schemas import validated

ROOT = Path(__file__).parents[1]
CONFIGS = sorted(p for p in (ROOT / "configs").glob("*.py") if p.stem != "argument")
TINY = {
    "photographs.people": 1, "photographs.per_emotion": 1, "clips.people": 0,
    "newcomers.people": 0, "workers": 0, "size": (96, 128),
}  # fmt: skip


def saved(config, folder):
    path = folder / "config.json"
    path.write_text(json.dumps(workdir._as_json(validated(config))))
    return path


def parsed(monkeypatch, *arguments):
    """The config that results from a command line."""
    argv = ["launch.py", *map(str, arguments)]
    monkeypatch.setattr("sys.argv", argv)
    with flagsaver.flagsaver():
        flags.FLAGS.unparse_flags()
        command_line.parse_flags(argv)
        return flags.FLAGS.config


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_the_saved_config_of_every_stage_is_the_same_config(file, tmp_path):
    needed = {"videos": "v", "photos": "p", "model": "m", "input": "i"}
    made = runpy.run_path(str(file))["get_config"]()
    with made.unlocked():
        made.update({name: value for name, value in needed.items() if name in made})
    path = saved(made, tmp_path)
    _, loaded = config_files.load(str(path))
    assert loaded.is_locked
    assert validated(loaded) == validated(made)
    assert workdir._as_json(validated(loaded)) == json.loads(path.read_text())


def test_a_run_of_a_saved_config_is_the_same_run(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    fer_jax.run("render", first, **TINY)
    fer_jax.run(fer_jax.config(first / "config.json"), second)
    assert (second / "config.json").read_bytes() == (first / "config.json").read_bytes()
    pictures = sorted(file.relative_to(first) for file in first.rglob("*.png"))
    assert pictures
    for picture in pictures:
        assert (second / picture).read_bytes() == (first / picture).read_bytes()
    again = fer_jax.run(fer_jax.config(first / "config.json"), first)
    assert again == json.loads((first / "done.json").read_text())["summary"]


def test_flags_change_fields_of_a_saved_config(monkeypatch, tmp_path):
    path = saved(fer_jax.config("emotion:small,rotation"), tmp_path)
    overrides = ["--config.epochs=7", "--config.optimizer.freeze=('a','b')"]
    for place in ([f"--config={path}"], ["--config", path]):
        made = parsed(monkeypatch, *place, *overrides, "--workdir=w")
        assert made.stage == "crossval" and made.is_locked
        assert (made.epochs, made.optimizer.freeze) == (7, ("a", "b"))
    with pytest.raises(SystemExit):
        parsed(monkeypatch, f"--config={path}", "--config.epoch=7", "--workdir=w")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"cannot load the config .*c\.json \(No such file or directory\)"),
        ("{", r"cannot load the config .*c\.json \(it is not JSON: "),
        ("[1]", r"c\.json is not a saved config; pass the config\.json of a workdir"),
        ("{}", "is not a saved config"),
        ('{"stage": "predict", "summary": {}}', "is not a saved config"),
    ],
)
def test_a_file_that_is_not_a_saved_config_is_an_error(tmp_path, text, message):
    path = tmp_path / "c.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=message):
        fer_jax.config(path)
