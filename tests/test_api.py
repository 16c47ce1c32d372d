"""The public API: its names and signatures, lazy imports, and the configs that it uses."""

import importlib
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fer_jax
from fer_jax import config_files
from fer_jax.faces.drawing import write_image
from fer_jax.reading import sources_of
from fer_jax.stages.render import write_clip

ROOT = Path(__file__).parents[1]
SIGNATURES = {
    "config": "name, **fields",
    "detect": "images, *, every_s=0.2, progress=True",
    "draw": "picture, faces",
    "load_backbone": "model='starter'",
    "read": "source, model='starter', *, every_s=0.2, min_confidence=None, coverage=None, "
    "people='', neutral='', batch=8, smoothing_s=0.5, progress=True",
    "run": "stage, workdir, **fields",
    "timeline": "faces",
}


def signature(function):
    """The parameters of a function with their defaults, without their types."""
    given = inspect.signature(function)
    plain = [p.replace(annotation=inspect.Parameter.empty) for p in given.parameters.values()]
    return str(inspect.Signature(plain)).strip("()")


def test_the_public_names_are_these():
    assert fer_jax.__all__ == sorted(fer_jax.__all__) == [
        "Backbone", "Recogniser", "UserError", "builders", "config", "detect", "draw",
        "load_backbone", "read", "run", "tasks", "timeline",
    ]  # fmt: skip
    assert {name for name in dir(fer_jax) if not name.startswith("_")} == set(fer_jax.__all__)
    for name in fer_jax.__all__:
        assert inspect.getdoc(getattr(fer_jax, name)), name
    with pytest.raises(AttributeError, match="has no attribute 'raed'"):
        _ = fer_jax.raed


@pytest.mark.parametrize("name", SIGNATURES)
def test_signatures_are_stable(name):
    assert signature(getattr(fer_jax, name)) == SIGNATURES[name]


def test_methods_of_public_classes_are_stable():
    assert signature(fer_jax.Recogniser.load) == "model='starter', *, max_side=0"
    assert signature(fer_jax.Recogniser.__call__) == "self, pictures"
    assert signature(fer_jax.Backbone.features) == "self, crops"
    assert signature(fer_jax.Backbone.crops) == "self, pictures"


def test_type_checkers_see_every_public_name():
    """Type checkers read the imports under TYPE_CHECKING, which must agree with the lazy ones."""
    text = (ROOT / "fer_jax" / "__init__.py").read_text()
    block = text.partition("if TYPE_CHECKING:\n")[2].partition("\n\n\n")[0]
    scope = {}
    exec(inspect.cleandoc(block), scope)
    for name in fer_jax.__all__:
        assert scope[name] is getattr(fer_jax, name)


