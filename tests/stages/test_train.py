"""Training records the metrics of the probes at each evaluation, and draws pictures at its end."""

import json

import cv2
import numpy as np
import pandas as pd
import pytest

from configs import pretrain
from fer_jax.data import sources
from fer_jax.faces.drawing import write_image
from fer_jax.stages import train
from fer_jax.training import step
from fer_jax.workdir import read_json
from tests.training.tiny import TinyLearner

DEPTHS = ("mixed_5b", "mixed_6a", "mixed_7a", "features")
PICTURES = ("curves.png", "tasks.png", "neighbours.png", "embedding.png")


def write_photographs(folder):
    """Writes pictures of six people; sad ones have an edge in the middle, happy ones do not."""
    rows, rng = [], np.random.default_rng(0)
    for number in range(24):
        person, happy = f"p{number // 4}", number % 2
        half = np.zeros((32, 32, 3))
        half[:, : 16 + 16 * happy] = 200  # one is flat, the other has an edge
        image = np.uint8(half + rng.integers(0, 40, half.shape))
        write_image(folder / f"{number}.png", image)
        rows.append([f"{number}", person, "happy" if happy else "sad", "", "ok", f"{number}.png"])
    columns = ["photo", "subject", "emotion", "split", "status", "crop"]
    pd.DataFrame(rows, columns=columns).to_parquet(folder / "photographs.parquet")
    return folder


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """A finished training run of four steps, and how often the probes' program was traced."""
    root = tmp_path_factory.mktemp("watched")
    (root / "data").mkdir()
    rng = np.random.default_rng(1)
    parts = {
        split: sources.ArraySource(rng.integers(0, 256, (count, 32, 32, 3)).astype(np.uint8))
        for split, count in (("train", 16), ("validation", 6))
    }
    config = pretrain.get_config("rotation")
    config.data.update({"root": str(root / "data"), "image_size": 32})
    config.backbone.update({"depth": (0, 0, 0)})
    config.update({"batch_size": 8, "epochs": 2.0, "evaluate_every": 2, "log_every": 2})
    config.probe.photographs = str(write_photographs(root / "photographs"))
    traced = []

    def counted(graphdef, make=step.make_depths_step):
        depths_step = make(graphdef)
        return lambda state, batch: traced.append(1) or depths_step(state, batch)

    def opened(name, config, split, *rest, open_source=sources.open_source, **others):
        if name == "persian_emotion":  # the photographs that are probed
            return open_source(name, config, split, *rest, **others)
        return parts[split]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "open_source", opened)
        patch.setattr(step, "make_depths_step", counted)
        train.run(config, root / "run")
    return root / "run", len(traced)


def test_probes_are_recorded_at_the_start_and_at_each_evaluation(watched):
    folder = watched[0]
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    names = {f"validation/probe/{kind}/{depth}" for kind in ("knn", "linear") for depth in DEPTHS}
    reported = [line for line in lines if "validation/probe/chance" in line]
    assert [line["step"] for line in reported] == [0, 2, 4]
    assert all(names <= line.keys() for line in reported)
    assert "validation/loss" not in reported[0] and "validation/loss" in reported[1]
    done = read_json(folder / "done.json")["summary"]
    for name in names:
        assert done[name] == pytest.approx(reported[-1][name], abs=1e-4)
        assert done[name.replace("validation/", "start/")] == reported[0][name]
    assert done["probe_photographs"] == 24 and done["probe_people"] == 6
    assert done["validation/probe/chance"] == 0.5
    assert (
        reported[0]["validation/probe/linear/mixed_5b"] == 1
    )  # an edge is seen by random kernels, too


def test_the_probes_program_is_compiled_once(watched):
    assert watched[1] == 1


def test_the_best_model_has_the_lowest_validation_loss(watched):
    folder = watched[0]
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    losses = {line["step"]: line["validation/loss"] for line in lines if "validation/loss" in line}
    best = folder / "best" / "model" / "weights.safetensors"
    last = folder / "model" / "weights.safetensors"
    assert (best.read_bytes() == last.read_bytes()) == (losses[4] < losses[2])


def test_a_picture_that_cannot_be_drawn_is_a_warning(tmp_path, capsys):
    """Here the source fails; in practice, the `undo` of a user's task may have a bug."""

    class Faulty(sources.ArraySource):
        def batch(self, indices):
            raise ZeroDivisionError("no picture today")

    learner = TinyLearner()
    source = Faulty(np.zeros((8, 4, 4, 3), np.uint8))
    train._draw(tmp_path, learner, learner.init(0), source, None)
    assert "pictures" in (reported := capsys.readouterr().err)
    assert "ZeroDivisionError: no picture today" in reported


def test_the_pictures_of_a_probed_training_are_written(watched):
    for name in PICTURES:
        picture = cv2.imread(str(watched[0] / name))
        assert picture.shape[0] > 400 and picture.shape[1] > 400 and picture.std() > 10
