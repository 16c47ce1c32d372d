"""Extraction with Apache Beam writes the same files as extraction in one process.

`make test` runs this folder in .venv-beam, since Beam needs other versions of some packages.
"""

import pytest

from fer_jax import console
from fer_jax.errors import UserError
from fer_jax.faces import runners
from fer_jax.faces.mtcnn import Detector
from fer_jax.stages import extract
from fer_jax.stages.render import write_clip, write_scene
from tests.stages.extraction import config_for

pytest.importorskip("apache_beam", reason="needs the environment of requirements-beam.txt")


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


def test_beam_writes_the_same_files_bit_for_bit(videos, tmp_path):
    extract.run(config_for(videos), tmp_path / "here")
    summary = extract.run(config_for(videos, runner="DirectRunner"), tmp_path / "beam")
    assert summary["faces"] >= 1 and summary["skipped"] == 1
    assert contents(tmp_path / "beam") == contents(tmp_path / "here")
    assert len(contents(tmp_path / "beam")) >= 12


@pytest.fixture(scope="module")
def scheduler():
    """The address of a Dask cluster of two worker processes."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
    ) as cluster:
        yield cluster.scheduler_address


def on_dask(address):
    options = f"--dask_client_address={address} --dask_connection_timeout=2"
    return {"runner": "DaskRunner", "runner_options": options}


@pytest.mark.timeout(900)  # three processes import JAX, which takes minutes on a busy machine
def test_dask_writes_the_same_files_bit_for_bit(videos, tmp_path, scheduler, monkeypatch):
    reported = []
    monkeypatch.setattr(console.Progress, "update", lambda self, frames: reported.append(frames))
    extract.run(config_for(videos), tmp_path / "here")
    alone = sum(reported)
    reported.clear()
    extract.run(config_for(videos, **on_dask(scheduler)), tmp_path / "dask")
    assert contents(tmp_path / "dask") == contents(tmp_path / "here")
    assert sum(reported) == alone > 0


def test_a_scheduler_that_does_not_answer_is_an_error_that_says_what_is_kept(videos, tmp_path):
    config = config_for(videos, **on_dask("tcp://127.0.0.1:9"))
    with pytest.raises(UserError, match=r"runner failed .* are kept \(so far 0 videos\)"):
        extract.run(config, tmp_path / "work")


def test_a_runner_that_ends_without_an_error_and_without_the_videos_has_failed(
    videos, tmp_path, monkeypatch
):
    """Dask's runner ends like this if it loses the scheduler."""
    monkeypatch.setattr(runners, "_extract_on_worker", print)
    with pytest.raises(UserError, match="it ended without results of 3 videos"):
        extract.run(config_for(videos, runner="DirectRunner"), tmp_path / "work")


def test_an_error_for_the_user_is_passed_on_as_it_was_raised(videos, tmp_path, monkeypatch):
    def detect(*_, **__):
        raise UserError("the package mtcnn is missing; install it")

    monkeypatch.setattr(Detector, "detect", detect)
    with pytest.raises(UserError) as error:
        extract.run(config_for(videos, runner="DirectRunner"), tmp_path / "work")
    assert str(error.value) == "the package mtcnn is missing; install it"


def test_an_unknown_runner_is_an_error(videos, tmp_path):
    with pytest.raises(UserError, match=r"--config\.runner"):
        extract.run(config_for(videos, runner="NoSuchRunner"), tmp_path / "work")