def test_importing_is_quick_and_loads_no_library(tmp_path):
    code = (
        "import sys, time\n"
        "start = time.perf_counter()\n"
        "import fer_jax\n"
        "seconds = time.perf_counter() - start\n"
        "dir(fer_jax)\n"
        "heavy = {'absl', 'av', 'cv2', 'flax', 'jax', 'numpy', 'pandas', 'pyarrow', 'tqdm'}\n"
        "print(seconds, *(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    seconds, *heavy = done.stdout.split()
    assert not heavy and float(seconds) < 1


def test_no_flag_is_defined_by_the_public_names():
    code = (
        "import fer_jax\n"
        "names = [getattr(fer_jax, name) for name in fer_jax.__all__]\n"
        "from absl import flags\n"
        "assert not {'config', 'workdir'} & set(flags.FLAGS)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_pictures_in_memory_are_named_by_their_number(tmp_path):
    picture = np.zeros((4, 5, 3), np.uint8)
    write_image(tmp_path / "a.png", picture)
    given = [picture, np.stack([picture] * 2), str(tmp_path / "a.png"), tmp_path, picture]
    found = sources_of(given, every_s=0.2)
    own = str(tmp_path / "a.png")
    assert [source.name for source in found.sources] == ["0", "1", "2", own, own, "3"]
    assert [source.name for source in sources_of(picture, every_s=0.2).sources] == ["0"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((4, 5), np.uint8), r"picture 0 in memory is uint8 \[4, 5\]; pass uint8 \[H, W"),
        (np.zeros((4, 5, 3)), r"picture 0 in memory is float64"),
        ([], "there is no picture or video"),
        ("", "not an empty path"),
        ("absent.jpg", "there is no .*absent.jpg; pass a picture, a video or a folder"),
    ],
)
def test_an_array_that_is_not_a_picture_is_an_error(given, message):
    with pytest.raises(fer_jax.UserError, match=message):
        fer_jax.read(given)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"every_s": -1.0}, "every_s=-1.0 must be a finite number, 0 or more"),
        ({"every_s": float("nan")}, "every_s=nan must be"),
        ({"every_s": float("inf")}, "every_s=inf must be"),
        ({"smoothing_s": -0.5}, "smoothing_s=-0.5 must be"),
        ({"batch": 0}, "batch=0 must be a whole number, 1 or more"),
        ({"coverage": 2.0}, "coverage=2.0 must be above 0 and at most 1"),
    ],
)
def test_the_error_for_an_argument_out_of_range_is_one_line(wrong, message):
    picture = np.zeros((4, 5, 3), np.uint8)
    with pytest.raises(fer_jax.UserError, match=re.escape(message)):
        fer_jax.read(picture, **wrong)
    if "every_s" in wrong:
        with pytest.raises(fer_jax.UserError, match=re.escape(message)):
            fer_jax.detect(picture, **wrong)


WRONG_TYPES = {
    "read(5)": "a source cannot be of the type int; pass a path, a picture as an array, or",
    "detect(None)": "a source cannot be of the type NoneType",
    "read({'a.jpg': 1})": "a source cannot be of the type dict",
    "read(picture, every_s='0.5')": "every_s='0.5' must be a finite number",
    "read(picture, batch=2.0)": "batch=2.0 must be a whole number",
    "read(picture, min_confidence='high')": "min_confidence='high' must be",
    "read(picture, model=7)": "a model cannot be of the type int; pass 'starter', or the path of",
    "load_backbone(7)": "a model cannot be of the type int",
    "config(5)": "a config cannot be of the type int; pass its name or its path",
    "run('predict', None)": "a workdir cannot be of the type NoneType; pass its path",
    "Recogniser.load()('a.jpg')": "pictures cannot be of the type str; pass a list of pictures",
    "Recogniser.load()(['a.jpg'])": "picture 0 is of the type str; pass a list of pictures",
    "Recogniser.load()(picture)": "one picture was passed without a list; pass a list",
    "Recogniser.load()([picture[..., 0]])": "picture 0 is uint8 [4, 5]; pass a list of pictures",
    "Recogniser.load()([picture / 1])": "picture 0 is float64 [4, 5, 3]; pass a list of pictures",
    "load_backbone('starter').crops('a.jpg')": "pictures cannot be of the type str",
    "load_backbone('starter').features('a.jpg')": "the crops are str: pass uint8 RGB crops",
    "load_backbone('starter').features(picture)": "the crops have the shape [4, 5, 3]: pass",
}


