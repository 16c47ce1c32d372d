"""Learning curves show the metrics of all recorded steps."""

import json

import cv2

from fer_jax.training import curves


def test_figures_are_grouped_by_measure(tmp_path):
    lines = [
        {"time": 1.0, "step": 5, "loss": 2.0, "rotation/loss": 2.0, "rotation/accuracy": 0.3},
        {"time": 2.0, "step": 10, "loss": 1.0, "rotation/loss": 1.0, "rotation/accuracy": 0.6},
        {"time": 2.0, "step": 10, "validation/rotation/accuracy": 0.5},
        {"time": 3.0, "train/images_per_s": 100.0},  # the line of the stage, without a step
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    assert curves.read(tmp_path / "metrics.jsonl") == {
        "loss": {"loss": ([5, 10], [2.0, 1.0]), "rotation/loss": ([5, 10], [2.0, 1.0])},
        "accuracy": {
            "rotation/accuracy": ([5, 10], [0.3, 0.6]),
            "validation/rotation/accuracy": ([10], [0.5]),
        },
    }
    curves.draw(tmp_path)
    picture = cv2.imread(str(tmp_path / "curves.png"))
    assert picture.shape[1] > picture.shape[0] > 300
    colours = {tuple(pixel) for pixel in picture.reshape(-1, 3)[:, ::-1].tolist()}
    assert {(0x1F, 0x6F, 0x8B), (0xC8, 0x55, 0x3D)} <= colours


def test_the_depths_of_a_probe_are_in_one_panel(tmp_path):
    depths = ("mixed_5b", "block35_10", "mixed_6a", "features")
    line = {f"validation/probe/knn/{depth}": 0.5 for depth in depths}
    line |= {"validation/probe/linear/features": 0.6, "validation/probe/chance": 0.25}
    (tmp_path / "metrics.jsonl").write_text(
        "".join(json.dumps({"step": step, **line}) + "\n" for step in (0, 5))
    )
    panels = curves.read(tmp_path / "metrics.jsonl")
    assert panels.keys() == {"probe/knn", "probe/linear", "probe/chance"}
    assert [name.rsplit("/", 1)[1] for name in panels["probe/knn"]] == list(depths)
    curves.draw(tmp_path)  # two panels side by side: chance is a line in both
    height, width, _ = cv2.imread(str(tmp_path / "curves.png")).shape
    assert 2 < width / height < 4


def test_without_steps_there_is_no_picture(tmp_path):
    curves.draw(tmp_path)
    assert not (tmp_path / "curves.png").exists()
