"""Extraction by Apache Beam ends with the same files as in one process."""

import pytest

from configs import extract as extract_config
from fer_jax.errors import UserError
from fer_jax.faces import runners, shards
from fer_jax.schemas import validated
from fer_jax.stages import extract
from fer_jax.stages.render import write_clip, write_scene

BEAM = "Apache Beam is optional, and requirements-beam.txt is not installed"


def config_for(folder, **fields):
    config = extract_config.get_config()
    config.update({"videos": str(folder), "every_s": 0.5, **fields})
    return config


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    write_clip(folder / "person.mp4", 103, "happy", 0, 6, 6, (240, 320))
    write_scene(folder / "scene.mp4", 0, 6, 6, (240, 320))
    (folder / "words.mp4").write_text("no video")
    return folder


def contents(workdir):
    names = ("manifest.parquet", "negatives.parquet", "skipped.csv", "shards")
    files = [p for name in names for p in [workdir / name, *(workdir / name).rglob("*")]]
    return {p.relative_to(workdir).as_posix(): p.read_bytes() for p in files if p.is_file()}


def test_beam_writes_the_same_bit_for_bit(videos, tmp_path):
    pytest.importorskip(
        "apache_beam", reason="needs Apache Beam (requirements-beam.txt), an optional engine"
    )
    extract.run(config_for(videos), tmp_path / "here")
    summary = extract.run(config_for(videos, runner="DirectRunner"), tmp_path / "beam")
    assert summary["faces"] >= 1 and summary["skipped"] == 1
    assert contents(tmp_path / "beam") == contents(tmp_path / "here")
    assert len(contents(tmp_path / "beam")) >= 12


def test_an_unknown_runner_is_told(videos, tmp_path):
    pytest.importorskip(
        "apache_beam", reason="needs Apache Beam (requirements-beam.txt), an optional engine"
    )
    with pytest.raises(UserError, match=r"--config\.runner"):
        extract.run(config_for(videos, runner="NoSuchRunner"), tmp_path / "work")


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