def test_the_error_for_an_argument_of_a_wrong_type_is_one_line():
    """The functions are called as by users, without the type checks of the test session."""
    code = (
        "import sys\n"
        "import numpy as np\n"
        "from fer_jax import *\n"
        "picture = np.zeros((4, 5, 3), np.uint8)\n"
        "for call in sys.argv[1:]:\n"
        "    try:\n"
        "        eval(call)\n"
        "    except (UserError, ValueError) as error:\n"
        "        print(error)\n"
        "faces = read(picture, every_s=np.float32(1), batch=np.int64(1), smoothing_s=0)\n"
        "print(len(faces))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *WRONG_TYPES], capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert not done.returncode, done.stderr
    *messages, rows = done.stdout.splitlines()
    assert rows == "1"
    for message, expected in zip(messages, WRONG_TYPES.values(), strict=True):
        assert message.startswith(expected)


def test_paths_are_accepted_in_place_of_names():
    faces = fer_jax.read(np.zeros((4, 5, 3), np.uint8), Path("starter"))
    assert faces["source"].tolist() == ["0"] and faces["x0"].isna().all()
    assert fer_jax.load_backbone(Path("starter")).width
    made = fer_jax.config("predict", input=Path("holiday"), model=Path("work") / "emotion")
    assert (made.input, made.model) == ("holiday", str(Path("work", "emotion")))


def test_detect_samples_videos_at_the_requested_interval(tmp_path):
    write_clip(tmp_path / "a.mp4", 0, "happy", 0, 12, 6, (96, 128))
    faces = fer_jax.detect(tmp_path / "a.mp4", every_s=1.0, progress=False)
    assert faces["frame"].unique().tolist() == [0, 6] and (faces["person"] == 0).all()


def test_the_error_without_readable_sources_says_why(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(fer_jax.UserError, match=r"nothing could be read; .*a.png: .*not a picture"):
        fer_jax.read(tmp_path)


def test_a_config_is_that_of_the_command_line():
    made = fer_jax.config("emotion:small,rotation", **{"optimizer.learning_rate": 1e-3})
    _, expected = config_files.load(f"{ROOT / 'configs' / 'emotion.py'}:small,rotation")
    expected.optimizer.learning_rate = 1e-3
    assert made.to_dict() == expected.to_dict()
    assert fer_jax.config(ROOT / "configs" / "predict.py").stage == "predict"


def test_configs_of_the_caller_stay_importable():
    mine = importlib.import_module("configs")
    fer_jax.config("demo")
    assert sys.modules["configs"] is mine


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("predct", {}, r"there is no config 'predct' \(did you mean 'predict'\?\)"),
        ("predict", {"evry_s": 1.0}, "the config has no field evry_s; the nearest is every_s"),
        ("predict", {"batch": "many"}, "the field batch: "),
        ("emotion", {"optimizer.rate": 1.0}, "has no field optimizer.rate"),
        (
            "emotion",
            {"optimizer": {"lr": 1}},
            r"optimizer\.lr; the .* optimizer\.learning",
        ),
        (
            "emotion",
            {"optimizer": {"wamup": 1}},
            r"\.wamup; the nearest is optimizer\.warmup",
        ),
        ("emotion", {"optimizer": 1}, "the field optimizer is a section; pass a dictionary"),
        ("absent.py", {}, "cannot load the config file absent.py"),
    ],
)
def test_the_error_for_an_invalid_config_is_one_line(name, fields, message):
    with pytest.raises(fer_jax.UserError, match=message):
        fer_jax.config(name, **fields)


def test_a_stage_can_be_run_as_a_function(tmp_path, capfd):
    people = {"photographs.people": 1, "photographs.per_emotion": 1, "clips.people": 0}
    fields = people | {"newcomers.people": 0, "workers": 0, "size": (96, 128)}
    summary = fer_jax.run("render", tmp_path / "w", **fields)
    assert summary["photographs"] == 4 and (tmp_path / "w" / "done.json").is_file()
    made = fer_jax.config("render", **fields)
    assert fer_jax.run(made, tmp_path / "w") == summary
    assert capfd.readouterr().out == ""
    with pytest.raises(fer_jax.UserError, match="set workers in the config itself"):
        fer_jax.run(made, tmp_path / "w", workers=1)


def test_serve_is_only_a_command(tmp_path):
    with pytest.raises(fer_jax.UserError, match="use the command fer-jax serve"):
        fer_jax.run("serve", tmp_path / "w")


def test_a_script_without_a_main_guard_is_an_error_that_says_so(tmp_path):
    """Worker processes import the script, and would run the stage again without the guard."""
    (tmp_path / "script.py").write_text(
        "import fer_jax\n"
        "fields = {'photographs.people': 1, 'photographs.per_emotion': 1, 'size': (96, 128)}\n"
        "fields |= {'clips.people': 0, 'clips.scenes': 0, 'newcomers.people': 0, 'workers': 1}\n"
        "fer_jax.run('render', 'w', **fields)\n"
    )
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 1
    assert 'call fer_jax.run below `if __name__ == "__main__":`' in done.stderr
