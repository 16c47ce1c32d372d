import shutil

import cv2
import pytest

from configs.render import get_config
from fer_jax.errors import UserError
from fer_jax.stages import render


def small_config():
    config = get_config()
    config.clips.update({"people": 1, "per_emotion": 1, "frames": 2, "scenes": 1})
    config.photographs.update({"people": 2, "per_emotion": 1})
    config.newcomers.people = 1
    config.size = (96, 128)
    config.workers = 1
    return config


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("people") / "run"
    return workdir, render.run(small_config(), workdir)


def contents(workdir):
    files = [
        p
        for folder in ("videos", "photographs", "newcomers")
        for p in (workdir / folder).rglob("*.*")
    ]
    return {str(p.relative_to(workdir)): p.read_bytes() for p in files}


def test_render_writes_every_file(rendered):
    workdir, summary = rendered
    assert (summary["clips"], summary["photographs"], summary["frames"]) == (5, 8, 10)
    assert summary["frames_per_s"] > 0
    assert set(contents(workdir)) == {
        *(f"videos/p101_{e}_0.mp4" for e in ("angry", "happy", "neutral", "sad")),
        "videos/scene_00.mp4",
        "newcomers/p201_angry.mp4",
        "newcomers/p201_angry.jpg",
        *(
            f"photographs/person_0{person}/{e}/0.jpg"
            for person in (1, 2)
            for e in ("angry", "happy", "neutral", "sad")
        ),
    }
    sheet = cv2.imread(str(workdir / "sheet.png"))
    assert sheet.shape[1] > 8 * 128 and (sheet < 250).mean() > 0.3  # eight faces in a row


def test_a_killed_run_draws_only_what_is_missing(rendered, tmp_path):
    finished, _ = rendered
    workdir = tmp_path / "again"
    shutil.copytree(finished, workdir)
    lost = ["videos/p101_sad_0.mp4", "photographs/person_02/happy/0.jpg"]
    for name in [*lost, "done.json"]:
        (workdir / name).unlink()
    leftover = workdir / "videos" / ".p101_sad_0.123.partial.mp4"
    leftover.write_bytes(b"half a clip")
    with (workdir / "written.jsonl").open("a") as record:
        record.write('{"partial": "videos/.p101_sad_0.123.partial.mp4"}\n')
    kept = workdir / "videos" / "p101_angry_0.mp4"
    before = kept.stat().st_mtime_ns

    summary = render.run(small_config(), workdir)

    assert summary["drawn"] == 3 and summary["clips"] == 5
    assert not leftover.exists() and kept.stat().st_mtime_ns == before
    assert contents(workdir) == contents(finished)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clips.first_person": 2}, "puts person 2 into both clips and photographs"),
        ({"size": (97, 128)}, r"--config.size=\(97, 128\) item 1 must be a multiple of 2"),
        ({"newcomers.first_person": 101}, "puts person 101 into both newcomers and clips"),
        ({"clips.fps": 0}, "--config.clips.fps=0"),
        ({"photographs.people": -1}, "--config.photographs.people=-1"),
    ],
)
def test_invalid_render_configs_are_refused(tmp_path, change, message):
    config = small_config()
    config.update_from_flattened_dict(change)
    with pytest.raises(UserError, match=message):
        render.run(config, tmp_path / "run")
