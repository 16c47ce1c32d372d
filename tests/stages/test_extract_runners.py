"""The choice of a runner for extraction. tests/beam runs extraction on Apache Beam."""

import shutil

import pytest

from fer_jax.errors import UserError
from fer_jax.faces import runners, shards
from fer_jax.schemas import validated
from fer_jax.stages import extract
from fer_jax.stages.render import write_scene
from tests.stages.extraction import config_for


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    write_scene(folder / "scene.mp4", 0, 6, 6, (240, 320))
    return folder


def test_without_beam_the_message_says_what_to_install(videos, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "apache_beam", None)
    with pytest.raises(UserError, match=r"requirements-beam\.txt"):
        extract.run(config_for(videos, runner="DirectRunner"), tmp_path / "work")


def test_runner_and_workers_exclude_each_other(videos, tmp_path):
    with pytest.raises(UserError, match="cannot be combined with workers; set only one of them"):
        extract.run(config_for(videos, runner="DirectRunner", workers=2), tmp_path / "work")


def test_a_worker_does_not_extract_a_finished_video_again(videos, tmp_path, monkeypatch):
    config = config_for(videos / "scene.mp4")
    extract.run(config, tmp_path / "work")
    (shard,) = (tmp_path / "work" / "shards").iterdir()
    job = shards.Job(videos / "scene.mp4", "scene.mp4", shard, validated(config))
    monkeypatch.setattr(shards, "extract", lambda job: pytest.fail("extracted twice"))
    runners._extract_on_worker((0, job, str(tmp_path), {}))
    assert (tmp_path / "0.json").read_text() == (job.shard / "stats.json").read_text()


def test_a_worker_that_is_overtaken_leaves_the_other_shard(videos, tmp_path, monkeypatch):
    """Another worker finishes the same video first, and the stage may already read its shard."""
    config = config_for(videos / "scene.mp4")
    extract.run(config, tmp_path / "work")
    (shard,) = (tmp_path / "work" / "shards").iterdir()
    other = shutil.copytree(shard, tmp_path / "other")
    shutil.rmtree(shard)
    close = shards._ShardWriter.close

    def overtaken(writer):
        close(writer)
        shutil.copytree(other, shard)
        (shard / "of the other").touch()

    monkeypatch.setattr(shards._ShardWriter, "close", overtaken)
    job = shards.Job(videos / "scene.mp4", "scene.mp4", shard, validated(config))
    stats = shards.extract(job)
    assert stats == shards.finished(job) and not stats.error
    assert (shard / "of the other").exists() and list(shard.parent.iterdir()) == [shard]


def test_a_worker_whose_command_was_stopped_leaves_no_counts(videos, tmp_path):
    config = config_for(videos / "scene.mp4")
    job = shards.Job(videos / "scene.mp4", "scene.mp4", tmp_path / "shard", validated(config))
    runners._extract_on_worker((0, job, str(tmp_path / "stopped"), {}))
    assert [path.name for path in tmp_path.iterdir()] == ["shard"]


@pytest.mark.parametrize(
    ("given", "added"), [("", "--dask_partition_size=1"), ("--dask_npartitions=9", None)]
)
def test_dask_gets_one_video_per_task_unless_told_otherwise(videos, given, added):
    config = validated(config_for(videos, runner="DaskRunner", runner_options=given))
    runner, *options = runners._beam_options(config)
    assert runner.endswith(".DaskRunner")
    assert options == [option for option in (given, added) if option]
