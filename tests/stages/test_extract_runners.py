"""The choice of a runner for extraction. tests/beam runs extraction on Apache Beam."""

import pytest

from configs import extract as extract_config
from fer_jax.errors import UserError
from fer_jax.faces import runners, shards
from fer_jax.schemas import validated
from fer_jax.stages import extract
from fer_jax.stages.render import write_scene


def config_for(folder, **fields):
    config = extract_config.get_config()
    config.update({"videos": str(folder), "every_s": 0.5, **fields})
    return config


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    write_scene(folder / "scene.mp4", 0, 6, 6, (240, 320))
    return folder


def test_without_beam_the_message_says_what_to_install(videos, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "apache_beam", None)
    with pytest.raises(UserError, match=r"requirements-beam\.txt"):
        extract.run(config_for(videos, runner="DirectRunner"), tmp_path / "work")


def test_one_or_the_other(videos, tmp_path):
    with pytest.raises(UserError, match="excludes workers; set only one of them"):
        extract.run(config_for(videos, runner="DirectRunner", workers=2), tmp_path / "work")


def test_a_worker_that_takes_over_does_not_do_it_again(videos, tmp_path, monkeypatch):
    config = config_for(videos / "scene.mp4")
    extract.run(config, tmp_path / "work")
    (shard,) = (tmp_path / "work" / "shards").iterdir()
    job = shards.Job(videos / "scene.mp4", "scene.mp4", shard, validated(config))
    monkeypatch.setattr(shards, "extract", lambda job: pytest.fail("extracted twice"))
    runners._extract_on_worker((0, job, str(tmp_path), {}))
    assert (tmp_path / "0.json").read_text() == (job.shard / "stats.json").read_text()
